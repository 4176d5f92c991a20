//! How the times of a source are written.

use super::civil;
use jiff::{Timestamp, fmt::strtime, tz::TimeZone};

/// How the times or dates of a column are written.
#[derive(Clone, Debug)]
pub enum TimeFormat {
    Default,
    /// A count since 1970 in units of this number of microseconds.
    Epoch(i64),
    Pattern(String),
}

impl TimeFormat {
    /// The format that `text` names, or its strptime pattern.
    ///
    /// # Errors
    /// Why `text` is not a format.
    pub fn new(text: &str) -> Result<Self, String> {
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
    pub fn timestamp(&self, text: &str) -> Option<i64> {
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
    pub fn date(&self, text: &str) -> Option<i32> {
        match self {
            Self::Default => civil::date(text),
            _ => midnight(self.timestamp(text)?),
        }
    }
}

/// The day whose midnight is `micros`, if one has.
pub fn midnight(micros: i64) -> Option<i32> {
    const DAY_MICROS: i64 = 86_400_000_000;
    (micros % DAY_MICROS == 0).then(|| i32::try_from(micros / DAY_MICROS).ok()).flatten()
}
