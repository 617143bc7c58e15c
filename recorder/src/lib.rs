//! The recorder: receives the account and the payload, and writes Parquet tables and pcapng files.

#![forbid(unsafe_code)]

pub mod config;
pub mod exit;

pub mod capture;
pub mod log;
