//! `kubectl mlop init`: a pipeline for a file.

use super::screen::Screen;
use crate::init::{self, bucket::Location};
use anyhow::{Context as _, Result};
use clap::Args;
use std::{fs::File, io, path::PathBuf, process::ExitCode};

pub(super) const HELP: &str = "\
It needs no cluster. The file may be compressed with gzip. It reads all rows, guesses delimiter, header and types, and
chooses a column to predict, one with the time and one that says what a row is about. What it writes is a start: read it,
change it, and check it.

A file in a bucket is read with the variables of the AWS tools: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and
AWS_ENDPOINT_URL for another store than AWS. Of a prefix, s3://BUCKET/PREFIX/, it reads the newest CSV file.

Examples:
  kubectl mlop init visits.csv > pipeline.yaml
  kubectl mlop init s3://raw/visits/2026-06.csv > pipeline.yaml
  kubectl mlop check pipeline.yaml
  kubectl apply -f pipeline.yaml";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// A CSV file, or s3://BUCKET/KEY of one in a bucket; - is the standard input.
    file: PathBuf,
}

impl Init {
    pub(super) async fn run(self, screen: &Screen) -> Result<ExitCode> {
        let name = self.file.display().to_string();
        let table = if let Some(location) = Location::parse(&name)? {
            init::bucket::inspect_object(&location).await?
        } else if name == "-" {
            init::inspect("rows.csv", io::stdin().lock())?
        } else {
            init::inspect(&name, File::open(&self.file).with_context(|| format!("cannot read {name}"))?)?
        };
        screen.print(&init::yaml(&table))?;
        Ok(ExitCode::SUCCESS)
    }
}
