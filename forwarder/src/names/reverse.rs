//! The names of a client's address, confirmed: whoever owns an address may call it anything, so a
//! name counts only if it has the address among its own.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use forwarder_core::matching::{Fact, ReverseNames};
use futures_util::future::join_all;

use super::cache::{Answer, Question};
use super::lookups::{Busy, For, Lookups};

/// What reverse lookup says about a client. Never [`Fact::NotAsked`].
pub(crate) async fn names_of(lookups: &Rc<Lookups>, client: IpAddr) -> Fact<ReverseNames> {
    let names = match lookups.look_up(Question::Names(client), For::Client).await {
        Ok(timed) => timed.answer,
        Err(Busy) => return Fact::Unknown,
    };
    let names = match names {
        Answer::Names(names) => names,
        Answer::Nothing | Answer::Addresses(_) => return Fact::Known(ReverseNames::default()),
        Answer::Failed => return Fact::Unknown,
    };
    let forward = names.iter().map(|name| {
        let question = match client {
            IpAddr::V4(_) => Question::V4(Arc::clone(name)),
            IpAddr::V6(_) => Question::V6(Arc::clone(name)),
        };
        lookups.look_up(question, For::Client)
    });
    let mut confirmed = Vec::new();
    for (name, forward) in names.iter().zip(join_all(forward).await) {
        match forward.map(|timed| timed.answer) {
            Ok(Answer::Addresses(addresses)) if addresses.contains(&client) => {
                confirmed.push(name.to_string());
            }
            Ok(Answer::Addresses(_) | Answer::Nothing | Answer::Names(_)) => {}
            // The name might be the one that a rule is about.
            Ok(Answer::Failed) | Err(Busy) => return Fact::Unknown,
        }
    }
    Fact::Known(ReverseNames { has_name: true, confirmed })
}
