//! The words of Weir as types: parsed once at the border, right ever after.

mod address;
mod direction;
mod end;
mod id;
mod name;
mod term;
mod time;

pub use address::{ClientAddr, EgressAddr, ListenAddr, TargetAddr};
pub use direction::{Direction, PerDirection};
pub use end::{CloseKind, EndPhase, EndReason, FirstFin};
pub use id::{BootId, InvalidId, SessionId, SpoolId};
pub use name::{CustomerName, InvalidName, NodeName, RuleName, ServiceName, check_name};
pub use term::{DenyAction, DenyReason, Quality, Severity, SlotStatus, Transport, UnknownTerm};
pub use time::Timestamp;
