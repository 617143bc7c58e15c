//! Closed sets of words: columns of dictionary text, and one byte each in the counter table.

/// A text or code that is not one of a set's terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {set}")]
pub struct UnknownTerm {
    /// The set that was asked.
    pub set: &'static str,
    /// What was given.
    pub text: String,
}

/// An enum whose terms have a text (columns, logs, metrics) and a code (counter table). Codes are
/// append-only: a table of an older boot is read by a newer binary.
macro_rules! terms {
    ($(#[$doc:meta])* $name:ident { $($(#[$term_doc:meta])* $term:ident = $code:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$term_doc])* $term = $code,)+ }

        impl $name {
            /// Every term, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$term,)+];

            /// The term as columns, logs and metrics spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$term => $text,)+ }
            }

            /// The term as the counter table holds it.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The term of a code; `None` for a code of a newer version.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$term),)+ _ => None }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::vocab::UnknownTerm;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$term),)+
                    _ => Err($crate::vocab::UnknownTerm { set: stringify!($name), text: text.to_owned() }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(super) use terms;

terms! {
    /// What a listener speaks.
    Transport {
        /// Connections.
        Tcp = 1 "tcp",
        /// Associations of datagrams.
        Udp = 2 "udp",
    }
}

/// How far a row's figures can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(i32)]
pub enum Quality {
    /// Exact.
    #[default]
    Exact = 0,
    /// Recovered after a crash: the truth lies between `bytes_x` and `received_x`.
    Recovered = 1,
    /// The bytes are exact, their time is spread over several slots.
    Spread = 2,
    /// Partly lost: a lower bound.
    PartlyLost = 3,
}

terms! {
    /// What a row of `slots` says about its interval.
    SlotStatus {
        /// Measured, and there was traffic.
        Ok = 1 "OK",
        /// Measured, and there was none: a known zero.
        NoData = 2 "NODATA",
        /// Something was shed; missing usage rows prove nothing.
        SkipData = 3 "SKIPDATA",
        /// Nothing ran: a known zero, written at the next start.
        Down = 4 "DOWN",
    }
}

terms! {
    /// Why an attempt was refused before anything was dialled.
    DenyReason {
        /// A rule with `action = "block"` matched.
        Rule = 1 "rule",
        /// No rule matched.
        NoRule = 2 "no_rule",
        /// The counter table is full.
        TableFull = 3 "table_full",
        /// The spool is full and the policy is to refuse new sessions.
        SpoolFull = 4 "spool_full",
        /// Too many sessions at once.
        LimitSessions = 5 "limit_sessions",
        /// Too many new sessions in a time.
        LimitRate = 6 "limit_rate",
        /// The byte allowance is used up.
        Quota = 7 "quota",
        /// The PROXY header or ClientHello is malformed or late.
        BadPreamble = 8 "bad_preamble",
        /// We are short of descriptors or memory.
        Resource = 9 "resource",
        /// The forwarder is stopping or the listener is paused.
        Draining = 10 "draining",
        /// The client has no name, or none that is confirmed, and one is required.
        UnknownName = 11 "unknown_name",
    }
}

terms! {
    /// What a refused client saw.
    DenyAction {
        /// A TCP reset.
        Reset = 1 "reset",
        /// A clean close.
        Close = 2 "close",
        /// Nothing: the datagram was dropped.
        Drop = 3 "drop",
    }
}

terms! {
    /// How urgent an event is.
    Severity {
        /// For the record.
        Info = 1 "info",
        /// Somebody should look.
        Warning = 2 "warning",
        /// The account or the service suffers.
        Error = 3 "error",
    }
}
