//! What a contract says about the percentile that it bills. The ranks themselves are the business
//! of those who have the slots.

/// How the figure of a percentile item is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Percentile {
    /// Which percentile, 1 to 100.
    pub percent: u8,
    /// What of both directions counts.
    pub mode: Mode,
    /// Which of the ranked slots is the figure.
    pub rank: Rank,
    /// What a slot counts of which nothing is known.
    pub missing: Missing,
    /// The length of the ranked slots; `None`: the longest recorded.
    pub slot_s: Option<u32>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its word, in files and options.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// What of both directions counts.
    Mode {
        /// The larger of the two directions' figures.
        MaxOfP95 = "max_of_p95",
        /// The figure of both directions added, slot by slot.
        P95OfSum = "p95_of_sum",
        /// The figure of the larger direction of each slot.
        P95OfMax = "p95_of_max",
        /// What clients sent: `up`.
        In = "in",
        /// What clients received: `down`.
        Out = "out",
    }
}

words! {
    /// Which of the ranked slots is the figure; all but the first reproduce another tool.
    Rank {
        /// The whole number at or above 95 % of the slots.
        Ceil = "ceil",
        /// 95 % of the slots, halves away from zero.
        Round = "round",
        /// 95 % of the slots, halves to the even number.
        HalfEven = "half_even",
        /// As RRDtool does.
        Rrd = "rrd",
        /// As Cacti does.
        Cacti = "cacti",
    }
}

words! {
    /// What a slot counts of which nothing is known.
    Missing {
        /// It is not ranked.
        Exclude = "exclude",
        /// No traffic.
        Zero = "zero",
        /// As much as the slot before.
        Hold = "hold",
    }
}
