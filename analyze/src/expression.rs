//! Conditions as people type them, for `--where` and `--having`:
//! `bytes_down > 1 GB and not client_ip in 10.0.0.0/8`.
//!
//! ```text
//! condition  = all { "or" all }
//! all        = one { "and" one }
//! one        = "not" one | "(" condition ")" | COLUMN comparison
//! comparison = ("=" | "!=" | "<" | "<=" | ">" | ">=") value
//!            | "like" value | "in" (value | "(" value { "," value } ")") | "is" ["not"] "null"
//! value      = NUMBER [UNIT] | 'text' | WORD
//! ```
//! Nothing else gets into SQL: a column is an identifier, a value a literal. `in` with a network asks
//! whether an address lies in it; `like` knows `*`.

use ipnet::IpNet;
use schemas::table::Column;

use crate::failure::Failure;
use crate::sql;

/// How deep conditions may be nested.
const MAX_DEPTH: usize = 32;
/// Longest condition, in bytes.
const MAX_LENGTH: usize = 8192;
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

/// The condition in SQL. With `columns` it may name only these.
///
/// # Errors
/// 64 with the place in `text` and what is expected there; `option` is named.
pub fn to_sql(option: &str, text: &str, columns: Option<&[Column]>) -> Result<String, Failure> {
    let failed = |fault: Fault| {
        let caret = " ".repeat(text[..fault.at].chars().count());
        Failure::Usage(format!("{option}: {}\n  {text}\n  {caret}^", fault.what))
    };
    if text.len() > MAX_LENGTH {
        return Err(Failure::Usage(format!("{option}: longer than {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text).map_err(failed)?, next: 0, columns };
    let condition = parser.condition(0).map_err(failed)?;
    match parser.peek() {
        Token { kind: Kind::End, .. } => Ok(condition),
        token => Err(failed(token.fault("expected `and`, `or` or the end"))),
    }
}

/// What is wrong, and at which byte.
#[derive(Debug)]
struct Fault {
    at: usize,
    what: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// A name, a keyword, an address, a number with its unit stuck to it.
    Word(String),
    /// Text in quotes.
    Quoted(String),
    /// An operator, a parenthesis, a comma.
    Sign(&'static str),
    End,
}

#[derive(Debug, Clone)]
struct Token {
    at: usize,
    kind: Kind,
}

impl Token {
    fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { at: self.at, what: what.into() }
    }

    fn is(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(text) if text.eq_ignore_ascii_case(word))
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(&self.kind, Kind::Sign(is) if *is == sign)
    }
}

const SIGNS: [&str; 10] = ["<=", ">=", "!=", "==", "<", ">", "=", "(", ")", ","];

fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(char) = text[at..].chars().next() {
        let rest = &text[at..];
        if char.is_whitespace() {
            at += char.len_utf8();
        } else if char == '\'' || char == '"' {
            let inner = &rest[1..];
            let Some(end) = inner.find(char) else {
                return Err(Fault { at, what: "this quote is never closed".to_owned() });
            };
            tokens.push(Token { at, kind: Kind::Quoted(inner[..end].to_owned()) });
            at += end + 2;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token { at, kind: Kind::Sign(sign) });
            at += sign.len();
        } else {
            let is_part = |c: char| c.is_alphanumeric() || "_.:/*-+%@".contains(c);
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(Fault { at, what: format!("{char:?} means nothing here") });
            }
            tokens.push(Token { at, kind: Kind::Word(rest[..end].to_owned()) });
            at += end;
        }
    }
    tokens.push(Token { at, kind: Kind::End });
    Ok(tokens)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    columns: Option<&'a [Column]>,
}

