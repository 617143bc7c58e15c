//! What may happen.

use proptest::prelude::*;

use super::data::Motion;
use crate::accounting::SpoolLevel;

/// A step of a history.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A data thread does something.
    Data(Motion),
    Deny {
        client: u8,
    },
    Poll {
        after_ms: i64,
        meanwhile: Vec<(u32, Motion)>,
        then_sync: bool,
    },
    FailingPoll {
        after_ms: i64,
        appends: u32,
    },
    Level(SpoolLevel),
    ShiftClock {
        seconds: i64,
    },
    Die(Death),
    /// An ordered end, for whose rows the spool may have too little room.
    Restart {
        appends: Option<u32>,
        away_ms: i64,
    },
}

/// How a process dies.
#[derive(Debug, Clone)]
pub(super) struct Death {
    /// How long after the last step.
    pub(super) after_ms: i64,
    /// At which crash point, and of what.
    pub(super) points: u32,
    pub(super) of: DeathOf,
    pub(super) meanwhile: Vec<(u32, Motion)>,
    /// Bytes that a session had written, and not counted yet.
    pub(super) uncounted: u64,
    pub(super) leaves: Leaves,
    /// How long nothing runs.
    pub(super) away_ms: i64,
    /// What happens to the first attempts to recover.
    pub(super) in_recovery: Vec<RecoveryTrouble>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum DeathOf {
    /// The journal thread's poll.
    Poll,
    /// A data thread's opening of a session.
    Opening,
}

/// What a death leaves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaves {
    /// A kill: everything.
    All,
    /// A kill while the disk does not take what was appended: the table, and of the spool what was
    /// durable and some more.
    TableAndPrefix(prop::sample::Index),
    /// A power loss: of the spool what was durable and some more.
    Prefix(prop::sample::Index),
    /// The same, and a table of another kernel boot is found.
    PrefixAndForeignTable(prop::sample::Index),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum RecoveryTrouble {
    Killed { points: u32 },
    Full { appends: u32 },
}

fn motion() -> impl Strategy<Value = Motion> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0_usize..3).prop_map(|rule| Motion::Open { rule }),
        10 => (index(), any::<bool>(), 0_u64..5000)
            .prop_map(|(session, up, bytes)| Motion::Move { session, up, bytes }),
        4 => index().prop_map(|session| Motion::End { session }),
    ]
}

fn meanwhile() -> impl Strategy<Value = Vec<(u32, Motion)>> {
    prop::collection::vec((0_u32..6, motion()), 0..4)
}

fn death() -> impl Strategy<Value = Death> {
    let index = any::<prop::sample::Index>;
    let trouble = prop_oneof![
        2 => (0_u32..30).prop_map(|points| RecoveryTrouble::Killed { points }),
        1 => (0_u32..3).prop_map(|appends| RecoveryTrouble::Full { appends }),
    ];
    let leaves = prop_oneof![
        8 => Just(Leaves::All),
        2 => index().prop_map(Leaves::TableAndPrefix),
        2 => index().prop_map(Leaves::Prefix),
        1 => index().prop_map(Leaves::PrefixAndForeignTable),
    ];
    let of = prop_oneof![5 => Just(DeathOf::Poll), 1 => Just(DeathOf::Opening)];
    let recovery = prop::collection::vec(trouble, 0..4);
    (1_i64..6000, 0_u32..60, of, meanwhile(), 0_u64..3000, leaves, 0_i64..20_000, recovery)
        .prop_map(|(after_ms, points, of, meanwhile, uncounted, leaves, away_ms, in_recovery)| {
            Death { after_ms, points, of, meanwhile, uncounted, leaves, away_ms, in_recovery }
        })
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let level = prop_oneof![
        3 => Just(SpoolLevel::Normal),
        2 => Just(SpoolLevel::NoInterims),
        1 => Just(SpoolLevel::Full),
    ];
    // Mostly as often as a journal thread looks, at times after a stall.
    let after_ms = || prop_oneof![8 => 1_i64..1500, 1 => 1500_i64..12_000];
    let step = prop_oneof![
        20 => motion().prop_map(Step::Data),
        2 => (0_u8..4).prop_map(|client| Step::Deny { client }),
        8 => (after_ms(), meanwhile(), any::<bool>())
            .prop_map(|(after_ms, meanwhile, then_sync)| Step::Poll { after_ms, meanwhile, then_sync }),
        2 => (after_ms(), 0_u32..4).prop_map(|(after_ms, appends)| Step::FailingPoll { after_ms, appends }),
        1 => level.prop_map(Step::Level),
        1 => (-30_i64..30).prop_map(|seconds| Step::ShiftClock { seconds }),
        2 => death().prop_map(Step::Die),
        1 => (prop::option::of(0_u32..4), 0_i64..20_000)
            .prop_map(|(appends, away_ms)| Step::Restart { appends, away_ms }),
    ];
    prop::collection::vec(step, 1..100)
}
