//! How the times of a source are written.

use super::civil;
use jiff::{
    Timestamp,
    civil::{Date, ISOWeekDate, Weekday},
    fmt::strtime::{self, BrokenDownTime},
    tz::TimeZone,
};

/// Years below have a leading zero where they are written in full.
const YEAR_OF_FOUR_DIGITS: i16 = 1_000;

/// How the times or dates of a column are written.
#[derive(Clone, Debug)]
pub enum TimeFormat {
    Default,
    /// A count since 1970 in units of this number of microseconds.
    Epoch(i64),
    EpochNanoseconds,
    Pattern(String),
}

impl TimeFormat {
    /// The format that `text` names, or its strptime pattern.
    ///
    /// # Errors
    /// Why `text` is not a format.
    pub fn new(text: &str) -> Result<Self, String> {
        match text {
            "default" => Ok(Self::Default),
            "epochSeconds" => Ok(Self::Epoch(1_000_000)),
            "epochMilliseconds" => Ok(Self::Epoch(1_000)),
            "epochMicroseconds" => Ok(Self::Epoch(1)),
            "epochNanoseconds" => Ok(Self::EpochNanoseconds),
            pattern if pattern.contains('%') => {
                check(pattern).map_err(|what| format!("{pattern:?} {what}"))?;
                Ok(Self::Pattern(pattern.to_owned()))
            }
            other => Err(format!(
                "{other:?} is neither a strptime pattern (%d.%m.%Y) nor default, epochSeconds, epochMilliseconds, epochMicroseconds, epochNanoseconds"
            )),
        }
    }

