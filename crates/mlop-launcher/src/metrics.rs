//! Lifting `metrics.json` into metrics.

use mlop_api::common::Metric;
use mlop_artifact::folder::Folder;
use serde_json::{Map, Value};
use std::io::Read;

/// The file in the output folder.
pub const FILE: &str = "metrics.json";
/// Most bytes of it that are read.
const BYTES_MAX: u64 = 1 << 20;
/// Most metrics; a status holds no more.
const METRICS_MAX: usize = 64;
/// Longest name of a metric in characters.
const NAME_CHARS_MAX: usize = 100;

/// The metrics in the folder, sorted by name, and what of the file was not usable.
pub fn lift(output: &Folder) -> (Vec<Metric>, Option<String>) {
    let mut text = String::new();
    let read = output
        .file(FILE)
        .map_err(|failure| failure.message)
        .and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string()));
    match read {
        Ok(_) => parse(&text),
        Err(problem) => (Vec::new(), Some(format!("{FILE} cannot be read: {problem}"))),
    }
}

fn parse(text: &str) -> (Vec<Metric>, Option<String>) {
    let object: Map<String, Value> = match serde_json::from_str(&quote_non_finite(text)) {
        Ok(object) => object,
        Err(error) => return (Vec::new(), Some(format!("{FILE} is not a JSON object: {error}"))),
    };
    let (mut metrics, mut ignored) = (Vec::new(), Vec::new());
    for (name, value) in &object {
        let fits = !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && metrics.len() < METRICS_MAX;
        match number(value).filter(|_| fits) {
            Some(number) => metrics.push(Metric::new(name, number)),
            None => ignored.push(name.chars().take(NAME_CHARS_MAX).collect::<String>()),
        }
    }
    let first = ignored.first().map(|first| match ignored.len() {
        1 => format!("{FILE}: {first:?} is ignored"),
        n => format!("{FILE}: {first:?} and {} more are ignored", n - 1),
    });
    (metrics, first.map(|what| what + ": only numbers count, 64 at most"))
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// `json` with bare `NaN`, `Infinity` and `-Infinity`, as Python writes them, made strings.
fn quote_non_finite(json: &str) -> String {
    let (mut quoted, mut rest, mut inside) = (String::with_capacity(json.len()), json, false);
    while let Some(next) = rest.chars().next() {
        let word =
            ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !inside && rest.starts_with(word));
        let taken = match (word, next) {
            (Some(word), _) => word.len(),
            // An escape inside a string: the character after it ends nothing.
            (None, '\\') if inside => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            (None, _) => next.len_utf8(),
        };
        inside ^= next == '"';
        let (token, after) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        rest = after;
        match word {
            Some(word) => quoted.extend(["\"", word, "\""]),
            None => quoted.push_str(token),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, metrics: &[(&str, &str)], problem: Option<&str>) {
        let (found, warning) = parse(json);
        let found: Vec<_> =
            found.iter().map(|metric| (metric.name.as_str(), metric.value.as_str())).collect();
        assert_eq!(found, metrics, "{json}");
        match problem {
            None => assert_eq!(warning, None, "{json}"),
            Some(words) => assert!(warning.as_ref().unwrap().contains(words), "{warning:?}"),
        }
    }

    #[test]
    fn numbers_are_metrics() {
        check(
            r#"{"rows": 12, "auc": 0.71, "tiny": 1e-9}"#,
            &[("auc", "0.71"), ("rows", "12"), ("tiny", "0.000000001")],
            None,
        );
    }

    #[test]
    fn numbers_that_are_not_finite_count_as_python_writes_them() {
        let json = r#"{"a": NaN, "b": -Infinity, "c": Infinity, "NaN": 1, "\"NaN": 2, "d": "NaN"}"#;
        let expected =
            [("\"NaN", "2"), ("NaN", "1"), ("a", "NaN"), ("b", "-Infinity"), ("c", "Infinity"), ("d", "NaN")];
        check(json, &expected, None);
    }

    #[test]
    fn everything_else_is_ignored_and_said() {
        check(r#"{"auc": 0.5, "per_class": {"a": 1}}"#, &[("auc", "0.5")], Some("\"per_class\" is ignored"));
        check(r#"{"a": null, "b": "x", "c": [1]}"#, &[], Some("and 2 more"));
        check(r#"{"": 1}"#, &[], Some("ignored"));
        check("[1]", &[], Some("not a JSON object"));
        check("", &[], Some("not a JSON object"));
        check("\\", &[], Some("not a JSON object"));
        let many: String = (0..70).map(|i| format!("\"m{i:02}\": {i},")).collect();
        let (found, warning) = parse(&format!("{{{}}}", many.trim_end_matches(',')));
        assert_eq!(found.len(), METRICS_MAX);
        assert!(warning.unwrap().contains("and 5 more"));
    }
}
