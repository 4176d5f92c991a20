//! Standard output (a terminal, a pipe or a file) and standard input.

use crate::output::Style;
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use std::{
    env, fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

/// Where commands print, and the time that they read.
pub(super) struct Screen {
    now: fn() -> Timestamp,
    pub style: Style,
    pub is_terminal: bool,
}

impl Screen {
    /// Colours are for terminals, unless NO_COLOR is set or the terminal has none.
    pub(super) fn new(now: fn() -> Timestamp) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colors = is_terminal && !is_set("NO_COLOR") && !is_dumb;
        Self { now, style: Style { colors }, is_terminal }
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// # Errors
    /// The reader of a pipe is gone, or the disk is full.
    pub(super) fn print(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Prints `text` instead of what the terminal shows; below it if it is not a terminal.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub(super) fn replace(&self, text: &str) -> Result<()> {
        if !self.is_terminal {
            return self.print(text);
        }
        // Overwriting line by line leaves what has been scrolled out of sight, and does not flicker.
        let lines = text.replace('\n', "\u{1b}[K\n");
        self.print(&format!("\u{1b}[H{lines}\u{1b}[J"))
    }
}

/// The text of a file, or of the standard input if it is `-`.
pub(super) fn read_text(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
