//! Clusters out of the Secrets that are labelled `argocd.argoproj.io/secret-type: cluster`.

use std::collections::BTreeMap;

use crds::Problem;
use dataplane::cluster::{Cluster, Clusters};

use super::{CONFIG, parse_bool, secret};
use crate::inputs::Inputs;
use crate::verdict::{Place, Verdict};

/// The labels of the Secrets, by the server that each is for.
pub(super) type ClusterLabels<'a> = BTreeMap<String, &'a BTreeMap<String, String>>;

pub(super) fn read<'a>(
    inputs: &'a Inputs,
    namespace: &str,
    verdicts: &mut Vec<Verdict>,
) -> (Clusters, ClusterLabels<'a>) {
    let mut labels = ClusterLabels::new();
    let mut servers: BTreeMap<String, &str> = BTreeMap::new();
    let mut clusters = Vec::new();
    for (key, object) in &inputs.secrets {
        if key.namespace != namespace || object.argocd_type() != Some("cluster") {
            continue;
        }
        let text = |name| object.text(name).unwrap_or_default().to_owned();
        let server = text("server").trim_end_matches('/').to_owned();
        let place = || Place::new(secret(namespace, &key.name), "");
        if server.is_empty() {
            let problem = Problem::error("server", "is missing; no application's destination can mean this cluster");
            verdicts.push(Verdict::on(place(), vec![problem]));
            continue;
        }
        if let Some(first) = servers.get(&server) {
            let message = format!("the Secret {first:?} is for the same server already; this one is ignored");
            verdicts.push(Verdict::on(place(), vec![Problem::warning("server", message)]));
            continue;
        }
        servers.insert(server.clone(), &key.name);
        labels.insert(server.clone(), &object.labels);
        clusters.push(Cluster { name: text("name"), server, project: text("project") });
    }
    let in_cluster = inputs.config(namespace, CONFIG).and_then(|config| config.get("cluster.inClusterEnabled"));
    let in_cluster_enabled = in_cluster.and_then(|text| parse_bool(text)).unwrap_or(true);
    (Clusters::new(clusters, in_cluster_enabled), labels)
}
