//! The texts of values that a Dataset reads, where they leave no doubt: fewer than its worker takes, none that it refuses.

use jiff::{civil::Date, fmt::strtime};
use regex::Regex;
use std::sync::LazyLock;

/// Texts that often mean "no value".
pub(super) const NULL_TOKENS: [&str; 13] =
    ["NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "null", "None", "none", "\\N", "?", "-"];

/// Pairs of texts for true and false besides those that a Dataset reads by itself.
pub(super) const BOOLEANS: [(&str, &str); 9] = [
    ("t", "f"),
    ("T", "F"),
    ("yes", "no"),
    ("Yes", "No"),
    ("YES", "NO"),
    ("y", "n"),
    ("Y", "N"),
    ("on", "off"),
    ("ON", "OFF"),
];

/// Patterns of dates. With a time they are written as in [`TIMES`].
const DATES: [&str; 6] = ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y"];
const TIMES: [&str; 3] = ["", " %H:%M", " %H:%M:%S"];

/// The patterns that are tried, those of dates first.
pub(super) static PATTERNS: LazyLock<Vec<String>> = LazyLock::new(|| {
    TIMES.iter().flat_map(|time| DATES.iter().map(move |date| format!("{date}{time}"))).collect()
});

/// Whether the text is a value of another type than string, so that it cannot be the header of a column.
pub(super) fn is_typed(text: &str) -> bool {
    is_integer(text)
        || is_float(text)
        || is_date(text)
        || is_timestamp(text)
        || PATTERNS.iter().any(|pattern| has_pattern(text, pattern))
}

/// Digits without leading zeros, which numbers do not keep.
pub(super) fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// A finite number. One of many digits without a point is an identifier.
pub(super) fn is_float(text: &str) -> bool {
    static FLOAT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$").ok());
    let has_form = FLOAT.as_ref().is_some_and(|form| form.is_match(text));
    has_form && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// A number with a comma before its fraction.
pub(super) fn is_comma_float(text: &str) -> bool {
    !text.contains('.') && is_float(&text.replacen(',', ".", 1))
}

/// `2026-03-01`.
pub(super) fn is_date(text: &str) -> bool {
    text.len() == 10 && text.is_ascii() && text.parse::<Date>().is_ok_and(|date| date.year() > 0)
}

/// `2026-03-01T10:00:00Z` and its variants.
pub(super) fn is_timestamp(text: &str) -> bool {
    static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let clock = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)?";
        let zone = r"( ?(Z|z|UTC|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?))?";
        Regex::new(&format!("^[Tt ]{clock}{zone}$")).ok()
    });
    // A zone must not lead out of the years that a Dataset has.
    let is_between = |date: &str| is_date(date) && !date.starts_with("9999") && !date.starts_with("0001");
    text.split_at_checked(10)
        .is_some_and(|(date, time)| is_between(date) && TIME.as_ref().is_some_and(|form| form.is_match(time)))
}

/// Whether the text is a time of this pattern.
pub(super) fn has_pattern(text: &str, pattern: &str) -> bool {
    let Ok(parsed) = strtime::parse(pattern, text) else { return false };
    // Second 60 and years of two digits are read as others.
    let is_exact = !text.ends_with(":60") && parsed.year().is_some_and(|year| year >= 1_000);
    is_exact && if pattern.contains("%H") { parsed.to_datetime().is_ok() } else { parsed.to_date().is_ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_types_that_leave_no_doubt() {
        let rows: [(&str, &str); 36] = [
            ("0", "integer float"),
            ("-17", "integer float"),
            ("007", ""),
            ("+5", ""),
            ("9223372036854775807", "integer"),
            ("12345678901234567890", ""),
            ("1.5", "float"),
            ("-0.5e-3", "float"),
            ("1e999", ""),
            (".5", ""),
            ("5.", ""),
            ("inf", ""),
            ("NaN", ""),
            ("1,5", "comma"),
            ("1.234,5", ""),
            ("2026-03-01", "date"),
            ("2026-02-30", ""),
            ("0000-01-01", ""),
            ("2026-3-1", ""),
            ("2026-03-01T10:00:00Z", "timestamp"),
            ("2026-03-01 10:00", "timestamp"),
            ("2026-03-01 10:00:00.25 +02:00", "timestamp"),
            ("2026-03-01 10:00:00+0200", "timestamp"),
            ("2026-03-01T24:00:00", ""),
            ("2026-03-01T10:00:60", ""),
            ("2026-03-01T10:00:00+02:00[Europe/Berlin]", ""),
            ("9999-12-31 23:59:59", ""),
            ("01.03.2026", "%d.%m.%Y"),
            ("13/01/2026", "%d/%m/%Y"),
            ("01/13/2026", "%m/%d/%Y"),
            ("01/03/2026", "%d/%m/%Y %m/%d/%Y"),
            ("01.03.2026 10:30", "%d.%m.%Y %H:%M"),
            ("01.03.2026 10:30:60", ""),
            ("01.03.26", ""),
            ("JFK", ""),
            ("", ""),
        ];
        for (text, want) in rows {
            let checks = [
                ("integer", is_integer(text)),
                ("float", is_float(text)),
                ("comma", text.contains(',') && is_comma_float(text)),
                ("date", is_date(text)),
                ("timestamp", is_timestamp(text)),
            ];
            let named = checks.into_iter().filter(|(_, is)| *is).map(|(name, _)| name);
            let patterns = PATTERNS.iter().filter(|pattern| has_pattern(text, pattern)).map(String::as_str);
            let found: Vec<&str> = named.chain(patterns).collect();
            assert_eq!(found.join(" "), want, "{text}");
        }
    }
}
