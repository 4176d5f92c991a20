//! Comparison of `kubectl get mlop` at six times of the demo with the golden files in `e2e/expected`.
//!
//! A golden file has kubectl's tables. In a cell, `*` matches any text (ages, measured numbers), and `|` separates the
//! alternatives that concurrent work allows.

use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;

/// The output of kubectl at one time of the demo.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The name of the time, which selects the golden file.
    pub name: &'static str,
    pub text: String,
}

const EXPECTED: [(&str, &str); 6] = [
    ("just applied", include_str!("../expected/just-applied.txt")),
    ("ingesting", include_str!("../expected/ingesting.txt")),
    ("training", include_str!("../expected/training.txt")),
    ("serving", include_str!("../expected/serving.txt")),
    ("after July", include_str!("../expected/after-july.txt")),
    ("failing gate", include_str!("../expected/failing-gate.txt")),
];

/// Compares the captures with the golden files.
///
/// # Errors
/// A capture is missing, or differs from its golden file; with the rows that differ.
pub fn check(captures: &[Capture]) -> Result<()> {
    let mut problems = String::new();
    for (name, expected) in EXPECTED {
        let capture = captures.iter().find(|capture| capture.name == name);
        let actual = &capture.with_context(|| format!("no capture of {name:?}"))?.text;
        let differences = differences(expected, actual);
        if !differences.is_empty() {
            writeln!(problems, "{name}:\n{differences}").ok();
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("`kubectl get mlop` differs from e2e/expected (- expected, + actual):\n{problems}")
}

fn differences(expected: &str, actual: &str) -> String {
    let (expected, actual) = (rows(expected), rows(actual));
    let mut text = String::new();
    for index in 0..expected.len().max(actual.len()) {
        let (expected, actual) = (expected.get(index), actual.get(index));
        let is_equal = expected.zip(actual).is_some_and(|(expected, actual)| {
            expected.len() == actual.len()
                && expected.iter().zip(actual).all(|(cell, text)| matches(cell, text))
        });
        if !is_equal {
            for (sign, row) in [('-', expected), ('+', actual)] {
                text += &row.map(|row| format!("  {sign} {}\n", row.join("   "))).unwrap_or_default();
            }
        }
    }
    text
}

/// The cells of each line. kubectl prints one table per kind. The line after an empty one is a header, which determines
/// the columns.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut columns: Vec<usize> = Vec::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            columns.clear();
            continue;
        }
        if columns.is_empty() {
            columns = word_starts(line);
        }
        let ends = columns.iter().skip(1).copied().chain([line.len()]);
        let cells = columns.iter().zip(ends).map(|(start, end)| {
            let end = end.min(line.len());
            line.get(*start.min(&end)..end).unwrap_or_default().trim()
        });
        rows.push(cells.collect());
    }
    rows
}

/// The offsets of the words of a line.
fn word_starts(line: &str) -> Vec<usize> {
    let bytes = line.as_bytes();
    let begins = |index: &usize| {
        let blank = |index: usize| bytes.get(index).is_none_or(u8::is_ascii_whitespace);
        !blank(*index) && index.checked_sub(1).is_none_or(blank)
    };
    (0..bytes.len()).filter(begins).collect()
}

/// Whether a cell of a golden file matches the actual text.
fn matches(cell: &str, text: &str) -> bool {
    cell.split('|').any(|pattern| matches_pattern(pattern, text))
}

fn matches_pattern(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|start| rest.get(start..)).any(|rest| matches_pattern(after, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = "\
NAME                 READY          REASON             SUMMARY          AGE
dataset.mlop/flights Unknown|True   Scanning|Running   *, 0 rejected    *

NAME         READY   REASON   SUMMARY   AGE
model/delay  True    Ready              *
";

    fn actual(reason: &str, summary: &str, model: &str) -> String {
        format!(
            "NAME                   READY     REASON     SUMMARY                   AGE\n\
             dataset.mlop/flights   Unknown   {reason:<10} {summary:<25} 77s\n\n\
             NAME          READY   REASON   SUMMARY   AGE\n\
             model/delay   True    Ready    {model:<9} 2m\n"
        )
    }

    #[test]
    fn golden_output_differs_only_in_wildcard_cells() {
        assert_eq!(differences(GOLDEN, &actual("Running", "166,158 rows, 0 rejected", "")), "");
        assert!(
            differences(GOLDEN, &actual("Ready", "166,158 rows, 0 rejected", ""))
                .contains("Scanning|Running")
        );
        assert!(!differences(GOLDEN, &actual("Running", "166,158 rows, 1 rejected", "")).is_empty());
        assert!(!differences(GOLDEN, &actual("Running", "1 rows, 0 rejected", "version 1")).is_empty());
    }

    #[test]
    fn additional_or_missing_row_is_a_difference() {
        let actual = actual("Running", "1 rows, 0 rejected", "");
        assert!(
            differences(GOLDEN, &format!("{actual}model/other   True    Ready   x   2m\n"))
                .contains("+ model/other")
        );
        assert!(differences(GOLDEN, actual.split_once("\n\n").unwrap().0).contains("- model/delay"));
    }

    #[test]
    fn check_fails_when_a_capture_is_missing() {
        let captures = [Capture { name: "just applied", text: EXPECTED[0].1.to_owned() }];
        assert!(check(&captures).unwrap_err().to_string().contains("ingesting"));
    }

    #[test]
    fn golden_files_have_all_columns_and_all_kinds() {
        for (name, table) in EXPECTED {
            let rows = rows(table);
            let mut columns = 0;
            for row in &rows {
                if row.first().is_some_and(|cell| *cell == "NAME") {
                    columns = row.len();
                }
                assert!(row.len() == columns && matches!(columns, 6 | 7), "{name}: {row:?}");
            }
            assert!(rows.len() == 17, "{name}: eight kinds with headers, one of them with two objects");
        }
    }
}
