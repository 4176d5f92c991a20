//! How the values of a column are read from text, and from typed values of other types.

use super::{
    civil,
    decimal::{Digits, PRECISION_MAX},
    numbers::Numbers,
    time_format::{TimeFormat, midnight},
    value::{Value, display},
};
use mlop_api::dataset::{Column, ColumnType};

/// Greatest integer up to which a float holds every integer.
const EXACT_MAX: i64 = 1 << 53;

/// How the values of a column are read.
#[derive(Clone, Debug)]
pub struct Reading {
    kind: ColumnType,
    zero_fraction: bool,
    true_values: Vec<String>,
    false_values: Vec<String>,
    formats: Vec<TimeFormat>,
    numbers: Numbers,
    digits: Digits,
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
            digits: Digits::of(column),
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
            ColumnType::Decimal => self.digits.read(&self.numbers.plain(text)?).map(Value::Decimal),
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
            (ColumnType::Decimal, Value::Int(value)) => self.digits.integer(value).map(Value::Decimal),
            (ColumnType::Float64, Value::Float(number)) => number.is_finite().then_some(value),
            (ColumnType::Timestamp, Value::Date(days)) => civil::micros(days, 0).map(Value::Timestamp),
            (ColumnType::Date, Value::Timestamp(micros)) => midnight(micros).map(Value::Date),
            // A count since 1970, or a year, where formats says so.
            (ColumnType::Timestamp | ColumnType::Date, Value::Int(_) | Value::Float(_)) => {
                self.text(&display(value))
            }
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
            ColumnType::Decimal => "decimal numbers with no more digits than precision and scale",
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
        let has_form = |format: &str| TimeFormat::new(format).is_ok_and(|format| format.date(text).is_some());
        if text != text.trim() && self.text(text.trim()).is_some() {
            return Some("it has blanks around it: set source.format.csv.trim");
        }
        match self.kind {
            ColumnType::Int64 if Self { zero_fraction: true, ..self.clone() }.text(text).is_some() => {
                Some("set zeroFraction to read it as a whole number")
            }
            ColumnType::Decimal
                if Digits { precision: PRECISION_MAX, scale: PRECISION_MAX / 2 }.read(text).is_some() =>
            {
                Some("raise scale or precision")
            }
            ColumnType::Int64 if Digits { precision: PRECISION_MAX, scale: 0 }.read(text).is_some() => {
                Some("it is beyond 64 bits: use type decimal or string")
            }
            ColumnType::Int64 | ColumnType::Decimal if is_number(text) => Some("use type float64"),
            ColumnType::Int64 | ColumnType::Float64 | ColumnType::Decimal
                if is_number(&text.replace('.', "").replace(',', ".")) =>
            {
                Some("set source.format.csv.decimalSeparator and thousandsSeparator")
            }
            // `%z` reads no colon, and a pattern none of the other forms.
            ColumnType::Timestamp if TimeFormat::Default.timestamp(text).is_some() => {
                Some("add \"default\" to formats")
            }
            ColumnType::Date if TimeFormat::Default.date(text).is_some() => {
                Some("add \"default\" to formats")
            }
            ColumnType::Timestamp | ColumnType::Date if has_form("%Y") => Some("set formats to \"%Y\""),
            ColumnType::Timestamp | ColumnType::Date if text.len() == 8 && has_form("%Y%m%d") => {
                Some("set formats to \"%Y%m%d\"")
            }
            ColumnType::Timestamp | ColumnType::Date if is_number(text) => {
                Some("set formats to epochSeconds, epochMilliseconds, epochMicroseconds or epochNanoseconds")
            }
            ColumnType::Bool => Some("set trueValues and falseValues"),
            ColumnType::String => None,
            _ if !text.contains(|char: char| char.is_ascii_digit()) => {
                Some("add it to nullTokens if it means no value")
            }
            ColumnType::Timestamp | ColumnType::Date => {
                Some("add a strptime pattern that reads it to formats")
            }
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
    fn remedy_fits_the_text() {
        let no_value = Some("add it to nullTokens if it means no value");
        for (kind, text, wanted) in [
            (ColumnType::Int64, "NA", no_value),
            (ColumnType::Int64, "2.0", Some("set zeroFraction to read it as a whole number")),
            (ColumnType::Float64, "n/a", no_value),
            (ColumnType::Date, "Ancient", no_value),
            (ColumnType::Date, "5. Mai 2026", Some("add a strptime pattern that reads it to formats")),
            (ColumnType::Date, "1999", Some("set formats to \"%Y\"")),
            (ColumnType::Bool, "t", Some("set trueValues and falseValues")),
        ] {
            assert_eq!(reading(kind, |_| {}).remedy(text), wanted, "{text}");
        }
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
    fn zero_fraction_is_read_exactly() {
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
    fn separators_are_read_only_in_their_places() {
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
    fn unknown_format_is_refused() {
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
