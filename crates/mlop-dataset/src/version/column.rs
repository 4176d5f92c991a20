//! What the values of a column must be.

use jiff::{Timestamp, civil, tz::TimeZone};
use mlop_api::{
    Reason,
    dataset::{Column, ColumnType},
    result::Failure,
};
use regex::Regex;
use std::fmt;

/// A column's rules, ready to be applied.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub kind: ColumnType,
    pub nullable: bool,
    min: Option<Bound>,
    max: Option<Bound>,
    pattern: Option<Regex>,
    /// Sorted; empty: any.
    allowed: Vec<String>,
}

/// A value. A text stays in its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Text,
    Int(i64),
    /// Finite.
    Float(f64),
    Bool(bool),
    /// Microseconds since 1970 in UTC.
    Timestamp(i64),
    /// Days since 1970.
    Date(i32),
}

/// A rule that a row broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breach {
    Null,
    Type,
    Min,
    Max,
    Pattern,
    Enum,
    /// The row's key was there before.
    Unique,
    /// The row has more or fewer cells than the header.
    Cells,
    /// The row is not UTF-8.
    Encoding,
    /// The row is too long.
    Length,
}

impl Breach {
    /// The rule's name, as in the spec where it has one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Null => "nullable",
            Self::Type => "type",
            Self::Min => "min",
            Self::Max => "max",
            Self::Pattern => "pattern",
            Self::Enum => "enum",
            Self::Unique => "unique",
            Self::Cells => "cells",
            Self::Encoding => "encoding",
            Self::Length => "length",
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decimal number, exact where integers are compared with it.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// The least integer that is not below it.
    ceiling: i128,
    /// The greatest integer that is not above it.
    floor: i128,
    number: f64,
}

impl Bound {
    fn new(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let integer: i128 = whole.parse().ok()?;
        let (broken, negative) = (fraction.bytes().any(|digit| digit != b'0'), whole.starts_with('-'));
        Some(Self {
            ceiling: integer + i128::from(broken && !negative),
            floor: integer - i128::from(broken && negative),
            number: text.parse().ok()?,
        })
    }
}

impl Rule {
    /// The rules of `column`.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] when a bound or the pattern cannot be understood.
    pub fn new(column: &Column) -> Result<Self, Failure> {
        let invalid = |field: &str, what: String| {
            Failure::terminal(Reason::InvalidSpec, format!("columns[{}].{field}: {what}", column.name))
        };
        let bound = |field: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                Bound::new(text).map(Some).ok_or_else(|| invalid(field, format!("{text:?} is no number")))
            }
        };
        let pattern =
            column.pattern.as_ref().map(|pattern| Regex::new(&format!(r"\A(?:{pattern})\z"))).transpose();
        let mut allowed = column.values.clone();
        allowed.sort_unstable();
        Ok(Self {
            name: column.name.clone(),
            kind: column.kind,
            nullable: column.nullable,
            min: bound("min", &column.min)?,
            max: bound("max", &column.max)?,
            pattern: pattern.map_err(|error| invalid("pattern", error.to_string()))?,
            allowed,
        })
    }

    /// The value of `cell`, or the first rule that it breaks. Values of `enum` are compared as they are written.
    pub fn check(&self, cell: Option<&str>) -> Result<Option<Value>, Breach> {
        let Some(text) = cell else {
            return if self.nullable { Ok(None) } else { Err(Breach::Null) };
        };
        let value = parse(self.kind, text).ok_or(Breach::Type)?;
        self.check_range(value)?;
        if self.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
            return Err(Breach::Pattern);
        }
        let is_allowed = || self.allowed.binary_search_by(|allowed| allowed.as_str().cmp(text)).is_ok();
        if self.allowed.is_empty() || is_allowed() { Ok(Some(value)) } else { Err(Breach::Enum) }
    }

    fn check_range(&self, value: Value) -> Result<(), Breach> {
        let (below, above) = match value {
            Value::Int(value) => (
                self.min.is_some_and(|min| i128::from(value) < min.ceiling),
                self.max.is_some_and(|max| i128::from(value) > max.floor),
            ),
            Value::Float(value) => (
                self.min.is_some_and(|min| value < min.number),
                self.max.is_some_and(|max| value > max.number),
            ),
            _ => (false, false),
        };
        match (below, above) {
            (true, _) => Err(Breach::Min),
            (_, true) => Err(Breach::Max),
            _ => Ok(()),
        }
    }
}

