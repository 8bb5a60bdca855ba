use super::*;
use crate::inputs::Inputs;
use crate::reconcile::{Memory, ReconcileOptions, reconcile};
use crate::sources::folder::Folder;

#[test]
fn the_world_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    write_world(folder.path(), "http://127.0.0.1:1", "key").unwrap();
    let mut reader = Folder::new(folder.path(), NAMESPACE);
    let (inputs, verdicts): (&Inputs, _) = reader.read().unwrap();
    assert_eq!(verdicts, []);
    let outcome = reconcile(inputs, &ReconcileOptions::new(NAMESPACE), &Memory::default());
    let problems: Vec<_> = outcome.verdicts.iter().filter(|verdict| !verdict.problems.is_empty()).collect();
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(outcome.snapshot.extensions.len(), 3);
}
