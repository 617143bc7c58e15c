//! Whole binaries on loopback: what a user of Weir may rely on, seen from outside.

mod install;
