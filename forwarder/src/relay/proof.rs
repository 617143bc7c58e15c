//! Whether a UDP client has shown that it is where its datagrams say.
//!
//! A datagram with a forged address makes a target answer whoever has that address. Where answers
//! are larger than questions this multiplies an attack, so a rule may say how many bytes go to a
//! client for each byte that came from it (`udp_reply_ratio`), until the client speaks again after
//! something was sent to it. That is no certainty, since a forger may go on blindly; but then he
//! sends on his own line what he wants to be multiplied, and it is multiplied no further than the
//! target does it.

use std::cell::Cell;

/// What is known of one client.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    stage: Cell<Stage>,
    /// Bytes from the client, until it was answered.
    up: Cell<u64>,
    /// Bytes to the client, until it was proved.
    down: Cell<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Nothing was sent to it.
    #[default]
    Asked,
    /// Something was sent to it, and it has not spoken since.
    Answered,
    /// It spoke after something was sent to it.
    Proved,
}

impl Proof {
    /// A datagram of so many bytes came from the client.
    pub(crate) fn heard(&self, bytes: usize) {
        match self.stage.get() {
            Stage::Asked => self.up.set(self.up.get().saturating_add(cost(bytes))),
            Stage::Answered => self.stage.set(Stage::Proved),
            Stage::Proved => {}
        }
    }

    /// Whether a reply of so many bytes may go to the client, who gets `ratio` bytes for each that
    /// it sent. `true`: it counts as sent.
    pub(crate) fn allows(&self, bytes: usize, ratio: u64) -> bool {
        if self.stage.get() == Stage::Proved {
            return true;
        }
        let down = self.down.get().saturating_add(cost(bytes));
        let allowed = down <= self.up.get().saturating_mul(ratio);
        if allowed {
            self.down.set(down);
            self.stage.set(Stage::Answered);
        }
        allowed
    }
}

/// Empty datagrams count too, or there would be no end to them.
fn cost(bytes: usize) -> u64 {
    bytes.max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_so_many_times_what_it_sent_until_it_speaks_again() {
        let proof = Proof::default();
        proof.heard(40);
        proof.heard(60);
        assert!(proof.allows(200, 3), "within the ratio");
        assert!(!proof.allows(101, 3), "beyond it");
        assert!(proof.allows(100, 3), "a smaller one still goes");
        assert!(!proof.allows(1, 3));
        proof.heard(1);
        assert!(proof.allows(60_000, 3), "it has proved itself");
    }

    #[test]
    fn an_answer_that_was_held_back_lets_nobody_prove_anything() {
        let proof = Proof::default();
        proof.heard(10);
        assert!(!proof.allows(100, 5));
        proof.heard(5);
        assert!(!proof.allows(100, 5), "nothing was sent that it could have seen");
        proof.heard(5);
        assert!(proof.allows(100, 5), "but it has sent more");
    }

    #[test]
    fn empty_datagrams_are_counted() {
        let proof = Proof::default();
        proof.heard(0);
        assert!(proof.allows(0, 2) && proof.allows(0, 2));
        assert!(!proof.allows(0, 2));
    }
}
