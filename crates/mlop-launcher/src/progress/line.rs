//! One line of a report: a flat JSON object of numbers.

use crate::metrics::{kind, metric, quote_odd_numbers};
use mlop_api::{common::Metric, progress::NAME_CHARS_MAX};
use serde_json::{Map, Value};

/// Members of a line that are looked at.
const MEMBERS_MAX: usize = 256;
/// Largest number of steps: what every reader of JSON holds.
const STEP_MAX: u64 = 1 << 53;

/// What one line reports.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reported {
    pub step: Option<u64>,
    pub of: Option<u64>,
    pub epoch: Option<u64>,
    pub metrics: Vec<Metric>,
    /// Members that are ignored, and why.
    pub ignored: Vec<(String, String)>,
}

impl Reported {
    /// Reads a line; none if it is empty.
    pub(super) fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        let text = std::str::from_utf8(line).map_err(|_| "a line is ignored: it is not UTF-8".to_owned())?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(None);
        }
        match serde_json::from_str(&quote_odd_numbers(text)) {
            Ok(Value::Object(members)) => Ok(Some(Self::of(&members))),
            Ok(other) => Err(format!("a line is ignored: it is {}, not an object of numbers", kind(&other))),
            Err(_) => Err("a line is ignored: it is not JSON".to_owned()),
        }
    }

    fn of(members: &Map<String, Value>) -> Self {
        let mut reported = Self::default();
        for (name, value) in members.iter().take(MEMBERS_MAX) {
            let count = match name.as_str() {
                "step" => &mut reported.step,
                "of" => &mut reported.of,
                "epoch" => &mut reported.epoch,
                _ => {
                    match short_name(name).and_then(|()| metric(name, value)) {
                        Ok(metric) => reported.metrics.push(metric),
                        Err(why) => reported.ignored.push((cut(name), why)),
                    }
                    continue;
                }
            };
            *count = whole(value);
            if count.is_none() {
                reported.ignored.push((name.clone(), "not a count".to_owned()));
            }
        }
        if members.len() > MEMBERS_MAX {
            let why = format!("more than {MEMBERS_MAX} members of a line");
            reported.ignored.push((String::new(), why));
        }
        reported
    }
}

fn short_name(name: &str) -> Result<(), String> {
    match name {
        "at" => Err("the name is taken".to_owned()),
        _ if name.chars().count() > NAME_CHARS_MAX => {
            Err(format!("name of more than {NAME_CHARS_MAX} characters"))
        }
        _ => Ok(()),
    }
}

fn cut(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

/// A count, without its fraction: frameworks report epochs such as 0.37.
fn whole(value: &Value) -> Option<u64> {
    let float = || {
        let number = value.as_f64().filter(|number| (0.0..9.0e15).contains(number))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in the range")]
        Some(number as u64)
    };
    value.as_u64().or_else(float).filter(|count| *count <= STEP_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Reported {
        Reported::parse(line.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn known_names_are_counts_and_other_numbers_are_metrics() {
        let reported = parse(r#"{"step": 120, "of": 1000, "epoch": 3, "loss": 0.41, "accuracy": 0.8}"#);
        let metrics = vec![Metric::new("accuracy", 0.8), Metric::new("loss", 0.41)];
        let (step, of, epoch) = (Some(120), Some(1_000), Some(3));
        assert_eq!(reported, Reported { step, of, epoch, metrics, ignored: Vec::new() });
    }

    #[test]
    fn odd_values_do_not_lose_the_others() {
        let long = "n".repeat(NAME_CHARS_MAX + 1);
        for (members, ignored) in [
            (r#""x": "text""#.to_owned(), Some("a text")),
            (r#""x": null"#.to_owned(), Some("null")),
            (r#""x": [1]"#.to_owned(), Some("a list")),
            (r#""x": 1e999"#.to_owned(), Some("number out of range, or a text")),
            (r#""step": -1"#.to_owned(), Some("not a count")),
            (r#""step": NaN"#.to_owned(), Some("not a count")),
            (r#""step": 1e300"#.to_owned(), Some("not a count")),
            (r#""of": "9""#.to_owned(), Some("not a count")),
            (r#""at": 1"#.to_owned(), Some("the name is taken")),
            (format!("\"{long}\": 1"), Some("name of more than 64 characters")),
            (r#""x": NaN"#.to_owned(), None),
            (r#""x": -Infinity"#.to_owned(), None),
        ] {
            let reported = parse(&format!("{{\"loss\": 0.5, {members}}}"));
            assert!(reported.metrics.contains(&Metric::new("loss", 0.5)), "{members}");
            let why = reported.ignored.first().map(|(_, why)| why.as_str());
            assert_eq!(why, ignored, "{members}");
        }
    }

    #[test]
    fn counts_have_no_fraction() {
        let reported = parse(r#"{"epoch": 2.99, "step": 7.0, "of": 1e3}"#);
        assert_eq!((reported.epoch, reported.step, reported.of), (Some(2), Some(7), Some(1_000)));
    }

    #[test]
    fn other_lines_are_refused_with_a_reason() {
        for (line, why) in [
            ("[1]".as_bytes(), "it is a list"),
            (b"3", "it is a number"),
            (b"epoch 3: loss 0.4", "not JSON"),
            (b"{\"step\": 1", "not JSON"),
            (b"{\"step\": 1} {\"step\": 2}", "not JSON"),
            (b"\xff", "not UTF-8"),
        ] {
            let problem = Reported::parse(line).unwrap_err();
            assert!(problem.contains(why), "{problem}");
        }
        for empty in ["", " ", "\r", "\u{feff}"] {
            assert_eq!(Reported::parse(empty.as_bytes()), Ok(None));
        }
    }

    #[test]
    fn only_the_first_members_of_a_line_count() {
        let members: Vec<_> = (0..1_000).map(|i| format!("\"m{i:04}\": {i}")).collect();
        let reported = parse(&format!("{{{}}}", members.join(",")));
        assert_eq!((reported.metrics.len(), reported.ignored.len()), (MEMBERS_MAX, 1));
    }

    #[test]
    fn deep_nesting_is_no_json() {
        let deep = format!("{{\"x\": {}", "[".repeat(100_000));
        assert!(Reported::parse(deep.as_bytes()).is_err());
    }
}
