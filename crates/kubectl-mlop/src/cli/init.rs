//! `kubectl mlop init`: a pipeline for a file.

use super::screen::Screen;
use crate::init;
use anyhow::{Context as _, Result};
use clap::Args;
use std::{fs::File, io, path::PathBuf, process::ExitCode};

pub(super) const HELP: &str = "\
It needs no cluster, and sends nothing. The file may be compressed with gzip. It reads all rows, guesses delimiter, header
and types, and chooses a column to predict, one with the time and one that says what a row is about. What it writes is a
start: read it, change it, and check it.

Examples:
  kubectl mlop init visits.csv > pipeline.yaml
  kubectl mlop check pipeline.yaml
  kubectl apply -f pipeline.yaml";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// A CSV file; - is the standard input.
    file: PathBuf,
}

impl Init {
    pub(super) fn run(self, screen: &Screen) -> Result<ExitCode> {
        let name = self.file.display().to_string();
        let table = if name == "-" {
            init::inspect("rows.csv", io::stdin().lock())?
        } else {
            init::inspect(&name, File::open(&self.file).with_context(|| format!("cannot read {name}"))?)?
        };
        screen.print(&init::yaml(&table))?;
        Ok(ExitCode::SUCCESS)
    }
}
