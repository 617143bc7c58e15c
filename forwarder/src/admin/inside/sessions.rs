//! The sessions that run, as they are asked for.

use std::collections::{BinaryHeap, HashMap};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use forwarder_core::accounting::LiveSession;
use rustix::io::ioctl_fionread;
use schemas::vocab::{BootId, PerDirection, SessionId};
use tokio::time::sleep;

use super::super::{
    Filter, MAX_SESSIONS, Place, SessionDetail, SessionLine, Sessions, Sort, TcpSide,
};
use super::{Inside, off_loop};
use crate::clock::micros;
use crate::relay::{Holder, Sight};
use schemas::exit::{Exit, Failure};

/// Time between two looks that tells how fast a session is.
const LOOK_APART: Duration = Duration::from_secs(1);

/// A look that is older than this tells nothing of how fast a session is now.
const LOOK_TOO_OLD: Duration = Duration::from_secs(60);

/// A look that is older than this does not tell which session is the fastest now.
const LOOK_TOO_OLD_TO_SORT: Duration = Duration::from_secs(5);

/// What the sessions had delivered at one time, by number.
#[derive(Debug)]
pub struct Look {
    at: Instant,
    bytes: HashMap<u64, PerDirection<u64>>,
}

impl Inside {
    pub(super) async fn sessions(
        self,
        filter: Filter,
        sort: Sort,
        limit: u32,
    ) -> Result<Sessions, Failure> {
        if sort == Sort::Rate && !self.has_looked() {
            let first = self.clone();
            off_loop(move || {
                first.look();
                Ok(())
            })
            .await?;
            sleep(LOOK_APART).await;
        }
        let sights = self.controls.sights().await;
        off_loop(move || Ok(self.list(&filter, sort, limit, &sights))).await
    }

    /// Whether a look back tells how fast sessions are.
    fn has_looked(&self) -> bool {
        let last = self.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|look| {
            (LOOK_APART..LOOK_TOO_OLD_TO_SORT)
                .contains(&self.clock.now().saturating_duration_since(look.at))
        })
    }

    /// Notes what every session has delivered.
    fn look(&self) {
        let (at, sessions) = (self.clock.now(), self.account.live());
        let bytes = sessions.map(|s| (s.number, s.traffic.map(|traffic| traffic.bytes))).collect();
        let mut last = self.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Look { at, bytes });
    }

    fn list(
        &self,
        filter: &Filter,
        sort: Sort,
        limit: u32,
        sights: &HashMap<u64, Sight>,
    ) -> Sessions {
        let now = self.clock.now();
        let mut last = self.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last
            .as_ref()
            .filter(|look| now.saturating_duration_since(look.at) < LOOK_TOO_OLD && look.at < now);
        let mut seen = HashMap::new();
        let (mut total, mut first) = (0, First::new(limit.min(MAX_SESSIONS)));
        for session in self.account.live() {
            let bytes = session.traffic.map(|traffic| traffic.bytes);
            seen.insert(session.number, bytes);
            if !is_meant(filter, &session) {
                continue;
            }
            total += 1;
            let (idle, held_by) = seen_at(sights.get(&session.number), now);
            let rate = before.map(|look| look.rate(session.number, bytes, now));
            let score = match sort {
                Sort::Age => u64::MAX - session.number,
                Sort::Idle => micros(idle),
                Sort::Rate => rate.map_or(0, |rate| rate.up.saturating_add(rate.down)),
                Sort::Bytes => bytes.up.saturating_add(bytes.down),
            };
            first.offer(Candidate { score, session, idle, held_by, rate });
        }
        // Two who look by turns must not leave each other with nothing to compare with.
        if last.as_ref().is_none_or(|look| now.saturating_duration_since(look.at) >= LOOK_APART) {
            *last = Some(Look { at: now, bytes: seen });
        }
        drop(last);
        let (boot, now_us) = (self.account.boot(), self.clock.wall(now).0);
        let list = first.in_order().map(|candidate| candidate.line(boot, now_us)).collect();
        Sessions { total, sort, list }
    }

    pub(super) async fn session(self, name: &str) -> Result<SessionDetail, Failure> {
        let number = self.number(name)?;
        let tcp = self.controls.tcp_sides(number, tcp_side).await;
        let sights = self.controls.sights().await;
        // A number alone means something only here.
        let id = SessionId { boot: self.account.boot(), number };
        let gone = Failure::new(
            Exit::NoData,
            format!("session {id} does not run; once it has ended, analyze session {id} tells"),
        );
        off_loop(move || {
            let is_it = |session: &LiveSession| session.number == number;
            let (session, row) =
                self.account.live().find(is_it).zip(self.account.running(number)).ok_or(gone)?;
            let now = self.clock.now();
            let (idle, held_by) = seen_at(sights.get(&number), now);
            let bytes = session.traffic.map(|traffic| traffic.bytes);
            let last = self.last_look.lock().unwrap_or_else(PoisonError::into_inner);
            let rate = last.as_ref().map(|look| look.rate(number, bytes, now));
            let candidate = Candidate { score: 0, session, idle, held_by, rate };
            let line = candidate.line(self.account.boot(), self.clock.wall(now).0);
            let [client_tcp, target_tcp] = tcp;
            Ok(SessionDetail { client_tcp, target_tcp, ..SessionDetail::of(line, row) })
        })
        .await
    }

    /// The number of a session of this run, by its name or by the number itself.
    pub(super) fn number(&self, name: &str) -> Result<u64, Failure> {
        if let Ok(number) = name.parse() {
            return Ok(number);
        }
        let id: SessionId = name.parse().map_err(|_| {
            let text = format!("{name:?} is no session: expected one as in k3f9x2ab-1042, or 1042");
            Failure::new(Exit::Usage, text)
        })?;
        let boot = self.account.boot();
        match id.boot == boot {
            true => Ok(id.number),
            false => Err(Failure::new(
                Exit::NoData,
                format!(
                    "session {name} was of another run, this one is {boot}: analyze session {name} tells how it ended"
                ),
            )),
        }
    }
}

