//! The recorder: receives the account and the payload, and writes Parquet tables and pcapng files.

#![forbid(unsafe_code)]

pub mod admin;
pub mod capture;
pub mod cli;
pub mod compact;
pub mod config;
pub mod data_dir;
pub mod files;
pub mod ingest;
pub mod load;
pub mod log;
pub mod log_lines;
pub mod manifest;
pub mod publish;
pub mod recover;
pub mod retain;
pub mod run;
pub mod upkeep;
