//! What is expected of `tcp`.

use std::fmt::Write as _;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn timeouts() -> Timeouts {
    Timeouts {
        preread: 10 * SECOND,
        resolve: 5 * SECOND,
        max_duration: Duration::ZERO,
        connect: 10 * SECOND,
        half_closed: 600 * SECOND,
        tcp_idle: 1800 * SECOND,
        udp_idle: 180 * SECOND,
        drain: 5 * SECOND,
    }
}

fn session_in(state: State) -> TcpSession {
    let mut session = TcpSession::new(&timeouts(), Instant::now());
    let path: &[Event] = match state {
        State::Connecting => &[],
        State::Resolving => &[Event::Resolve],
        State::Open => &[Event::Connected],
        State::HalfClosed(Direction::Up) => &[Event::Connected, Event::Finished(Direction::Up)],
        State::HalfClosed(Direction::Down) => &[Event::Connected, Event::Finished(Direction::Down)],
        State::Ended => &[Event::Drained],
    };
    for event in path {
        session.handle(*event, Instant::now());
    }
    assert_eq!(session.state(), state);
    session
}

fn describe(command: Command) -> String {
    match command {
        Command::Continue => "-".to_owned(),
        Command::Shutdown(direction) => format!("shutdown {}", direction.as_str()),
        Command::End(end) => format!(
            "end {} in {}, first fin {}, client {}{}, target {}{}, errno {}",
            end.reason,
            end.phase,
            end.first_fin,
            end.client_close,
            if end.reset_client { " (reset it)" } else { "" },
            end.target_close,
            if end.reset_target { " (reset it)" } else { "" },
            end.errno
        ),
    }
}

#[test]
fn every_event_in_every_state() {
    let states = [
        State::Resolving,
        State::Connecting,
        State::Open,
        State::HalfClosed(Direction::Up),
        State::HalfClosed(Direction::Down),
        State::Ended,
    ];
    let events = [
        Event::Resolve,
        Event::Dial,
        Event::DialFailed(DialFailure::NoTarget),
        Event::DialFailed(DialFailure::Loop),
        Event::DialFailed(DialFailure::Resolve),
        Event::DialFailed(DialFailure::Refused(111)),
        Event::DialFailed(DialFailure::Unreachable(113)),
        Event::DialFailed(DialFailure::Timeout),
        Event::DialFailed(DialFailure::Resource(24)),
        Event::ClientGone(104),
        Event::Connected,
        Event::Finished(Direction::Up),
        Event::Finished(Direction::Down),
        Event::ReadFailed(Direction::Up, 104),
        Event::ReadFailed(Direction::Down, 104),
        Event::ReadFailed(Direction::Up, ETIMEDOUT),
        Event::ReadFailed(Direction::Down, ETIMEDOUT),
        Event::WriteFailed(Direction::Up, 32),
        Event::WriteFailed(Direction::Down, 32),
        Event::Ordered(EndReason::Killed),
        Event::Drained,
        Event::Broken,
    ];
    let mut table = String::new();
    for state in states {
        writeln!(table, "{state:?}").unwrap();
        for event in events {
            let mut session = session_in(state);
            let command = session.handle(event, Instant::now());
            if command == Command::Continue && session.state() == state {
                continue;
            }
            let (to, command) = (session.state(), describe(command));
            writeln!(table, "  {event:?} => {to:?}: {command}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn silence_in_both_directions_ends_an_open_session() {
    let start = Instant::now();
    let mut session = session_in(State::Open);
    assert_eq!(session.poll_timeout(start), Some(start + 1800 * SECOND));
    let owed = PerDirection::default();
    assert_eq!(session.handle_timeout(start + 1799 * SECOND, start, owed), Command::Continue);
    let moved = start + 5 * SECOND;
    assert_eq!(session.handle_timeout(start + 1800 * SECOND, moved, owed), Command::Continue);
    let command = session.handle_timeout(moved + 1800 * SECOND, moved, owed);
    let Command::End(end) = command else { panic!("{command:?}") };
    assert_eq!((end.reason, end.phase), (EndReason::IdleTimeout, EndPhase::Data));
    assert!(!end.reset_client && !end.reset_target, "nothing was cut: a FIN will do");
}

#[test]
fn a_session_that_has_lasted_too_long_is_cut_in_any_state_though_payload_moves() {
    let start = Instant::now();
    let limited = Timeouts { max_duration: 60 * SECOND, ..timeouts() };
    for (path, phase) in [
        (&[][..], EndPhase::Connect),
        (&[Event::Connected], EndPhase::Data),
        (&[Event::Connected, Event::Finished(Direction::Up)], EndPhase::HalfClosed),
    ] {
        let mut session = TcpSession::new(&limited, start);
        for event in path {
            session.handle(*event, start);
        }
        let (moved, owed) = (start + 59 * SECOND, PerDirection::default());
        assert_eq!(session.poll_timeout(moved), Some(start + 60 * SECOND));
        assert_eq!(session.handle_timeout(moved, moved, owed), Command::Continue);
        let command = session.handle_timeout(start + 60 * SECOND, moved, owed);
        let Command::End(end) = command else { panic!("{command:?}") };
        assert_eq!((end.reason, end.phase), (EndReason::MaxDuration, phase));
        assert_eq!((end.reset_client, end.reset_target), (true, phase != EndPhase::Connect));
    }
}

#[test]
fn a_receiver_that_is_owed_payload_is_reset_when_time_runs_out() {
    let start = Instant::now();
    let mut session = session_in(State::Open);
    let owed = PerDirection { up: false, down: true };
    let command = session.handle_timeout(start + 1800 * SECOND, start, owed);
    let Command::End(end) = command else { panic!("{command:?}") };
    assert!(end.reset_client && !end.reset_target);
    assert_eq!(end.client_close, CloseKind::Timeout);
}

#[test]
fn the_half_closed_timeout_counts_from_the_later_of_fin_and_payload() {
    let start = Instant::now();
    let mut session = session_in(State::Open);
    session.handle(Event::Finished(Direction::Up), start + 10 * SECOND);
    assert_eq!(session.poll_timeout(start), Some(start + 610 * SECOND));
    let moved = start + 20 * SECOND;
    assert_eq!(session.poll_timeout(moved), Some(start + 620 * SECOND));
    let command = session.handle_timeout(start + 620 * SECOND, moved, PerDirection::default());
    let Command::End(end) = command else { panic!("{command:?}") };
    assert_eq!((end.reason, end.phase), (EndReason::HalfCloseTimeout, EndPhase::HalfClosed));
    assert_eq!(end.first_fin, FirstFin::Client);
}

#[test]
fn a_timeout_of_zero_never_comes() {
    let never = Timeouts { tcp_idle: Duration::ZERO, half_closed: Duration::ZERO, ..timeouts() };
    let mut session = TcpSession::new(&never, Instant::now());
    session.handle(Event::Connected, Instant::now());
    assert_eq!(session.poll_timeout(Instant::now()), None);
    session.handle(Event::Finished(Direction::Down), Instant::now());
    assert_eq!(session.poll_timeout(Instant::now()), None);
}
