//! Decisions recorded from Argo CD's own code, asked of the modules that decide here.
//!
//! Where a decision differs on purpose, the case stands in `e2e/conformance/differences.json` with its reason. A
//! listed difference that is none any more fails the test as well, so that the list stays true.

mod destinations;
mod differences;
mod durations;
mod extension_config;
mod rbac;
