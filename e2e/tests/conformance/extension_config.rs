use std::collections::{BTreeMap, BTreeSet};

use operator::inputs::Inputs;
use operator::objects::{ConfigMap, ObjectKey, Secret};
use operator::reconcile::{Memory, Outcome, ReconcileOptions, reconcile};
use operator::verdict::State;
use serde::Deserialize;

use crate::differences::Differences;

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    data_base64: Option<serde_json::Value>,
    #[serde(default)]
    secrets: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    secrets_base64: BTreeMap<String, BTreeMap<String, String>>,
    ok: bool,
    extensions: Option<BTreeMap<String, Vec<Service>>>,
    #[serde(default)]
    registry: Option<BTreeMap<String, Vec<ClusterKey>>>,
    #[serde(default)]
    nondeterministic: bool,
}

#[derive(Deserialize)]
struct Service {
    url: String,
    headers: Vec<Header>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct ClusterKey {
    name: String,
    server: String,
}

#[test]
fn conformance_of_extension_config() {
    let cases: Vec<Case> = e2e::recordings::table("extension-config.json").unwrap();
    let mut differences = Differences::new("extension-config");
    for case in &cases {
        // Argo CD's outcome is a matter of chance there; ours is not.
        if case.nondeterministic {
            continue;
        }
        // A ConfigMap's data holds text only: such a case cannot reach either program.
        let (Some(data), None) = (&case.data, &case.data_base64) else {
            continue;
        };
        let outcome = reconcile(&inputs(case, data), &ReconcileOptions::new("argocd"), &Memory::default());
        if let Some(what) = compare(case, &outcome) {
            differences.differs(&case.name, &what);
        }
    }
    differences.finish(cases.len());
}

fn inputs(case: &Case, data: &BTreeMap<String, String>) -> Inputs {
    let mut inputs = Inputs::default();
    inputs
        .config_maps
        .insert(ObjectKey::new("argocd", "argocd-cm"), ConfigMap { data: data.clone(), ..ConfigMap::default() });
    let decoded = |text: &String| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
    for (name, data) in &case.secrets {
        let secret = inputs.secrets.entry(ObjectKey::new("argocd", name)).or_default();
        secret.data.extend(data.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())));
    }
    for (name, data) in &case.secrets_base64 {
        let secret = inputs.secrets.entry(ObjectKey::new("argocd", name)).or_default();
        secret.data.extend(data.iter().map(|(key, value)| (key.clone(), decoded(value))));
    }
    for (key, secret) in &mut inputs.secrets {
        let Secret { labels, .. } = secret;
        if key.name != "unlabelled" {
            labels.insert("app.kubernetes.io/part-of".into(), "argocd".into());
        }
    }
    inputs
}

/// What differs, if anything does.
fn compare(case: &Case, outcome: &Outcome) -> Option<String> {
    let ours = outcome
        .verdicts
        .iter()
        .filter(|v| v.place.object == "ConfigMap argocd/argocd-cm" && v.place.entry.starts_with("extension"));
    let invalid: Vec<String> = ours.clone().filter(|v| v.state != State::Accepted).flat_map(|v| v.lines()).collect();
    if !case.ok {
        return invalid.is_empty().then(|| "is accepted, and Argo CD refuses it".into());
    }
    if !invalid.is_empty() {
        return Some(format!("is refused, and Argo CD accepts it: {invalid:?}"));
    }
    let expected = case.extensions.as_ref()?;
    let served = &outcome.snapshot.extensions;
    let names: BTreeSet<&str> = served.keys().map(|name| &**name).collect();
    if names != expected.keys().map(String::as_str).collect() {
        return Some(format!("serves {names:?} instead of {:?}", expected.keys()));
    }
    for (name, services) in expected {
        for (want, got) in services.iter().zip(&served[name.as_str()].services) {
            let address = &got.settings.address;
            let scheme = if address.tls { "https" } else { "http" };
            let url = format!("{scheme}://{}", address.authority.to_str().unwrap());
            if !want.url.starts_with(&url) {
                return Some(format!("{name} is at {url} instead of {}", want.url));
            }
            let got: Vec<(&str, &[u8])> =
                got.settings.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            // Of two headers with one name the last is what Argo CD sends.
            let want: BTreeMap<String, &[u8]> =
                want.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.as_bytes())).collect();
            if got.into_iter().collect::<BTreeMap<_, _>>() != want.iter().map(|(n, v)| (n.as_str(), *v)).collect() {
                return Some(format!("{name} sends other headers"));
            }
        }
        if let Some(keys) = case.registry.as_ref().and_then(|registry| registry.get(name)) {
            let want: BTreeSet<&ClusterKey> = keys.iter().collect();
            let got: Vec<ClusterKey> = served[name.as_str()].services.iter().flat_map(cluster_keys).collect();
            if want != got.iter().collect() {
                return Some(format!("{name} is for {got:?} instead of {want:?}"));
            }
        }
    }
    None
}

fn cluster_keys(service: &std::sync::Arc<dataplane::extension::Service>) -> Vec<ClusterKey> {
    let key = |name: &str, server: &str| ClusterKey { name: name.into(), server: server.into() };
    match &service.settings.cluster {
        None => vec![key("", "")],
        Some(cluster) => {
            let name = cluster.name.iter().map(|name| key(name, ""));
            name.chain(cluster.server.iter().map(|server| key("", server))).collect()
        }
    }
}
