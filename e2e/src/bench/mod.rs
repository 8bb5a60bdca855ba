//! The benchmark: the program, HAProxy and nginx under the same load in one run, on one machine. Only ratios within
//! one run mean anything.
//!
//! ```text
//! generator ─► ours │ HAProxy │ nginx │ argocd-server ─► nginx (backend)
//!              usage: CPU and memory of each
//! ```
pub mod apart;
pub mod arena;
pub mod argocd;
pub mod generator;
pub mod guard;
pub mod large;
pub mod machine;
pub mod measure;
pub mod peers;
pub mod requests;
pub mod scale;
pub mod streams;
pub mod table;

use std::time::Duration;

/// How long it measures.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of one candidate under one load, in one round.
    pub time: Duration,
    pub rounds: usize,
}
