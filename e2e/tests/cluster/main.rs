//! The running binary in a cluster: a real kube-apiserver with its etcd, and a real Redis.

// What is not as expected fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod commands;
mod edits;
mod metrics;
mod objects;
mod outages;
mod permissions;
mod redis;
mod references;
mod replicas;
mod requests;
mod status;
