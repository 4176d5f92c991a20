//! Sums of doubles without rounding.

use serde::{Deserialize, Serialize};

/// Bits of a limb that hold digits; the rest takes carries.
const LIMB_BITS: usize = 32;
const LIMB_MASK: i64 = (1 << LIMB_BITS) - 1;
/// Additions after which carries must be moved on: a limb has 31 bits for them.
const PENDING_MAX: u32 = 1 << 29;
/// Exponent of the least bit of a double, the unit of the sum.
const FRACTION_BITS: u32 = 52;

/// The exact sum of doubles. The order of the terms does not matter, and a term can be taken out again.
///
/// The sum is a whole number of units of 2^-1074, in limbs of 32 bits, of which only those in use are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactSum {
    /// Place of the first limb.
    first: usize,
    limbs: Vec<i64>,
    /// Additions since carries were moved on.
    pending: u32,
    /// Terms that are no numbers: NaN, infinity, minus infinity.
    special: [i64; 3],
}

impl ExactSum {
    pub fn add(&mut self, term: f64) {
        self.change(term, 1);
    }

    /// Takes out a term that was added.
    pub fn subtract(&mut self, term: f64) {
        self.change(term, -1);
    }

    fn change(&mut self, term: f64, sign: i64) {
        if !term.is_finite() {
            let [nan, infinite, negative] = &mut self.special;
            *(if term.is_nan() {
                nan
            } else if term > 0.0 {
                infinite
            } else {
                negative
            }) += sign;
            return;
        }
        let bits = term.to_bits();
        let exponent = (bits >> FRACTION_BITS & 0x7ff) as usize;
        let fraction = bits & ((1 << FRACTION_BITS) - 1);
        let fraction = if exponent == 0 { fraction } else { fraction | 1 << FRACTION_BITS };
        if fraction == 0 {
            return;
        }
        let place = exponent.max(1) - 1;
        let digits = u128::from(fraction) << (place % LIMB_BITS);
        let sign = if term.is_sign_negative() { -sign } else { sign };
        self.make_room(place / LIMB_BITS, 3);
        let start = place / LIMB_BITS - self.first;
        for (index, limb) in self.limbs.iter_mut().skip(start).take(3).enumerate() {
            *limb += sign * ((digits >> (index * LIMB_BITS)) as i64 & LIMB_MASK);
        }
        self.pending += 1;
        if self.pending >= PENDING_MAX {
            self.carry();
        }
    }

