//! Where the inputs come from.

pub mod folder;
