//! What the end-to-end tests and the demonstration are made of: the real binaries as child
//! processes in a directory of their own, endpoints that count every byte, and waiting with a
//! deadline.
//!
//! Nothing in here decides whether a test passes; it panics only when the scene cannot be set.

#![forbid(unsafe_code)]

pub mod account;
pub mod address;
pub mod binary;
pub mod clock;
pub mod cpu;
pub mod descriptors;
pub mod dice;
pub mod endpoint;
pub mod figures;
pub mod markdown;
pub mod name_server;
pub mod process;
pub mod scene;
pub mod statistics;
pub mod wait;
