//! Texts that are generated from the types and checked in.

use std::path::Path;

/// Fails where the file, by its path from this package, holds another text. `UPDATE=1` writes it anew.
pub(crate) fn check(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(checked_in == text, "{path} is stale: run UPDATE=1 cargo test -p crds");
}
