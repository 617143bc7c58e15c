//! What the forwarder decides, without I/O: the configuration as meant, who may pass, and the
//! account of every session. No socket, file, clock, thread or random number is used here; time is
//! always an argument.

#![forbid(unsafe_code)]

pub mod accounting;
pub mod alert;
pub mod config;
pub mod convert;
pub mod limit;
pub mod matching;
pub mod preamble;
pub mod session;
pub mod target;
