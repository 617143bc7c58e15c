//! What a client sends before its payload, or at the head of it: whom a proxy speaks for, and which
//! server is asked for.
//!
//! Every reader here is given all bytes received so far, from the first on, and answers without a
//! memory of its own. An answer that is not [`Answer::Incomplete`] is final: bytes behind it change
//! nothing.

mod hello;
mod host;
pub mod proxy;
mod server_name;

pub use server_name::{MAX_SERVER_NAME_BYTES, cut_short, server_name};

/// What the bytes so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T> {
    /// Nothing yet; more are needed.
    Incomplete,
    /// This.
    Done(T),
    /// They are not what they should be, for this reason.
    Malformed(&'static str),
}

impl<T> Answer<T> {
    fn of(result: Result<Option<T>, &'static str>) -> Self {
        match result {
            Ok(Some(value)) => Self::Done(value),
            Ok(None) => Self::Incomplete,
            Err(why) => Self::Malformed(why),
        }
    }
}
