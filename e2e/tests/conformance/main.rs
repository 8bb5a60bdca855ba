//! What a real Argo CD did, as recorded, asked of this program: requests of the running binary, decisions of the
//! modules that decide here. `CONFORMANCE_DIR` names another set of recordings.
//!
//! Where a request's answer differs on purpose the case holds what is wanted instead and why. Where a decision does,
//! it stands in `e2e/conformance/differences.json` with its reason. A listed difference that is none any more fails
//! the test as well, so that the list stays true.

// What is not as expected fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod destinations;
mod differences;
mod durations;
mod extension_config;
mod rbac;
mod requests;
