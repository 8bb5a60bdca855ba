//! The running binary and its peers: what the recorded requests cannot show.

// What is not as expected fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admin;
mod backend_tls;
mod backends;
mod changes;
mod commands;
mod connections;
mod demo;
mod drain;
mod folder;
mod hostile;
mod limits;
mod observability;
mod provider;
mod reception;
mod references;
mod reload;
mod scope;
mod streaming;
mod streams;
mod websocket;
