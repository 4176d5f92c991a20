//! The rules for the values of a column.

use super::{
    decimal::Digits,
    numbers::Numbers,
    reader::{Flaw, Given},
    reading::Reading,
    value::{self, Value},
};
use crate::text;
use mlop_api::{
    Reason,
    dataset::{Column, ColumnType},
    result::Failure,
};
use regex::Regex;
use std::{borrow::Cow, fmt};

/// Longest example of a value in a message, in bytes.
const EXAMPLE_BYTES_MAX: usize = 80;

/// The value of a partition without one, as Hive writes it.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A column's rules, ready to be applied.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub kind: ColumnType,
    /// Digits of a column of type decimal.
    pub digits: Digits,
    pub nullable: bool,
    /// Its values appear in no message and no statistics.
    pub is_sensitive: bool,
    /// Finds the value in the key of the object.
    from_key: Option<Regex>,
    reading: Reading,
    null_tokens: Vec<String>,
    min: Option<Bound>,
    max: Option<Bound>,
    pattern: Option<Regex>,
    /// Sorted; empty: any.
    allowed: Vec<String>,
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
    /// The row has too many lines.
    Lines,
    /// The row ends inside quotes.
    UnclosedQuote,
    /// A closing quote is followed by text.
    TextBehindQuote,
    /// An unquoted value has a quote in it.
    StrayQuote,
    /// The row is the header once more.
    Header,
    /// The row is not a JSON object.
    Json,
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
            Self::Lines => "lines",
            Self::UnclosedQuote | Self::TextBehindQuote | Self::StrayQuote => "quotes",
            Self::Header => "header",
            Self::Json => "json",
        }
    }
}

impl From<Flaw> for Breach {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Cells => Self::Cells,
            Flaw::Encoding => Self::Encoding,
            Flaw::Length => Self::Length,
            Flaw::Lines => Self::Lines,
            Flaw::UnclosedQuote => Self::UnclosedQuote,
            Flaw::TextBehindQuote => Self::TextBehindQuote,
            Flaw::StrayQuote => Self::StrayQuote,
            Flaw::Header => Self::Header,
            Flaw::Json => Self::Json,
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
    /// The greatest decimal number of the column that is not above it and the least that is not below it, in units of
    /// the last digit.
    units: (i128, i128),
}

impl Bound {
    fn new(text: &str, digits: Digits) -> Option<Self> {
        let (whole, fraction) = without_exponent(text)?;
        let (whole, fraction) = (whole.as_str(), fraction.as_str());
        let scale = usize::from(digits.scale);
        let (kept, rest) = fraction.split_at_checked(scale).unwrap_or((fraction, ""));
        // What does not fit is beyond all values.
        let beyond = if whole.starts_with('-') { (i128::MIN, i128::MIN) } else { (i128::MAX, i128::MAX) };
        let units = around(whole, &format!("{kept:0<scale$}"), rest).unwrap_or(beyond);
        let (floor, ceiling) = around(whole, "", fraction).unwrap_or(beyond);
        Some(Self { ceiling, floor, number: text.parse().ok()?, units })
    }
}

/// The digits before and behind the point of a number that may have an exponent; the sign is before them.
fn without_exponent(text: &str) -> Option<(String, String)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent = exponent.parse::<i32>().ok().filter(|exponent| exponent.abs() < 1_000)?;
    let unsigned = mantissa.trim_start_matches('-');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let sign = if mantissa.starts_with('-') { "-" } else { "" };
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let zeros = |number: i32| "0".repeat(usize::try_from(number).unwrap_or_default());
    let padded = format!("{}{digits}{}", zeros(1 - point), zeros(point - i32::try_from(digits.len()).ok()?));
    let (whole, fraction) = padded.split_at_checked(usize::try_from(point.max(1)).ok()?)?;
    Some((format!("{sign}{whole}"), fraction.to_owned()))
}

