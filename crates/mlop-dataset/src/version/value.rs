//! Values, and the texts from which they are read.

use super::civil;
use jiff::{Timestamp, fmt::strtime, tz::TimeZone};
use mlop_api::dataset::{Column, ColumnType, Csv};
use std::borrow::Cow;

/// A value. A text stays in its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Text,
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Microseconds since 1970 in UTC, of the years 1 to 9999.
    Timestamp(i64),
    /// Days since 1970, of the years 1 to 9999.
    Date(i32),
}

/// Greatest integer up to which a float holds every integer.
const EXACT_MAX: i64 = 1 << 53;

/// A value as text. A text is not known here.
pub fn display(value: Value) -> String {
    match value {
        Value::Text => String::new(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(micros) => civil::display_timestamp(micros),
        Value::Date(days) => civil::display_date(days),
    }
}

/// A type's name in specs, manifests and messages.
pub const fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::String => "string",
        ColumnType::Int64 => "int64",
        ColumnType::Float64 => "float64",
        ColumnType::Bool => "bool",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Date => "date",
    }
}

/// How the values of a column are read.
#[derive(Clone, Debug)]
pub struct Reading {
    kind: ColumnType,
    zero_fraction: bool,
    true_values: Vec<String>,
    false_values: Vec<String>,
    formats: Vec<TimeFormat>,
    numbers: Numbers,
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub decimal: char,
    pub thousands: Option<char>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { decimal: '.', thousands: None }
    }
}

impl Numbers {
    pub fn new(csv: &Csv) -> Self {
        let first = |text: &str| text.chars().next();
        Self {
            decimal: first(&csv.decimal_separator).unwrap_or('.'),
            thousands: first(&csv.thousands_separator),
        }
    }

    /// `text` with a decimal point and without thousands separators.
    fn plain<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        if *self == Self::default() {
            return Some(Cow::Borrowed(text));
        }
        let (sign, unsigned) = text.split_at(usize::from(text.starts_with(['-', '+'])));
        let exponent = unsigned.find(['e', 'E']).unwrap_or(unsigned.len());
        let (mantissa, exponent) = unsigned.split_at(exponent);
        let (whole, fraction) = match mantissa.split_once(self.decimal) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let groups: Vec<&str> = whole.split(|char| self.is_thousands(char)).collect();
        let is_grouped = groups.iter().enumerate().all(|(index, group)| {
            is_digits(group)
                && (groups.len() == 1 || group.len() == 3 || index == 0 && (1..3).contains(&group.len()))
        });
        if !is_grouped || !fraction.is_none_or(is_digits) {
            return None;
        }
        let fraction = fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
        Some(Cow::Owned(format!("{sign}{}{fraction}{exponent}", groups.concat())))
    }

    fn is_thousands(&self, char: char) -> bool {
        self.thousands == Some(char)
            || self.thousands == Some(' ') && matches!(char, '\u{a0}' | '\u{202f}' | '\u{2009}')
    }
}

#[derive(Clone, Debug)]
enum TimeFormat {
    Default,
    /// Units of so many microseconds since 1970.
    Epoch(i64),
    Pattern(String),
}

impl TimeFormat {
    fn new(text: &str) -> Result<Self, String> {
        let zoned = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        match text {
            "default" => Ok(Self::Default),
            "epochSeconds" => Ok(Self::Epoch(1_000_000)),
            "epochMilliseconds" => Ok(Self::Epoch(1_000)),
            "epochMicroseconds" => Ok(Self::Epoch(1)),
            pattern if pattern.contains('%') => match strtime::format(pattern, &zoned) {
                Ok(_) => Ok(Self::Pattern(pattern.to_owned())),
                Err(error) => Err(format!("{pattern:?} is not a strptime pattern: {error}")),
            },
            other => Err(format!(
                "{other:?} is neither a strptime pattern (%d.%m.%Y) nor default, epochSeconds, epochMilliseconds, epochMicroseconds"
            )),
        }
    }

