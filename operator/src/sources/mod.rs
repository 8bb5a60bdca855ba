//! Where the inputs come from.

pub mod cluster;
pub mod folder;
pub mod revocations;