/// Whether a session meets every condition.
pub(super) fn is_meant(filter: &Filter, session: &LiveSession) -> bool {
    let is = |wanted: &Option<String>, it: &str| wanted.as_ref().is_none_or(|one| one == it);
    let at = |place: &Place, peer: Option<_>| peer.is_some_and(|peer| place.contains(peer));
    let client = |place: &Place| {
        at(place, Some(session.client.get())) || at(place, session.proxied_client.map(|c| c.get()))
    };
    is(&filter.service, &session.service)
        && is(&filter.rule, &session.rule)
        && filter.customer.as_ref().is_none_or(|one| session.customer.as_ref() == Some(one))
        && filter.client.as_ref().is_none_or(client)
        && filter.target.as_ref().is_none_or(|place| at(place, session.target.map(|t| t.get())))
}

impl Look {
    /// How fast a session has been since, in bit/s. One that was not seen then has begun since.
    fn rate(&self, number: u64, bytes: PerDirection<u64>, now: Instant) -> PerDirection<u64> {
        let took = micros(now.saturating_duration_since(self.at)).max(1);
        let before = self.bytes.get(&number).copied().unwrap_or_default();
        let rate = |bytes: u64, before: u64| {
            let bits = u128::from(bytes.saturating_sub(before)) * 8_000_000;
            u64::try_from(bits / u128::from(took)).unwrap_or(u64::MAX)
        };
        PerDirection { up: rate(bytes.up, before.up), down: rate(bytes.down, before.down) }
    }
}

/// For how long a session has been silent, and what makes it wait. One that nobody has seen has just
/// begun or ended.
fn seen_at(sight: Option<&Sight>, now: Instant) -> (Duration, Option<Holder>) {
    match sight {
        Some(sight) => (now.saturating_duration_since(sight.last_moved), sight.held_by),
        None => (Duration::ZERO, None),
    }
}

fn said(holder: Holder) -> &'static str {
    match holder {
        Holder::Capture => "capture",
        Holder::Limit => "limit",
    }
}

/// A session that may be among the first.
struct Candidate {
    /// The higher, the earlier; among equals the older goes first.
    score: u64,
    session: LiveSession,
    idle: Duration,
    held_by: Option<Holder>,
    /// In bit/s.
    rate: Option<PerDirection<u64>>,
}

impl Candidate {
    /// The first is the least.
    fn order(&self) -> (std::cmp::Reverse<u64>, u64) {
        (std::cmp::Reverse(self.score), self.session.number)
    }

    fn line(self, boot: BootId, now_us: i64) -> SessionLine {
        let Self { session, idle, held_by, rate, .. } = self;
        let age_us = u64::try_from(now_us.saturating_sub(session.ts_start.0)).unwrap_or(0);
        SessionLine {
            session: SessionId { boot, number: session.number }.to_string(),
            transport: session.transport.to_string(),
            service: session.service,
            rule: session.rule,
            customer: session.customer,
            client: session.client.to_string(),
            proxied_client: session.proxied_client.map(|client| client.to_string()),
            listen: session.listen.to_string(),
            target: session.target.map(|target| target.to_string()),
            connected: session.connected,
            age_s: age_us / micros(Duration::from_secs(1)),
            idle_s: idle.as_secs(),
            held_by: held_by.map(|by| said(by).to_owned()),
            bytes_up: session.traffic.up.bytes,
            bytes_down: session.traffic.down.bytes,
            rate_up_bps: rate.map(|rate| rate.up),
            rate_down_bps: rate.map(|rate| rate.down),
        }
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// The first of many, of whom it never holds more than its limit.
struct First {
    limit: usize,
    kept: BinaryHeap<Candidate>,
}

impl First {
    fn new(limit: u32) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), kept: BinaryHeap::new() }
    }

    fn offer(&mut self, candidate: Candidate) {
        self.kept.push(candidate);
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    fn in_order(self) -> impl Iterator<Item = Candidate> {
        self.kept.into_sorted_vec().into_iter()
    }
}