    /// Microseconds since 1970.
    fn timestamp(&self, text: &str) -> Option<i64> {
        match self {
            Self::Default => civil::timestamp(text),
            Self::Epoch(unit) => civil::epoch(text, *unit),
            Self::Pattern(pattern) => {
                let parsed = strtime::parse(pattern, text).ok()?;
                if parsed.timestamp().is_some() {
                    return civil::in_range(parsed.to_timestamp().ok()?.as_microsecond());
                }
                let offset = parsed.offset().map_or(0, |offset| i64::from(offset.seconds()));
                let (date, time) = (parsed.to_date().ok()?, parsed.to_time().ok()?);
                let days = civil::days(date.year().into(), date.month().into(), date.day().into())?;
                let seconds =
                    (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
                let micros = seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1_000;
                civil::micros(days, micros - offset * 1_000_000)
            }
        }
    }

    /// Days since 1970.
    fn date(&self, text: &str) -> Option<i32> {
        match self {
            Self::Default => civil::date(text),
            _ => midnight(self.timestamp(text)?),
        }
    }
}

/// The day whose midnight is `micros`.
fn midnight(micros: i64) -> Option<i32> {
    const DAY_MICROS: i64 = 86_400_000_000;
    (micros % DAY_MICROS == 0).then(|| i32::try_from(micros / DAY_MICROS).ok()).flatten()
}

impl Reading {
    /// How the values of `column` are read.
    ///
    /// # Errors
    /// The field that cannot be understood, and why.
    pub fn new(column: &Column, numbers: Numbers) -> Result<Self, (&'static str, String)> {
        let formats = column.formats.iter().map(|format| TimeFormat::new(format));
        let formats = formats.collect::<Result<Vec<_>, _>>().map_err(|error| ("formats", error))?;
        Ok(Self {
            kind: column.kind,
            zero_fraction: column.zero_fraction,
            true_values: column.true_values.clone(),
            false_values: column.false_values.clone(),
            formats: if formats.is_empty() { vec![TimeFormat::Default] } else { formats },
            numbers,
        })
    }

    /// The value that `text` is, if it is one of the column's type.
    pub fn text(&self, text: &str) -> Option<Value> {
        match self.kind {
            ColumnType::String => Some(Value::Text),
            ColumnType::Int64 => self.integer(&self.numbers.plain(text)?).map(Value::Int),
            ColumnType::Float64 => self
                .numbers
                .plain(text)?
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())
                .map(Value::Float),
            ColumnType::Bool => self.bool(text).map(Value::Bool),
            ColumnType::Timestamp => {
                self.formats.iter().find_map(|format| format.timestamp(text)).map(Value::Timestamp)
            }
            ColumnType::Date => self.formats.iter().find_map(|format| format.date(text)).map(Value::Date),
        }
    }

    /// The value of the column's type that equals `value`.
    pub fn value(&self, value: Value) -> Option<Value> {
        match (self.kind, value) {
            (ColumnType::Int64, Value::Float(value)) => {
                let is_whole = value.fract() == 0.0 && value.abs() <= EXACT_MAX as f64;
                (self.zero_fraction && is_whole).then_some(Value::Int(value as i64))
            }
            (ColumnType::Float64, Value::Int(value)) => {
                (-EXACT_MAX..=EXACT_MAX).contains(&value).then_some(Value::Float(value as f64))
            }
            (ColumnType::Float64, Value::Float(number)) => number.is_finite().then_some(value),
            (ColumnType::Timestamp, Value::Date(days)) => civil::micros(days, 0).map(Value::Timestamp),
            (ColumnType::Date, Value::Timestamp(micros)) => midnight(micros).map(Value::Date),
            (ColumnType::Int64, Value::Int(_))
            | (ColumnType::Bool, Value::Bool(_))
            | (ColumnType::Timestamp, Value::Timestamp(_))
            | (ColumnType::Date, Value::Date(_)) => Some(value),
            _ => None,
        }
    }

    fn integer(&self, text: &str) -> Option<i64> {
        let whole = match text.split_once('.') {
            Some((whole, fraction)) if self.zero_fraction && fraction.bytes().all(|byte| byte == b'0') => {
                whole
            }
            _ => text,
        };
        whole.parse().ok()
    }

