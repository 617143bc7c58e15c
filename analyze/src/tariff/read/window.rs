//! `windows`: times of the week with prices of their own, which cover it once.

use schemas::config::{Section, Value};

use super::{Reader, value};
use crate::tariff::window::{DAY_STEPS, STEP_MINUTES, WEEK_STEPS, Window, Windows};

/// Most windows of an item.
const MAX_WINDOWS: usize = 32;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const HELP: &str = "write windows = [{ name = \"peak\", hours = [\"08:00-20:00\"], price = \
                    \"0.05\" }, { name = \"off-peak\", price = \"0.02\" }]";
const DAYS_HELP: &str = "write days = [\"mon-fri\"] or [\"sat\", \"sun\"]";
const HOURS_HELP: &str = "write hours = [\"08:00-20:00\"], from 00:00 to 24:00 and in steps of 5 \
                          minutes; what goes over midnight is two entries, \"20:00-24:00\" and \
                          \"00:00-08:00\"";

/// A window as it was read.
struct Raw<'d> {
    place: Value<'d>,
    window: Window,
    /// The steps of the week in it; `None`: those that no other window has.
    steps: Option<Vec<usize>>,
}

/// The windows of an item.
pub(super) fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Windows> {
    let tables = reader.tables_of(value, HELP, MAX_WINDOWS);
    if tables.is_empty() && value.is_array() {
        reader.fault(value, "there are no windows", HELP);
    }
    let count = tables.len();
    let mut raw = Vec::new();
    for (place, section) in tables {
        raw.extend(window(place, section, reader));
    }
    if raw.len() != count || raw.is_empty() || !names_differ(&raw, reader) {
        return None;
    }
    let week = cover(value, &raw, reader)?;
    Windows::new(raw.into_iter().map(|raw| raw.window).collect(), week)
}

fn window<'d>(
    place: Value<'d>,
    mut section: Section<'d>,
    reader: &mut Reader<'_>,
) -> Option<Raw<'d>> {
    const NAME_HELP: &str = "write what the invoice is to call it, as in name = \"peak\"";
    const PRICE_HELP: &str = "write what a unit costs in it, as in price = \"0.05\"";
    let name = section.require("name", NAME_HELP, &mut reader.findings);
    let name = name.and_then(|name| value::title(&name, reader));
    let price = section.require("price", PRICE_HELP, &mut reader.findings);
    let price = price.and_then(|price| value::amount(&price, reader));
    let (days, hours) = (section.get("days"), section.get("hours"));
    section.finish(&mut reader.findings);
    let rest = days.is_none() && hours.is_none();
    let days = match &days {
        Some(value) => list(value, DAYS_HELP, "days", day_range, reader),
        None => Some(vec![(0, DAYS.len())]),
    };
    let hours = match &hours {
        Some(value) => list(value, HOURS_HELP, "hours", hour_range, reader),
        None => Some(vec![(0, DAY_STEPS)]),
    };
    let (days, hours) = (days?, hours?);
    let steps = days.into_iter().flat_map(|(first, end)| first..end).flat_map(|day| {
        let hours = hours.iter().flat_map(|(first, end)| *first..*end);
        hours.map(move |step| day * DAY_STEPS + step)
    });
    let steps = (!rest).then(|| steps.collect());
    Some(Raw { place, window: Window { name: name?, price: price? }, steps })
}

fn list(
    value: &Value<'_>,
    help: &str,
    what: &str,
    read: fn(&str) -> Option<(usize, usize)>,
    reader: &mut Reader<'_>,
) -> Option<Vec<(usize, usize)>> {
    let entries = value.array(help, &mut reader.findings)?;
    if entries.is_empty() {
        reader.fault(value, "the list is empty", help);
        return None;
    }
    let mut ranges = Vec::new();
    for entry in &entries {
        let text = entry.text(help, &mut reader.findings);
        let range = text.and_then(read);
        if let (Some(text), None) = (text, range) {
            let shown: String = text.chars().take(40).collect();
            reader.fault(entry, format!("{shown:?} does not say which {what}"), help);
        }
        ranges.push(range);
    }
    ranges.into_iter().collect()
}

