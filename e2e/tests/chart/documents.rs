use std::collections::BTreeSet;

use e2e::chart::folder;

/// Names of this program's metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words
        .filter(|word| word.starts_with("argocd_extension_proxy_") || word.starts_with("argocd_proxy_extension_"))
        .map(|word| word.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum").to_owned())
        .collect()
}

/// What is exported is what the document says, which another test compares with the program.
#[test]
fn every_query_of_the_dashboard_and_the_alerts_names_a_metric_that_is_exported() {
    let exported = metrics(include_str!("../../../docs/metrics.md"));
    for name in ["dashboard.json", "alerts.yaml"] {
        let text = std::fs::read_to_string(folder().join("files").join(name)).unwrap();
        let used = metrics(&text);
        assert!(used.len() > 4, "{name}: {used:?}");
        let unknown: Vec<&String> = used.difference(&exported).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
    let alerts = std::fs::read_to_string(folder().join("files/alerts.yaml")).unwrap();
    assert_eq!(alerts.matches("- alert:").count(), alerts.matches("runbook:").count());
    let dashboard = std::fs::read_to_string(folder().join("files/dashboard.json")).unwrap();
    let _: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
}

#[test]
fn the_charts_crds_are_those_of_the_types() {
    let installed = std::fs::read_to_string(folder().join("files/crds.yaml")).unwrap();
    assert!(
        installed == crds::manifests(),
        "stale: cp crds/manifests.yaml charts/argocd-extension-proxy/files/crds.yaml"
    );
}
