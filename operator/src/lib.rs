//! The operator: reads Argo CD's configuration, reconciles it into one registry, and hands it to the data plane.
pub mod inputs;
pub mod objects;
pub mod reconcile;
pub mod verdict;
pub mod yaml;
