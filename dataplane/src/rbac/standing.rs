//! What a policy says of a caller, whatever is asked: made once for a token, since a caller may be in many groups and
//! the same for thousands of applications.

use std::sync::Arc;

use hashbrown::HashMap;

use super::opening::Opening;
use super::question::Kind;
use super::rules::{RuleSet, Rules, reachable, rules_of_all};
use super::{Asked, Caller, Decision, Policy, project_role};
use crate::project::Project;

/// Made from one policy, and of no use with another.
#[derive(Debug)]
pub struct Standing {
    /// The default role, the user, then the groups.
    subjects: Vec<Subject>,
    /// What the policy alone says of those subjects that count, one after another: most say nothing of what is asked.
    rules: Vec<Arc<Rules>>,
    /// Of which subject each of them speaks.
    speak_of: Vec<usize>,
    /// How the objects begin of which they speak, and which of them does: all that is looked at of most rules.
    openings: [Vec<(Opening, u32)>; Kind::COUNT],
    /// Which of the subjects have a name or reach a role.
    reached_by: HashMap<String, Vec<usize>>,
    /// The project of whose role the caller's token is.
    project_role_of: Option<Box<str>>,
}

#[derive(Debug)]
struct Subject {
    name: Box<str>,
    /// A group counts only where it is given a role.
    counts: bool,
}

/// The subject that every question is asked for first.
const DEFAULT_ROLE: usize = 0;
/// Those of the subjects that speak for a project role's token: the default role and the user.
const WITHOUT_GROUPS: usize = 2;

impl Standing {
    pub(super) fn new(policy: &Policy, caller: Caller<'_>) -> Self {
        let own = [policy.default_role.as_str(), caller.user];
        let mut reached_by: HashMap<String, Vec<usize>> = HashMap::new();
        let mut subjects = Vec::with_capacity(own.len() + caller.groups.len());
        let (mut rules, mut speak_of) = (Vec::new(), Vec::new());
        let groups = caller.groups.iter().map(String::as_str);
        for (i, name) in own.into_iter().chain(groups).enumerate() {
            let counts = match i {
                DEFAULT_ROLE => !name.is_empty(),
                1 => true,
                _ => policy.rules.assigns_roles_to(name),
            };
            let layers = [&policy.rules];
            let reached = reachable(&layers, name);
            if counts && i != DEFAULT_ROLE {
                rules.extend(rules_of_all(&layers, &reached));
                speak_of.resize(rules.len(), i);
            }
            for role in reached {
                reached_by.entry_ref(role).or_default().push(i);
            }
            subjects.push(Subject { name: name.into(), counts });
        }
        let openings = Kind::ALL.map(|kind| {
            let of_each =
                (0..).zip(&rules).flat_map(|(i, rules)| rules.openings(kind).map(move |opening| (opening, i)));
            let mut openings: Vec<_> = of_each.collect();
            openings.dedup();
            openings
        });
        let project_role_of = project_role(caller.user).map(|(project, _)| project.into());
        Self { subjects, rules, speak_of, openings, reached_by, project_role_of }
    }

    /// Asks for each subject in turn, the project's own policy included where there is one. For the default role
    /// alone, without that, the policy has asked already.
    pub(super) fn ask(&self, base: &RuleSet, asked: &mut Asked<'_>) -> Option<Decision> {
        let project = asked.question.project;
        let subjects = match (&self.project_role_of, project) {
            (Some(of), Some(project)) if **of != *project.name() => return None,
            (Some(_), Some(_)) => WITHOUT_GROUPS,
            _ => self.subjects.len(),
        };
        let own = project.and_then(Project::rules);
        let concerned = own.map(|own| self.concerned_by(own)).unwrap_or_default();
        let heard = self.heard(asked);
        let mut spoken_of: Vec<usize> =
            heard.iter().map(|i| self.speak_of[*i]).chain(concerned.iter().copied()).collect();
        spoken_of.sort_unstable();
        spoken_of.dedup();
        spoken_of.into_iter().take_while(|i| *i < subjects).find_map(|i| {
            let subject = &self.subjects[i];
            match own.filter(|_| concerned.binary_search(&i).is_ok()) {
                Some(own) => subject.ask_with(base, own, i >= WITHOUT_GROUPS, asked),
                None => {
                    let first = heard.partition_point(|heard| self.speak_of[*heard] < i);
                    let of_subject = heard[first..].iter().take_while(|heard| self.speak_of[**heard] == i);
                    asked.ask(&subject.name, of_subject.map(|heard| &self.rules[*heard]))
                }
            }
        })
    }

    /// Which of the rules may say something, in order.
    fn heard(&self, asked: &Asked<'_>) -> Vec<usize> {
        let Some(kind) = asked.kind else { return (0..self.rules.len()).collect() };
        let openings = self.openings[kind as usize].iter().filter(|(opening, _)| asked.objects.have(*opening));
        let mut heard: Vec<usize> = openings.map(|(_, rules)| *rules as usize).collect();
        heard.dedup();
        heard
    }

    /// The subjects of whom a project's policy says something, in order.
    fn concerned_by(&self, project: &RuleSet) -> Vec<usize> {
        let mut concerned: Vec<usize> =
            project.names().filter_map(|name| self.reached_by.get(name)).flatten().copied().collect();
        concerned.sort_unstable();
        concerned
    }
}

impl Subject {
    /// Asks with the project's policy, whose `g` lines may lead anywhere.
    fn ask_with(&self, base: &RuleSet, project: &RuleSet, is_group: bool, asked: &mut Asked<'_>) -> Option<Decision> {
        let counts = self.counts || (is_group && project.assigns_roles_to(&self.name));
        if !counts {
            return None;
        }
        let layers = [base, project];
        asked.ask(&self.name, &rules_of_all(&layers, &reachable(&layers, &self.name)))
    }
}
