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
pub use rules::{Effect, MatchMode, Origin, PolicyError, PolicyErrorReason, RuleSet};
use rules::{Rules, RulesId};
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
    everybodys: [Vec<RulesId>; 2],
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

/// The answer, with the subject for whom it was given and the line that decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    Allowed {
        subject: &'a str,
        by: &'a Origin,
    },
    /// No subject was allowed. `denied_by` is a rule that refused one which another rule allowed.
    Refused {
        denied_by: Option<(&'a str, &'a Origin)>,
    },
}

impl Decision<'_> {
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
    pub fn decide<'a>(&'a self, caller: Option<Caller<'a>>, question: Question<'_, 'a>) -> Decision<'a> {
        match caller {
            Some(caller) => self.answer(Some((caller, &self.standing(caller))), question),
            None => self.answer(None, question),
        }
    }

    /// The same for a caller whose standing with this policy is known.
    pub fn answer<'a>(&'a self, caller: Option<(Caller<'a>, &Standing)>, question: Question<'_, 'a>) -> Decision<'a> {
        let mut asked = Asked::new(question);
        let [default_role, nobody] = self.everybodys.each_ref().map(|ids| ids.iter().map(|id| self.rules.rules(*id)));
        let is_default = !self.default_role.is_empty();
        let default = is_default.then(|| asked.ask(&self.default_role, default_role)).flatten();
        default
            .or_else(|| caller.and_then(|(caller, standing)| standing.ask(self, caller, &mut asked)))
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
struct Asked<'q, 'a> {
    question: Question<'q, 'a>,
    kind: Option<Kind>,
    objects: Openings,
    effort: Effort,
    /// What the rules of roles said that have many: other subjects may reach them as well.
    said: HashMap<*const Rules, Said<'a>>,
    denied_by: Option<(&'a str, &'a Origin)>,
}

/// What the rules of one role say.
#[derive(Clone, Copy)]
enum Said<'a> {
    Nothing,
    Yes(&'a Origin),
    /// A deny, or a rule that cannot be evaluated.
    No(&'a Origin),
}

impl<'q, 'a> Asked<'q, 'a> {
    fn new(question: Question<'q, 'a>) -> Self {
        let (kind, objects) = (Kind::of(&question), Openings::of(question.objects));
        Self { question, kind, objects, effort: Effort::default(), said: HashMap::new(), denied_by: None }
    }

    /// Asks for one subject with the rules that speak of it. `Some` when it is allowed.
    fn ask(&mut self, subject: &'a str, rules: impl IntoIterator<Item = &'a Rules>) -> Option<Decision<'a>> {
        let mut allowed_by = None;
        for rules in rules {
            match self.listen(rules) {
                Said::Nothing => {}
                Said::Yes(by) => allowed_by = allowed_by.or(Some(by)),
                // This subject gets no yes.
                Said::No(by) => {
                    self.denied_by.get_or_insert((subject, by));
                    return None;
                }
            }
        }
        allowed_by.map(|by| Decision::Allowed { subject, by })
    }

    fn listen(&mut self, rules: &'a Rules) -> Said<'a> {
        if rules.count(self.kind) <= MANY {
            return self.hear(rules);
        }
        let key = std::ptr::from_ref(rules);
        if let Some(said) = self.said.get(&key) {
            return *said;
        }
        let said = self.hear(rules);
        self.said.insert(key, said);
        said
    }

    fn hear(&mut self, rules: &'a Rules) -> Said<'a> {
        let mut said = Said::Nothing;
        for rule in rules.about(self.kind, &self.objects) {
            match (rule.matches(&self.question, self.kind, &mut self.effort), rule.effect) {
                (Ok(false), _) | (Ok(true), Effect::Neither) => {}
                (Ok(true), Effect::Allow) => {
                    if matches!(said, Said::Nothing) {
                        said = Said::Yes(&rule.origin);
                    }
                }
                (Ok(true), Effect::Deny) | (Err(_), _) => {
                    said = Said::No(&rule.origin);
                    break;
                }
            }
        }
        said
    }
}
