//! `kubectl mlop check`: files before they are applied.

use super::{
    format::{Plain, document},
    screen::{Screen, read_text},
};
use crate::check::{self, Finding};
use anyhow::Result;
use clap::Args;
use std::{path::PathBuf, process::ExitCode};

pub(super) const HELP: &str = "\
It needs no cluster. Errors are what the API server or an operator would refuse: unknown fields, types, bounds, patterns,
the rules of the kinds, inputs that cannot be inputs, cycles. Notes are references to objects that the files do not have.
The SQL of FeatureViews is compared with the columns that the files declare. It is not run, and no bucket or Secret is read.

Examples:
  kubectl mlop check pipeline.yaml
  helm template my-chart | kubectl mlop check -";

#[derive(Debug, Args)]
pub(super) struct Check {
    /// YAML files; - is the standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Plain,
}

impl Check {
    pub(super) fn run(self, screen: &Screen) -> Result<ExitCode> {
        let mut documents = Vec::new();
        for file in &self.files {
            documents.extend(check::documents(&file.display().to_string(), &read_text(file)?)?);
        }
        let findings = check::findings(&documents);
        let errors = findings.iter().filter(|finding| finding.is_error).count();
        screen.print(&match self.output {
            Plain::Text => text(&findings, documents.len(), errors),
            other => document(other, &findings)?,
        })?;
        Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn text(findings: &[Finding], objects: usize, errors: usize) -> String {
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let notes = findings.len() - errors;
    text.push_str(&format!("{objects} objects: {errors} errors, {notes} notes\n"));
    text
}
