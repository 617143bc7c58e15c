//! Weir beside HAProxy, nginx and realm on loopback, in one run on one machine: the ratios mean
//! something, the figures alone do not.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("bench: relays are compared in network namespaces, which only Linux has");
    ExitCode::from(69)
}
