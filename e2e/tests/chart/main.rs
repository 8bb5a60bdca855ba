//! The chart, with the real helm: what it makes of its values, and that the program runs as it says.

// What is not as expected fails the test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster;
mod commands;
mod documents;
mod install;
mod values;