    /// Microseconds since 1970.
    pub fn timestamp(&self, text: &str) -> Option<i64> {
        match self {
            Self::Default => civil::timestamp(text),
            Self::Epoch(unit) => civil::epoch(text, *unit),
            Self::EpochNanoseconds => civil::in_range(text.parse::<i64>().ok()?.div_euclid(1_000)),
            Self::Pattern(pattern) => {
                let parsed = strtime::parse(pattern, text).ok()?;
                if parsed.timestamp().is_some() {
                    return civil::in_range(parsed.to_timestamp().ok()?.as_microsecond());
                }
                if is_year_short(&parsed, text) || is_leap_second(pattern, &parsed, text) {
                    return None;
                }
                let offset = parsed.offset().map_or(0, |offset| i64::from(offset.seconds()));
                let (date, time) = (date_of(&parsed)?, parsed.to_time().ok()?);
                let days = civil::days(date.year().into(), date.month().into(), date.day().into())?;
                let seconds =
                    (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
                let micros = seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1_000;
                civil::micros(days, micros - offset * 1_000_000)
            }
        }
    }

    /// Days since 1970.
    pub fn date(&self, text: &str) -> Option<i32> {
        match self {
            Self::Default => civil::date(text),
            _ => midnight(self.timestamp(text)?),
        }
    }
}

/// Whether times can be read by `pattern`: one that is written by it must be read as the same.
///
/// # Errors
/// The defect as a predicate.
fn check(pattern: &str) -> Result<(), String> {
    let not_a_pattern = |error: jiff::Error| format!("is not a strptime pattern: {error}");
    // A Monday that is the first of January, so that it is read back also by year or week alone.
    let afternoon = Timestamp::constant(978_361_445, 0).to_zoned(TimeZone::UTC);
    let written = strtime::format(pattern, &afternoon).map_err(not_a_pattern)?;
    let read = strtime::parse(pattern, &written).map_err(not_a_pattern)?;
    if read.timestamp().is_some() {
        return Ok(());
    }
    if read.iana_time_zone().is_some() && read.offset().is_none() {
        return Err("has the name of a time zone (%Q), which is not read: use an offset (%z)".to_owned());
    }
    if date_of(&read) != Some(afternoon.date()) {
        return Err("gives no date: it needs a year (%Y), and a month where it has a day".to_owned());
    }
    match read.to_time() {
        Ok(time) if read.hour().is_none() || time.hour() == afternoon.hour() => Ok(()),
        Ok(_) => Err("does not tell morning from afternoon: add %p".to_owned()),
        Err(error) => Err(format!("gives no time: {error}")),
    }
}

/// The date that was read. A month or a day that the pattern does not have is the first, of a week its Monday.
fn date_of(parsed: &BrokenDownTime) -> Option<Date> {
    let has_week = parsed.sunday_based_week().is_some() || parsed.monday_based_week().is_some();
    let has_day = parsed.day().is_some() || parsed.day_of_year().is_some() || parsed.weekday().is_some();
    match (parsed.year(), parsed.iso_week_year(), parsed.iso_week()) {
        (Some(year), _, None) if !has_week && !has_day => {
            Date::new(year, parsed.month().unwrap_or(1), 1).ok()
        }
        (None, Some(year), Some(week)) if parsed.weekday().is_none() => {
            ISOWeekDate::new(year, week, Weekday::Monday).ok().map(|week| week.date())
        }
        _ => parsed.to_date().ok(),
    }
}

/// Whether `text` has a year of fewer digits than `%Y` stands for: 26 is not the year 26.
fn is_year_short(parsed: &BrokenDownTime, text: &str) -> bool {
    let year = parsed.year().or(parsed.iso_week_year());
    year.is_some_and(|year| year < YEAR_OF_FOUR_DIGITS && !text.contains(&format!("{year:04}")))
}

/// Whether `text` has the second 60, which is read like 59.
fn is_leap_second(pattern: &str, parsed: &BrokenDownTime, text: &str) -> bool {
    let parts = |parsed: &BrokenDownTime| (date_of(parsed), parsed.to_time().ok(), parsed.offset());
    let is_alike = |(at, _): (usize, &str)| {
        let (before, after) = text.split_at(at);
        let other = format!("{before}59{}", after.trim_start_matches("60"));
        strtime::parse(pattern, other).is_ok_and(|other| parts(&other) == parts(parsed))
    };
    parsed.second() == Some(59) && text.match_indices("60").any(is_alike)
}

/// The day whose midnight is `micros`, if one has.
pub fn midnight(micros: i64) -> Option<i32> {
    const DAY_MICROS: i64 = 86_400_000_000;
    (micros % DAY_MICROS == 0).then(|| i32::try_from(micros / DAY_MICROS).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, rows: &[(&str, Option<&str>)]) {
        let read = TimeFormat::new(format).unwrap();
        for (text, expected) in rows {
            let expected = expected.map(|text| civil::timestamp(text).unwrap());
            assert_eq!(read.timestamp(text), expected, "{format} {text}");
        }
    }

    #[test]
    fn missing_month_and_day_are_the_first() {
        check(
            "%Y",
            &[("2026", Some("2026-01-01")), ("0026", Some("0026-01-01")), ("2026-01", None), ("x", None)],
        );
        check("%Y-%m", &[("2026-03", Some("2026-03-01")), ("2026-13", None)]);
        check("%b %Y", &[("Mar 2026", Some("2026-03-01")), ("mar 2026", Some("2026-03-01"))]);
        check("%G-W%V", &[("2026-W09", Some("2026-02-23")), ("2025-W53", None)]);
        check("%Y %H:%M", &[("2026 10:30", Some("2026-01-01T10:30"))]);
    }

    #[test]
    fn dates_are_read_by_day_of_year_and_of_week() {
        check(
            "%Y-%j",
            &[("2026-060", Some("2026-03-01")), ("2026-366", None), ("2024-366", Some("2024-12-31"))],
        );
        check("%G-W%V-%u", &[("2026-W09-7", Some("2026-03-01")), ("2025-W53-1", None)]);
        check("%a %d %b %Y", &[("Sun 01 Mar 2026", Some("2026-03-01")), ("Mon 01 Mar 2026", None)]);
    }

    #[test]
    fn year_of_two_digits_needs_its_pattern() {
        check(
            "%d.%m.%Y",
            &[("01.03.2026", Some("2026-03-01")), ("1.3.2026", Some("2026-03-01")), ("01.03.26", None)],
        );
        check(
            "%d.%m.%y",
            &[("01.03.26", Some("2026-03-01")), ("01.03.69", Some("1969-03-01")), ("01.03.2026", None)],
        );
        check("%Y", &[("26", None), ("926", None), ("-2026", None), ("02026", None)]);
    }

    #[test]
    fn halves_of_the_day_are_told_apart() {
        let rows = [
            ("03/01/2026 02:30 PM", Some("2026-03-01T14:30")),
            ("03/01/2026 12:30 am", Some("2026-03-01T00:30")),
            ("03/01/2026 13:30 PM", None),
            ("03/01/2026 00:30 AM", None),
        ];
        check("%m/%d/%Y %I:%M %p", &rows);
    }

    #[test]
    fn second_sixty_is_not_read_as_another() {
        let rows = [
            ("2016-12-31 23:59:59", Some("2016-12-31T23:59:59")),
            ("2016-12-31 23:59:60", None),
            ("1960-12-31 23:59:59", Some("1960-12-31T23:59:59")),
            ("1960-12-31 23:59:60", None),
        ];
        check("%Y-%m-%d %H:%M:%S", &rows);
        let fraction =
            [("23:59:59.60 2016-12-31", Some("2016-12-31T23:59:59.6")), ("23:59:60.5 2016-12-31", None)];
        check("%H:%M:%S%.f %Y-%m-%d", &fraction);
    }

    #[test]
    fn counts_have_units_down_to_nanoseconds() {
        let rows = [
            ("1772359200123456789", Some("2026-03-01T10:00:00.123456")),
            ("-1", Some("1969-12-31T23:59:59.999999")),
            ("1772359200123456789.5", None),
            ("9223372036854775808", None),
        ];
        check("epochNanoseconds", &rows);
    }

    #[test]
    fn pattern_that_reads_no_times_is_refused() {
        let rows = [
            ("%H:%M", "gives no date"),
            ("%m/%d", "gives no date"),
            ("%Y %d", "gives no date"),
            ("%a %Y", "gives no date"),
            ("%Y-%m-%d %Z", "not a strptime pattern"),
            ("%Y-%m-%d %!", "not a strptime pattern"),
            ("%Y-%m-%d %H:%M %Q", "use an offset (%z)"),
            ("%Y-%m-%d %I:%M", "add %p"),
            ("%Y-%m-%d %M", "gives no time"),
            ("epochDays", "neither a strptime pattern"),
        ];
        for (format, what) in rows {
            let refused = TimeFormat::new(format).unwrap_err();
            assert!(refused.contains(what), "{refused}");
        }
    }
}