/// The value that `text` is, if it is one of `kind`. Texts are taken as they are: nothing is trimmed or guessed.
fn parse(kind: ColumnType, text: &str) -> Option<Value> {
    match kind {
        ColumnType::String => Some(Value::Text),
        ColumnType::Int64 => text.parse().ok().map(Value::Int),
        ColumnType::Float64 => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Float),
        ColumnType::Bool => match text {
            "true" | "True" | "TRUE" | "1" => Some(Value::Bool(true)),
            "false" | "False" | "FALSE" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        ColumnType::Timestamp => {
            timestamp(text).map(|timestamp| Value::Timestamp(timestamp.as_microsecond()))
        }
        ColumnType::Date => date(text).map(Value::Date),
    }
}

/// RFC 3339, or `YYYY-MM-DD hh:mm:ss` in UTC.
fn timestamp(text: &str) -> Option<Timestamp> {
    // jiff reads more than RFC 3339: a date alone, other calendars' marks. A guess is worse than a rejected row.
    let bytes = text.as_bytes();
    let is_separated =
        |at: usize, separators: &[u8]| bytes.get(at).is_some_and(|byte| separators.contains(byte));
    let shape =
        is_separated(4, b"-") && is_separated(10, b"Tt ") && is_separated(13, b":") && is_separated(16, b":");
    if !shape || bytes.contains(&b'[') {
        return None;
    }
    text.parse::<Timestamp>().ok().or_else(|| {
        let time: civil::DateTime = text.parse().ok().filter(|_| is_separated(10, b" "))?;
        Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

/// Days since 1970 of `YYYY-MM-DD`.
fn date(text: &str) -> Option<i32> {
    if text.len() != 10 {
        return None;
    }
    let date: civil::Date = text.parse().ok()?;
    i32::try_from(date.duration_since(civil::date(1970, 1, 1)).as_secs() / 86_400).ok()
}

/// A value as text, for statistics. A text is not known here.
pub fn display(value: Value) -> String {
    match value {
        Value::Text => String::new(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(micros) => {
            Timestamp::from_microsecond(micros).map(|t| t.to_string()).unwrap_or_default()
        }
        Value::Date(days) => {
            let date = civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days));
            date.map(|date| date.to_string()).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnType) -> Column {
        Column {
            name: "x".into(),
            kind,
            nullable: false,
            min: None,
            max: None,
            pattern: None,
            values: Vec::new(),
        }
    }

    #[track_caller]
    fn check(column: &Column, cell: &str, expected: Result<Value, Breach>) {
        let rule = Rule::new(column).unwrap();
        assert_eq!(rule.check(Some(cell)), expected.map(Some), "{cell:?}");
    }

    #[test]
    fn values_are_read_by_type() {
        let int = column(ColumnType::Int64);
        check(&int, "-12", Ok(Value::Int(-12)));
        check(&int, "9223372036854775807", Ok(Value::Int(i64::MAX)));
        for wrong in ["9223372036854775808", "1.0", "1e3", " 1", "", "x"] {
            check(&int, wrong, Err(Breach::Type));
        }
        let float = column(ColumnType::Float64);
        check(&float, "-1.5e3", Ok(Value::Float(-1500.0)));
        for wrong in ["NaN", "inf", "1e999", "1,5", ""] {
            check(&float, wrong, Err(Breach::Type));
        }
        let bool = column(ColumnType::Bool);
        check(&bool, "True", Ok(Value::Bool(true)));
        check(&bool, "0", Ok(Value::Bool(false)));
        check(&bool, "yes", Err(Breach::Type));
        check(&column(ColumnType::String), "", Ok(Value::Text));
    }

    #[test]
    fn times_are_rfc_3339_or_utc() {
        let time = column(ColumnType::Timestamp);
        let micros = 1_357_034_400_000_000;
        for text in [
            "2013-01-01T10:00:00Z",
            "2013-01-01t10:00:00z",
            "2013-01-01T12:00:00+02:00",
            "2013-01-01 12:00:00+02:00",
            "2013-01-01 10:00:00",
        ] {
            check(&time, text, Ok(Value::Timestamp(micros)));
        }
        check(&time, "2013-01-01 10:00:00.000001999", Ok(Value::Timestamp(micros + 1)));
        for wrong in [
            "2013-01-01",
            "2013-01-01T10:00:00",
            "2013-01-01T10:00:00+02:00[Europe/Berlin]",
            "2013-02-30T10:00:00Z",
            "1357034400",
            "01/01/2013 10:00:00",
            "",
        ] {
            check(&time, wrong, Err(Breach::Type));
        }
        let date = column(ColumnType::Date);
        check(&date, "1970-01-01", Ok(Value::Date(0)));
        check(&date, "1969-12-31", Ok(Value::Date(-1)));
        check(&date, "2024-02-29", Ok(Value::Date(19_782)));
        for wrong in ["2023-02-29", "20240229", "2024-2-29", "2024-02-29T00:00"] {
            check(&date, wrong, Err(Breach::Type));
        }
    }

    #[test]
    fn each_rule_is_kept() {
        let ranged =
            Column { min: Some("-1.5".into()), max: Some("2.5".into()), ..column(ColumnType::Int64) };
        for (cell, expected) in [("-1", Ok(Value::Int(-1))), ("2", Ok(Value::Int(2)))] {
            check(&ranged, cell, expected);
        }
        check(&ranged, "-2", Err(Breach::Min));
        check(&ranged, "3", Err(Breach::Max));
        let ranged = Column { kind: ColumnType::Float64, ..ranged };
        check(&ranged, "-1.5", Ok(Value::Float(-1.5)));
        check(&ranged, "-1.51", Err(Breach::Min));
        check(&ranged, "2.500001", Err(Breach::Max));
        let exact = Column { max: Some("9007199254740993".into()), ..column(ColumnType::Int64) };
        check(&exact, "9007199254740994", Err(Breach::Max));
        let pattern = Column { pattern: Some("[A-Z]|xy".into()), ..column(ColumnType::String) };
        check(&pattern, "A", Ok(Value::Text));
        check(&pattern, "xy", Ok(Value::Text));
        check(&pattern, "Ay", Err(Breach::Pattern));
        let allowed = Column { values: vec!["b".into(), "a".into()], ..column(ColumnType::String) };
        check(&allowed, "a", Ok(Value::Text));
        check(&allowed, "c", Err(Breach::Enum));
        assert_eq!(Rule::new(&allowed).unwrap().check(None), Err(Breach::Null));
        assert_eq!(Rule::new(&Column { nullable: true, ..allowed }).unwrap().check(None), Ok(None));
    }

    #[test]
    fn a_rule_that_cannot_be_understood_names_its_field() {
        let failure =
            Rule::new(&Column { pattern: Some("(".into()), ..column(ColumnType::String) }).unwrap_err();
        assert_eq!((failure.reason, failure.retryable), (Reason::InvalidSpec, false));
        assert!(failure.message.contains("columns[x].pattern"), "{}", failure.message);
        let failure =
            Rule::new(&Column { min: Some("1e5".into()), ..column(ColumnType::Int64) }).unwrap_err();
        assert!(failure.message.contains("columns[x].min"), "{}", failure.message);
    }

    #[test]
    fn values_are_shown_as_they_are_read() {
        for (kind, text) in [
            (ColumnType::Int64, "-5"),
            (ColumnType::Float64, "1.5"),
            (ColumnType::Bool, "true"),
            (ColumnType::Timestamp, "2013-01-01T10:00:00.25Z"),
            (ColumnType::Date, "1969-02-28"),
        ] {
            assert_eq!(display(parse(kind, text).unwrap()), text);
        }
    }
}
