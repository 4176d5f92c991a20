//! An explanation as text.

use super::model::{Explanation, Problem, Retry, Root};
use crate::{age, names, output::Style};
use jiff::Timestamp;
use std::fmt::Write as _;

/// The explanation for a terminal.
pub fn text(explanation: &Explanation, now: Timestamp, style: Style) -> String {
    let mut text = format!("{}\n", style.state(explanation.state, &explanation.sentence));
    if explanation.path.len() > 1 {
        let path: Vec<_> = explanation.path.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\n  {}", path.join(" <- "));
    }
    if let Some(root) = &explanation.root {
        add_root(&mut text, root, now, style);
        add_others(&mut text, &explanation.others);
    }
    if !explanation.next.is_empty() {
        text.push_str("\nNext:\n");
    }
    for step in &explanation.next {
        if !step.text.is_empty() {
            let _ = writeln!(text, "  {}", step.text);
        }
        if let Some(command) = &step.command {
            let _ = writeln!(text, "    {}", style.bold(command));
        }
    }
    text
}

fn add_root(text: &mut String, root: &Root, now: Timestamp, style: Style) {
    let what = if root.is_problem { "The cause is" } else { "It waits for" };
    let since = root.since.map(|at| format!(" for {} (since {at})", age::since(now, at))).unwrap_or_default();
    // Writing into a String cannot fail.
    let _ = writeln!(text, "\n{what} {}: {}{since}", style.bold(&root.object.to_string()), root.reason);
    if let Some(meaning) = &root.meaning {
        let _ = writeln!(text, "  {}", style.dim(meaning));
    }
    for line in root.message.iter().flat_map(|message| message.lines()) {
        let _ = writeln!(text, "  {line}");
    }
    let retry = root.retry.map(|retry| match retry {
        Retry::Running => "an attempt is running".to_owned(),
        Retry::At(at) => format!("at {at}"),
    });
    for (name, value) in [("field", &root.field), ("run", &root.run), ("next attempt", &retry)] {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name}: {value}");
        }
    }
}

fn add_others(text: &mut String, others: &[Problem]) {
    if !others.is_empty() {
        let _ = writeln!(text, "  and {} more: {}", others.len(), names::listed(others));
    }
}
