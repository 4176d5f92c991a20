//! Whether a row's key was there before, across the whole source.
//!
//! Kept are 128 bits of each key's SHA-256, not the key: 16 bytes a row, 20 with the overhead of the allocator. So 10
//! million rows need 0.2 GB, which `resources.memory` must allow for.

use super::{reader::Cells, value::Value};
use mlop_api::{Reason, result::Failure};
use sha2::{Digest, Sha256};

/// Most keys.
const KEYS_MAX: usize = 200_000_000;
/// Bits of a key that choose its bucket. With the most keys a bucket has 3,000, which is as far as an insertion moves.
const BUCKET_BITS: u32 = 16;

/// The keys that were seen.
pub struct Unique {
    /// Numbers of the columns that make a key.
    columns: Vec<usize>,
    /// Sorted keys: unlike a hash table they need no free slots, and never a second copy of everything to grow.
    buckets: Vec<Vec<u128>>,
    keys: usize,
}

impl Unique {
    pub fn new(columns: Vec<usize>) -> Self {
        Self { columns, buckets: vec![Vec::new(); 1 << BUCKET_BITS], keys: 0 }
    }

    /// Whether the key of this row is new. Values are compared, not their spelling. As in SQL, a key with a missing
    /// value equals no other.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] when there are too many keys.
    pub fn insert(&mut self, values: &[Option<Value>], cells: &Cells<'_>) -> Result<bool, Failure> {
        if self.keys >= KEYS_MAX {
            let message = format!("unique: more than {KEYS_MAX} rows; remove unique or split the dataset");
            return Err(Failure::terminal(Reason::InvalidSpec, message));
        }
        if self.columns.iter().any(|column| values.get(*column).copied().flatten().is_none()) {
            return Ok(true);
        }
        let key = self.key(values, cells);
        let bucket = self.buckets.get_mut((key >> (u128::BITS - BUCKET_BITS)) as usize);
        let is_new = bucket.is_some_and(|bucket| insert_sorted(bucket, key));
        self.keys += usize::from(is_new);
        Ok(is_new)
    }

    fn key(&self, values: &[Option<Value>], cells: &Cells<'_>) -> u128 {
        let mut hash = Sha256::new();
        for &column in &self.columns {
            match values.get(column).copied().flatten() {
                None => {}
                Some(Value::Text) => {
                    let text = cells.text(column).unwrap_or_default();
                    hash.update([1]);
                    hash.update((text.len() as u64).to_le_bytes());
                    hash.update(text);
                }
                Some(Value::Decimal(value)) => {
                    hash.update([3]);
                    hash.update(value.units.to_le_bytes());
                }
                Some(value) => {
                    hash.update([2]);
                    hash.update(fixed(value));
                }
            }
        }
        hash.finalize().iter().take(16).fold(0, |key, byte| (key << 8) | u128::from(*byte))
    }
}

/// Whether `key` was not in `bucket` yet.
fn insert_sorted(bucket: &mut Vec<u128>, key: u128) -> bool {
    let Err(place) = bucket.binary_search(&key) else { return false };
    if bucket.len() == bucket.capacity() {
        // An eighth, where a vector by itself would double.
        bucket.reserve_exact(bucket.len() / 8 + 4);
    }
    bucket.insert(place, key);
    true
}

/// Eight bytes that are equal for equal values of one column. Only decimal numbers that differ may share them.
pub fn fixed(value: Value) -> [u8; 8] {
    match value {
        Value::Text => [0; 8],
        Value::Int(value) | Value::Timestamp(value) => value.to_le_bytes(),
        // -0.0 equals 0.0.
        Value::Float(value) => (value + 0.0).to_le_bytes(),
        Value::Decimal(value) => {
            ((value.units >> 64) ^ value.units).to_le_bytes().first_chunk().copied().unwrap_or_default()
        }
        Value::Bool(value) => u64::from(value).to_le_bytes(),
        Value::Date(value) => i64::from(value).to_le_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::reader::Cell;

    #[test]
    fn key_is_new_once() {
        let mut unique = Unique::new(vec![0]);
        let mut insert = |number| unique.insert(&[Some(Value::Int(number))], &Cells::new("", &[])).unwrap();
        assert!((0..200_000).all(&mut insert));
        assert!(!(0..200_000).any(&mut insert));
    }

    #[test]
    fn keys_of_several_columns_are_not_run_together() {
        let mut unique = Unique::new(vec![0, 1]);
        let texts = [Some(Value::Text), Some(Value::Text)];
        let cell = |range| Cell::Text { range, is_quoted: false };
        let mut insert = |text: &str, middle: usize| {
            let cells = [cell(0..middle), cell(middle..text.len())];
            unique.insert(&texts, &Cells::new(text, &cells)).unwrap()
        };
        assert!(insert("ab", 1));
        assert!(insert("ab", 2));
        assert!(insert("ab", 0));
        assert!(!insert("ab", 1));
    }

    #[test]
    fn key_with_a_missing_part_equals_no_other() {
        let mut unique = Unique::new(vec![0, 1]);
        let none = Cells::new("", &[]);
        for values in [[None, None], [Some(Value::Int(1)), None]] {
            assert!(unique.insert(&values, &none).unwrap());
            assert!(unique.insert(&values, &none).unwrap());
        }
    }

    #[test]
    fn zeros_of_both_signs_are_equal() {
        let mut unique = Unique::new(vec![0]);
        let none = Cells::new("", &[]);
        assert!(unique.insert(&[Some(Value::Float(0.0))], &none).unwrap());
        assert!(!unique.insert(&[Some(Value::Float(-0.0))], &none).unwrap());
    }
}
