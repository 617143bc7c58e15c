//! System calls behind safe functions; the only unsafe code of the workspace.

pub mod datagram;
pub mod mapping;
pub mod option;
pub mod tcp_info;
