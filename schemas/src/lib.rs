//! The contracts of Weir: what the three binaries say to each other and leave on disk.
//!
//! - [`vocab`]: the words every part shares, as types that cannot be wrong.
//! - [`table`]: one module per table; the row type, its columns and their meaning.
//! - [`manifest`] (feature `manifest`): which files make up the tables.
//! - [`wire`]: the frame codec, and the messages that travel in frames.
//! - [`exit`]: how the programs end.
//! - [`config`] (feature `config`): how both configuration files are read and their faults told.
//!
//! This package does no I/O and depends on no other package of the workspace.

#![forbid(unsafe_code)]

#[cfg(feature = "config")]
pub mod config;
pub mod exit;
#[cfg(feature = "manifest")]
pub mod manifest;
pub mod table;
pub mod vocab;
pub mod wire;
