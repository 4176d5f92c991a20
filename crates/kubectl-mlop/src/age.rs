//! Times as people read them.

use jiff::{SignedDuration, Timestamp};

/// A duration in its largest units, as kubectl shows it: `45s`, `9m`, `3h20m`, `12d`.
pub fn short(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (3.., _, _) => format!("{days}d"),
        (_, 1.., _) if minutes % 60 > 0 && hours < 8 => format!("{hours}h{}m", minutes % 60),
        (_, 1.., _) => format!("{hours}h"),
        (_, _, 3..) => format!("{minutes}m"),
        _ => format!("{seconds}s"),
    }
}

/// The time since `then`.
pub fn since(now: Timestamp, then: Timestamp) -> String {
    short(now.duration_since(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        let rows = [
            (-5, "0s"),
            (59, "59s"),
            (179, "179s"),
            (180, "3m"),
            (3_600, "1h"),
            (12_000, "3h20m"),
            (90_000, "25h"),
            (864_000, "10d"),
        ];
        for (seconds, want) in rows {
            assert_eq!(short(SignedDuration::from_secs(seconds)), want);
        }
    }
}
