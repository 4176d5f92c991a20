//! The share of the new version.

use std::sync::atomic::{AtomicU64, Ordering};

/// 2^64 divided by the golden ratio. Its multiples are spread evenly, and fall in step with no period of the clients.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Decides which requests the new version gets.
#[derive(Debug, Default)]
pub struct Share(AtomicU64);

impl Share {
    /// Whether the next request is for the new version, with `weight` in percent.
    pub fn is_canary(&self, weight: u8) -> bool {
        let place = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
        // The place on a scale from 0 to 99.
        (u128::from(place) * 100) >> 64 < u128::from(weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_exact_but_for_a_few_requests() {
        for weight in [0, 1, 5, 10, 33, 50, 90, 99, 100] {
            let share = Share::default();
            let mut canary = 0;
            for n in 1..=10_000_u32 {
                canary += u32::from(share.is_canary(weight));
                let wanted = f64::from(n) * f64::from(weight) / 100.0;
                assert!((f64::from(canary) - wanted).abs() <= 4.0, "{canary} of {n} at weight {weight}");
            }
        }
    }

    #[test]
    fn share_holds_for_every_client_of_a_period() {
        for period in 2..=20 {
            for client in 0..period {
                let share = Share::default();
                let hits =
                    (0..period * 1_000).filter(|n| share.is_canary(10) && n % period == client).count();
                assert!((90..=110).contains(&hits), "{hits} of 1000 for client {client} of {period}");
            }
        }
    }
}
