#[test]
fn the_reference_that_is_checked_in_is_that_of_the_types() {
    crate::checked_in::check("../docs/reference.md", &super::reference());
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
