//! Asking the rules again about sessions that run.
//!
//! A session goes on as it began as long as some rule passes its client: what is put in force for
//! new sessions never changes a running one. It ends as `denied` when a rule blocks its client, when
//! none matches it, or when nobody listens any more where it came in. What was found out about the
//! client when it came is all that is known of it: where the rules ask for more, the session goes on
//! too.

use super::admit::Admitted;
use super::plan::{Decision, Plan};
use super::thread::DataThread;
use schemas::vocab::EndReason;

/// What asking again came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejudged {
    /// Sessions that were ended.
    pub ended: u64,
    /// Sessions that go on because the rules ask for what nobody knows of them.
    pub unjudged: u64,
}

enum Finding {
    MayGoOn,
    MustEnd,
    NotKnown,
}

impl DataThread {
    /// Ends the sessions that the plan in force does not let in.
    pub(crate) fn rejudge(&self) -> Rejudged {
        let plan = self.shared.plan.load();
        let mut rejudged = Rejudged::default();
        self.leashes.each(|session, leash| match judge(&plan, session) {
            Finding::MayGoOn => {}
            Finding::NotKnown => rejudged.unjudged += 1,
            Finding::MustEnd => {
                leash.pull(EndReason::Denied);
                rejudged.ended += 1;
            }
        });
        rejudged
    }
}

fn judge(plan: &Plan, session: &Admitted) -> Finding {
    let Some(service) = plan.service(session.listener) else { return Finding::MustEnd };
    match plan.decide(service, &session.as_client()) {
        Decision::Pass(..) => Finding::MayGoOn,
        Decision::Block(_) | Decision::Nameless(_) => Finding::MustEnd,
        Decision::Ask(_) => Finding::NotKnown,
    }
}

impl std::ops::Add for Rejudged {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { ended: self.ended + other.ended, unjudged: self.unjudged + other.unjudged }
    }
}
