//! Policy text compiled into rules: patterns once, indexed by the subject that they speak of.

use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use thiserror::Error;

use super::csv::{self, CsvError};
use super::opening::{Opening, Openings};
use super::question::{Kind, Question};
use crate::effort::{Effort, Exhausted};
use crate::glob::Glob;
use crate::go_regex::{Allowance, Expression};

/// How many `g` lines may stand between a subject and the role that holds a rule.
const MAX_ROLE_DEPTH: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatchMode {
    #[default]
    Glob,
    Regex,
}

impl MatchMode {
    /// `policy.matchMode`: whatever is not `regex` means glob.
    pub fn from_config(text: &str) -> Self {
        if text == "regex" { Self::Regex } else { Self::Glob }
    }
}

/// Where a rule stands: the key of the ConfigMap or the project it comes from, and the line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub source: Arc<str>,
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.source, self.line)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{origin}: {reason}")]
pub struct PolicyError {
    pub origin: Origin,
    pub reason: PolicyErrorReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PolicyErrorReason {
    #[error("{0}")]
    Csv(#[from] CsvError),
    #[error("a p line is `p, subject, resource, action, object, effect`; quote a field that holds a comma")]
    PolicyFields,
    #[error("a g line is `g, user or group, role`; quote a field that holds a comma")]
    RoleFields,
    #[error("starts with neither `p,` nor `g,`")]
    UnknownKind,
}

#[derive(Debug)]
pub(super) struct Rule {
    resource: Pattern,
    action: Pattern,
    object: Pattern,
    /// Whether it speaks of what requests are asked; `None` where that cannot be told.
    is_about: [Option<bool>; Kind::COUNT],
    pub(super) effect: Effect,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
    /// Anything but `allow` and `deny`: the rule decides nothing.
    Neither,
}

#[derive(Debug)]
enum Pattern {
    Glob(Glob),
    Regex(Expression),
    /// No valid regular expression, or too large a one: a rule that is evaluated with it fails.
    Invalid,
}

/// The pattern of a rule cannot be evaluated.
pub(super) struct Unevaluable;

impl From<Exhausted> for Unevaluable {
    fn from(Exhausted: Exhausted) -> Self {
        Self
    }
}

impl Pattern {
    fn new(text: &str, mode: MatchMode, allowance: &mut Allowance) -> Self {
        match mode {
            MatchMode::Glob => Self::Glob(Glob::new(text)),
            MatchMode::Regex => Expression::compile(text, allowance).map_or(Self::Invalid, Self::Regex),
        }
    }

    /// What every text that it matches begins with, where that is known.
    fn literal_start(&self) -> &str {
        match self {
            Self::Glob(glob) => glob.literal_start(),
            Self::Regex(_) | Self::Invalid => "",
        }
    }

    fn matches(&self, text: &str, effort: &mut Effort) -> Result<bool, Unevaluable> {
        match self {
            Self::Glob(glob) => Ok(glob.evaluate(text, effort)?),
            Self::Regex(expression) => Ok(expression.matches(text, effort)?),
            Self::Invalid => Err(Unevaluable),
        }
    }
}

impl Rule {
    fn new(patterns: [Pattern; 3], effect: Effect, origin: Origin) -> Self {
        let [resource, action, object] = patterns;
        let is_about = Kind::ALL.map(|kind| {
            let (asked_resource, asked_action) = kind.resource_and_action();
            are_about((&resource, asked_resource), (&action, asked_action), &mut Effort::default()).ok()
        });
        Self { resource, action, object, is_about, effect, origin }
    }

    /// Resource, action and object in this order, each only when the one before matched.
    pub(super) fn matches(
        &self,
        question: &Question<'_, '_>,
        kind: Option<Kind>,
        effort: &mut Effort,
    ) -> Result<bool, Unevaluable> {
        let is_about = match kind {
            Some(kind) => self.is_about[kind as usize].ok_or(Unevaluable)?,
            None => are_about((&self.resource, question.resource), (&self.action, question.action), effort)?,
        };
        let mut any = false;
        for object in question.objects.iter().filter(|_| is_about) {
            any |= self.object.matches(object, effort)?;
        }
        Ok(any)
    }
}

fn are_about(resource: (&Pattern, &str), action: (&Pattern, &str), effort: &mut Effort) -> Result<bool, Unevaluable> {
    Ok(resource.0.matches(resource.1, effort)? && action.0.matches(action.1, effort)?)
}

/// The rules of one subject.
#[derive(Debug, Default)]
pub(super) struct Rules {
    all: Vec<Rule>,
    /// Those that may say something about the questions that requests are asked.
    by_kind: [Vec<Candidate>; Kind::COUNT],
}

/// A rule that may match objects that begin so. Most of them are passed over without a look at the rule itself.
#[derive(Debug)]
struct Candidate {
    objects: Opening,
    rule: usize,
}

impl Rules {
    fn push(&mut self, rule: Rule) {
        for kind in Kind::ALL {
            let objects = match rule.is_about[kind as usize] {
                Some(false) => continue,
                Some(true) => Opening::of_all_that_begin_with(rule.object.literal_start()),
                // One that cannot be evaluated refuses, and must be met.
                None => Opening::of_all_that_begin_with(""),
            };
            self.by_kind[kind as usize].push(Candidate { objects, rule: self.all.len() });
        }
        self.all.push(rule);
    }

    /// How many may match, whatever the object.
    pub(super) fn count(&self, kind: Option<Kind>) -> usize {
        kind.map_or(self.all.len(), |kind| self.by_kind[kind as usize].len())
    }

    /// How the objects begin that may match.
    pub(super) fn openings(&self, kind: Kind) -> impl Iterator<Item = Opening> {
        self.by_kind[kind as usize].iter().map(|candidate| candidate.objects)
    }

    /// All that may match objects that begin so, in order.
    pub(super) fn about<'a>(&'a self, kind: Option<Kind>, objects: &Openings) -> impl Iterator<Item = &'a Rule> {
        let (some, all) = match kind {
            Some(kind) => (self.by_kind[kind as usize].as_slice(), [].as_slice()),
            None => ([].as_slice(), self.all.as_slice()),
        };
        let some = some.iter().filter(|candidate| objects.have(candidate.objects));
        some.map(|candidate| &self.all[candidate.rule]).chain(all)
    }
}

