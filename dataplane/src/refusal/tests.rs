use std::collections::BTreeSet;

use super::*;

/// The labels as the source has them, which nothing else can list.
fn labels() -> BTreeSet<&'static str> {
    let source = include_str!("../refusal.rs");
    let body = source.split("fn label(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    body.lines().filter_map(|line| line.split("=> \"").nth(1)).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn every_reason_is_documented_with_its_status_and_none_else() {
    let documents = include_str!("../../../docs/metrics.md");
    let table = documents.split("## Reasons of refusals").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(documented, labels());
    for refusal in [
        Refusal::NotReady,
        Refusal::UnknownExtension,
        Refusal::NoCookie,
        Refusal::UnknownApplication,
        Refusal::ProjectNotServed,
        Refusal::AmbiguousService,
        Refusal::TooManyRequests,
        Refusal::BodyTooLarge,
        Refusal::BackendDown,
        Refusal::BackendTimeout,
        Refusal::BackendFailed(String::new()),
    ] {
        let row = format!("| `{}` | {} |", refusal.label(), refusal.status().as_u16());
        assert!(table.contains(&row), "{row}");
    }
}
