//! Short texts for people: quotations, sizes, numbers.

use mlop_api::{
    common::Metric,
    text::{last_words, printable},
};

/// Longest quotation of the command's output, in bytes. As JSON and with the other fields it fits a result's 2,048 bytes;
/// a status has room for it beside the number of the attempt.
const QUOTE_BYTES_MAX: usize = 700;
/// Longest list of metrics in a summary, in characters.
const METRICS_CHARS_MAX: usize = 80;

/// The command's last words, after a colon.
pub fn quote(lines: &[String]) -> String {
    let words = last_words(&lines.join("\n"), QUOTE_BYTES_MAX);
    if words.is_empty() { words } else { format!(": {words}") }
}

/// A text from the command, bounded again and printable.
pub fn cut(text: &str) -> String {
    printable(&text.chars().take(400).collect::<String>()).into_owned()
}

/// For example `auc=0.71, 3 files, 1.2 MB`: as many metrics as a line has room for, and the number of the others.
pub fn summary(metrics: &[Metric], files: usize, bytes: u64) -> String {
    let (mut parts, mut chars) = (Vec::new(), 0);
    for metric in metrics {
        let text = format!("{}={}", metric.name, short(metric.number()));
        chars += text.chars().count() + 2;
        if chars > METRICS_CHARS_MAX {
            break;
        }
        parts.push(text);
    }
    match metrics.len() - parts.len() {
        0 => {}
        1 => parts.push("1 more metric".to_owned()),
        more => parts.push(format!("{more} more metrics")),
    }
    parts.push(if files == 1 { "1 file".to_owned() } else { format!("{files} files") });
    parts.push(size(bytes));
    parts.join(", ")
}

/// A number for people: whole, or with about four digits.
fn short(number: f64) -> String {
    if !number.is_finite() || number == number.trunc() {
        number.to_string()
    } else if number.abs() < 0.001 {
        format!("{number:.2e}")
    } else {
        format!("{number:.4}").trim_end_matches('0').to_owned()
    }
}

/// A size for people, in decimal units.
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / unit as u128;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_api::{
        Reason,
        result::{Failure, ResultDocument},
    };

    #[test]
    fn summary_is_one_short_line() {
        let metrics =
            [Metric::new("auc", 0.706_640_459), Metric::new("loss", 0.000_012_34), Metric::new("x", 1.0)];
        assert_eq!(summary(&metrics, 3, 1_230_000), "auc=0.7066, loss=1.23e-5, x=1, 3 files, 1.2 MB");
        assert_eq!(summary(&[Metric::new("rows", 12.0)], 3, 10), "rows=12, 3 files, 10 B");
        let long =
            [Metric::new("a".repeat(70), 0.5), Metric::new("b".repeat(70), 0.5), Metric::new("c", 1.0)];
        assert!(summary(&long, 1, 999).ends_with("a=0.5, 2 more metrics, 1 file, 999 B"));
        assert_eq!(summary(&[], 1, 999), "1 file, 999 B");
        assert_eq!(size(2_000_000_000_000), "2000.0 GB");
    }

    #[test]
    fn quotation_begins_with_the_end_and_fits_a_result() {
        for part in ["\u{1}", "\"", "\\", "ä", "👍🏽"] {
            let lines: Vec<String> = (0..20).map(|i| format!("{i} {}", part.repeat(100))).collect();
            let failure = Failure::transient(Reason::UserError, "exit code 3".to_owned() + &quote(&lines));
            assert!(failure.message.starts_with("exit code 3: 19 "), "{}", failure.message);
            let message = ResultDocument::failed(failure.clone()).to_message();
            assert_eq!(
                ResultDocument::from_message(&message).unwrap().error.unwrap(),
                failure,
                "nothing was cut off"
            );
        }
    }
}
