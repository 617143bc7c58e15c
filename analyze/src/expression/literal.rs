//! The values of a condition: each becomes a literal of the type of the column it is compared with.

use super::token::{Fault, Kind, Token};
use super::{Parser, Type};
use crate::period;
use crate::sql;

/// What may stand behind a number, and what it is multiplied with. Decimal as in tables.
const UNITS: [(&str, i128); 22] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl Parser<'_> {
    /// The literal of the next value.
    pub(super) fn value(&mut self, of: Type) -> Result<String, Fault> {
        match of {
            Type::Number => self.number(),
            Type::Text => self.text().map(|text| sql::text(&text)),
            Type::Time => self.time(),
            Type::Bool => self.truth(),
        }
    }

    /// A word or quoted text.
    pub(super) fn text(&mut self) -> Result<String, Fault> {
        let token = self.take();
        match token.kind {
            Kind::Word(text) | Kind::Quoted(text) => Ok(text),
            Kind::Sign(_) | Kind::End => Err(token.fault("expected a value")),
        }
    }

    fn number(&mut self) -> Result<String, Fault> {
        let token = self.peek();
        let word = self.text()?;
        let split = word.find(|c: char| c.is_alphabetic()).unwrap_or(word.len());
        let (figures, attached) = word.split_at(split);
        let expected = || token.fault(format!("expected a number, not {word:?}"));
        let (digits, scale) = decimal(figures).ok_or_else(expected)?;
        let unit = if attached.is_empty() { self.unit() } else { Some(attached.to_owned()) };
        let factor = unit.as_deref().map_or(Ok(1), |unit| known_factor(&token, unit))?;
        let product = digits.checked_mul(factor);
        let product = product.ok_or_else(|| token.fault("this number is too large"))?;
        Ok(literal(product, scale))
    }

    /// The unit behind a number, if the next word is one.
    fn unit(&mut self) -> Option<String> {
        let Kind::Word(word) = self.peek().kind else { return None };
        factor(&word)?;
        self.next += 1;
        Some(word)
    }

    fn time(&mut self) -> Result<String, Fault> {
        let token = self.peek();
        let text = self.text()?;
        let time = period::absolute(&text, &self.zone);
        let time = time.ok_or_else(|| {
            token.fault(format!(
                "expected a time, not {text:?}: write 2026-10-26T12:00:00Z or 2026-10-26"
            ))
        })?;
        Ok(sql::time(time.as_microsecond()))
    }

    fn truth(&mut self) -> Result<String, Fault> {
        let token = self.peek();
        let word = self.text()?.to_ascii_lowercase();
        match word.as_str() {
            "true" | "false" => Ok(word),
            _ => Err(token.fault("expected true or false")),
        }
    }
}

fn known_factor(number: &Token, unit: &str) -> Result<i128, Fault> {
    factor(unit).ok_or_else(|| {
        let units = UNITS.map(|(name, _)| name).join(" ");
        number.fault(format!("{unit:?} is no unit; there are: {units}"))
    })
}

fn factor(unit: &str) -> Option<i128> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// The digits of a decimal number, and how many of them stand behind the point.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = !whole.is_empty() && fraction.chars().all(|c| c.is_ascii_digit());
    let digits: i128 = is_number.then(|| format!("{whole}{fraction}").parse().ok())??;
    // More digits are no figure of ours, and a decimal of DuckDB holds 38.
    (text.len() <= 20).then_some((digits, u32::try_from(fraction.len()).ok()?))
}

fn literal(digits: i128, scale: u32) -> String {
    let sign = if digits < 0 { "-" } else { "" };
    let unit = 10_u128.pow(scale);
    let (whole, fraction) = (digits.unsigned_abs() / unit, digits.unsigned_abs() % unit);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    format!("{sign}{whole}.{fraction:0width$}", width = scale as usize)
}
