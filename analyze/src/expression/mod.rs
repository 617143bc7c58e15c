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
//! Nothing else gets into SQL: a column is an identifier, a value a literal of the column's type, so
//! that what cannot be compared is told with its place and not by the database. `in` with a network
//! asks whether an address lies in it; `like` knows `*`. A time without an offset is one of the
//! reader's zone.

mod literal;
mod token;

use arrow::datatypes::DataType;
use ipnet::IpNet;
use jiff::tz::TimeZone;
use schemas::table::ColumnType;

use self::token::{Fault, Kind, Token, tokens};
use crate::failure::Failure;
use crate::sql;

/// How deep conditions may be nested.
const MAX_DEPTH: usize = 32;
/// Longest condition, in bytes.
const MAX_LENGTH: usize = 8192;

/// What a column holds, and so what it may be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Words, names, addresses.
    Text,
    /// Integers and decimals.
    Number,
    /// Instants.
    Time,
    /// True or false.
    Bool,
}

impl From<ColumnType> for Type {
    fn from(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Text | ColumnType::OptText | ColumnType::Word | ColumnType::OptWord => {
                Self::Text
            }
            ColumnType::Time | ColumnType::OptTime => Self::Time,
            ColumnType::Int64
            | ColumnType::OptInt64
            | ColumnType::Int32
            | ColumnType::OptInt32
            | ColumnType::OptFloat64 => Self::Number,
            ColumnType::Bool => Self::Bool,
        }
    }
}

impl From<&DataType> for Type {
    fn from(kind: &DataType) -> Self {
        match kind {
            DataType::Boolean => Self::Bool,
            DataType::Timestamp(..) | DataType::Date32 => Self::Time,
            number if number.is_numeric() => Self::Number,
            _ => Self::Text,
        }
    }
}

/// The columns that a condition may name.
pub type Columns<'a> = [(&'a str, Type)];

