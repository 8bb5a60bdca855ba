//! Which clusters a service answers for.

use std::collections::HashSet;

use kube::core::Selector;

use super::{Cluster, Origin};
use crate::Problem;
use crate::draft::{ClusterDraft, ServiceDraft};

pub(super) fn check(draft: Option<&ClusterDraft>, field: &str, problems: &mut Vec<Problem>) -> Option<Cluster> {
    let draft = draft?;
    let given = |text: &Option<crate::draft::Text>| text.as_ref().map(|t| t.value.clone()).filter(|v| !v.is_empty());
    let mut cluster = Cluster { name: given(&draft.name), server: given(&draft.server), selector: None };
    if let Some(selector) = &draft.selector {
        match Selector::try_from(selector.clone()) {
            Ok(selector) => cluster.selector = Some(selector),
            Err(error) => {
                problems.push(Problem::error(format!("{field}.selector.matchExpressions"), error.to_string()));
                return None;
            }
        }
    }
    if cluster.name.is_none() && cluster.server.is_none() && cluster.selector.is_none() {
        problems.push(Problem::error(field, "name or server must be given"));
        return None;
    }
    Some(cluster)
}

/// With several services each names its cluster, and none names another's. In a ProxyExtension those that say the
/// very same share its requests.
pub(super) fn check_all(services: &[ServiceDraft], origin: Origin, problems: &mut Vec<Problem>) {
    let shares = origin == Origin::ProxyExtension;
    if services.len() < 2 || (shares && services.iter().all(|service| service.cluster.is_none())) {
        return;
    }
    let (mut names, mut servers) = (HashSet::new(), HashSet::new());
    for (i, service) in services.iter().enumerate() {
        let Some(cluster) = &service.cluster else {
            problems.push(Problem::error(
                format!("backend.services[{i}].cluster"),
                "must be given when there is more than one service",
            ));
            continue;
        };
        if shares && services[..i].iter().any(|earlier| earlier.cluster.as_ref() == Some(cluster)) {
            continue;
        }
        for (kind, text, seen) in [("name", &cluster.name, &mut names), ("server", &cluster.server, &mut servers)] {
            let Some(text) = text.as_ref().filter(|t| !t.value.is_empty()) else {
                continue;
            };
            if !seen.insert(text.value.as_str()) {
                let message = format!("{:?} is named by an earlier service already", text.shown());
                problems.push(Problem::error(format!("backend.services[{i}].cluster.{kind}"), message).at(text.line));
            }
        }
    }
}
