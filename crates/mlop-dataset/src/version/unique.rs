//! Whether a row's key was there before, across the whole source.
//!
//! Kept are 128 bits of each key's SHA-256, not the key: 16 bytes a row, up to 60 while the table of them grows. So
//! 10 million rows need about 0.6 GB at worst, which is what `resources.memory` must allow for.

use super::{column::Value, reader::Cells};
use mlop_api::{Reason, result::Failure};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};

/// Most keys.
const KEYS_MAX: usize = 200_000_000;

/// The keys that were seen.
pub struct Unique {
    /// Numbers of the columns that make a key.
    columns: Vec<usize>,
    seen: HashSet<u128, BuildHasherDefault<Same>>,
}

impl Unique {
    pub fn new(columns: Vec<usize>) -> Self {
        Self { columns, seen: HashSet::default() }
    }

    /// Whether the key of this row is new. Values are compared, not their spelling; missing values are equal.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] when there are too many keys.
    pub fn insert(&mut self, values: &[Option<Value>], cells: &Cells<'_>) -> Result<bool, Failure> {
        if self.seen.len() >= KEYS_MAX {
            let message = format!("unique: more than {KEYS_MAX} rows; remove unique or split the dataset");
            return Err(Failure::terminal(Reason::InvalidSpec, message));
        }
        let mut hash = Sha256::new();
        for &column in &self.columns {
            match values.get(column).copied().flatten() {
                None => hash.update([0]),
                Some(Value::Text) => {
                    let text = cells.get(column).unwrap_or_default();
                    hash.update([1]);
                    hash.update((text.len() as u64).to_le_bytes());
                    hash.update(text);
                }
                Some(value) => {
                    hash.update([2]);
                    hash.update(fixed(value));
                }
            }
        }
        let digest = hash.finalize();
        let key = digest.iter().take(16).fold(0_u128, |key, byte| key << 8 | u128::from(*byte));
        Ok(self.seen.insert(key))
    }
}

/// Eight bytes that are equal for equal values of one column.
pub fn fixed(value: Value) -> [u8; 8] {
    match value {
        Value::Text => [0; 8],
        Value::Int(value) | Value::Timestamp(value) => value.to_le_bytes(),
        // -0.0 equals 0.0.
        Value::Float(value) => (value + 0.0).to_le_bytes(),
        Value::Bool(value) => u64::from(value).to_le_bytes(),
        Value::Date(value) => i64::from(value).to_le_bytes(),
    }
}

/// Hashes what is a hash already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(8) {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
