//! What `kubectl get mlop` shows at the moments of the demo, compared with what is kept of it in `e2e/expected`.
//!
//! A kept table reads like kubectl's. In a cell `*` stands for anything (ages, measured numbers), and `|` separates what
//! it may be while something else goes on at the same time.

use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;

/// One look.
#[derive(Clone, Debug)]
pub struct Moment {
    pub name: &'static str,
    /// What kubectl printed.
    pub seen: String,
}

const EXPECTED: [(&str, &str); 6] = [
    ("just applied", include_str!("../expected/just-applied.txt")),
    ("ingesting", include_str!("../expected/ingesting.txt")),
    ("training", include_str!("../expected/training.txt")),
    ("serving", include_str!("../expected/serving.txt")),
    ("after July", include_str!("../expected/after-july.txt")),
    ("failing gate", include_str!("../expected/failing-gate.txt")),
];

/// # Errors
/// When a moment was not seen, or did not look as it is kept; with the rows that differ.
pub fn check(moments: &[Moment]) -> Result<()> {
    let mut problems = String::new();
    for (name, expected) in EXPECTED {
        let moment = moments.iter().find(|moment| moment.name == name);
        let seen = &moment.with_context(|| format!("the moment {name:?} was not seen"))?.seen;
        let different = differences(expected, seen);
        if !different.is_empty() {
            writeln!(problems, "{name}:\n{different}").ok();
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("`kubectl get mlop` does not look as in e2e/expected (- kept, + seen):\n{problems}")
}

fn differences(expected: &str, seen: &str) -> String {
    let (kept, seen) = (rows(expected), rows(seen));
    let mut text = String::new();
    for index in 0..kept.len().max(seen.len()) {
        let (kept, seen) = (kept.get(index), seen.get(index));
        let alike = kept.zip(seen).is_some_and(|(kept, seen)| {
            kept.len() == seen.len() && kept.iter().zip(seen).all(|(kept, seen)| allows(kept, seen))
        });
        if !alike {
            for (sign, row) in [('-', kept), ('+', seen)] {
                text += &row.map(|row| format!("  {sign} {}\n", row.join("   "))).unwrap_or_default();
            }
        }
    }
    text
}

/// The cells of each line. kubectl prints one table for each kind: a line after an empty one has the titles, and they
/// tell where the columns begin.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut columns: Vec<usize> = Vec::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            columns.clear();
            continue;
        }
        if columns.is_empty() {
            columns = starts(line);
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

/// Where the words of a line begin.
fn starts(line: &str) -> Vec<usize> {
    let bytes = line.as_bytes();
    let begins = |index: &usize| {
        let blank = |index: usize| bytes.get(index).is_none_or(u8::is_ascii_whitespace);
        !blank(*index) && index.checked_sub(1).is_none_or(blank)
    };
    (0..bytes.len()).filter(begins).collect()
}

/// Whether a kept cell stands for what was seen.
fn allows(kept: &str, seen: &str) -> bool {
    kept.split('|').any(|pattern| fits(pattern, seen))
}

fn fits(pattern: &str, seen: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == seen,
        Some((before, after)) => seen.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|start| rest.get(start..)).any(|rest| fits(after, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: &str = "\
NAME                 READY          REASON             SUMMARY          AGE
dataset.mlop/flights Unknown|True   Scanning|Running   *, 0 rejected    *

NAME         READY   REASON   SUMMARY   AGE
model/delay  True    Ready              *
";

    fn seen(reason: &str, summary: &str, model: &str) -> String {
        format!(
            "NAME                   READY     REASON     SUMMARY                   AGE\n\
             dataset.mlop/flights   Unknown   {reason:<10} {summary:<25} 77s\n\n\
             NAME          READY   REASON   SUMMARY   AGE\n\
             model/delay   True    Ready    {model:<9} 2m\n"
        )
    }

    #[test]
    fn what_varies_may_vary_and_nothing_else() {
        assert_eq!(differences(KEPT, &seen("Running", "166,158 rows, 0 rejected", "")), "");
        assert!(
            differences(KEPT, &seen("Ready", "166,158 rows, 0 rejected", "")).contains("Scanning|Running")
        );
        assert!(!differences(KEPT, &seen("Running", "166,158 rows, 1 rejected", "")).is_empty());
        assert!(!differences(KEPT, &seen("Running", "1 rows, 0 rejected", "version 1")).is_empty());
    }

    #[test]
    fn a_row_too_many_or_too_few_is_a_difference() {
        let seen = seen("Running", "1 rows, 0 rejected", "");
        assert!(
            differences(KEPT, &format!("{seen}model/other   True    Ready   x   2m\n"))
                .contains("+ model/other")
        );
        assert!(differences(KEPT, seen.split_once("\n\n").unwrap().0).contains("- model/delay"));
    }

    #[test]
    fn a_moment_that_was_not_seen_is_an_error() {
        let moments = [Moment { name: "just applied", seen: EXPECTED[0].1.to_owned() }];
        assert!(check(&moments).unwrap_err().to_string().contains("ingesting"));
    }

    #[test]
    fn the_kept_tables_stand_for_themselves() {
        for (name, table) in EXPECTED {
            let moment = rows(table);
            assert!(moment.iter().all(|row| row.len() == 5), "{name}: {moment:?}");
            assert!(moment.len() == 17, "{name}: eight kinds with titles, one of them twice");
        }
    }
}
