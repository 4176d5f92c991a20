//! Text and documents on their way to the screen.

use crate::state::State;
use anyhow::Result;
use mlop_api::text::{printable, single_line};
use regex::Regex;
use serde::Serialize;
use std::{borrow::Cow, fmt::Write as _, sync::LazyLock};

/// Whether a terminal shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub colors: bool,
}

impl Style {
    pub const PLAIN: Self = Self { colors: false };

    /// `text` in the colour of `state`.
    pub fn state(self, state: State, text: &str) -> String {
        let code = match state {
            State::Ready => "32",
            State::Behind | State::Pending => "33",
            State::Blocked => "35",
            State::Failed => "31",
        };
        self.paint(code, text)
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colors { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// One cell of a table: its text, and the text with colours.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    plain: String,
    painted: Option<String>,
}

impl Cell {
    pub fn painted(plain: impl Into<String>, painted: String) -> Self {
        Self { plain: plain.into(), painted: Some(painted) }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { plain: clean(text.as_ref()), painted: None }
    }
}

/// `text` in one line, without characters that a terminal acts on: text from outside neither colours nor moves what stands
/// next to it, nor does it add lines that look like those of this program.
pub fn clean(text: &str) -> String {
    printable(&single_line(text)).into_owned()
}

/// Lines of a table, with whole lines of text between them.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    Cells(Vec<Cell>),
    Text(String),
}

impl Table {
    pub fn with_header(names: &[&str]) -> Self {
        let mut table = Self::default();
        table.row(names.iter().map(|name| Cell::from(*name)).collect());
        table
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.lines.push(Line::Cells(cells));
    }

    pub fn text(&mut self, text: String) {
        self.lines.push(Line::Text(text));
    }

    /// The lines with columns as wide as their widest cell.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for line in &self.lines {
            let Line::Cells(cells) = line else { continue };
            for (index, cell) in cells.iter().enumerate() {
                let width = cell.plain.chars().count();
                match widths.get_mut(index) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        let mut text = String::new();
        for line in &self.lines {
            let line = match line {
                Line::Text(line) => line.clone(),
                Line::Cells(cells) => row(cells, &widths),
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn row(cells: &[Cell], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let shown = cell.painted.as_ref().unwrap_or(&cell.plain);
        let padding = width.saturating_sub(cell.plain.chars().count()) + 3;
        // Writing into a String cannot fail.
        let _ = write!(line, "{shown}{:padding$}", "");
    }
    line
}

/// `value` as indented JSON.
///
/// # Errors
/// It has no JSON form.
pub fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// `value` as YAML.
///
/// # Errors
/// It has no YAML form.
pub fn yaml(value: &impl Serialize) -> Result<String> {
    // By way of JSON, so that both have the same fields.
    Ok(serde_saphyr::to_string(&serde_json::to_value(value)?)?)
}

/// `text` with each digest cut to its first twelve digits.
pub fn with_short_digests(text: &str) -> Cow<'_, str> {
    static DIGEST: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("(sha256:[0-9a-f]{12})[0-9a-f]{52}").ok());
    DIGEST.as_ref().map_or(Cow::Borrowed(text), |digest| digest.replace_all(text, "$1"))
}

/// `text` in one line of at most `max` characters.
pub fn brief(text: &str, max: usize) -> String {
    let line = single_line(text);
    if line.chars().count() <= max {
        return line.into_owned();
    }
    let cut: String = line.chars().take(max.saturating_sub(3)).collect();
    format!("{cut}...")
}
