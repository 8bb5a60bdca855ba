//! The RBAC policy of `argocd-rbac-cm`. One that cannot be read leaves the last good one in effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::Problem;
use dataplane::Snapshot;
use dataplane::rbac::{MatchMode, Policy, PolicySource};

use super::{RBAC_CONFIG, config_map};
use crate::inputs::Inputs;
use crate::verdict::{Place, Verdict};
use crate::yaml::{self, Kind};

pub(super) fn read(
    inputs: &Inputs,
    namespace: &str,
    before: Option<&Snapshot>,
    verdicts: &mut Vec<Verdict>,
) -> Option<Arc<Policy>> {
    let last = before.and_then(|before| before.policy.as_ref());
    let empty = BTreeMap::new();
    let config = inputs.config(namespace, RBAC_CONFIG).unwrap_or(&empty);
    match compile(config, last) {
        Ok(policy) => Some(policy),
        Err(mut problem) => {
            problem.message.push_str(match last {
                Some(_) => "; the last readable policy stays in effect",
                None => "; everything is refused until it is corrected",
            });
            verdicts.push(Verdict::on(Place::new(config_map(namespace, RBAC_CONFIG), ""), vec![problem]));
            last.cloned()
        }
    }
}

fn compile(config: &BTreeMap<String, String>, last: Option<&Arc<Policy>>) -> Result<Arc<Policy>, Problem> {
    let text = |key: &str| config.get(key).cloned().unwrap_or_default();
    let source = PolicySource {
        texts: texts(config),
        mode: MatchMode::from_config(&text("policy.matchMode")),
        default_role: text("policy.default"),
        scopes: scopes(&text("scopes")).map_err(|message| Problem::error("scopes", message))?,
    };
    if let Some(last) = last.filter(|last| *last.source() == source) {
        return Ok(last.clone());
    }
    Policy::compile(source).map(Arc::new).map_err(|error| {
        let line = error.origin.line;
        Problem::error(error.origin.source.to_string(), error.reason.to_string()).at(Some(line))
    })
}

/// `policy.csv`, then every `policy.*.csv` by name.
fn texts(config: &BTreeMap<String, String>) -> Vec<(Arc<str>, String)> {
    const MAIN: &str = "policy.csv";
    let overlay = |key: &str| key.starts_with("policy.") && key.ends_with(".csv") && key != MAIN;
    let main = config.get_key_value(MAIN).into_iter();
    let overlays = config.iter().filter(|(key, _)| overlay(key));
    main.chain(overlays).map(|(key, text)| (Arc::from(key.as_str()), text.clone())).collect()
}

/// The names of claims; `None` for the default.
fn scopes(text: &str) -> Result<Option<Vec<String>>, String> {
    const REMEDY: &str = "is no list of claim names; write for example '[groups, email]'";
    let documents = yaml::documents(text).map_err(|error| format!("{REMEDY} ({error})"))?;
    let Some(node) = documents.first().filter(|node| !node.is_null()) else {
        return Ok(None);
    };
    let Kind::Sequence(items) = &node.kind else {
        return Err(REMEDY.into());
    };
    let names = items.iter().map(|item| item.text().map(str::to_owned)).collect::<Option<Vec<_>>>();
    names.map(Some).ok_or_else(|| REMEDY.into())
}
