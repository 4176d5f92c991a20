//! Content identity: SHA-256 over bytes, or over the canonical form (RFC 8785, JCS) of a JSON document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{borrow::Cow, fmt};

/// A content digest, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is not a digest.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a digest: want \"sha256:\" and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::from_hash(&Sha256::digest(bytes))
    }

    /// The digest whose raw SHA-256 value is `hash`, for callers that hash a stream.
    pub fn from_hash(hash: &[u8]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)))
    }

    /// The digest of the canonical JSON form of `value`, which every JSON value has.
    pub fn of(value: &serde_json::Value) -> Self {
        let canonical = serde_json_canonicalizer::to_vec(value);
        Self::of_bytes(&canonical.unwrap_or_else(|_| value.to_string().into_bytes()))
    }

    /// The digest of the canonical JSON form of `value`: independent of field order and white space.
    ///
    /// # Errors
    /// When `value` has no JSON form (a map key that is not a string, a number that is not finite).
    pub fn of_json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::of_bytes(&serde_json_canonicalizer::to_vec(value)?))
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }

    /// The first `n` hexadecimal digits, for names.
    pub fn short(&self, n: usize) -> &str {
        self.hex().get(..n).unwrap_or(self.hex())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        let valid = text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if valid { Ok(Self(text)) } else { Err(InvalidDigest(text)) }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> Cow<'static, str> {
        "Digest".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$", "maxLength": 71})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_ignores_field_order() {
        let a = Digest::of_json(&serde_json::json!({"b": 1, "a": [1.0, "x"]})).unwrap();
        let b = Digest::of_json(&serde_json::json!({"a": [1, "x"], "b": 1})).unwrap();
        assert_eq!(a, b);
        assert_eq!(a, Digest::of_bytes(br#"{"a":[1,"x"],"b":1}"#));
    }

    #[test]
    fn digest_is_read_only_from_well_formed_text() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(Digest::try_from(good.clone()).unwrap().as_str(), good);
        for bad in ["", "sha256:", "md5:00", &good.to_uppercase(), &good[..70], &format!("{good}0")] {
            assert!(Digest::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
