//! Times and dates of the years 1 to 9999 as numbers, and as texts.
//!
//! Unlike an instant of `jiff`, which ends before 9999-12-31, these hold every time that databases write.

use std::fmt::Write;

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;

/// Days since 1970-01-01 of a date of the years 1 to 9999.
pub fn days(year: i64, month: i64, day: i64) -> Option<i32> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => 31,
    };
    if !(1..=9_999).contains(&year) || !(1..=12).contains(&month) || !(1..=length).contains(&day) {
        return None;
    }
    // Years that begin with March: leap days are last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    i32::try_from(days - 719_468).ok()
}

/// Year, month and day of `days` since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

/// Microseconds since 1970 of `micros` of the day `days`; none outside the years 1 to 9999.
pub fn micros(days: i32, micros: i64) -> Option<i64> {
    in_range(i64::from(days) * DAY_MICROS + micros)
}

/// `micros` since 1970 if they are in the years 1 to 9999.
pub fn in_range(micros: i64) -> Option<i64> {
    let day = micros.div_euclid(DAY_MICROS);
    (i64::from(FIRST_DAY)..=i64::from(LAST_DAY)).contains(&day).then_some(micros)
}

/// `2026-03-01`.
pub fn display_date(days: i32) -> String {
    let (year, month, day) = date_of(i64::from(days));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-03-01T10:00:00.25Z`.
pub fn display_timestamp(micros: i64) -> String {
    let (year, month, day) = date_of(micros.div_euclid(DAY_MICROS));
    let of_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        // Writing into a String cannot fail.
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
    text + "Z"
}

/// A text that is read from its beginning.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    /// A number of exactly `digits` digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        let number = head.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })?;
        self.0 = rest;
        Some(number)
    }

    /// The next byte if it is one of `bytes`.
    fn take(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn date(&mut self) -> Option<i32> {
        let year = self.number(4)?;
        self.take(b"-")?;
        let month = self.number(2)?;
        self.take(b"-")?;
        days(year, month, self.number(2)?)
    }

    /// Microseconds of the day of `hh:mm[:ss[.fraction]]`, digits beyond the sixth cut off.
    fn time(&mut self) -> Option<i64> {
        let hour = self.number(2).filter(|hour| *hour < 24)?;
        self.take(b":")?;
        let minute = self.number(2).filter(|minute| *minute < 60)?;
        let (mut second, mut fraction) = (0, 0);
        if self.take(b":").is_some() {
            second = self.number(2).filter(|second| *second < 60)?;
            if self.take(b".,").is_some() {
                fraction = self.fraction()?;
            }
        }
        Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction)
    }

    /// Microseconds of the digits of a fraction.
    fn fraction(&mut self) -> Option<i64> {
        let (mut micros, mut scale) = (self.number(1)? * 100_000, 10_000);
        while let Some(digit) = self.number(1) {
            micros += digit * scale;
            scale /= 10;
        }
        Some(micros)
    }

    /// Seconds east of UTC of `Z`, `UTC`, `±hh`, `±hhmm` or `±hh:mm`; UTC where nothing is left.
    fn offset(&mut self) -> Option<i64> {
        self.take(b" ");
        if self.0.is_empty() || matches!(self.0, b"Z" | b"z" | b"UTC") {
            self.0 = &[];
            return Some(0);
        }
        let sign = if self.take(b"+-")? == b'-' { -1 } else { 1 };
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        let has_minutes = self.take(b":").is_some() || !self.0.is_empty();
        let minutes = if has_minutes { self.number(2).filter(|minutes| *minutes < 60)? } else { 0 };
        self.0.is_empty().then_some(sign * (hours * 60 + minutes) * 60)
    }
}

/// Microseconds since 1970 of an ISO 8601 date, with a time and a zone or without; UTC without a zone.
pub fn timestamp(text: &str) -> Option<i64> {
    let mut scanner = Scanner(text.as_bytes());
    let date = scanner.date()?;
    if scanner.0.is_empty() {
        return micros(date, 0);
    }
    scanner.take(b"Tt ")?;
    let time = scanner.time()?;
    if scanner.0 == b" " {
        return None;
    }
    let offset = scanner.offset()?;
    micros(date, time - offset * 1_000_000)
}

/// Days since 1970 of `YYYY-MM-DD`, or of its midnight without a zone or in UTC.
pub fn date(text: &str) -> Option<i32> {
    let mut scanner = Scanner(text.as_bytes());
    let date = scanner.date()?;
    if scanner.0.is_empty() {
        return Some(date);
    }
    let micros = timestamp(text)?;
    (micros == i64::from(date) * DAY_MICROS).then_some(date)
}

/// Microseconds since 1970 of a decimal number of units of `unit` microseconds, cut towards the past.
pub fn epoch(text: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_negative = whole.starts_with('-');
    let whole: i64 = whole.parse().ok()?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (mut micros, mut scale, mut is_cut) = (0, unit, false);
    for digit in fraction.bytes().map(|byte| i64::from(byte - b'0')) {
        is_cut |= if scale == 0 { digit != 0 } else { digit * scale % 10 != 0 };
        micros += digit * scale / 10;
        scale /= 10;
    }
    let whole = whole.checked_mul(unit)?;
    in_range(if is_negative { whole - micros - i64::from(is_cut) } else { whole + micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_agree_with_jiff_over_all_years() {
        let epoch = jiff::civil::date(1970, 1, 1);
        for day in (FIRST_DAY..=LAST_DAY).step_by(97).chain([FIRST_DAY, LAST_DAY, -1, 0, 1]) {
            let date = epoch.checked_add(jiff::Span::new().days(day)).unwrap();
            assert_eq!(display_date(day), date.to_string());
            let (year, month, of_month) = (date.year(), date.month(), date.day());
            assert_eq!(days(year.into(), month.into(), of_month.into()), Some(day));
        }
        assert_eq!((days(0, 12, 31), days(10_000, 1, 1), days(2_023, 2, 29)), (None, None, None));
    }

    #[test]
    fn timestamps_are_read_and_shown() {
        let cases = [
            ("2026-03-01T10:00:00", "2026-03-01T10:00:00Z"),
            ("2026-03-01 10:00", "2026-03-01T10:00:00Z"),
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("2026-03-01 10:00:00 UTC", "2026-03-01T10:00:00Z"),
            ("2026-03-01 15:30:00+05:30", "2026-03-01T10:00:00Z"),
            ("2026-03-01T10:00:00.000+0000", "2026-03-01T10:00:00Z"),
            ("2026-03-01t10:00:00.25z", "2026-03-01T10:00:00.25Z"),
            ("2026-03-01 10:00:00-02", "2026-03-01T12:00:00Z"),
            ("9999-12-31 23:59:59", "9999-12-31T23:59:59Z"),
            ("0001-01-01", "0001-01-01T00:00:00Z"),
            ("1969-12-31 23:59:59.9999995", "1969-12-31T23:59:59.999999Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(timestamp(text).map(display_timestamp).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_timestamps() {
        for text in [
            "",
            "2026-02-30",
            "2026-03-01T24:00:00",
            "2026-03-01T23:59:60Z",
            "01/03/2026",
            "1772359200",
            "2026-3-1",
            "2026-03-01T",
            "2026-03-01 ",
            "2026-03-01T10",
            "2026-03-01T10:00:00 ",
            "2026-03-01T10:00:00+02:00[Europe/Berlin]",
            "2026-03-01 10:00:00 +0000 UTC",
            "2026-03-01T10:00:00CET",
            "9999-12-31T23:59:59-01:00",
            "0000-12-31",
            "2026-03-01T10:00:00.",
            "2026-03-01Z",
            "+2026-03-01",
            "2026-03-01T10:00:00+1:00",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn epochs_are_cut_towards_the_past() {
        for (text, unit, expected) in [
            ("1772359200", 1_000_000, Some(1_772_359_200_000_000)),
            ("1772359200.5", 1_000_000, Some(1_772_359_200_500_000)),
            ("-0.5", 1_000_000, Some(-500_000)),
            ("-1.0000005", 1_000_000, Some(-1_000_001)),
            ("1.0000005", 1_000_000, Some(1_000_000)),
            ("1772359200123", 1_000, Some(1_772_359_200_123_000)),
            ("7.9", 1, Some(7)),
            ("-7.9", 1, Some(-8)),
            ("9223372036854775807", 1_000_000, None),
            ("1e9", 1_000_000, None),
            ("", 1, None),
        ] {
            assert_eq!(epoch(text, unit), expected, "{text}");
        }
    }

    #[test]
    fn date_is_its_midnight_too() {
        for text in ["2024-02-29", "2024-02-29 00:00:00", "2024-02-29T00:00:00.000Z"] {
            assert_eq!(date(text), Some(19_782), "{text}");
        }
        for text in ["2024-02-29T01:00", "20240229", "2024-2-29", "2023-02-29"] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
