//! Texts as MLflow accepts them.

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
    fn other_keys_are_mended() {
        assert_eq!(key("f1@5"), "f1_5");
        assert_eq!(key("/auc"), "_auc");
        assert_eq!(key("a/../b"), "a____b");
        assert_eq!(key(&"x".repeat(300)).len(), KEY_CHARS_MAX);
    }
}
