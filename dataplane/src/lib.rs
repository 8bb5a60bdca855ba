//! The proxy, without any Kubernetes client: what it knows is a [`Snapshot`], which somebody else makes.
//!
//! ```text
//! watch channel: Arc<Snapshot>
//!        │ taken once a request
//!        ▼
//! server ─► request: route ─► authenticate ─► authorize ─► rewrite ─► forward
//!                               │  memo          │                       │
//!                               ▼                ▼                       ▼
//!                    token (local, OIDC)   rbac, project, cluster       pool
//! ```
//! Each stage takes what only the stage before can make: [`request::Authenticated`], then
//! [`request::Target`]. Whatever refuses is a [`Refusal`], and one place turns it into an answer, a log line
//! and a metric label.

pub mod access_log;
pub mod account;
pub mod application;
mod body;
pub mod cluster;
mod effort;
pub mod extension;
pub mod glob;
mod go_regex;
pub mod health;
mod memo;
pub mod metrics;
pub mod namespace;
mod pool;
pub mod project;
pub mod rbac;
mod refusal;
pub mod request;
pub mod server;
mod small_writes;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod token;

pub use refusal::Refusal;
pub use server::{Server, ServerOptions};
pub use snapshot::Snapshot;