impl Parser<'_> {
    fn peek(&self) -> Token {
        // The last token is the end, and it is never passed.
        self.tokens[self.next.min(self.tokens.len() - 1)].clone()
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.next += 1;
        token
    }

    /// Passes a keyword if it is next.
    fn takes(&mut self, word: &str) -> bool {
        let is = self.peek().is(word);
        self.next += usize::from(is);
        is
    }

    fn condition(&mut self, depth: usize) -> Result<String, Fault> {
        self.chain(depth, "or", |parser, depth| parser.chain(depth, "and", Self::one))
    }

    fn chain(
        &mut self,
        depth: usize,
        word: &str,
        part: impl Fn(&mut Self, usize) -> Result<String, Fault>,
    ) -> Result<String, Fault> {
        let mut parts = vec![part(self, depth)?];
        while self.takes(word) {
            parts.push(part(self, depth)?);
        }
        Ok(format!("({})", parts.join(&format!(" {} ", word.to_uppercase()))))
    }

    fn one(&mut self, depth: usize) -> Result<String, Fault> {
        if depth > MAX_DEPTH {
            return Err(self.peek().fault("nested too deeply"));
        }
        if self.takes("not") {
            // What is not known is not so: NULL is no reason to leave a row in.
            return Ok(format!("NOT coalesce({}, false)", self.one(depth + 1)?));
        }
        if self.peek().is_sign("(") {
            self.next += 1;
            let inner = self.condition(depth + 1)?;
            let close = self.take();
            return match close.is_sign(")") {
                true => Ok(inner),
                false => Err(close.fault("expected `)`")),
            };
        }
        let column = self.column()?;
        self.comparison(&column)
    }

    fn column(&mut self) -> Result<String, Fault> {
        let token = self.take();
        let Kind::Word(word) = &token.kind else {
            return Err(token.fault("expected the name of a column"));
        };
        let is_name = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let is_known = self.columns.is_none_or(|known| {
            known.iter().any(|column| column.name == word)
                || (word == "session" && known.iter().any(|column| column.name == "session_no"))
        });
        if !is_name || !is_known {
            let names = self.columns.unwrap_or_default().iter().map(|column| column.name);
            let names = names.collect::<Vec<_>>().join(" ");
            let list =
                if names.is_empty() { String::new() } else { format!("; there are: {names}") };
            return Err(token.fault(format!("{word:?} is no column{list}")));
        }
        Ok(sql::name(word))
    }

    fn comparison(&mut self, column: &str) -> Result<String, Fault> {
        if self.takes("is") {
            let not = if self.takes("not") { "NOT " } else { "" };
            let token = self.take();
            return match token.is("null") {
                true => Ok(format!("{column} IS {not}NULL")),
                false => Err(token.fault("expected `null`")),
            };
        }
        if self.takes("in") {
            return self.among(column);
        }
        if self.takes("like") {
            let pattern = self.text()?.replace('*', "%");
            return Ok(format!("{column}::VARCHAR ILIKE {}", sql::text(&pattern)));
        }
        let token = self.take();
        let operator = match token.kind {
            Kind::Sign("==") => "=",
            Kind::Sign(sign @ ("=" | "!=" | "<" | "<=" | ">" | ">=")) => sign,
            _ => return Err(token.fault("expected =, !=, <, <=, >, >=, in, like or is")),
        };
        Ok(format!("{column} {operator} {}", self.value()?))
    }

    fn among(&mut self, column: &str) -> Result<String, Fault> {
        if !self.peek().is_sign("(") {
            return self.member(column);
        }
        let mut members = Vec::new();
        loop {
            // The parenthesis, and then the commas.
            self.next += 1;
            members.push(self.member(column)?);
            let token = self.peek();
            if token.is_sign(")") {
                self.next += 1;
                return Ok(format!("({})", members.join(" OR ")));
            }
            if !token.is_sign(",") {
                return Err(token.fault("expected `,` or `)`"));
            }
        }
    }

    fn member(&mut self, column: &str) -> Result<String, Fault> {
        let token = self.peek();
        if let Kind::Word(word) | Kind::Quoted(word) = &token.kind
            && word.parse::<IpNet>().is_ok()
        {
            self.next += 1;
            let networks = sql::in_networks("in", column, std::slice::from_ref(word));
            let condition = networks.map_err(|error| token.fault(error.to_string()))?;
            return Ok(condition.unwrap_or_default());
        }
        Ok(format!("{column} = {}", self.value()?))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let token = self.take();
        match token.kind {
            Kind::Word(text) | Kind::Quoted(text) => Ok(text),
            Kind::Sign(_) | Kind::End => Err(token.fault("expected a value")),
        }
    }

    /// A literal: a number with its unit, else text.
    fn value(&mut self) -> Result<String, Fault> {
        let token = self.peek();
        if let Kind::Word(word) = &token.kind
            && word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
        {
            let split = word.find(|c: char| c.is_alphabetic()).unwrap_or(word.len());
            let (figures, attached) = word.split_at(split);
            if let Some((digits, scale)) = decimal(figures) {
                self.next += 1;
                let unit =
                    if attached.is_empty() { self.unit() } else { Some(attached.to_owned()) };
                let factor = match &unit {
                    None => 1,
                    Some(unit) => factor(unit).ok_or_else(|| {
                        token.fault(format!(
                            "{unit:?} is no unit; there are: {}",
                            UNITS.map(|(name, _)| name).join(" ")
                        ))
                    })?,
                };
                let product = digits.checked_mul(factor);
                let product = product.ok_or_else(|| token.fault("this number is too large"))?;
                return Ok(literal(product, scale));
            }
        }
        let word = self.text()?;
        Ok(match word.as_str() {
            "true" | "false" => word,
            _ => sql::text(&word),
        })
    }

    /// The unit behind a number, if the next word is one.
    fn unit(&mut self) -> Option<String> {
        let Kind::Word(word) = self.peek().kind else { return None };
        factor(&word)?;
        self.next += 1;
        Some(word)
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sql(text: &str) -> String {
        to_sql("--where", text, None).unwrap()
    }

    #[test]
    fn conditions_become_sql_and_values_stay_values() {
        let cases = [
            ("bytes_down > 1 GB", r#"(("bytes_down" > 1000000000))"#),
            ("bytes_down>1.5GiB", r#"(("bytes_down" > 1610612736))"#),
            (
                "duration_us >= 90 s and quality = 0",
                r#"(("duration_us" >= 90000000 AND "quality" = 0))"#,
            ),
            ("a = 1 or b = 2 and c = 3", r#"(("a" = 1) OR ("b" = 2 AND "c" = 3))"#),
            ("not (a = 1)", r#"((NOT coalesce((("a" = 1)), false)))"#),
            ("service in (web, 'a b')", r#"((("service" = 'web' OR "service" = 'a b')))"#),
            (
                "client_ip in 10.0.0.0/8",
                r#"(((weir_network("client_ip", 8, 128) = '10.0.0.0/8')))"#,
            ),
            ("errno is not null", r#"(("errno" IS NOT NULL))"#),
            ("target_name like *.example", r#"(("target_name"::VARCHAR ILIKE '%.example'))"#),
            ("rule = 'o'", r#"(("rule" = 'o'))"#),
            ("is_final = true", r#"(("is_final" = true))"#),
            ("share_percent < 0.5", r#"(("share_percent" < 0.5))"#),
            ("ts_end > 2026-10-26", r#"(("ts_end" > '2026-10-26'))"#),
        ];
        for (text, expected) in cases {
            assert_eq!(sql(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_shown_with_its_place() {
        let columns = schemas::table::TABLES.iter().find(|t| t.name == "denied").unwrap().columns;
        let told: Vec<String> = [
            "",
            "count",
            "count >",
            "count > 5 or",
            "count > 5 reason = x",
            "(count > 5",
            "colour = red",
            "count > 5 parsecs",
            "count > 5parsecs",
            "reason = 'x",
            "count ; drop",
            "reason in (a b)",
            "count > 999999999999999 TB9",
        ]
        .iter()
        .map(|text| to_sql("--where", text, Some(columns)).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    proptest! {
        #[test]
        fn no_text_gets_into_sql_but_as_a_literal(text in "[a-z0-9 '\"();,<>=!*%._-]{0,40}") {
            let Ok(sql) = to_sql("--where", &text, None) else { return Ok(()) };
            // Without what stands in quotes there is nothing that ends a statement or begins a comment.
            let bare: String = sql.split('\'').step_by(2).collect();
            prop_assert!(!bare.contains(';') && !bare.contains("--"), "{}", sql);
        }

        #[test]
        fn nothing_that_is_typed_makes_it_panic(text in ".{0,60}") {
            drop(to_sql("--where", &text, None));
        }
    }
}