/// The greatest integer that is not above `whole` and `kept` written together, with the digits `rest` behind the point,
/// and the least that is not below it.
fn around(whole: &str, kept: &str, rest: &str) -> Option<(i128, i128)> {
    let integer: i128 = format!("{whole}{kept}").parse().ok()?;
    let (broken, negative) = (rest.bytes().any(|digit| digit != b'0'), whole.starts_with('-'));
    Some((integer - i128::from(broken && negative), integer + i128::from(broken && !negative)))
}

impl Rule {
    /// The rules of `column`, in a source with these null tokens and numbers.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] when a bound, a format or the pattern cannot be understood.
    pub fn new(column: &Column, null_tokens: &[String], numbers: Numbers) -> Result<Self, Failure> {
        let invalid = |field: &str, what: String| {
            Failure::terminal(Reason::InvalidSpec, format!("columns[{}].{field}: {what}", column.name))
        };
        let digits = Digits::of(column);
        let bound = |field: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => Bound::new(text, digits)
                .map(Some)
                .ok_or_else(|| invalid(field, format!("{text:?} is no number"))),
        };
        let pattern =
            column.pattern.as_ref().map(|pattern| Regex::new(&format!(r"\A(?:{pattern})\z"))).transpose();
        let from_key = column.from_key.as_deref().map(key_pattern).transpose();
        let mut allowed = column.values.clone();
        allowed.sort_unstable();
        Ok(Self {
            name: column.name.clone(),
            kind: column.kind,
            digits,
            nullable: column.nullable,
            is_sensitive: column.sensitive,
            from_key: from_key.map_err(|what| invalid("fromKey", what))?,
            reading: Reading::new(column, numbers).map_err(|(field, what)| invalid(field, what))?,
            null_tokens: match column.null_tokens.as_slice() {
                [] if column.ignore_null_tokens => Vec::new(),
                [] => null_tokens.to_vec(),
                own => own.to_vec(),
            },
            min: bound("min", &column.min)?,
            max: bound("max", &column.max)?,
            pattern: pattern.map_err(|error| invalid("pattern", error.to_string()))?,
            allowed,
        })
    }

    /// The value of `cell`, or the first rule that it breaks. Values of `enum` are compared as they are written.
    pub fn check(&self, cell: Option<Given<'_>>) -> Result<Option<Value>, Breach> {
        let Some(cell) = cell.filter(|cell| !self.is_null_token(cell)) else {
            return if self.nullable { Ok(None) } else { Err(Breach::Null) };
        };
        let value = match cell {
            Given::Text { text, .. } => self.reading.text(text),
            Given::Number(_) if self.kind == ColumnType::String => None,
            Given::Number(text) => self.reading.text(text),
            Given::Value(value) => self.reading.value(value),
            Given::Foreign(_) => None,
        };
        let value = value.ok_or(Breach::Type)?;
        self.check_range(value)?;
        if self.pattern.is_none() && self.allowed.is_empty() {
            return Ok(Some(value));
        }
        let text = shown(cell);
        if self.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(&text)) {
            return Err(Breach::Pattern);
        }
        let is_allowed =
            || self.allowed.binary_search_by(|allowed| allowed.as_str().cmp(text.as_ref())).is_ok();
        if self.allowed.is_empty() || is_allowed() { Ok(Some(value)) } else { Err(Breach::Enum) }
    }

    /// The value that the key of an object holds.
    pub fn in_key(&self, key: &str) -> Option<String> {
        let found = self.from_key.as_ref()?.captures(key)?.get(1)?;
        // Hive, and all that write like it, escape the values of partitions and name the missing one.
        match key.get(..found.start()).is_some_and(|before| before.ends_with('=')) {
            true if found.as_str() == HIVE_NULL => None,
            true => Some(percent_decoded(found.as_str())),
            false => Some(found.as_str().to_owned()),
        }
    }

    /// Whether `cell` means that there is no value. Quotes make a null token a text where a text can be.
    pub fn is_null_token(&self, cell: &Given<'_>) -> bool {
        let is_token = |text: &str| self.null_tokens.iter().any(|token| token == text);
        match *cell {
            Given::Text { is_quoted: true, .. } if self.kind == ColumnType::String => false,
            Given::Text { text, .. } => is_token(text),
            Given::Value(Value::Float(value)) if !value.is_finite() => is_token(&value.to_string()),
            _ => false,
        }
    }

    /// `cell`, which breaks `breach`, for people: with what may help. None where it must not be shown.
    pub fn example(&self, cell: Given<'_>, breach: Breach) -> Option<String> {
        if self.is_sensitive {
            return None;
        }
        let text = shown(cell);
        let remedy = match breach {
            Breach::Type => self.reading.remedy(&text),
            Breach::Null if text.is_empty() => Some("set nullable if values may be missing"),
            Breach::Null => Some(
                "nullTokens makes it a missing value: set nullable, or ignoreNullTokens if it is a value",
            ),
            _ => None,
        };
        let remedy = remedy.map(|remedy| format!(": {remedy}")).unwrap_or_default();
        Some(format!("{:?}{remedy}", text::cut(&text, EXAMPLE_BYTES_MAX)))
    }

    /// The texts that are read, for people.
    pub const fn forms(&self) -> &'static str {
        self.reading.forms()
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
            Value::Decimal(value) => (
                self.min.is_some_and(|min| value.units < min.units.1),
                self.max.is_some_and(|max| value.units > max.units.0),
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

/// `text` with the bytes that are written as `%3A`, if that is UTF-8.
fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A pattern with one group.
fn key_pattern(pattern: &str) -> Result<Regex, String> {
    let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
    match regex.captures_len() {
        2 => Ok(regex),
        groups => Err(format!("{pattern:?} has {} groups, not one", groups - 1)),
    }
}

/// A cell as text.
pub fn shown(cell: Given<'_>) -> Cow<'_, str> {
    match cell {
        Given::Text { text, .. } | Given::Number(text) | Given::Foreign(text) => Cow::Borrowed(text),
        Given::Value(value) => Cow::Owned(value::display(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: ColumnType) -> Column {
        Column::new("x", kind)
    }

    fn rule(column: &Column) -> Rule {
        Rule::new(column, &["NA".into(), String::new()], Numbers::default()).unwrap()
    }

    fn refused(column: &Column) -> Failure {
        Rule::new(column, &[], Numbers::default()).unwrap_err()
    }

    const fn plain(text: &str) -> Given<'_> {
        Given::Text { text, is_quoted: false }
    }

    #[track_caller]
    fn check(column: &Column, cell: &str, expected: Result<Value, Breach>) {
        assert_eq!(rule(column).check(Some(plain(cell))), expected.map(Some), "{cell:?}");
    }

    #[test]
    fn quoted_null_tokens_are_texts_only_in_columns_of_texts() {
        let quoted = |text| Some(Given::Text { text, is_quoted: true });
        let text = Column { nullable: true, ..column(ColumnType::String) };
        assert_eq!(rule(&text).check(quoted("NA")), Ok(Some(Value::Text)));
        assert_eq!(rule(&text).check(quoted("")), Ok(Some(Value::Text)));
        assert_eq!(rule(&text).check(Some(plain("NA"))), Ok(None));
        let int = Column { nullable: true, ..column(ColumnType::Int64) };
        assert_eq!(rule(&int).check(quoted("NA")), Ok(None));
        let own = Column { null_tokens: vec!["-".into()], ..text };
        assert_eq!(rule(&own).check(Some(plain("NA"))), Ok(Some(Value::Text)));
        assert_eq!(rule(&own).check(Some(plain("-"))), Ok(None));
    }

    #[test]
    fn partitions_in_keys_are_read_as_hive_writes_them() {
        let column = Column { from_key: Some("dt=?([^/]+)/".into()), ..column(ColumnType::String) };
        for (key, value) in [
            ("x/dt=2026-01-01/a.csv", Some("2026-01-01")),
            ("x/dt=2026-01-01 10%3A00%3a00/a.csv", Some("2026-01-01 10:00:00")),
            ("x/dt=100%25/a.csv", Some("100%")),
            ("x/dt=50%/a.csv", Some("50%")),
            ("x/dt=%zz%c3%b8/a.csv", Some("%zzø")),
            ("x/dt=%ff/a.csv", Some("%ff")),
            ("x/dt=ø/a.csv", Some("ø")),
            ("x/dt=__HIVE_DEFAULT_PARTITION__/a.csv", None),
            // Not a partition.
            ("x/dt100%25/a.csv", Some("100%25")),
            ("x/dt__HIVE_DEFAULT_PARTITION__/a.csv", Some("__HIVE_DEFAULT_PARTITION__")),
            ("x/a.csv", None),
        ] {
            assert_eq!(rule(&column).in_key(key).as_deref(), value, "{key}");
        }
    }

    #[test]
    fn numbers_of_json_are_no_texts() {
        assert_eq!(rule(&column(ColumnType::String)).check(Some(Given::Number("1"))), Err(Breach::Type));
        assert_eq!(rule(&column(ColumnType::Int64)).check(Some(Given::Number("1"))), Ok(Some(Value::Int(1))));
        let real = Column { nullable: true, null_tokens: vec!["NaN".into()], ..column(ColumnType::Float64) };
        assert_eq!(rule(&real).check(Some(Given::Value(Value::Float(f64::NAN)))), Ok(None));
    }

    #[test]
    fn rules_are_kept() {
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
        assert_eq!(rule(&allowed).check(None), Err(Breach::Null));
        assert_eq!(rule(&Column { nullable: true, ..allowed }).check(None), Ok(None));
    }

    #[test]
    fn bounds_may_have_exponents() {
        let between = |min: &str, max: &str, kind| Column {
            min: Some(min.into()),
            max: Some(max.into()),
            scale: Some(3),
            ..column(kind)
        };
        let int = between("-1.5e1", "12E+2", ColumnType::Int64);
        for (cell, expected) in [
            ("-15", Ok(Value::Int(-15))),
            ("-16", Err(Breach::Min)),
            ("1200", Ok(Value::Int(1_200))),
            ("1201", Err(Breach::Max)),
        ] {
            check(&int, cell, expected);
        }
        let small = between("1e-3", "1.5e-2", ColumnType::Decimal);
        for (cell, expected) in
            [("0.001", None), ("0.000", Some(Breach::Min)), ("0.015", None), ("0.016", Some(Breach::Max))]
        {
            assert_eq!(rule(&small).check(Some(plain(cell))).err(), expected, "{cell}");
        }
        let wide = between("-1e300", "1e300", ColumnType::Float64);
        check(&wide, "1e300", Ok(Value::Float(1e300)));
        check(&wide, "1.1e300", Err(Breach::Max));
        check(
            &between("-1e300", "1e300", ColumnType::Int64),
            &i64::MAX.to_string(),
            Ok(Value::Int(i64::MAX)),
        );
        check(&between("1e-300", "1", ColumnType::Int64), "0", Err(Breach::Min));
    }

    #[test]
    fn unreadable_rule_names_its_field() {
        let failure = refused(&Column { pattern: Some("(".into()), ..column(ColumnType::String) });
        assert_eq!((failure.reason, failure.retryable), (Reason::InvalidSpec, false));
        assert!(failure.message.contains("columns[x].pattern"), "{}", failure.message);
        let failure = refused(&Column { min: Some("1e5e".into()), ..column(ColumnType::Int64) });
        assert!(failure.message.contains("columns[x].min"), "{}", failure.message);
    }
}
