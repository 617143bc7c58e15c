//! The trace of a position: what was done to get from what was measured to its lines, so that a
//! person with pen and paper comes to the same.

use serde::{Deserialize, Serialize};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which one.
    pub step: StepKind,
    /// The calculation with its numbers.
    pub text: String,
}

/// Which step, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// What was measured.
    Measured,
    /// The quantity in the item's unit.
    Unit,
    /// The quantity rounded.
    Rounding,
    /// What is left of it when the allowance is taken off.
    Allowance,
    /// The price of it.
    Price,
    /// What a discount takes off.
    Discount,
    /// The line rounded, once.
    Line,
    /// What the maximum takes off.
    Maximum,
    /// What the minimum adds.
    Minimum,
}

impl StepKind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Unit => "unit",
            Self::Rounding => "rounding",
            Self::Allowance => "allowance",
            Self::Price => "price",
            Self::Discount => "discount",
            Self::Line => "line",
            Self::Maximum => "maximum",
            Self::Minimum => "minimum",
        }
    }
}

/// Collects steps.
#[derive(Debug, Default)]
pub(super) struct Trace {
    steps: Vec<Step>,
}

impl Trace {
    pub(super) fn say(&mut self, step: StepKind, text: impl Into<String>) {
        self.steps.push(Step { step, text: text.into() });
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}
