//! `argocd-cmd-params-cm`: where applications may live, and below which path Argo CD answers.

use crds::Problem;
use dataplane::namespace::NamespacePatterns;
use dataplane::snapshot::Settings;

use super::{config_map, parse_bool};
use crate::inputs::{Inputs, PARAMS_CONFIG};
use crate::verdict::{Place, Verdict};

pub(super) fn read(inputs: &Inputs, namespace: &str, verdicts: &mut Vec<Verdict>) -> Settings {
    let parameter = |key| inputs.parameter(namespace, key);
    let mut problems = Vec::new();
    let patterns = inputs.application_namespaces(namespace);
    let patterns = patterns.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
    let (application_namespaces, unreadable) = NamespacePatterns::new(patterns);
    problems.extend(unreadable.into_iter().map(|pattern| {
        let message = format!("{pattern:?} is no valid regular expression; no namespace matches it");
        Problem::error("application.namespaces", message)
    }));
    if parameter("server.disable.auth").is_some_and(|value| parse_bool(value) == Some(true)) {
        let message = "is on and is refused: this program never serves anybody unauthenticated, so that every request is authenticated and authorized all the same; remove it, or leave /extensions with argocd-server";
        problems.push(Problem::error("server.disable.auth", message));
    }
    if !problems.is_empty() {
        verdicts.push(Verdict::on(Place::new(config_map(namespace, PARAMS_CONFIG), ""), problems));
    }
    let root_path = parameter("server.rootpath").map(|path| path.trim_matches('/').to_owned());
    Settings { namespace: namespace.to_owned(), root_path: root_path.unwrap_or_default(), application_namespaces }
}
