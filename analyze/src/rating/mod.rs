//! From measured quantities to invoice lines, exactly.
//!
//! Pure: a [`Plan`] says what has to be measured, whoever measured it calls [`Plan::rate`], and
//! [`Totals::of`] adds up. For one contract and one billing period, whoever bills
//!
//! 1. makes the plan: [`Plan::new`] cuts the period where the contract begins or ends and where the
//!    tariff's prices change, at local midnight;
//! 2. answers [`Plan::needs`] one by one, in their order, with a [`Measured`]. A [`Need`] names
//!    the subject, the filter and the [`Span`](crate::tariff::Span)s of time. A slot belongs to a
//!    span by its start; windows and periods begin on five minutes, so no slot is ever split.
//!    Bytes and datagrams are sums over the table `usage`, sessions the count of its `is_first`.
//!    A percentile is ranked over the spans' slots, after summing per slot, as its
//!    [`Percentile`](crate::tariff::Percentile) says, and comes with the slot that decided it;
//! 3. rates: [`Plan::rate`] gives the lines and, for every position, the trace of its steps;
//! 4. adds lines of earlier periods: [`adjustments`] of what was billed for one and what its data
//!    come to today, both as the whole lines of that period, never as an increment;
//! 5. adds up with [`Totals::of`], given what earlier invoices took of each credit.
//!
//! # The steps
//!
//! Always in this order, with nothing rounded but what the file rounds, until the line is:
//!
//! ```text
//! bytes -> unit -> rounding of the quantity -> allowance -> price -> discount
//!       -> maximum -> minimum -> line rounded, once -> tax -> credits
//! ```
//!
//! The amount of a line is quantity × unit price × days/of days − discount, rounded to the
//! currency's smallest coin, halves away from zero. Where a position has several lines, each is
//! rounded, and what maximum and minimum take off or add is the difference to their sum: no
//! invoice is a cent above its maximum. Tax is taken once from the sum of all lines of a rate.

mod adjust;
mod line;
mod plan;
mod position;
mod price;
mod step;
mod totals;

pub use adjust::adjustments;
pub use line::{Kind, Line, Share};
pub use plan::{Figure, Measure, Measured, Mismatch, Need, Plan, Position, Unpriced};
pub use position::{Rated, RatedPosition};
pub use step::{Step, StepKind};
pub use totals::{CreditUse, Tax, Totals};
