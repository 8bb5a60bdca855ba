//! The running binary and its peers: what the recorded requests cannot show.

// What is not as expected fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admin;
mod changes;
mod connections;
mod demo;
mod drain;
mod folder;
mod hostile;
mod provider;
mod reload;
mod streaming;
mod websocket;
