//! Patterns over keys: `*` within a segment, `**` across segments, `?` one character; everything else is itself.

use mlop_api::{Reason, result::Failure};
use regex::Regex;

/// A pattern as a regular expression, which matches any pattern in time linear in the key.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Parses `pattern`.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`] when it is too large to be used.
    pub fn new(pattern: &str) -> Result<Self, Failure> {
        let mut expression = String::from(r"(?s)\A");
        let mut rest = pattern;
        let mut at_segment = true;
        while let Some(first) = rest.chars().next() {
            let (matches, length) = match first {
                // Directories, or none at all: `**/x` matches `x`.
                '*' if at_segment && rest.starts_with("**/") => ("(?:.*/)?".to_owned(), 3),
                '*' if rest.starts_with("**") => (".*".to_owned(), 2),
                '*' => ("[^/]*".to_owned(), 1),
                '?' => ("[^/]".to_owned(), 1),
                literal => (regex::escape(literal.encode_utf8(&mut [0; 4])), literal.len_utf8()),
            };
            expression.push_str(&matches);
            at_segment = first == '/' || length == 3 && first == '*';
            rest = rest.get(length..).unwrap_or_default();
        }
        expression.push_str(r"\z");
        Regex::new(&expression)
            .map(Self)
            .map_err(|error| Failure::terminal(Reason::InvalidSpec, format!("include {pattern:?}: {error}")))
    }

    /// Whether the whole of `key` matches.
    pub fn matches(&self, key: &str) -> bool {
        self.0.is_match(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let parsed = Pattern::new(pattern).unwrap();
        for key in matching {
            assert!(parsed.matches(key), "{pattern} should match {key}");
        }
        for key in others {
            assert!(!parsed.matches(key), "{pattern} should not match {key}");
        }
    }

    #[test]
    fn patterns_match_whole_keys() {
        check("*.csv", &["a.csv", ".csv"], &["a.csv.gz", "x/a.csv", "acsv"]);
        check("2013-??.csv", &["2013-01.csv"], &["2013-1.csv", "2013-/1.csv"]);
        check("*/*.csv", &["x/a.csv"], &["a.csv", "x/y/a.csv"]);
        check("**", &["a", "a/b/c", ""], &[]);
        check("**/*.csv", &["a.csv", "x/a.csv", "x/y/a.csv"], &["a.txt"]);
        check("x/**/a.csv", &["x/a.csv", "x/y/a.csv", "x/y/z/a.csv"], &["y/a.csv", "xa.csv", "x/ya.csv"]);
        check("x/**", &["x/", "x/a/b"], &["x", "y/x/a"]);
        check("a**z", &["az", "a/b/z"], &["a/b"]);
        check("[a]{1}.(x)+", &["[a]{1}.(x)+"], &["a", "aaax"]);
        check("ü?.csv", &["üé.csv"], &["ü.csv"]);
    }
}
