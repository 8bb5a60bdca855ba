//! Argo CD's RBAC: who may do what, decided as Argo CD decides it.
//!
//! A question is asked separately for the default role, the user, each of the user's groups and the empty
//! subject; one yes suffices. Within one of these questions a deny wins, and a rule that cannot be evaluated
//! refuses. A project's own policy takes part in questions about that project's applications only.

mod csv;
mod opening;
mod question;
mod rules;
mod standing;

use std::sync::{Arc, LazyLock};

pub use csv::CsvError;
use hashbrown::HashMap;
use opening::Openings;
use question::Kind;
pub use question::Question;
use rules::Rules;
pub use rules::{Effect, MatchMode, Origin, PolicyError, PolicyErrorReason, RuleSet};
pub use standing::Standing;

use crate::effort::Effort;

/// Rules of one subject beyond which it pays to remember what they said.
const MANY: usize = 16;

static BUILTIN: &str = include_str!("builtin.csv");
static BUILTIN_SOURCE: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("the built-in policy"));

/// What of `argocd-rbac-cm` decides requests.
#[derive(Debug)]
pub struct Policy {
    rules: RuleSet,
    mode: MatchMode,
    default_role: String,
    /// Of the default role and of the empty subject, which every question is asked for.
    everybodys: [Vec<Arc<Rules>>; 2],
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
        let everybodys = [source.default_role.as_str(), ""].map(|subject| rules.of_reachable(subject));
        Ok(Self {
            rules,
            everybodys,
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
    /// What it says of a caller, for [`Policy::answer`].
    pub fn standing(&self, caller: Caller<'_>) -> Standing {
        Standing::new(self, caller)
    }

    /// Answers a question; `caller` is `None` where nobody is signed in.
    pub fn decide(&self, caller: Option<Caller<'_>>, question: Question<'_>) -> Decision {
        self.answer(caller.map(|caller| self.standing(caller)).as_ref(), question)
    }

    /// The same for a caller whose standing with this policy is known.
    pub fn answer(&self, caller: Option<&Standing>, question: Question<'_>) -> Decision {
        let mut asked = Asked::new(question);
        let [default_role, nobody] = &self.everybodys;
        let is_default = !self.default_role.is_empty();
        let default = is_default.then(|| asked.ask(&self.default_role, default_role)).flatten();
        default
            .or_else(|| caller?.ask(&self.rules, &mut asked))
            .or_else(|| asked.ask("", nobody))
            .unwrap_or(Decision::Refused { denied_by: asked.denied_by })
    }
}

/// `proj:<project>:<role>`, the subject of a project role's token.
pub fn project_role(subject: &str) -> Option<(&str, &str)> {
    let (project, role) = subject.strip_prefix("proj:")?.split_once(':')?;
    (!role.contains(':')).then_some((project, role))
}

/// A question on its way from subject to subject.
struct Asked<'q> {
    question: Question<'q>,
    kind: Option<Kind>,
    objects: Openings,
    effort: Effort,
    /// What the rules of roles said that have many: other subjects may reach them as well.
    said: HashMap<*const Rules, Said>,
    denied_by: Option<(String, Origin)>,
}

/// What the rules of one role say.
#[derive(Clone)]
enum Said {
    Nothing,
    Yes(Origin),
    /// A deny, or a rule that cannot be evaluated.
    No(Origin),
}

impl<'q> Asked<'q> {
    fn new(question: Question<'q>) -> Self {
        let (kind, objects) = (Kind::of(&question), Openings::of(question.objects));
        Self { question, kind, objects, effort: Effort::default(), said: HashMap::new(), denied_by: None }
    }

    /// Asks for one subject with the rules that speak of it. `Some` when it is allowed.
    fn ask<'r>(&mut self, subject: &str, rules: impl IntoIterator<Item = &'r Arc<Rules>>) -> Option<Decision> {
        let mut allowed_by = None;
        for rules in rules {
            match self.listen(rules) {
                Said::Nothing => {}
                Said::Yes(by) => allowed_by = allowed_by.or(Some(by)),
                // This subject gets no yes.
                Said::No(by) => {
                    self.denied_by.get_or_insert_with(|| (subject.to_owned(), by));
                    return None;
                }
            }
        }
        allowed_by.map(|by| Decision::Allowed { subject: subject.to_owned(), by })
    }

    fn listen(&mut self, rules: &Arc<Rules>) -> Said {
        if rules.count(self.kind) <= MANY {
            return self.hear(rules);
        }
        let key = Arc::as_ptr(rules);
        if let Some(said) = self.said.get(&key) {
            return said.clone();
        }
        let said = self.hear(rules);
        self.said.insert(key, said.clone());
        said
    }

    fn hear(&mut self, rules: &Rules) -> Said {
        let mut said = Said::Nothing;
        for rule in rules.about(self.kind, &self.objects) {
            match (rule.matches(&self.question, self.kind, &mut self.effort), rule.effect) {
                (Ok(false), _) | (Ok(true), Effect::Neither) => {}
                (Ok(true), Effect::Allow) => {
                    if matches!(said, Said::Nothing) {
                        said = Said::Yes(rule.origin.clone());
                    }
                }
                (Ok(true), Effect::Deny) | (Err(_), _) => {
                    said = Said::No(rule.origin.clone());
                    break;
                }
            }
        }
        said
    }
}
