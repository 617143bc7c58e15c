//! The forwarder: relays TCP and UDP from its listeners to internal targets and keeps an exact
//! account of every session.
//!
//! This package is the shell around `forwarder-core`, which decides: sockets, files, threads and
//! clocks live here.

#![forbid(unsafe_code)]

pub mod accounting;
pub mod admin;
mod alerts;
pub mod capture;
pub mod check;
pub mod cli;
pub mod clock;
mod convert;
mod dial;
pub mod health;
pub mod limits;
pub mod link;
pub mod listener;
pub mod load;
pub mod log;
pub mod metrics;
pub mod names;
pub mod relay;
pub mod reload;
pub mod run;
pub mod source;
mod tcp_options;
