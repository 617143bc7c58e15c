//! Reports, lookups and captures from the tables, with embedded DuckDB.

#![forbid(unsafe_code)]
