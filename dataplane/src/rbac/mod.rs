//! Argo CD's RBAC: who may do what, decided as Argo CD decides it.
//!
//! A question is asked separately for the default role, the user, each of the user's groups and the empty
//! subject; one yes suffices. Within one of these questions a deny wins, and a rule that cannot be evaluated
//! refuses. A project's own policy takes part in questions about that project's applications only.

mod csv;
mod rules;

use std::sync::{Arc, LazyLock};

pub use csv::CsvError;
pub use rules::{Effect, MatchMode, Origin, PolicyError, PolicyErrorReason, RuleSet};
use rules::{Rule, reachable};

use crate::project::Project;

static BUILTIN: &str = include_str!("builtin.csv");
static BUILTIN_SOURCE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("the built-in policy"));

/// What of `argocd-rbac-cm` decides requests.
#[derive(Debug)]
pub struct Policy {
    rules: RuleSet,
    mode: MatchMode,
    default_role: String,
    scopes: Vec<String>,
    /// The texts that this was compiled from: equal sources mean an equal policy.
    source: PolicySource,
}

/// The keys of `argocd-rbac-cm`, in the order in which they count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicySource {
    /// `policy.csv` first, then `policy.*.csv` by name.
    pub texts: Vec<(Arc<str>, String)>,
    pub mode: MatchMode,
    pub default_role: String,
    /// Claims that hold a user's groups. `None`: `groups`.
    pub scopes: Option<Vec<String>>,
}

impl Policy {
    pub fn compile(source: PolicySource) -> Result<Self, PolicyError> {
        let mut rules = RuleSet::default();
        rules.add(&BUILTIN_SOURCE, BUILTIN, source.mode)?;
        for (key, text) in &source.texts {
            rules.add(key, text, source.mode)?;
        }
        Ok(Self {
            rules,
            mode: source.mode,
            default_role: source.default_role.clone(),
            scopes: source.scopes.clone().unwrap_or_else(|| vec!["groups".into()]),
            source,
        })
    }

    pub fn source(&self) -> &PolicySource {
        &self.source
    }

    pub fn mode(&self) -> MatchMode {
        self.mode
    }

    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }
}

/// Who asks: the user identifier and the groups of a verified token.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub user: &'a str,
    pub groups: &'a [String],
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub resource: &'a str,
    pub action: &'a str,
    /// Names of one and the same object. A deny of either refuses, an allow of either suffices.
    pub objects: &'a [&'a str],
    /// The project that the object belongs to, where the resource is one that belongs to projects.
    pub project: Option<&'a Project>,
}

/// The answer, with what decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allowed {
        subject: String,
        by: Origin,
    },
    /// No subject was allowed. `denied_by` is a rule that refused one which another rule allowed.
    Refused {
        denied_by: Option<(String, Origin)>,
    },
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

impl Policy {
    /// Answers a question; `caller` is `None` where nobody is signed in.
    pub fn decide(&self, caller: Option<Caller<'_>>, question: Question<'_>) -> Decision {
        let base: &[&RuleSet] = &[&self.rules];
        let mut asked = Asked { question, denied_by: None };
        asked
            .ask(base, &self.default_role, !self.default_role.is_empty())
            .or_else(|| self.ask_caller(caller?, &mut asked))
            .or_else(|| asked.ask(base, "", true))
            .unwrap_or(Decision::Refused { denied_by: asked.denied_by })
    }

    fn ask_caller(&self, caller: Caller<'_>, asked: &mut Asked<'_>) -> Option<Decision> {
        let project = asked.question.project;
        let project_rules = project.and_then(Project::rules);
        let layers: Vec<&RuleSet> = std::iter::once(&self.rules).chain(project_rules).collect();
        if let (Some(project), Some((of, _))) = (project, project_role(caller.user)) {
            if of != project.name() {
                return None;
            }
            return asked
                .ask(&layers, &self.default_role, !self.default_role.is_empty())
                .or_else(|| asked.ask(&layers, caller.user, true));
        }
        asked
            .ask(&layers, &self.default_role, !self.default_role.is_empty())
            .or_else(|| asked.ask(&layers, caller.user, true))
            .or_else(|| {
                let known = |group: &&String| layers.iter().any(|layer| layer.assigns_roles_to(group));
                caller.groups.iter().filter(known).find_map(|group| asked.ask(&layers, group, true))
            })
    }
}

/// `proj:<project>:<role>`, the subject of a project role's token.
pub fn project_role(subject: &str) -> Option<(&str, &str)> {
    let (project, role) = subject.strip_prefix("proj:")?.split_once(':')?;
    (!role.contains(':')).then_some((project, role))
}

struct Asked<'q> {
    question: Question<'q>,
    denied_by: Option<(String, Origin)>,
}

impl Asked<'_> {
    /// Asks for one subject. `Some` when it is allowed.
    fn ask(&mut self, layers: &[&RuleSet], subject: &str, counts: bool) -> Option<Decision> {
        if !counts {
            return None;
        }
        let mut allowed_by: Option<&Rule> = None;
        for name in reachable(layers, subject) {
            for rule in layers.iter().flat_map(|layer| layer.rules_of(name)) {
                match self.question.matches(rule) {
                    Ok(false) => {}
                    Ok(true) if rule.effect == Effect::Allow => allowed_by = allowed_by.or(Some(rule)),
                    Ok(true) if rule.effect == Effect::Neither => {}
                    // A deny, or a rule that cannot be evaluated: this subject gets no yes.
                    Ok(true) | Err(_) => {
                        self.denied_by.get_or_insert_with(|| (subject.to_owned(), rule.origin.clone()));
                        return None;
                    }
                }
            }
        }
        allowed_by.map(|rule| Decision::Allowed { subject: subject.to_owned(), by: rule.origin.clone() })
    }
}

impl Question<'_> {
    fn matches(&self, rule: &Rule) -> Result<bool, rules::Unevaluable> {
        let mut any = false;
        for object in self.objects {
            any |= rule.matches(self.resource, self.action, object)?;
        }
        Ok(any)
    }
}