/// `mon` or `mon-fri`, half open.
fn day_range(text: &str) -> Option<(usize, usize)> {
    let day = |name| DAYS.iter().position(|day| *day == name);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    (first <= last).then_some((first, last + 1))
}

/// `08:00-20:00` in steps of a day, half open.
fn hour_range(text: &str) -> Option<(usize, usize)> {
    let (first, end) = text.split_once('-')?;
    let (first, end) = (step(first)?, step(end)?);
    (first < end).then_some((first, end))
}

/// `08:00` in steps of a day; 24:00 is its end.
fn step(text: &str) -> Option<usize> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
        text.parse::<usize>().ok()
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    let step_minutes = usize::from(STEP_MINUTES);
    let minutes = hour * 60 + minute;
    let good = minute < 60 && minutes <= 24 * 60 && minutes.is_multiple_of(step_minutes);
    good.then_some(minutes / step_minutes)
}

fn names_differ(raw: &[Raw<'_>], reader: &mut Reader<'_>) -> bool {
    let mut differ = true;
    for (at, Raw { place, window, .. }) in raw.iter().enumerate() {
        if raw[..at].iter().any(|other| other.window.name == window.name) {
            let message = format!("there is a window {:?} already", window.name);
            reader.fault(place, message, "give it another name, or join the two");
            differ = false;
        }
    }
    differ
}

/// For every step of the week, the window it is in.
fn cover(value: &Value<'_>, raw: &[Raw<'_>], reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let mut week: Vec<Option<usize>> = vec![None; WEEK_STEPS];
    let mut good = true;
    for (at, Raw { place, steps, .. }) in raw.iter().enumerate() {
        let Some(steps) = steps else { continue };
        if let Some(taken) = steps.iter().copied().find(|step| week[*step].is_some()) {
            let other = week[taken].map(|other| raw[other].window.name.clone()).unwrap_or_default();
            let message = match other == raw[at].window.name {
                true => format!("it has {} twice", name_of(taken)),
                false => format!("{} is in the window {other:?} already", name_of(taken)),
            };
            reader.fault(place, message, "every time of the week is in one window");
            good = false;
        }
        for step in steps {
            week[*step].get_or_insert(at);
        }
    }
    let mut rest = raw.iter().enumerate().filter(|(_, raw)| raw.steps.is_none());
    let first_rest = rest.next();
    if let (Some(_), Some((_, second))) = (first_rest, rest.next()) {
        reader.fault(&second.place, "another window has the rest already", DAYS_HELP);
        good = false;
    }
    let uncovered = week.iter().position(Option::is_none);
    match (first_rest, uncovered) {
        (None, Some(step)) => {
            let end = week[step..].iter().position(Option::is_some);
            let end = end.map_or(WEEK_STEPS, |steps| step + steps);
            let message = format!("{} to {} is in no window", name_of(step), name_of(end));
            let help = "add one without days and hours, which has the rest: \
                        { name = \"off-peak\", price = \"0.02\" }";
            reader.fault(value, message, help);
            good = false;
        }
        (Some((_, rest)), None) => {
            let help = "remove it, or give it days and hours";
            reader.fault(&rest.place, "the other windows leave nothing to it", help);
            good = false;
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    let rest = first_rest.map(|(at, _)| at);
    good.then(|| week.into_iter().map(|at| u8::try_from(at.or(rest)?).ok()).collect())?
}

/// The instant of the week that a step begins with.
fn name_of(step: usize) -> String {
    let minutes = step % DAY_STEPS * usize::from(STEP_MINUTES);
    let day = DAYS[step / DAY_STEPS % DAYS.len()];
    format!("{day} {:02}:{:02}", minutes / 60, minutes % 60)
}
