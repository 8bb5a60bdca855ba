//! What a policy says of a caller, whatever is asked: made once for a token, since a caller may be in many groups and
//! the same for thousands of applications.

use std::sync::Arc;

use hashbrown::HashMap;

use super::rules::{RuleSet, Rules, reachable, rules_of_all};
use super::{Asked, Caller, Decision, Policy, project_role};
use crate::project::Project;

/// Made from one policy, and of no use with another.
#[derive(Debug)]
pub struct Standing {
    /// The default role, the user, then the groups.
    subjects: Vec<Subject>,
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
    rules: Vec<Arc<Rules>>,
}

/// Those of the subjects that speak for a project role's token: the default role and the user.
const WITHOUT_GROUPS: usize = 2;

impl Standing {
    pub(super) fn new(policy: &Policy, caller: Caller<'_>) -> Self {
        let own = [policy.default_role.as_str(), caller.user];
        let mut reached_by: HashMap<String, Vec<usize>> = HashMap::new();
        let mut subjects = Vec::with_capacity(own.len() + caller.groups.len());
        let groups = caller.groups.iter().map(String::as_str);
        for (i, name) in own.into_iter().chain(groups).enumerate() {
            let counts = match i {
                0 => !name.is_empty(),
                1 => true,
                _ => policy.rules.assigns_roles_to(name),
            };
            let layers = [&policy.rules];
            let reached = reachable(&layers, name);
            let rules = rules_of_all(&layers, &reached);
            for role in reached {
                reached_by.entry_ref(role).or_default().push(i);
            }
            subjects.push(Subject { name: name.into(), counts, rules });
        }
        let project_role_of = project_role(caller.user).map(|(project, _)| project.into());
        Self { subjects, reached_by, project_role_of }
    }

    /// Asks for each subject in turn, the project's own policy included where there is one.
    pub(super) fn ask(&self, base: &RuleSet, asked: &mut Asked<'_>) -> Option<Decision> {
        let project = asked.question.project;
        let subjects = match (&self.project_role_of, project) {
            (Some(of), Some(project)) if **of != *project.name() => return None,
            (Some(_), Some(_)) => &self.subjects[..WITHOUT_GROUPS],
            _ => &self.subjects,
        };
        let own = project.and_then(Project::rules);
        let concerned = own.map(|own| self.concerned_by(own)).unwrap_or_default();
        subjects.iter().enumerate().find_map(|(i, subject)| match own.filter(|_| concerned.contains(&i)) {
            Some(own) => subject.ask_with(base, own, i >= WITHOUT_GROUPS, asked),
            None if subject.counts => asked.ask(&subject.name, &subject.rules),
            None => None,
        })
    }

    /// The subjects of whom a project's policy says something.
    fn concerned_by(&self, project: &RuleSet) -> Vec<usize> {
        project.names().filter_map(|name| self.reached_by.get(name)).flatten().copied().collect()
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
