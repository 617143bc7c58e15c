//! Whole binaries on loopback: what a user of Weir may rely on, seen from outside.

mod accounting;
mod bench;
mod capture;
mod clock_and_disk;
mod crash;
mod crowd;
mod diagnostics;
mod docs;
mod drain;
mod early;
mod generate;
mod hostile;
mod install;
mod logging;
mod metrics;
mod migration;
mod no_tmpfs;
mod reload;
mod rows;
mod several;
mod tcp;
mod torture;
mod udp;
