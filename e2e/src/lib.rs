//! What the tests share: the program as a process, its peers, and the recorded conformance cases.
//!
//! ```text
//! World: a folder of manifests ─► Program (the real binary) ─► Backend a, b, c (raw HTTP/1.1: nothing is tidied up)
//!                                        │
//! client ────────────────────────────────┘──► Provider (OpenID Connect: discovery and keys)
//! ```
pub mod apiserver;
pub mod backend;
pub mod bench;
pub mod cases;
pub mod chart;
pub mod client;
pub mod http1;
pub mod http2;
pub mod image;
pub mod jws;
pub mod load;
pub mod namespaces;
pub mod node;
pub mod otlp;
pub mod process;
pub mod program;
pub mod provider;
pub mod recordings;
pub mod redis;
pub mod stage;
pub mod tls;
pub mod token;
pub mod tools;
pub mod usage;
pub mod wait;
pub mod websocket;
pub mod world;
