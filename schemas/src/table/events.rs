//! `events`: what happened to the service and to the account.

use super::column::table;

table! {
    /// What happened to the service and to the account: starts, stops, reloads, clock steps, losses.
    Event "events" by ts {
        /// The forwarder the event is about.
        1 node: Word,
        /// The run of that forwarder.
        2 boot: Word,
        /// Number of the row among all rows of the boot, without gap. NULL: written by the recorder.
        3 seq: OptInt64,
        /// When.
        4 ts: Time,
        /// `info`, `warning` or `error`.
        5 severity: Word,
        /// What kind: `boot`, `shutdown`, `config`, `recovery`, `recorder_lost`, `recorder_back`…
        6 kind: Word,
        /// The service concerned. NULL: none in particular.
        7 service: OptWord,
        /// The rule concerned. NULL: none in particular.
        8 rule: OptWord,
        /// The customer concerned. NULL: none in particular.
        9 customer: OptWord,
        /// The session concerned. NULL: none in particular.
        10 session_no: OptInt64,
        /// The figure that caused the event. NULL: none did.
        11 value: OptFloat64,
        /// The threshold it crossed. NULL: none was set.
        12 threshold: OptFloat64,
        /// One sentence for people.
        13 message: Text,
        /// A JSON object of further facts. NULL: none.
        14 attributes: OptText,
    }
}
