//! Percentiles of rates, slot by slot: which slots there are and what is known of them ([`grid`]), and
//! which of them is the figure ([`ranking`]).

pub mod grid;
pub mod ranking;
