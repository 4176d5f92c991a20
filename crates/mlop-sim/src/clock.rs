//! The server's time: tokio's, counted from a fixed day.

use jiff::{SignedDuration, Timestamp, Unit};
use tokio::time::Instant;

/// What the clock shows when the simulator starts: 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: i64 = 1_767_225_600;

/// Follows tokio's time, so a paused runtime decides what time it is.
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

    /// Now, in the whole seconds that object metadata has.
    pub(crate) fn now_seconds(&self) -> Timestamp {
        let now = self.now();
        now.round(jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc))
            .unwrap_or(now)
    }
}