/// What TCP and our socket know of one side.
fn tcp_side(stream: &tokio::net::TcpStream) -> Option<TcpSide> {
    let info = forwarder_sys::tcp_info::tcp_info(stream).ok()?;
    Some(TcpSide {
        rtt_us: info.rtt_us,
        retransmits: info.retransmits,
        cwnd: info.cwnd,
        mss: info.mss,
        unread_bytes: ioctl_fionread(stream).unwrap_or(0),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use forwarder_core::accounting::Traffic;
    use schemas::vocab::{ClientAddr, ListenAddr, TargetAddr, Timestamp, Transport};

    use super::*;

    pub(in super::super) fn session(number: u64, service: &str) -> LiveSession {
        let traffic = |bytes| Traffic { bytes, ..Traffic::default() };
        LiveSession {
            number,
            service: service.to_owned(),
            rule: "everyone".to_owned(),
            customer: None,
            transport: Transport::Tcp,
            client: ClientAddr::new("192.0.2.1:1000".parse().unwrap()),
            proxied_client: None,
            listen: ListenAddr::new("192.0.2.2:80".parse().unwrap()),
            target: None,
            ts_start: Timestamp(1_000_000),
            connected: false,
            sessions: 1,
            traffic: PerDirection { up: traffic(number), down: traffic(10 * number) },
        }
    }

    fn candidate(number: u64, score: u64) -> Candidate {
        Candidate {
            score,
            session: session(number, "web"),
            idle: Duration::ZERO,
            held_by: Some(Holder::Limit),
            rate: None,
        }
    }

    #[test]
    fn only_the_first_are_kept_and_equals_stand_by_age() {
        let first = |limit| {
            let mut first = First::new(limit);
            for (number, score) in [(5, 1), (3, 7), (9, 7), (1, 0), (7, 1)] {
                first.offer(candidate(number, score));
            }
            first.in_order().map(|one| one.session.number).collect::<Vec<_>>()
        };
        assert_eq!(first(3), [3, 9, 5]);
        assert!(first(0).is_empty());
        assert_eq!(first(100), [3, 9, 5, 7, 1]);
    }

    #[test]
    fn a_rate_is_what_came_since_the_last_look() {
        let at = Instant::now();
        let look = Look { at, bytes: [(7, PerDirection { up: 1000, down: 50 })].into() };
        let now = PerDirection { up: 3000, down: 50 };
        let rate = look.rate(7, now, at + Duration::from_secs(2));
        assert_eq!(rate, PerDirection { up: 8000, down: 0 });
        let newcomer = look.rate(8, now, at + Duration::from_secs(2));
        assert_eq!(newcomer, PerDirection { up: 12_000, down: 200 }, "it began since then");
    }

    #[test]
    fn a_filter_takes_what_meets_all_of_it() {
        let mut session = session(1, "web");
        session.customer = Some("acme".to_owned());
        session.target = Some(TargetAddr::new("10.0.0.5:80".parse().unwrap()));
        session.proxied_client = Some(ClientAddr::new("198.51.100.9:5".parse().unwrap()));
        let text = |text: &str| Some(text.to_owned());
        let place = |text: &str| Some(text.parse().unwrap());
        for (filter, meets) in [
            (Filter::default(), true),
            (Filter { service: text("web"), rule: text("everyone"), ..Filter::default() }, true),
            (Filter { service: text("web"), rule: text("other"), ..Filter::default() }, false),
            (Filter { customer: text("acme"), ..Filter::default() }, true),
            (Filter { customer: text("other"), ..Filter::default() }, false),
            (Filter { client: place("192.0.2.0/24"), ..Filter::default() }, true),
            (Filter { client: place("198.51.100.9"), ..Filter::default() }, true),
            (Filter { client: place("192.0.2.1:1001"), ..Filter::default() }, false),
            (Filter { target: place("10.0.0.5:80"), ..Filter::default() }, true),
            (Filter { target: place("10.0.0.6"), ..Filter::default() }, false),
        ] {
            assert_eq!(is_meant(&filter, &session), meets, "{filter:?}");
        }
    }

    #[test]
    fn a_session_is_shown_by_its_full_name_and_age() {
        let boot: BootId = "k3f9x2ab".parse().unwrap();
        let line = candidate(42, 0).line(boot, 76_999_999);
        assert_eq!((line.session.as_str(), line.age_s), ("k3f9x2ab-42", 75));
        assert_eq!((line.bytes_up, line.bytes_down), (42, 420));
    }
}
