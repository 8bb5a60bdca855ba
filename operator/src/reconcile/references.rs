//! `$key` and `$secret:key` in the configuration, and the Secrets that they may name.

use std::collections::BTreeMap;
use std::fmt;

use super::SECRET;
use crate::inputs::Inputs;
use crate::objects::Secret;

/// Every value that the configuration may refer to. Values never print.
pub(super) struct References<'a> {
    own: Option<&'a Secret>,
    /// Secrets that are labelled `app.kubernetes.io/part-of: argocd`, by name.
    labelled: BTreeMap<&'a str, &'a Secret>,
}

/// Why a reference has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unresolved {
    NoKey { secret: String, key: String },
    NoSecret { secret: String },
    NotText { secret: String, key: String },
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey { secret, key } => {
                write!(f, "the Secret {secret:?} has no key {key:?}; add it, or correct the reference")
            }
            Self::NoSecret { secret } => write!(
                f,
                "there is no Secret {secret:?} labelled app.kubernetes.io/part-of: argocd; create or label it, or correct the reference"
            ),
            Self::NotText { secret, key } => write!(f, "the key {key:?} of the Secret {secret:?} is not UTF-8 text"),
        }
    }
}

impl<'a> References<'a> {
    pub(super) fn new(inputs: &'a Inputs, namespace: &str) -> Self {
        let labelled = inputs
            .secrets
            .iter()
            .filter(|(key, secret)| key.namespace == namespace && secret.is_part_of_argocd())
            .map(|(key, secret)| (key.name.as_str(), secret))
            .collect();
        Self { own: inputs.secret(namespace, SECRET), labelled }
    }

    /// The value that a text refers to, trimmed; `None` where the text is no reference.
    pub(super) fn resolve(&self, text: &str) -> Option<Result<String, Unresolved>> {
        let reference = text.strip_prefix('$').filter(|reference| !reference.is_empty())?;
        Some(self.value(reference).map(|value| value.trim().to_owned()))
    }

    fn value(&self, reference: &str) -> Result<&'a str, Unresolved> {
        match reference.split_once(':') {
            None => read(self.own, SECRET, reference),
            Some((secret, key)) => {
                let found = self.labelled.get(secret).copied();
                if found.is_none() {
                    return Err(Unresolved::NoSecret { secret: secret.to_owned() });
                }
                read(found, secret, key)
            }
        }
    }
}

fn read<'a>(secret: Option<&'a Secret>, name: &str, key: &str) -> Result<&'a str, Unresolved> {
    let found = secret.filter(|secret| secret.data.contains_key(key));
    let found = found.ok_or_else(|| Unresolved::NoKey { secret: name.to_owned(), key: key.to_owned() })?;
    found.text(key).ok_or_else(|| Unresolved::NotText { secret: name.to_owned(), key: key.to_owned() })
}
