//! Recordings of a real Argo CD: `world/`, `golden.json` and `tables/`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// `CONFORMANCE_DIR`, or the recordings of this repository.
pub fn directory() -> PathBuf {
    match std::env::var_os("CONFORMANCE_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance"),
    }
}

/// A table, or nothing where the recordings have none of this name.
pub fn table<T: DeserializeOwned>(name: &str) -> Result<Vec<T>> {
    let path = directory().join("tables").join(name);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("decoding {}", path.display()))
}

/// The recorded requests, or nothing where the recordings have none.
pub fn golden() -> Result<Option<String>> {
    let path = directory().join("golden.json");
    if !path.exists() {
        return Ok(None);
    }
    std::fs::read_to_string(&path).map(Some).with_context(|| format!("reading {}", path.display()))
}
