//! Lifting `metrics.json` into metrics.

use mlop_api::common::Metric;
use mlop_artifact::directory::{Contents, Directory};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt, io::Read};

/// The file in the output directory.
pub const FILE: &str = "metrics.json";
/// Largest file in bytes.
const BYTES_MAX: u64 = 1 << 20;
/// Most metrics. The manifest holds them all, a status the first 64.
const METRICS_MAX: usize = 10_000;
/// Longest name of a metric in characters.
const NAME_CHARS_MAX: usize = 100;
/// Ignored entries that are named one by one.
const NAMED_MAX: usize = 3;

/// The metrics in the output, sorted by name, and what of the file was ignored and why.
pub fn lift(output: &Directory, contents: &Contents) -> (Vec<Metric>, Option<String>) {
    let Some(found) = contents.files.iter().find(|file| file.path == FILE) else {
        return (Vec::new(), None);
    };
    let read = || -> Result<String, String> {
        if found.bytes > BYTES_MAX {
            return Err(format!("is ignored: it has {} bytes, more than {BYTES_MAX}", found.bytes));
        }
        let file = output.file(found).map_err(|failure| format!("cannot be read: {}", failure.message))?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
        String::from_utf8(bytes).map_err(|_| "is ignored: it is not UTF-8".to_owned())
    };
    match read() {
        Ok(text) => parse(&text),
        Err(problem) => (Vec::new(), Some(format!("{FILE} {problem}"))),
    }
}

fn parse(text: &str) -> (Vec<Metric>, Option<String>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = quote_odd_numbers(text);
    let object = match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => object,
        Ok(other) => {
            let problem = format!("{FILE} is ignored: it is {}, not an object of numbers", kind(&other));
            return (Vec::new(), Some(problem));
        }
        Err(error) => return (Vec::new(), Some(format!("{FILE} is ignored: it is not JSON: {error}"))),
    };
    let Repeated(repeated) = serde_json::from_str(&text).unwrap_or_default();
    let (mut metrics, mut ignored) = (Vec::new(), Vec::new());
    for (name, value) in &object {
        match metric(name, value) {
            // Which one counts would be a guess.
            _ if repeated.contains(name) => ignored.push((name, "it is there twice".to_owned())),
            Ok(_) if metrics.len() >= METRICS_MAX => ignored.push((name, "too many".to_owned())),
            Ok(metric) => metrics.push(metric),
            Err(why) => ignored.push((name, why)),
        }
    }
    (metrics, told(&object, &ignored))
}

/// The names that an object has more than once.
#[derive(Default)]
struct Repeated(BTreeSet<String>);

impl<'de> Deserialize<'de> for Repeated {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Repeated;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repeated, A::Error> {
        let (mut seen, mut repeated) = (BTreeSet::new(), BTreeSet::new());
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if !seen.insert(name.clone()) {
                repeated.insert(name);
            }
        }
        Ok(Repeated(repeated))
    }
}

fn told(object: &Map<String, Value>, ignored: &[(&String, String)]) -> Option<String> {
    let named: Vec<String> = ignored
        .iter()
        .take(NAMED_MAX)
        .map(|(name, why)| format!("{:?} ({why})", name.chars().take(NAME_CHARS_MAX).collect::<String>()))
        .collect();
    let more = match ignored.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let ignored = || format!("{FILE}: ignored {}{more} of {}", named.join(", "), object.len());
    (!named.is_empty()).then(ignored)
}

/// The metric, or why there is none.
pub(crate) fn metric(name: &str, value: &Value) -> Result<Metric, String> {
    if name.is_empty() {
        return Err("empty name".to_owned());
    }
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(format!("name of more than {NAME_CHARS_MAX} characters"));
    }
    if name.chars().any(char::is_control) {
        return Err("control character in the name".to_owned());
    }
    match value {
        // Whole numbers keep all their digits.
        Value::Number(number) if !number.is_f64() => {
            Ok(Metric { name: name.to_owned(), value: number.to_string() })
        }
        Value::Number(number) => Ok(Metric::new(name, number.as_f64().unwrap_or(f64::NAN))),
        Value::String(text) => match text.as_str() {
            "NaN" => Ok(Metric::new(name, f64::NAN)),
            "Infinity" => Ok(Metric::new(name, f64::INFINITY)),
            "-Infinity" => Ok(Metric::new(name, f64::NEG_INFINITY)),
            text if is_out_of_range(text) => Err("number out of range, or a text".to_owned()),
            _ => Err("a text".to_owned()),
        },
        other => Err(kind(other).to_owned()),
    }
}

