//! Whole numbers in canonical JSON, whose numbers are doubles: beyond 2^53 they are texts.

use serde::{Deserializer, Serializer, de::Error, de::Visitor};
use std::fmt;

/// Largest number up to which doubles hold every whole number.
const EXACT_MAX: u64 = 1 << 53;

/// Writes `number`, as a text if a double could not hold it.
///
/// # Errors
/// As the serializer says.
pub fn serialize<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.unsigned_abs() <= EXACT_MAX {
        serializer.serialize_i64(*number)
    } else {
        serializer.serialize_str(&number.to_string())
    }
}

/// Reads a number or a text. Manifests of earlier releases hold large numbers as doubles.
///
/// # Errors
/// When it is no whole number of 64 bits.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Exact;
    impl Visitor<'_> for Exact {
        type Value = i64;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a whole number")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(E::custom)
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<i64, E> {
            if number == number.trunc() {
                Ok(number as i64)
            } else {
                Err(E::custom(format!("{number} is not a whole number")))
            }
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Exact)
}

#[cfg(test)]
mod tests {
    use crate::{Digest, task::Provenance};

    fn provenance(seed: i64) -> Provenance {
        Provenance { seed, ..Provenance::default() }
    }

    #[test]
    fn seeds_are_exact_in_canonical_json() {
        for seed in [0, -1, 42, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN] {
            let json = serde_json_canonicalizer::to_string(&provenance(seed)).unwrap();
            assert_eq!(serde_json::from_str::<Provenance>(&json).unwrap(), provenance(seed), "{json}");
        }
        let digest = |seed| Digest::of_json(&provenance(seed)).unwrap();
        assert_ne!(digest(1 << 53), digest((1 << 53) + 1));
        let json = serde_json::to_value(provenance(42)).unwrap();
        assert_eq!(json["seed"], 42, "digests of ordinary seeds stay");
    }

    #[test]
    fn doubles_of_earlier_manifests_are_read() {
        let read = serde_json::from_str::<Provenance>(r#"{"seed": -9.223372036854776e18}"#).unwrap();
        assert_eq!(read.seed, i64::MIN);
        for broken in [r#"{"seed": 0.5}"#, r#"{"seed": "x"}"#, r#"{"seed": 9223372036854775808}"#] {
            assert!(serde_json::from_str::<Provenance>(broken).is_err(), "{broken}");
        }
    }
}
