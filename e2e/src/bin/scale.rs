//! The program of `cargo xtask bench-scale`: the cost of the operators with many objects in one namespace.

use anyhow::{Context as _, Result};
use clap::Parser;
use std::{env, path::PathBuf};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench-scale --")]
struct Args {
    /// Number of Datasets. Each gets a version, and a pod each for its scan and its version.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    datasets: u32,
    /// Number of edits whose time is measured.
    #[arg(long, default_value_t = 40, value_name = "N")]
    edits: u32,
    /// Directory of the operators' programs; that of this program if absent.
    #[arg(long, env = "MLOP_OPERATORS", value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let programs = match args.programs {
        Some(programs) => programs,
        None => env::current_exe()?.parent().context("this program is in no directory")?.to_owned(),
    };
    mlop_e2e::scale::run(&programs, args.datasets, args.edits).await
}
