//! Quantities as people write them: sizes (`"64 KiB"`) and durations (`"300ms"`).

use std::time::Duration;

use super::diagnostic::Refusal;

/// Longest duration, and what it is called: longer ones overflow someone's clock arithmetic.
const MAX_DURATION: (Duration, &str) = (Duration::from_secs(1000 * 86_400), "1000d");

const SIZE_HELP: &str = "write a whole number and a unit: B, kB, MB, GB, TB (powers of 1000) or \
    KiB, MiB, GiB, TiB (powers of 1024), as in \"64 KiB\" or \"10 GB\"";

const DURATION_HELP: &str =
    "write a whole number and a unit: ms, s, m, h or d, as in \"300ms\" or \"1h\"";

/// A size in bytes.
pub fn size(text: &str) -> Result<u64, Refusal> {
    let factor = |unit: &str| {
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
    };
    quantity(text, "a size", SIZE_HELP, factor)
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

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes: u64, ms in 0u64..86_400_000_000) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            let time = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        }

        #[test]
        fn noise_is_refused_in_peace(noise in ".*") {
            drop((size(&noise), duration(&noise)));
        }
    }
}
