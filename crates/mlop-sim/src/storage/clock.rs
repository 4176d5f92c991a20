//! The server's clock: tokio's time, counted from a fixed date.

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use tokio::time::Instant;

/// The time at which every simulation starts: 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: i64 = 1_767_225_600;

/// Follows tokio's clock, so that a paused runtime controls it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let epoch = Timestamp::from_second(EPOCH_SECONDS).unwrap_or_default();
        let elapsed = SignedDuration::try_from(self.start.elapsed()).unwrap_or_default();
        epoch.checked_add(elapsed).unwrap_or(epoch)
    }

    /// The current time in whole seconds, the precision of timestamps in metadata.
    pub(crate) fn now_seconds(&self) -> Timestamp {
        let now = self.now();
        let to_second = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
        now.round(to_second).unwrap_or(now)
    }
}