/// The number of a subject's rules in their set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RulesId(u32);

/// A policy's rules and role assignments.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rules>,
    /// Of whom each of them speaks.
    by_subject: HashMap<String, RulesId>,
    /// `g` lines: what stands on the left → the roles on the right.
    roles: HashMap<String, Vec<Box<str>>>,
    allowance: Allowance,
}

impl RuleSet {
    /// Adds a policy's lines. The first line that cannot be read fails the whole text, as in Argo CD.
    pub fn add(&mut self, source: &Arc<str>, text: &str, mode: MatchMode) -> Result<(), PolicyError> {
        for (i, line) in text.split('\n').enumerate() {
            self.add_line(line.trim(), mode, || Origin { source: source.clone(), line: i + 1 })
                .map_err(|reason| PolicyError { origin: Origin { source: source.clone(), line: i + 1 }, reason })?;
        }
        Ok(())
    }

    fn add_line(
        &mut self,
        line: &str,
        mode: MatchMode,
        origin: impl FnOnce() -> Origin,
    ) -> Result<(), PolicyErrorReason> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let fields = csv::fields(line)?;
        match fields.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["p", subject, resource, action, object, effect] => {
                let effect = match *effect {
                    "allow" => Effect::Allow,
                    "deny" => Effect::Deny,
                    _ => Effect::Neither,
                };
                let patterns = [resource, action, object].map(|text| Pattern::new(text, mode, &mut self.allowance));
                let rule = Rule::new(patterns, effect, origin());
                self.rules_to_add_to(subject).push(rule);
            }
            ["p", ..] => return Err(PolicyErrorReason::PolicyFields),
            ["g", member, role] => self.roles.entry_ref(*member).or_default().push((*role).into()),
            ["g", ..] => return Err(PolicyErrorReason::RoleFields),
            // Sections of the model that Argo CD's policies are written in: accepted there, and without effect.
            ["r" | "e" | "m", ..] => {}
            _ => return Err(PolicyErrorReason::UnknownKind),
        }
        Ok(())
    }

    fn rules_to_add_to(&mut self, subject: &str) -> &mut Rules {
        let next = self.rules.len();
        // A policy of more lines than that fits into no ConfigMap.
        let id = self.by_subject.entry_ref(subject).or_insert(RulesId(u32::try_from(next).unwrap_or(u32::MAX)));
        let at = id.0 as usize;
        if at == next {
            self.rules.push(Rules::default());
        }
        &mut self.rules[at]
    }

    /// The rules of the subject and of every role that it reaches.
    pub(super) fn of_reachable(&self, subject: &str) -> Vec<RulesId> {
        reachable(&[self], subject).into_iter().filter_map(|name| self.id_of(name)).collect()
    }

    pub(super) fn id_of(&self, subject: &str) -> Option<RulesId> {
        self.by_subject.get(subject).copied()
    }

    pub(super) fn rules(&self, id: RulesId) -> &Rules {
        &self.rules[id.0 as usize]
    }

    /// Everybody and every role that a line is about.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_subject.keys().chain(self.roles.keys()).map(String::as_str)
    }

    /// Whether a `g` line has this name on its left.
    pub(super) fn assigns_roles_to(&self, member: &str) -> bool {
        self.roles.contains_key(member)
    }

    fn roles_of(&self, member: &str) -> &[Box<str>] {
        self.roles.get(member).map_or(&[], Vec::as_slice)
    }
}

/// The rules of subjects and roles, layer after layer for each.
pub(super) fn rules_of_all<'a>(layers: &[&'a RuleSet], names: &[&str]) -> Vec<&'a Rules> {
    let of_one = |name| layers.iter().filter_map(move |layer| layer.id_of(name).map(|id| layer.rules(id)));
    names.iter().flat_map(|name| of_one(*name)).collect()
}

/// The subject itself and every role that it reaches through the layers' `g` lines.
pub(super) fn reachable<'a>(layers: &[&'a RuleSet], subject: &'a str) -> Vec<&'a str> {
    let mut seen: HashSet<&str> = HashSet::from([subject]);
    let mut all = vec![subject];
    let mut level = vec![subject];
    for _ in 0..MAX_ROLE_DEPTH {
        let mut next = Vec::new();
        for member in level {
            for role in layers.iter().flat_map(|layer| layer.roles_of(member)) {
                if seen.insert(role) {
                    next.push(&**role);
                }
            }
        }
        if next.is_empty() {
            break;
        }
        all.extend(&next);
        level = next;
    }
    all
}
