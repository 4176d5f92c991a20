//! The mean of numbers, also where their sum is too great for a float.

/// A power of two, so that dividing by it is exact for all numbers that can overflow. As many numbers as a `u64` counts,
/// each divided by it, have a finite sum.
const SCALE: f64 = 18_446_744_073_709_551_616.0;

/// The mean of the finite numbers that were added, in the order in which they were: it is part of a manifest.
#[derive(Clone, Debug, Default)]
pub struct Mean {
    count: u64,
    sum: f64,
    scaled: f64,
}

impl Mean {
    /// Takes in `number`, unless it is infinite or not a number.
    pub fn add(&mut self, number: f64) {
        if number.is_finite() {
            self.count += 1;
            self.sum += number;
            self.scaled += number / SCALE;
        }
    }

    /// The mean; none without numbers.
    pub fn get(&self) -> Option<f64> {
        let count = self.count as f64;
        let mean = if self.sum.is_finite() { self.sum / count } else { self.scaled / count * SCALE };
        (self.count > 0).then_some(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_is_finite_for_all_finite_numbers() {
        let most = f64::MAX;
        let cases: [(&[f64], Option<f64>); 8] = [
            (&[], None),
            (&[f64::NAN, f64::INFINITY], None),
            (&[1.0, f64::NAN, 2.0], Some(1.5)),
            (&[0.1; 3], Some(0.30000000000000004 / 3.0)),
            (&[most; 3], Some(most)),
            (&[-most; 3], Some(-most)),
            (&[most, most, -most, -most], Some(0.0)),
            (&[most, most, 0.0, 0.0], Some(most / 2.0)),
        ];
        for (numbers, wanted) in cases {
            let mut mean = Mean::default();
            numbers.iter().for_each(|number| mean.add(*number));
            assert_eq!(mean.get(), wanted, "{numbers:?}");
        }
    }
}
