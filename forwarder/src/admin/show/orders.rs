//! What was done, for people.

use super::super::{Draining, Intake, Killed, Reloaded};
use super::{counted, grouped, line};

pub(super) fn killed(killed: Killed) -> String {
    format!("{} ended\n", counted(killed.ended, "session"))
}

pub(super) fn intake(intake: &Intake) -> String {
    let mut text = String::new();
    if intake.changed.is_empty() {
        line(&mut text, format_args!("nothing to change"));
    }
    for listener in &intake.changed {
        let is_paused = intake.paused.contains(listener);
        let what = if is_paused { "paused" } else { "open" };
        line(&mut text, format_args!("{what:<8}{listener}"));
    }
    for listener in intake.paused.iter().filter(|paused| !intake.changed.contains(paused)) {
        line(&mut text, format_args!("still paused: {listener}"));
    }
    text
}

pub(super) fn draining(draining: Draining) -> String {
    let left = counted(draining.current, "session");
    match (draining.draining, draining.current) {
        (true, _) => format!("draining: nobody is let in, {left} left\n"),
        (false, 1) => format!("clients are let in again, {left} runs\n"),
        (false, _) => format!("clients are let in again, {left} run\n"),
    }
}

pub(super) fn reloaded(reloaded: &Reloaded) -> String {
    let mut text = reloaded.warnings.clone();
    match reloaded.changed {
        true => {
            line(&mut text, format_args!("configuration {} is in force", reloaded.config_rev));
        }
        false => line(
            &mut text,
            format_args!("configuration {} was in force already", reloaded.config_rev),
        ),
    }
    for (what, listeners) in
        [("bound", &reloaded.listeners_added), ("closed", &reloaded.listeners_removed)]
    {
        for listener in listeners {
            line(&mut text, format_args!("{what:<8}{listener}"));
        }
    }
    if let Some(applied) = reloaded.applied {
        line(
            &mut text,
            format_args!(
                "{} ended: no rule passes {} now",
                counted(applied.ended, "running session"),
                if applied.ended == 1 { "it" } else { "them" }
            ),
        );
        if applied.unjudged > 0 {
            let (go, they) = if applied.unjudged == 1 { ("goes", "it") } else { ("go", "they") };
            line(
                &mut text,
                format_args!(
                    "{} {go} on unjudged: the rules ask what was not found out when {they} began",
                    grouped(applied.unjudged)
                ),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::Applied;
    use super::*;

    #[test]
    fn a_reload_says_what_it_did() {
        let changed = Reloaded {
            config_rev: "24799d94eebe07c8".to_owned(),
            changed: true,
            listeners_added: vec!["tcp://0.0.0.0:81".to_owned()],
            listeners_removed: vec!["udp://0.0.0.0:53".to_owned(), "tcp://[::]:53".to_owned()],
            applied: Some(Applied { ended: 1_234, unjudged: 5 }),
            warnings: "f.toml:1:1: warning: this is doubtful\n".to_owned(),
        };
        insta::assert_snapshot!(reloaded(&changed));
        let one = Reloaded { applied: Some(Applied { ended: 1, unjudged: 1 }), ..changed };
        let text = reloaded(&one);
        assert!(text.contains("\n1 running session ended: no rule passes it now\n"), "{text}");
        assert!(text.contains("\n1 goes on unjudged: ") && text.contains(" it began\n"), "{text}");
    }

    #[test]
    fn orders_tell_what_they_did() {
        let some = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let texts = [
            killed(Killed { ended: 1 }),
            killed(Killed { ended: 1_042 }),
            intake(&Intake {
                changed: some(&["tcp://0.0.0.0:80"]),
                paused: some(&["tcp://0.0.0.0:80", "udp://0.0.0.0:53"]),
            }),
            intake(&Intake { changed: some(&["tcp://0.0.0.0:80"]), paused: Vec::new() }),
            intake(&Intake::default()),
            draining(Draining { draining: true, current: 1_042 }),
            draining(Draining { draining: false, current: 3 }),
        ];
        assert_eq!(
            draining(Draining { draining: true, current: 1 }),
            "draining: nobody is let in, 1 session left\n"
        );
        insta::assert_snapshot!(texts.join("\n"));
    }
}
