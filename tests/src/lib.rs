//! Whole binaries on loopback: the harness behind the end-to-end tests and the demonstration.

#![forbid(unsafe_code)]
