//! Captures as Wireshark's tools see them: sessions are told to a running capture over the lane, and
//! its files are judged by tshark, capinfos and tcpdump. Broken files show that the judges would
//! notice.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod blocks;
mod controls;
mod files;
mod speaker;
mod tshark;
mod turns;
mod whole;
