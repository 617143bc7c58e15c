//! Starting and stopping the account: the counter table, the spool, and the journal thread.

use forwarder_core::accounting::{Denial, OpenSession, Opening, Refused};
use schemas::table::Event;
use schemas::vocab::BootId;

/// What data threads and control code use of the account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Account {
    _todo: (),
}

#[expect(unused_variables, reason = "contract first: the bodies follow with the counter table")]
impl Account {
    /// This run.
    pub fn boot(&self) -> BootId {
        unimplemented!()
    }

    /// The id of a name in the counter table's name area; registers it if it is new. Called when a
    /// configuration is put in force, never per session. `None`: the name area is full.
    pub fn name_id(&self, name: &str) -> Option<u32> {
        unimplemented!()
    }

    /// Gives a session its number and its slot.
    ///
    /// # Errors
    /// No account can be kept: refuse the client and report a [`Denial`] with the reason given.
    pub fn open(&self, opening: &Opening) -> Result<OpenSession, Refused> {
        unimplemented!()
    }

    /// Reports a refused attempt. Never blocks; beyond its bound refusals are counted, not kept.
    pub fn deny(&self, denial: Denial) {
        unimplemented!()
    }

    /// Reports an event (`node`, `boot` and `seq` are filled in). Never blocks.
    pub fn event(&self, event: Event) {
        unimplemented!()
    }
}
