//! A journal whose disk fails or whose process dies at any operation.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod history;
mod model;
mod retreat;
mod sweep;
