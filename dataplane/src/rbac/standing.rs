//! What a policy says of a caller, whatever is asked: made once for a token, since a caller may be in many groups and
//! the same for thousands of applications.

use hashbrown::HashMap;

use super::opening::Opening;
use super::question::Kind;
use super::rules::{RuleSet, RulesId, reachable, rules_of_all};
use super::{Asked, Caller, Decision, Policy, project_role};
use crate::project::Project;

/// Made from one policy and for one caller, and of no use with others.
#[derive(Debug)]
pub struct Standing {
    /// Whether the policy alone lets them count: the default role, the user, then the groups.
    counts: Vec<bool>,
    /// What the policy says of those that count, one after another: most of it says nothing of what is asked.
    speak: Vec<Speak>,
    /// How the objects begin of which it speaks.
    openings: [Vec<(Opening, Speak)>; Kind::COUNT],
    /// Which of the subjects have a name or reach a role.
    reached_by: HashMap<String, Vec<u32>>,
}

/// Rules that speak of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Speak {
    rules: RulesId,
    of: u32,
}

/// The subject that every question is asked for first.
const DEFAULT_ROLE: u32 = 0;
const USER: u32 = 1;

/// A subject by its number.
fn subject<'a>(policy: &'a Policy, caller: Caller<'a>, number: u32) -> Option<&'a str> {
    match number {
        DEFAULT_ROLE => Some(&policy.default_role),
        USER => Some(caller.user),
        group => caller.groups.get((group - USER) as usize - 1).map(String::as_str),
    }
}

impl Standing {
    pub(super) fn new(policy: &Policy, caller: Caller<'_>) -> Self {
        let mut this = Self {
            counts: Vec::with_capacity(2 + caller.groups.len()),
            speak: Vec::new(),
            openings: Kind::ALL.map(|_| Vec::new()),
            reached_by: HashMap::new(),
        };
        let numbered = |number| Some((number, subject(policy, caller, number)?));
        for (of, name) in (DEFAULT_ROLE..).map_while(numbered) {
            let reached = reachable(&[&policy.rules], name);
            let counts = match of {
                DEFAULT_ROLE => !name.is_empty(),
                USER => true,
                _ => policy.rules.assigns_roles_to(name),
            };
            if counts && of != DEFAULT_ROLE {
                for rules in reached.iter().filter_map(|name| policy.rules.id_of(name)) {
                    this.add(policy, Speak { rules, of });
                }
            }
            for role in reached {
                this.reached_by.entry_ref(role).or_default().push(of);
            }
            this.counts.push(counts);
        }
        this.openings.iter_mut().for_each(Vec::dedup);
        this
    }

    fn add(&mut self, policy: &Policy, speak: Speak) {
        self.speak.push(speak);
        for kind in Kind::ALL {
            let openings = &mut self.openings[kind as usize];
            openings.extend(policy.rules.rules(speak.rules).openings(kind).map(|opening| (opening, speak)));
        }
    }

    /// Asks for each subject in turn, the project's own policy included where there is one. For the default role
    /// alone, without that, the policy has asked already.
    pub(super) fn ask<'a>(
        &self,
        policy: &'a Policy,
        caller: Caller<'a>,
        asked: &mut Asked<'_, 'a>,
    ) -> Option<Decision<'a>> {
        let project = asked.question.project;
        let with_groups = match (project_role(caller.user), project) {
            (Some((of, _)), Some(project)) if *of != *project.name() => return None,
            (Some(_), Some(_)) => false,
            _ => true,
        };
        let own = project.and_then(Project::rules);
        let concerned = own.map(|own| self.concerned_by(own)).unwrap_or_default();
        let heard = self.heard(asked);
        let mut spoken_of: Vec<u32> = heard.iter().map(|heard| heard.of).chain(concerned.iter().copied()).collect();
        spoken_of.sort_unstable();
        spoken_of.dedup();
        spoken_of.into_iter().take_while(|of| with_groups || *of <= USER).find_map(|of| {
            let name = subject(policy, caller, of)?;
            match own.filter(|_| concerned.binary_search(&of).is_ok()) {
                Some(own) if self.counts_with(own, of, name) => {
                    let layers = [&policy.rules, own];
                    asked.ask(name, rules_of_all(&layers, &reachable(&layers, name)))
                }
                Some(_) => None,
                None => {
                    let first = heard.partition_point(|heard| heard.of < of);
                    let of_subject = heard[first..].iter().take_while(|heard| heard.of == of);
                    asked.ask(name, of_subject.map(|heard| policy.rules.rules(heard.rules)))
                }
            }
        })
    }

    /// What may say something, in order.
    fn heard(&self, asked: &Asked<'_, '_>) -> Vec<Speak> {
        let Some(kind) = asked.kind else { return self.speak.clone() };
        let openings = self.openings[kind as usize].iter().filter(|(opening, _)| asked.objects.have(*opening));
        let mut heard: Vec<Speak> = openings.map(|(_, speak)| *speak).collect();
        heard.dedup();
        heard
    }

    /// The subjects of whom a project's policy says something, in order.
    fn concerned_by(&self, project: &RuleSet) -> Vec<u32> {
        let mut concerned: Vec<u32> =
            project.names().filter_map(|name| self.reached_by.get(name)).flatten().copied().collect();
        concerned.sort_unstable();
        concerned
    }

    /// With a project's policy, whose `g` lines may give roles to more groups.
    fn counts_with(&self, project: &RuleSet, subject: u32, name: &str) -> bool {
        self.counts[subject as usize] || (subject > USER && project.assigns_roles_to(name))
    }
}