fn is_out_of_range(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|number| !number.is_finite())
}

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `json` with numbers that JSON or a double cannot hold as strings: bare `NaN`, `Infinity` and `-Infinity`, as Python
/// writes them, and `1e400`. One of them must not make the rest unreadable.
pub(crate) fn quote_odd_numbers(json: &str) -> String {
    let (mut quoted, mut rest, mut inside) = (String::with_capacity(json.len()), json, false);
    while let Some(next) = rest.chars().next() {
        let (token, is_odd) = match next {
            // An escape inside a string: the character after it ends nothing.
            '\\' if inside => (1 + rest.chars().nth(1).map_or(0, char::len_utf8), false),
            '-' | '+' | '0'..='9' | 'A'..='Z' | 'a'..='z' if !inside => word(rest),
            _ => (next.len_utf8(), false),
        };
        inside ^= next == '"';
        let (token, after) = rest.split_at_checked(token).unwrap_or((rest, ""));
        rest = after;
        if is_odd {
            quoted.extend(["\"", canonical(token), "\""]);
        } else {
            quoted.push_str(token);
        }
    }
    quoted
}

/// Length of the word at the beginning of `rest`, and whether it is a number that JSON cannot hold.
fn word(rest: &str) -> (usize, bool) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
    let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let word = rest.get(..length).unwrap_or(rest);
    (length, is_out_of_range(word))
}

/// Python's spelling of a number that is not finite; a number out of range stays as it is written.
fn canonical(word: &str) -> &str {
    let bare = word.trim_start_matches(['-', '+']).to_ascii_lowercase();
    match (bare.as_str(), word.starts_with('-')) {
        ("nan", _) => "NaN",
        ("inf" | "infinity", true) => "-Infinity",
        ("inf" | "infinity", false) => "Infinity",
        _ => word,
    }
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
            r#"{"rows": 12, "auc": 0.71, "tiny": 1e-9, "big": 12345678901234567890, "least": 5e-324}"#,
            &[
                ("auc", "0.71"),
                ("big", "12345678901234567890"),
                ("least", "5e-324"),
                ("rows", "12"),
                ("tiny", "0.000000001"),
            ],
            None,
        );
        check("\u{feff}{\"auc\": 0.5}", &[("auc", "0.5")], None);
    }

    #[test]
    fn numbers_that_are_not_finite_are_metrics() {
        let json = r#"{"a": NaN, "b": -Infinity, "c": Infinity, "NaN": 1, "\"NaN": 2, "d": "NaN", "e": inf, "f": nan}"#;
        let expected = [
            ("\"NaN", "2"),
            ("NaN", "1"),
            ("a", "NaN"),
            ("b", "-Infinity"),
            ("c", "Infinity"),
            ("d", "NaN"),
            ("e", "Infinity"),
            ("f", "NaN"),
        ];
        check(json, &expected, None);
    }

    #[test]
    fn one_odd_value_does_not_lose_the_others() {
        let rows = [
            (r#"{"auc": 0.5, "x": {"a": 1}}"#, "\"x\" (an object) of 2"),
            (r#"{"auc": 0.5, "x": 1e400}"#, "\"x\" (number out of range"),
            (r#"{"auc": 0.5, "x": true}"#, "\"x\" (a boolean)"),
            (r#"{"auc": 0.5, "x": "0.7 (good)"}"#, "\"x\" (a text)"),
            (r#"{"auc": 0.5, "x": "0.7"}"#, "\"x\" (a text)"),
            (r#"{"auc": 0.5, "x": null}"#, "\"x\" (null)"),
            (r#"{"auc": 0.5, "x": [1, 2]}"#, "\"x\" (a list)"),
            (r#"{"auc": 0.5, "": 1}"#, "\"\" (empty name)"),
            ("{\"auc\": 0.5, \"a\\nb\": 1}", "(control character in the name)"),
            (r#"{"x": 0.1, "auc": 0.5, "x": 0.9}"#, "\"x\" (it is there twice) of 2"),
            (r#"{"auc": 0.5, "x": 1, "\u0078": NaN}"#, "\"x\" (it is there twice) of 2"),
        ];
        for (json, words) in rows {
            check(json, &[("auc", "0.5")], Some(words));
        }
        check(r#"{"a": null, "b": "x", "c": [1], "d": true, "e": {}}"#, &[], Some("and 2 more of 5"));
    }

    #[test]
    fn file_without_an_object_is_ignored_with_a_reason() {
        check("[1]", &[], Some("it is a list, not an object of numbers"));
        for json in ["", "\\", "{", "auc: 1", "NaN, 1"] {
            check(json, &[], Some("it is not JSON"));
        }
    }

    #[test]
    fn oversized_file_is_reported_with_its_size() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), vec![b' '; 2 << 20]).unwrap();
        let output = Directory::open(dir.path()).unwrap();
        let (metrics, problem) = lift(&output, &output.contents().unwrap());
        assert_eq!(metrics, []);
        assert!(problem.as_ref().unwrap().contains("2097152 bytes, more than 1048576"), "{problem:?}");
    }

    #[test]
    fn many_metrics_are_kept() {
        let many: Vec<String> = (0..METRICS_MAX + 5).map(|i| format!("\"m{i:05}\": {i}")).collect();
        let (found, warning) = parse(&format!("{{{}}}", many.join(",")));
        assert_eq!(found.len(), METRICS_MAX);
        assert!(warning.unwrap().contains("(too many)"));
    }
}