    /// Adds the terms of `other`.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        other.carry();
        self.carry();
        for (count, more) in self.special.iter_mut().zip(other.special) {
            *count += more;
        }
        self.make_room(other.first, other.limbs.len());
        let start = other.first - self.first;
        for (limb, more) in self.limbs.iter_mut().skip(start).zip(other.limbs) {
            *limb += more;
        }
        self.carry();
    }

    /// Makes room for `count` limbs from `place` on.
    fn make_room(&mut self, place: usize, count: usize) {
        if self.limbs.is_empty() {
            self.first = place;
        }
        if place < self.first {
            self.limbs.splice(0..0, std::iter::repeat_n(0, self.first - place));
            self.first = place;
        }
        let needed = place + count - self.first;
        if self.limbs.len() < needed {
            self.limbs.resize(needed, 0);
        }
    }

    /// Moves carries on: each limb but the last is then a digit, and the last has the sign.
    fn carry(&mut self) {
        self.pending = 0;
        let mut carry = 0;
        for limb in &mut self.limbs {
            let whole = *limb + carry;
            carry = whole >> LIMB_BITS;
            *limb = whole & LIMB_MASK;
        }
        if carry == -1
            && let Some(last) = self.limbs.last_mut()
        {
            // The sign stays in the last limb, so that the number does not grow.
            *last -= 1 << LIMB_BITS;
        } else if carry != 0 {
            self.limbs.push(carry);
        }
    }

    /// The double that is nearest to the sum; of two equally near ones the even one.
    pub fn value(&self) -> f64 {
        match self.special {
            [0, 0, 0] => self.finite(),
            [0, _, 0] => f64::INFINITY,
            [0, 0, _] => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    fn finite(&self) -> f64 {
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.limbs.last().is_some_and(|last| *last < 0);
        if negative {
            sum.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            sum.carry();
        }
        while sum.limbs.pop_if(|last| *last == 0).is_some() {}
        let magnitude = sum.round();
        if negative { -magnitude } else { magnitude }
    }

    /// The double nearest to the limbs, which are digits without leading zeros.
    fn round(&self) -> f64 {
        let kept = self.limbs.len().min(3);
        let (lower, upper) = self.limbs.split_at(self.limbs.len() - kept);
        let digits = upper.iter().rev().fold(0u128, |digits, limb| digits << LIMB_BITS | *limb as u128);
        if digits == 0 {
            return 0.0;
        }
        let place = (self.first + lower.len()) * LIMB_BITS;
        let length = (u128::BITS - digits.leading_zeros()) as usize;
        let cut = length.saturating_sub(FRACTION_BITS as usize + 1);
        let (mut fraction, rest) = ((digits >> cut) as u64, digits & ((1 << cut) - 1));
        if cut > 0 {
            let half = 1u128 << (cut - 1);
            let beyond = rest > half || rest == half && lower.iter().any(|limb| *limb != 0);
            if beyond || rest == half && fraction % 2 == 1 {
                fraction += 1;
            }
        }
        scaled(fraction, place + cut)
    }
}

/// `fraction`, at most 2^53, times 2^`place` units.
fn scaled(fraction: u64, place: usize) -> f64 {
    let mut value = fraction as f64;
    // By steps that are exact: the unit itself is the least double.
    let mut exponent = place as i64 - 1074;
    while exponent > 0 && value.is_finite() {
        let step = exponent.min(1000);
        value *= 2f64.powi(step as i32);
        exponent -= step;
    }
    while exponent < 0 {
        let step = exponent.max(-1000);
        value *= 2f64.powi(step as i32);
        exponent -= step;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(terms: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        terms.iter().for_each(|term| sum.add(*term));
        sum.value()
    }

    #[test]
    fn sums_are_rounded_once() {
        let tiny = f64::from_bits(1);
        for (terms, expected) in [
            (&[] as &[f64], 0.0),
            (&[0.1, 0.2, 0.3], 0.6),
            (&[1e16, 1.0, -1e16], 1.0),
            (&[1e308, 1e308, -1e308], 1e308),
            (&[f64::MAX, f64::MAX], f64::INFINITY),
            (&[-f64::MAX, -f64::MAX], f64::NEG_INFINITY),
            (&[tiny, tiny], f64::from_bits(2)),
            (&[-tiny], -tiny),
            (&[f64::MIN_POSITIVE, -tiny], f64::from_bits(f64::MIN_POSITIVE.to_bits() - 1)),
            (&[1e300, tiny, -1e300], tiny),
            (&[9_007_199_254_740_992.0, 1.0], 9_007_199_254_740_992.0),
            (&[9_007_199_254_740_992.0, 1.0, tiny], 9_007_199_254_740_994.0),
            (&[-3.5, 1.25], -2.25),
        ] {
            assert_eq!(sum(terms).to_bits(), expected.to_bits(), "{terms:?}: {}", sum(terms));
        }
    }

    #[test]
    fn order_of_terms_does_not_matter() {
        let terms: Vec<_> =
            (1..500).map(|n| f64::from(n * 7919 % 1009) / 3.0 * 10f64.powi(n % 40 - 20)).collect();
        let back: Vec<_> = terms.iter().rev().copied().collect();
        assert_eq!(sum(&terms).to_bits(), sum(&back).to_bits());
    }

    #[test]
    fn terms_leave_without_a_trace() {
        for term in [1e300, -1e17, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::from_bits(1)] {
            let mut sum = ExactSum::default();
            sum.add(0.1);
            sum.add(term);
            sum.add(0.2);
            sum.subtract(term);
            assert_eq!(sum.value(), 0.1 + 0.2, "{term}");
        }
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let (mut one, mut two) = (ExactSum::default(), ExactSum::default());
        [1e300, -0.1, 3.0].iter().for_each(|term| one.add(*term));
        [-1e300, 0.25, f64::from_bits(7)].iter().for_each(|term| two.add(*term));
        one.merge(&two);
        assert_eq!(one.value(), sum(&[-0.1, 3.0, 0.25]));
        one.merge(&ExactSum::default());
        two.add(f64::INFINITY);
        two.add(f64::NEG_INFINITY);
        one.merge(&two);
        assert!(one.value().is_nan());
    }
}
