//! The `recorder` program as a child process: how it refuses, and what it keeps when it is killed.

mod child;
mod kills;
mod refusals;
mod sender;
mod tables;
