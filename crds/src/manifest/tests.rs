#[test]
fn the_manifests_that_are_checked_in_are_those_of_the_types() {
    crate::checked_in::check("manifests.yaml", &super::manifests());
}
