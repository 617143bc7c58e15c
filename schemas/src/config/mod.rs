//! How both configuration files are read: TOML with positions, so that every fault of a file is
//! told in one run, each with the place and what to write instead.
//!
//! [`Document::parse`] makes a tree; [`Section`] and [`Value`] walk it and push what is wrong into
//! [`Findings`]; [`Diagnostics`] are what people see. What the keys mean is known only to the
//! packages that own them.

mod diagnostic;
mod quantity;
mod section;

pub use diagnostic::{Diagnostic, Diagnostics, Findings, Level, Place, Refusal};
pub use quantity::{
    bandwidth, duration, rate, show_bandwidth, show_duration, show_rate, show_size, size,
};
pub use section::{Document, Section, Value};
