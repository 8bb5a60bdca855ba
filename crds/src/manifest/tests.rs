use std::path::Path;

/// `UPDATE=1 cargo test -p crds` writes it anew.
#[test]
fn the_manifests_that_are_checked_in_are_those_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests.yaml");
    let manifests = super::manifests();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &manifests).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == manifests, "crds/manifests.yaml is stale: run UPDATE=1 cargo test -p crds");
}
