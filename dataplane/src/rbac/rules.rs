//! Policy text compiled into rules: patterns once, indexed by the subject that they speak of.

use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use regex::Regex;
use thiserror::Error;

use super::csv::{self, CsvError};
use crate::glob::Glob;
use crate::go_regex;

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
    Regex(Regex),
    /// No valid regular expression: a rule that is evaluated with it fails.
    Invalid,
}

/// The pattern of a rule cannot be evaluated.
pub(super) struct Unevaluable;

impl Pattern {
    fn new(text: &str, mode: MatchMode) -> Self {
        match mode {
            MatchMode::Glob => Self::Glob(Glob::new(text)),
            MatchMode::Regex => go_regex::compile(text).map_or(Self::Invalid, Self::Regex),
        }
    }

    fn matches(&self, text: &str) -> Result<bool, Unevaluable> {
        match self {
            Self::Glob(glob) => glob.evaluate(text).map_err(|_| Unevaluable),
            Self::Regex(regex) => Ok(regex.is_match(text)),
            Self::Invalid => Err(Unevaluable),
        }
    }
}

impl Rule {
    /// Resource, action and object in this order, each only when the one before matched.
    pub(super) fn matches(&self, resource: &str, action: &str, object: &str) -> Result<bool, Unevaluable> {
        Ok(self.resource.matches(resource)? && self.action.matches(action)? && self.object.matches(object)?)
    }
}

/// A policy's rules and role assignments.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: HashMap<String, Vec<Rule>>,
    /// `g` lines: what stands on the left → the roles on the right.
    roles: HashMap<String, Vec<Box<str>>>,
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
                let rule = Rule {
                    resource: Pattern::new(resource, mode),
                    action: Pattern::new(action, mode),
                    object: Pattern::new(object, mode),
                    effect: match *effect {
                        "allow" => Effect::Allow,
                        "deny" => Effect::Deny,
                        _ => Effect::Neither,
                    },
                    origin: origin(),
                };
                self.rules.entry_ref(*subject).or_default().push(rule);
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

    pub(super) fn rules_of(&self, subject: &str) -> &[Rule] {
        self.rules.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Whether a `g` line has this name on its left.
    pub(super) fn assigns_roles_to(&self, member: &str) -> bool {
        self.roles.contains_key(member)
    }

    fn roles_of(&self, member: &str) -> &[Box<str>] {
        self.roles.get(member).map_or(&[], Vec::as_slice)
    }
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
