//! What `limits` answers.

use serde::{Deserialize, Serialize};

use crate::limits::LimitUse;

/// Limits and how far they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsInUse {
    /// How many there are; more than are listed when the bound on the answer cut them.
    pub total: u64,
    /// The fullest of them first.
    pub list: Vec<LimitUse>,
}