    fn bool(&self, text: &str) -> Option<bool> {
        if !self.true_values.is_empty() || !self.false_values.is_empty() {
            let is_among = |values: &[String]| values.iter().any(|value| value == text);
            return is_among(&self.true_values)
                .then_some(true)
                .or_else(|| is_among(&self.false_values).then_some(false));
        }
        match text {
            "true" | "True" | "TRUE" | "1" => Some(true),
            "false" | "False" | "FALSE" | "0" => Some(false),
            _ => None,
        }
    }

    /// The texts that are read, for people.
    pub const fn forms(&self) -> &'static str {
        match self.kind {
            ColumnType::String => "any text",
            ColumnType::Int64 => "digits with an optional sign, up to 64 bits",
            ColumnType::Float64 => "finite decimal numbers",
            ColumnType::Bool => "true, True, TRUE, 1, false, False, FALSE, 0, or trueValues and falseValues",
            ColumnType::Timestamp => {
                "2026-03-01T10:00:00Z and the like (kubectl explain dataset.spec.columns.type), or formats"
            }
            ColumnType::Date => "2026-03-01, or formats",
        }
    }

    /// What may help with a text that is not read.
    pub fn remedy(&self, text: &str) -> Option<&'static str> {
        let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
        match self.kind {
            ColumnType::Int64 if Self { zero_fraction: true, ..self.clone() }.text(text).is_some() => {
                Some("set zeroFraction to read it as a whole number")
            }
            ColumnType::Int64 if is_number(text) => Some("use type float64"),
            ColumnType::Int64 | ColumnType::Float64
                if is_number(&text.replace('.', "").replace(',', ".")) =>
            {
                Some("set source.format.csv.decimalSeparator and thousandsSeparator")
            }
            ColumnType::Timestamp | ColumnType::Date if is_number(text) => {
                Some("set formats to epochSeconds, epochMilliseconds or epochMicroseconds")
            }
            ColumnType::Timestamp | ColumnType::Date => Some("set formats to a strptime pattern"),
            ColumnType::Bool => Some("set trueValues and falseValues"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(kind: ColumnType, change: impl FnOnce(&mut Column)) -> Reading {
        let mut column = Column::new("x", kind);
        change(&mut column);
        Reading::new(&column, Numbers::default()).unwrap()
    }

    #[track_caller]
    fn reads(reading: &Reading, cases: &[(&str, Option<Value>)]) {
        for (text, expected) in cases {
            assert_eq!(reading.text(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn values_are_read_by_type() {
        let int = reading(ColumnType::Int64, |_| {});
        reads(&int, &[("-12", Some(Value::Int(-12))), ("9223372036854775807", Some(Value::Int(i64::MAX)))]);
        for text in ["9223372036854775808", "1.0", "1e3", " 1", "", "x", "1,000"] {
            reads(&int, &[(text, None)]);
        }
        let float = reading(ColumnType::Float64, |_| {});
        reads(&float, &[("-1.5e3", Some(Value::Float(-1_500.0)))]);
        for text in ["NaN", "inf", "1e999", "1,5", "", "0x10"] {
            reads(&float, &[(text, None)]);
        }
        let bool = reading(ColumnType::Bool, |_| {});
        reads(&bool, &[("True", Some(Value::Bool(true))), ("0", Some(Value::Bool(false))), ("t", None)]);
        reads(&reading(ColumnType::String, |_| {}), &[("", Some(Value::Text))]);
    }

    #[test]
    fn booleans_are_read_by_list() {
        let bool = reading(ColumnType::Bool, |column| {
            column.true_values = vec!["t".into(), "Ja".into()];
            column.false_values = vec!["f".into()];
        });
        reads(&bool, &[("t", Some(Value::Bool(true))), ("f", Some(Value::Bool(false))), ("true", None)]);
    }

    #[test]
    fn a_zero_fraction_is_read_exactly() {
        let int = reading(ColumnType::Int64, |column| column.zero_fraction = true);
        reads(
            &int,
            &[
                ("1950.0", Some(Value::Int(1_950))),
                ("9007199254740993.00", Some(Value::Int(9_007_199_254_740_993))),
                ("-3.", Some(Value::Int(-3))),
                ("1.5", None),
                (".0", None),
                ("1e3", None),
            ],
        );
        assert_eq!(int.value(Value::Float(2.0)), Some(Value::Int(2)));
        assert_eq!(int.value(Value::Float(1e300)), None);
    }

    #[test]
    fn separators_are_read_in_their_places_only() {
        let numbers = Numbers { decimal: ',', thousands: Some('.') };
        let float = Reading::new(&Column::new("x", ColumnType::Float64), numbers).unwrap();
        for (text, expected) in [
            ("1.234,50", 1_234.5),
            ("0,75", 0.75),
            ("-12.345.678", -12_345_678.0),
            ("1234,5", 1_234.5),
            ("1,5e3", 1_500.0),
        ] {
            reads(&float, &[(text, Some(Value::Float(expected)))]);
        }
        for text in ["1.5", "1.23,4", "1,234.5", "12.34.567", "1,2,3", ".123", ""] {
            reads(&float, &[(text, None)]);
        }
        let spaces = Numbers { decimal: ',', thousands: Some(' ') };
        let int = Reading::new(&Column::new("x", ColumnType::Int64), spaces).unwrap();
        reads(
            &int,
            &[
                ("1\u{202f}234", Some(Value::Int(1_234))),
                ("1 234 567", Some(Value::Int(1_234_567))),
                ("1 2", None),
            ],
        );
    }

    #[test]
    fn times_are_read_by_format() {
        let time = reading(ColumnType::Timestamp, |column| {
            column.formats =
                ["%d.%m.%Y %H:%M", "%Y%m%d", "%Y-%m-%d %H:%M:%S %z", "epochSeconds"].map(String::from).into();
        });
        let micros = |text: &str| civil::timestamp(text).map(Value::Timestamp);
        reads(
            &time,
            &[
                ("01.03.2026 10:30", micros("2026-03-01T10:30")),
                ("20260301", micros("2026-03-01")),
                ("2026-03-01 10:00:00 +0200", micros("2026-03-01T08:00")),
                ("1772359200", micros("2026-03-01T10:00")),
                ("31.12.9999 23:59", micros("9999-12-31T23:59")),
                ("2026-03-01T10:00:00Z", None),
                ("32.03.2026 10:30", None),
            ],
        );
        let date =
            reading(ColumnType::Date, |column| column.formats = vec!["%m/%d/%Y".into(), "default".into()]);
        reads(&date, &[("02/29/2024", Some(Value::Date(19_782))), ("2024-02-29", Some(Value::Date(19_782)))]);
    }

    #[test]
    fn a_format_that_is_none_is_refused() {
        for format in ["%Q%!", "rfc3339"] {
            let column = Column { formats: vec![format.into()], ..Column::new("x", ColumnType::Date) };
            assert_eq!(Reading::new(&column, Numbers::default()).unwrap_err().0, "formats");
        }
    }

    #[test]
    fn typed_values_are_never_altered() {
        let float = reading(ColumnType::Float64, |_| {});
        assert_eq!(float.value(Value::Int(3)), Some(Value::Float(3.0)));
        assert_eq!(float.value(Value::Int((1 << 53) + 1)), None);
        assert_eq!(float.value(Value::Float(f64::NAN)), None);
        assert_eq!(reading(ColumnType::Int64, |_| {}).value(Value::Float(2.0)), None);
        assert_eq!(reading(ColumnType::String, |_| {}).value(Value::Int(2)), None);
        let date = reading(ColumnType::Date, |_| {});
        assert_eq!(date.value(Value::Timestamp(86_400_000_000)), Some(Value::Date(1)));
        assert_eq!(date.value(Value::Timestamp(1)), None);
    }

    #[test]
    fn values_are_shown_as_they_are_read() {
        for (kind, text) in [
            (ColumnType::Int64, "-5"),
            (ColumnType::Float64, "1.5"),
            (ColumnType::Bool, "true"),
            (ColumnType::Timestamp, "9999-12-31T23:59:59.25Z"),
            (ColumnType::Date, "1969-02-28"),
        ] {
            assert_eq!(display(reading(kind, |_| {}).text(text).unwrap()), text);
        }
    }
}
