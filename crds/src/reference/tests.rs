use std::path::Path;

/// `UPDATE=1 cargo test -p crds` writes it anew.
#[test]
fn the_reference_that_is_checked_in_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    let reference = super::reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &reference).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == reference, "docs/reference.md is stale: run UPDATE=1 cargo test -p crds");
}

#[test]
fn every_field_is_described() {
    let undescribed: Vec<String> = super::reference()
        .lines()
        .filter(|line| line.starts_with("| ") && line.ends_with("|  |"))
        .map(str::to_owned)
        .collect();
    assert!(undescribed.is_empty(), "{undescribed:#?}");
}
