//! The operator: reads Argo CD's configuration, reconciles it into one registry, and hands it to the data plane.
//!
//! ```text
//! sources ──► Inputs ──► controller ──► reconcile (pure) ──┬─► Snapshot ──► dataplane
//!                                                          └─► verdicts ──► start report, log, admin /status
//! ```
pub mod admin;
pub mod cli;
pub mod controller;
mod demo;
mod explain;
mod file_limit;
pub mod inputs;
mod kube_error;
mod log;
mod look;
pub mod metrics;
pub mod objects;
pub mod reconcile;
mod registry_hash;
mod registry_table;
mod run;
pub mod sources;
mod status;
mod telemetry;
mod validate;
pub mod verdict;
pub mod yaml;

/// Parses the command line and does what it says.
pub fn main() -> anyhow::Result<std::process::ExitCode> {
    cli::main()
}
