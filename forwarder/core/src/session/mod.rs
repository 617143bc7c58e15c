//! What becomes of a session, decided without sockets.

mod dial;
mod tcp;

pub use dial::DialFailure;
pub use tcp::{Command, End, Event, State, TcpSession};
