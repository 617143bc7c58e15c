//! Quantities as people write them: sizes (`"64 KiB"`), durations (`"300ms"`), bandwidths
//! (`"100 Mbit/s"`) and rates (`"100/10s"`).

use std::time::Duration;

use super::diagnostic::Refusal;

/// Longest duration, and what it is called: longer ones overflow someone's clock arithmetic.
const MAX_DURATION: (Duration, &str) = (Duration::from_secs(1000 * 86_400), "1000d");

const SIZE_HELP: &str = "write a whole number and a unit: B, kB, MB, GB, TB (powers of 1000) or \
    KiB, MiB, GiB, TiB (powers of 1024), as in \"64 KiB\" or \"10 GB\"";

/// A petabit per second: products of a bandwidth and a time stay far below 2⁶⁴.
const MAX_BANDWIDTH: u64 = 1000_u64.pow(5);

/// Most events of a rate.
const MAX_COUNT: u64 = 1_000_000_000;

/// Longest window of a rate.
const LONGEST_WINDOW: Duration = Duration::from_secs(86_400);

const BANDWIDTH_HELP: &str = "write a whole number and a unit: bit/s, kbit/s, Mbit/s, Gbit/s, or \
    B/s, kB/s, MB/s, GB/s, KiB/s, MiB/s, GiB/s, as in \"100 Mbit/s\" or \"5 MB/s\"";

const RATE_HELP: &str = "write a whole number, a slash and a time, as in \"20/s\" or \"100/10s\"";

const DURATION_HELP: &str =
    "write a whole number and a unit: ms, s, m, h or d, as in \"300ms\" or \"1h\"";

/// A size in bytes.
pub fn size(text: &str) -> Result<u64, Refusal> {
    quantity(text, "a size", SIZE_HELP, size_factor)
}

fn size_factor(unit: &str) -> Option<u64> {
    Some(match unit {
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "KiB" => 1024,
        "MiB" => 1024_u64.pow(2),
        "GiB" => 1024_u64.pow(3),
        "TiB" => 1024_u64.pow(4),
        _ => return None,
    })
}

/// A duration.
pub fn duration(text: &str) -> Result<Duration, Refusal> {
    let factor = |unit: &str| {
        Some(match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        })
    };
    let duration = Duration::from_millis(quantity(text, "a duration", DURATION_HELP, factor)?);
    let (longest, name) = MAX_DURATION;
    if duration > longest {
        let message = format!("{text:?} is too long: the longest duration is {name}");
        return Err(Refusal::new(message, format!("write \"{name}\" or less")));
    }
    Ok(duration)
}

/// A bandwidth in bits per second, at least a byte per second.
pub fn bandwidth(text: &str) -> Result<u64, Refusal> {
    let factor = |unit: &str| {
        Some(match unit {
            "bit/s" => 1,
            "kbit/s" => 1000,
            "Mbit/s" => 1000_u64.pow(2),
            "Gbit/s" => 1000_u64.pow(3),
            _ => 8 * size_factor(unit.strip_suffix("/s")?)?,
        })
    };
    let bps = quantity(text, "a bandwidth", BANDWIDTH_HELP, factor)?;
    let shown: String = text.chars().take(40).collect();
    if bps < 8 {
        let help = "write \"8 bit/s\" or more, or action = \"block\"";
        return Err(Refusal::new(format!("{shown:?} lets nothing through"), help));
    }
    if bps > MAX_BANDWIDTH {
        let message = format!("{shown:?} is more than any network carries");
        return Err(Refusal::new(message, "leave it out to set no limit"));
    }
    Ok(bps)
}

/// So many in any window of such a length: the number, at least 1, and the length, never zero.
pub fn rate(text: &str) -> Result<(u64, Duration), Refusal> {
    let shown: String = text.chars().take(40).collect();
    let refuse = |why: &str| Refusal::new(format!("{shown:?} is not a rate: {why}"), RATE_HELP);
    let (count, window) = text.split_once('/').ok_or_else(|| refuse("it has no /"))?;
    let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let count = match count.parse::<u64>() {
        Ok(count) if digits && count <= MAX_COUNT => count,
        _ if digits => return Err(refuse(&format!("it is more than {MAX_COUNT}"))),
        _ => return Err(refuse("it does not begin with a whole number")),
    };
    if count == 0 {
        let message = format!("{shown:?} lets nobody in");
        return Err(Refusal::new(message, "write a number from 1 up, or action = \"block\""));
    }
    let window = match window {
        "s" | "m" | "h" | "d" => duration(&format!("1{window}")),
        _ => duration(window),
    };
    let window = window.map_err(|_| refuse("what is behind the / is no time"))?;
    if window.is_zero() || window > LONGEST_WINDOW {
        return Err(refuse("its time is not between 1 ms and a day"));
    }
    Ok((count, window))
}

