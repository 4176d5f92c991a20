//! Texts without the values that were removed elsewhere, and without what looks like a secret.

use super::redact::REMOVED;
use regex::{Captures, Regex};
use serde_json::Value;
use std::{collections::BTreeSet, sync::LazyLock};

/// Shortest text that is looked for. Shorter ones, such as a number, are in every log.
const LENGTH_MIN: usize = 8;

/// What looks like a secret. The groups `kept` and `after` stay.
const PATTERNS: [&str; 8] = [
    r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
    r#"(?i)(?<kept>\bauthorization["']?\s*[:=]\s*["']?)(?:[a-z0-9-]+[ \t]+)?[^\s"',;]+"#,
    r"(?i)(?<kept>\bbearer\s+)[a-z0-9._~+/=-]{8,}",
    r#"(?i)(?<kept>(?:password|passwd|pwd|secret|token|api[_-]?key|secret[_-]?key|access[_-]?key(?:[_-]?id)?|credentials?)["']?\s*[:=]\s*["']?)[^\s"',;&]+"#,
    r"(?i)(?<kept>--?(?:password|passwd|pwd|secret|token|api[_-]?key|secret[_-]?key|access[_-]?key)\s+)[^\s]+",
    r"(?i)(?<kept>\b[a-z][a-z0-9+.-]*://)[^/\s@]+(?<after>@)",
    r"(?i)(?<kept>x-amz-(?:signature|credential|security-token)=)[^&\s]+",
    r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|(?:gh[pousr]|hf)_[A-Za-z0-9]{20,})",
];

static LOOKS_SECRET: LazyLock<Vec<Regex>> =
    LazyLock::new(|| PATTERNS.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect());

/// Replaces secrets in texts.
pub(super) struct Scrub {
    /// Longer ones first: one may be a part of another.
    known: Vec<String>,
}

impl Scrub {
    pub(super) fn new(values: &BTreeSet<String>) -> Self {
        let mut known = BTreeSet::new();
        // Logs have a value of several lines line by line.
        for line in values.iter().flat_map(|value| value.lines()).map(str::trim) {
            if line.len() >= LENGTH_MIN {
                let json = Value::from(line).to_string();
                known.insert(line.to_owned());
                known.insert(json.trim_matches('"').to_owned());
            }
        }
        let mut known: Vec<String> = known.into_iter().collect();
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { known }
    }

    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.known {
            if text.contains(value) {
                text = text.replace(value, REMOVED);
            }
        }
        for pattern in LOOKS_SECRET.iter() {
            let shown = |found: &Captures<'_>| {
                let group = |name| found.name(name).map_or("", |group| group.as_str());
                format!("{}{REMOVED}{}", group("kept"), group("after"))
            };
            text = pattern.replace_all(&text, shown).into_owned();
        }
        text
    }

    /// The texts of a document.
    pub(super) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => Value::Object(
                fields.into_iter().map(|(name, value)| (self.text(&name), self.value(value))).collect(),
            ),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_patterns_are_valid() {
        assert_eq!(LOOKS_SECRET.len(), PATTERNS.len());
    }

    #[test]
    fn what_looks_like_a_secret_is_removed() {
        let rows = [
            ("password=hunter2 next", "password=<removed> next"),
            ("DB_PASSWORD: 'hunter2'", "DB_PASSWORD: '<removed>'"),
            (r#"{"api_key": "k1", "n": 5}"#, r#"{"api_key": "<removed>", "n": 5}"#),
            ("AWS_SECRET_ACCESS_KEY=abc/def+g", "AWS_SECRET_ACCESS_KEY=<removed>"),
            ("login --password hunter2 -v", "login --password <removed> -v"),
            ("Authorization: Basic dXNlcjpw", "Authorization: <removed>"),
            ("sent Bearer abcdefgh.ij", "sent Bearer <removed>"),
            ("postgres://user:pw@db:5432/x", "postgres://<removed>@db:5432/x"),
            ("https://host/x?X-Amz-Signature=abc&y=1", "https://host/x?X-Amz-Signature=<removed>&y=1"),
            ("key AKIAABCDEFGHIJKLMNOP.", "key <removed>."),
            ("eyJhbGciOiJI.eyJzdWIi.c2ln", "<removed>"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- x", "<removed> x"),
            ("-----BEGIN PRIVATE KEY-----\nMII", "<removed>"),
        ];
        let scrub = Scrub::new(&BTreeSet::new());
        for (text, want) in rows {
            assert_eq!(scrub.text(text), want);
        }
    }

    #[test]
    fn ordinary_texts_stay() {
        let scrub = Scrub::new(&["short".to_owned()].into());
        for text in [
            "SecretMissing: the Secret s3-keys has no key password",
            "s3://raw/flights/2013-01.csv at http://minio.storage.svc:9000",
            "short tokens: 5",
            "-----BEGIN CERTIFICATE-----",
            "user@example.com",
        ] {
            let want = if text.starts_with("short") { "short tokens: 5" } else { text };
            assert_eq!(scrub.text(text), want);
        }
    }

    #[test]
    fn known_values_are_removed_wherever_they_are() {
        let known = ["opensesame", "opensesame-2", "line one\n  line two\n", "open\"sesame\\3"];
        let scrub = Scrub::new(&known.map(str::to_owned).into());
        assert_eq!(scrub.text(r#"{"key":"open\"sesame\\3"}"#), r#"{"key":"<removed>"}"#);
        assert_eq!(scrub.text("a opensesame-2 b opensesame c"), "a <removed> b <removed> c");
        assert_eq!(scrub.text("line two\nline one"), "<removed>\n<removed>");
        let value = serde_json::json!({"opensesame": [1, "x opensesame"]});
        assert_eq!(scrub.value(value), serde_json::json!({"<removed>": [1, "x <removed>"]}));
    }
}
