//! What becomes of a session, decided without sockets.

mod dial;
mod flow;
mod tcp;

pub use dial::DialFailure;
pub use flow::{Flow, Outcome, Route, Step};
pub use tcp::{Command, End, Event, State, TcpSession};