/// A whole number and a unit, with or without a space between them.
fn quantity(
    text: &str,
    what: &str,
    help: &str,
    factor: impl Fn(&str) -> Option<u64>,
) -> Result<u64, Refusal> {
    let refuse = |why: String| {
        let shown: String = text.chars().take(40).collect();
        Err(Refusal::new(format!("{shown:?} is not {what}: {why}"), help))
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return refuse("it does not begin with a whole number".to_owned());
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    if unit.is_empty() {
        return refuse("its unit is missing".to_owned());
    }
    let Some(factor) = factor(unit) else {
        let unit: String = unit.chars().take(20).collect();
        return refuse(format!("{unit:?} is not a unit of it"));
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(value) => Ok(value),
        None => refuse("the number is too large".to_owned()),
    }
}

/// A size as people read it: the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 8] = [
        ("TiB", 1 << 40),
        ("TB", 1000_u64.pow(4)),
        ("GiB", 1 << 30),
        ("GB", 1000_u64.pow(3)),
        ("MiB", 1 << 20),
        ("MB", 1000_u64.pow(2)),
        ("KiB", 1 << 10),
        ("kB", 1000),
    ];
    match UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{} {unit}", bytes / factor),
        None => format!("{bytes} B"),
    }
}

/// A duration as people read it: the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units.iter().find(|(_, factor)| ms.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", ms / factor),
        None => format!("{ms}ms"),
    }
}

/// A bandwidth as people read it: the largest unit of bits that divides it.
pub fn show_bandwidth(bps: u64) -> String {
    const UNITS: [(&str, u64); 3] =
        [("Gbit/s", 1000_u64.pow(3)), ("Mbit/s", 1000_u64.pow(2)), ("kbit/s", 1000)];
    match UNITS.iter().find(|(_, factor)| bps > 0 && bps.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{} {unit}", bps / factor),
        None => format!("{bps} bit/s"),
    }
}

/// A rate as people read it: `20/s`, `100/10s`.
pub fn show_rate(count: u64, window: Duration) -> String {
    let window = show_duration(window);
    let one = window.strip_prefix('1').filter(|unit| unit.len() == 1);
    format!("{count}/{}", one.unwrap_or(&window))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_and_durations_are_read_with_and_without_a_space() {
        assert_eq!(size("64 KiB"), Ok(65_536));
        assert_eq!(size("10GB"), Ok(10_000_000_000));
        assert_eq!(size("0 B"), Ok(0));
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("400 d"), Ok(Duration::from_secs(400 * 86_400)));
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for bad in ["", "KiB", "64", "64 kib", "1.5 GiB", "-1 B", "64  KiB", "64 KiB ", "９ B"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
        for bad in ["99999999 TiB", "99999999999999999999 B"] {
            assert!(size(bad).unwrap_err().message.contains("too large"), "{bad:?}");
        }
        for bad in ["", "1", "1 week", "1h30m", "1001d"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bandwidths_have_bits_or_bytes() {
        for (text, bps) in [
            ("8 bit/s", 8),
            ("1B/s", 8),
            ("100 Mbit/s", 100_000_000),
            ("5 MB/s", 40_000_000),
            ("1 KiB/s", 8192),
            ("10Gbit/s", 10_000_000_000),
        ] {
            assert_eq!(bandwidth(text), Ok(bps), "{text}");
        }
        for bad in
            ["", "5", "5 MB", "5 Mbit", "5 mbit/s", "0 MB/s", "7 bit/s", "-1 MB/s", "2000000 GB/s"]
        {
            assert!(bandwidth(bad).is_err(), "{bad:?}");
        }
        assert_eq!(show_bandwidth(40_000_000), "40 Mbit/s");
    }

    #[test]
    fn rates_have_a_window() {
        for (text, count, seconds) in
            [("20/s", 20, 1), ("100/10s", 100, 10), ("5/m", 5, 60), ("1000/1d", 1000, 86_400)]
        {
            assert_eq!(rate(text), Ok((count, Duration::from_secs(seconds))), "{text}");
        }
        for bad in
            ["", "20", "/s", "20/", "0/s", "+1/s", "1.5/s", "20/0s", "20/2d", "20 / s", "20/1w"]
        {
            assert!(rate(bad).is_err(), "{bad:?}");
        }
        assert_eq!(show_rate(20, Duration::from_secs(1)), "20/s");
        assert_eq!(show_rate(100, Duration::from_secs(10)), "100/10s");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes: u64, ms in 0u64..86_400_000_000) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            let time = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        }

        #[test]
        fn shown_bandwidths_and_rates_are_read_back(
            bps in 8..=MAX_BANDWIDTH, count in 1..=MAX_COUNT, ms in 1u64..=86_400_000,
        ) {
            prop_assert_eq!(bandwidth(&show_bandwidth(bps)), Ok(bps));
            let window = Duration::from_millis(ms);
            prop_assert_eq!(rate(&show_rate(count, window)), Ok((count, window)));
        }

        #[test]
        fn noise_is_refused_in_peace(noise in ".*") {
            drop((size(&noise), duration(&noise), bandwidth(&noise), rate(&noise)));
        }
    }
}
