//! Texts as MLflow accepts them.

use mlop_api::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// Characters of a digest that tell mended keys apart.
const DIGEST_CHARS: usize = 8;
/// Longest key of a metric or parameter in characters.
const KEY_CHARS_MAX: usize = 250;
/// Longest value of a parameter in characters.
pub const PARAM_CHARS_MAX: usize = 6_000;
/// Longest value of a tag in characters; versions allow less than runs.
pub const TAG_CHARS_MAX: usize = 5_000;

/// `name` as the key of a metric or parameter: letters, digits, `_-.: ` and `/` between non-empty segments;
/// everything else becomes `_`.
pub fn key(name: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "_-.: /".contains(c);
    let key: String = name.chars().take(KEY_CHARS_MAX).map(|c| if allowed(c) { c } else { '_' }).collect();
    if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        key.replace(['/', '.'], "_")
    } else {
        key
    }
}

/// A key for each of `names`, no two of them equal. Names that MLflow accepts stay; a mended one that would be the key of
/// another too carries a part of the name's SHA-256, as long as it must be.
pub fn keys(names: &[&str]) -> Vec<String> {
    let mended: Vec<String> = names.iter().map(|name| key(name)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for key in &mended {
        *counts.entry(key).or_default() += 1;
    }
    let mut taken: BTreeSet<String> = mended.iter().cloned().collect();
    let unique = names.iter().zip(&mended).map(|(name, key)| {
        if name == key || counts.get(key.as_str()) == Some(&1) {
            return key.clone();
        }
        let digest = Digest::of_bytes(name.as_bytes());
        let with = |chars: usize| format!("{}_{}", cut(key, KEY_CHARS_MAX - chars - 1), digest.short(chars));
        let key = (DIGEST_CHARS..64).map(with).find(|key| !taken.contains(key)).unwrap_or_else(|| with(64));
        taken.insert(key.clone());
        key
    });
    unique.collect()
}

/// `text`, cut to `chars` characters.
pub fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_mlflow_accepts_stay() {
        for name in ["auc", "val/auc", "f1 macro", "p99.latency:ms", "größe"] {
            assert_eq!(key(name), name);
        }
    }

    #[test]
    fn keys_never_collide() {
        let names = ["MAP@k", "MAP_k", "AUC", "auc", "f1@5", "a@b", "a#b", "/", ".."];
        let keys = keys(&names);
        let unchanged: Vec<_> = [1, 2, 3].iter().map(|i| keys[*i].as_str()).collect();
        assert_eq!(unchanged, ["MAP_k", "AUC", "auc"]);
        assert_eq!(keys[4], "f1_5", "nothing else has this key");
        assert!(keys[0].starts_with("MAP_k_") && keys[5].starts_with("a_b_"), "{keys:?}");
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), names.len());
        let guessed = format!("MAP_k_{}", Digest::of_bytes(b"MAP@k").short(DIGEST_CHARS));
        let keys = super::keys(&["MAP@k", "MAP_k", &guessed]);
        assert_ne!(keys[0], guessed, "a name may be the key that another one would get");
        let long = ["x".repeat(300), "x".repeat(301)];
        let keys = super::keys(&[&long[0], &long[1]]);
        assert!(keys[0] != keys[1] && keys.iter().all(|key| key.len() <= KEY_CHARS_MAX));
    }

    #[test]
    fn other_keys_are_mended() {
        assert_eq!(key("f1@5"), "f1_5");
        assert_eq!(key("/auc"), "_auc");
        assert_eq!(key("a/../b"), "a____b");
        assert_eq!(key(&"x".repeat(300)).len(), KEY_CHARS_MAX);
    }
}