/// The condition in SQL. It may name only these columns; times without an offset are of `zone`.
///
/// # Errors
/// 64 with the place in `text` and what is expected there; `option` is named.
pub fn to_sql(
    option: &str,
    text: &str,
    columns: &Columns<'_>,
    zone: &TimeZone,
) -> Result<String, Failure> {
    let failed = |fault: Fault| {
        let caret = " ".repeat(text[..fault.at].chars().count());
        Failure::Usage(format!("{option}: {}\n  {text}\n  {caret}^", fault.what))
    };
    if text.len() > MAX_LENGTH {
        return Err(Failure::Usage(format!("{option}: longer than {MAX_LENGTH} bytes")));
    }
    let tokens = tokens(text).map_err(failed)?;
    let mut parser = Parser { tokens, next: 0, columns, zone: zone.clone() };
    let condition = parser.condition(0).map_err(failed)?;
    match parser.peek() {
        Token { kind: Kind::End, .. } => Ok(condition),
        token => Err(failed(token.fault("expected `and`, `or` or the end"))),
    }
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    columns: &'a Columns<'a>,
    zone: TimeZone,
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
        let (column, of) = self.column()?;
        self.comparison(&column, of)
    }

    fn column(&mut self) -> Result<(String, Type), Fault> {
        let token = self.take();
        let Kind::Word(word) = &token.kind else {
            return Err(token.fault("expected the name of a column"));
        };
        let known = self.columns.iter().find(|(name, _)| name == word);
        known.map(|(name, of)| (sql::name(name), *of)).ok_or_else(|| {
            let names = self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
            token.fault(format!("{word:?} is no column; there are: {names}"))
        })
    }

    fn comparison(&mut self, column: &str, of: Type) -> Result<String, Fault> {
        if self.takes("is") {
            let not = if self.takes("not") { "NOT " } else { "" };
            let token = self.take();
            return match token.is("null") {
                true => Ok(format!("{column} IS {not}NULL")),
                false => Err(token.fault("expected `null`")),
            };
        }
        if self.takes("in") {
            return self.among(column, of);
        }
        let token = self.take();
        if token.is("like") {
            if of != Type::Text {
                return Err(token.fault("`like` compares text, and this column has none"));
            }
            let pattern = self.text()?.replace('*', "%");
            return Ok(format!("{column} ILIKE {}", sql::text(&pattern)));
        }
        let operator = match token.kind {
            Kind::Sign("==") => "=",
            Kind::Sign(sign @ ("=" | "!=" | "<" | "<=" | ">" | ">=")) => sign,
            _ => return Err(token.fault("expected =, !=, <, <=, >, >=, in, like or is")),
        };
        Ok(format!("{column} {operator} {}", self.value(of)?))
    }

    fn among(&mut self, column: &str, of: Type) -> Result<String, Fault> {
        if !self.peek().is_sign("(") {
            return self.member(column, of);
        }
        let mut members = Vec::new();
        loop {
            // The parenthesis, and then the commas.
            self.next += 1;
            members.push(self.member(column, of)?);
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

    fn member(&mut self, column: &str, of: Type) -> Result<String, Fault> {
        let token = self.peek();
        if let (Type::Text, Kind::Word(word) | Kind::Quoted(word)) = (of, &token.kind)
            && word.parse::<IpNet>().is_ok()
        {
            self.next += 1;
            let networks = sql::in_networks("in", column, std::slice::from_ref(word));
            let condition = networks.map_err(|error| token.fault(error.to_string()))?;
            return Ok(condition.unwrap_or_default());
        }
        Ok(format!("{column} = {}", self.value(of)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [(&str, Type); 13] = [
        ("bytes_down", Type::Number),
        ("duration_us", Type::Number),
        ("quality", Type::Number),
        ("share_percent", Type::Number),
        ("a", Type::Number),
        ("errno", Type::Number),
        ("service", Type::Text),
        ("rule", Type::Text),
        ("client_ip", Type::Text),
        ("target_name", Type::Text),
        ("is_final", Type::Bool),
        ("ts_end", Type::Time),
        ("day", Type::Time),
    ];

    fn translated(text: &str) -> Result<String, Failure> {
        to_sql("--where", text, &COLUMNS, &TimeZone::UTC)
    }

    fn sql(text: &str) -> String {
        translated(text).unwrap()
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
            ("a = 1 or a = 2 and a = 3", r#"(("a" = 1) OR ("a" = 2 AND "a" = 3))"#),
            ("not (a = 1)", r#"((NOT coalesce((("a" = 1)), false)))"#),
            ("service in (web, 'a b')", r#"((("service" = 'web' OR "service" = 'a b')))"#),
            (
                "client_ip in 10.0.0.0/8",
                r#"(((weir_network("client_ip", 8, 128) = '10.0.0.0/8')))"#,
            ),
            ("errno is not null", r#"(("errno" IS NOT NULL))"#),
            ("target_name like *.example", r#"(("target_name" ILIKE '%.example'))"#),
            ("rule = 'o'", r#"(("rule" = 'o'))"#),
            ("is_final = true", r#"(("is_final" = true))"#),
            ("share_percent < 0.5", r#"(("share_percent" < 0.5))"#),
            ("ts_end > 2026-10-26", r#"(("ts_end" > make_timestamp(1792972800000000)))"#),
            (
                "day = '2026-10-26T01:00:00+01:00'",
                r#"(("day" = make_timestamp(1792972800000000)))"#,
            ),
            ("service = 5", r#"(("service" = '5'))"#),
        ];
        for (text, expected) in cases {
            assert_eq!(sql(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_shown_with_its_place() {
        let told: Vec<String> = [
            "",
            "a",
            "a >",
            "a > 5 or",
            "a > 5 reason = x",
            "(a > 5",
            "colour = red",
            "a > 5 parsecs",
            "a > 5parsecs",
            "rule = 'x",
            "a ; drop",
            "rule in (a b)",
            "a > 999999999999999 TB9",
            "bytes_down > abc",
            "bytes_down in 10.0.0.0/8",
            "bytes_down > '5 GB'",
            "ts_end > yesterday",
            "is_final = 7",
            "quality like x",
        ]
        .iter()
        .map(|text| translated(text).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    proptest! {
        #[test]
        fn no_text_gets_into_sql_but_as_a_literal(text in "[a-z0-9 '\"();,<>=!*%._-]{0,40}") {
            let Ok(sql) = translated(&text) else { return Ok(()) };
            // Without what stands in quotes there is nothing that ends a statement or begins a comment.
            let bare: String = sql.split('\'').step_by(2).collect();
            prop_assert!(!bare.contains(';') && !bare.contains("--"), "{}", sql);
        }

        #[test]
        fn nothing_that_is_typed_makes_it_panic(text in ".{0,60}") {
            drop(translated(&text));
        }
    }
}
