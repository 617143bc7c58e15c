//! Append-only segment files of frames, used as spool and as write-ahead log.

#![forbid(unsafe_code)]
