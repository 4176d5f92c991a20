//! The program of `cargo xtask bench`: measurements of mlop's programs.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mlop_e2e::bench::{hand_off, ingest, launcher, scale, trees};
use serde_json::Value;
use std::{env, fs, path::PathBuf};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Args {
    #[command(subcommand)]
    suite: Suite,
    /// Directory of mlop's programs; that of this program if absent.
    #[arg(long, env = "MLOP_OPERATORS", value_name = "DIRECTORY", global = true)]
    programs: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Output {
    /// File for the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Suite {
    /// The time from the end of a stage to the start of the next one, beside a loop of bare clients.
    HandOff {
        /// Numbers of chains that get new data at the same moment.
        #[arg(long, default_values_t = [1, 20, 100], value_delimiter = ',', value_name = "N")]
        chains: Vec<u32>,
        #[command(flatten)]
        output: Output,
    },
    /// CSV from S3 into a table, beside DuckDB with the same checks.
    Ingest {
        /// Sizes of the source in megabytes.
        #[arg(long, default_values_t = [10, 100, 400], value_delimiter = ',', value_name = "MB")]
        megabytes: Vec<usize>,
        #[command(flatten)]
        output: Output,
    },
    /// What mlop's containers add to a training.
    Launcher {
        /// Number of trainings.
        #[arg(long, default_value_t = 20, value_name = "N")]
        trainings: usize,
        #[command(flatten)]
        output: Output,
    },
    /// The upload of a training's output and the download of a model, beside boto3.
    Trees {
        /// Megabytes of the tree of one file.
        #[arg(long, default_value_t = 500, value_name = "MB")]
        megabytes: usize,
        /// Number of files of the tree of small ones, of 10 kB each.
        #[arg(long, default_value_t = 5_000, value_name = "N")]
        files: usize,
        #[command(flatten)]
        output: Output,
    },
    /// Memory, CPU time, restart and events with many Datasets in one namespace. 10,000 take about half an hour.
    Scale {
        /// Number of Datasets. Each gets a version, and a pod each for its scan and its version.
        #[arg(long, default_value_t = 10_000, value_name = "N")]
        datasets: u32,
        /// Number of edits whose time is measured.
        #[arg(long, default_value_t = 40, value_name = "N")]
        edits: u32,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let programs = match args.programs {
        Some(programs) => programs,
        None => env::current_exe()?.parent().context("this program is in no directory")?.to_owned(),
    };
    match args.suite {
        Suite::HandOff { chains, output } => output.write(hand_off::run(&programs, &chains).await?),
        Suite::Ingest { megabytes, output } => output.write(ingest::run(&programs, &megabytes).await?),
        Suite::Launcher { trainings, output } => output.write(launcher::run(&programs, trainings).await?),
        Suite::Trees { megabytes, files, output } => {
            output.write(trees::run(&programs, megabytes, files).await?)
        }
        Suite::Scale { datasets, edits } => scale::run(&programs, datasets, edits).await,
    }
}

impl Output {
    fn write(self, figures: Value) -> Result<()> {
        let Some(file) = self.json else { return Ok(()) };
        fs::write(&file, format!("{figures:#}\n")).with_context(|| file.display().to_string())
    }
}
