//! What the tests share: the program as a process, its peers, and the recorded conformance cases.

pub mod recordings;
