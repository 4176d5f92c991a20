//! The program of `cargo xtask bench`: measurements of the operators' programs on a real API server.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mlop_e2e::bench::{hand_off, scale};
use std::{env, fs, path::PathBuf};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Args {
    #[command(subcommand)]
    suite: Suite,
    /// Directory of the operators' programs; that of this program if absent.
    #[arg(long, env = "MLOP_OPERATORS", value_name = "DIRECTORY", global = true)]
    programs: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Suite {
    /// The time from the end of a stage to the start of the next one, beside a loop of bare clients.
    HandOff {
        /// Numbers of chains that get new data at the same moment.
        #[arg(long, default_values_t = [1, 20, 100], value_delimiter = ',', value_name = "N")]
        chains: Vec<u32>,
        /// File for the figures as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
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
        Suite::HandOff { chains, json } => {
            let figures = hand_off::run(&programs, &chains).await?;
            if let Some(file) = json {
                fs::write(&file, format!("{figures:#}\n")).with_context(|| file.display().to_string())?;
            }
            Ok(())
        }
        Suite::Scale { datasets, edits } => scale::run(&programs, datasets, edits).await,
    }
}
