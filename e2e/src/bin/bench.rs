//! The program of `cargo xtask bench`: measurements of mlop's programs.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mlop_e2e::bench::{
    features, hand_off, idle, ingest, isolation, launcher, scale, simulator, throughput, trees,
};
use serde_json::Value;
use std::{env, fs, path::PathBuf, time::Duration};

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
    /// Load and online API of features beside Feast and a plain client of Redis, their computation beside DuckDB.
    Features {
        /// Rows of the view that is loaded and served.
        #[arg(long, default_value_t = 20_000, value_name = "N")]
        entities: usize,
        /// Megabytes of the CSV from which a view is computed.
        #[arg(long, default_value_t = 100, value_name = "MB")]
        megabytes: usize,
        /// Send requests of each size for 30 seconds instead of 3.
        #[arg(long)]
        long: bool,
        #[command(flatten)]
        output: Output,
    },
    /// The time from the end of a stage to the start of the next one, beside a loop of bare clients.
    HandOff {
        /// Numbers of chains that get new data at the same moment.
        #[arg(long, default_values_t = [1, 20, 100], value_delimiter = ',', value_name = "N")]
        chains: Vec<u32>,
        #[command(flatten)]
        output: Output,
    },
    /// CPU time and requests of operators with nothing to do, with served pipelines and without.
    Idle {
        /// Number of pipelines.
        #[arg(long, default_value_t = 1, value_name = "N")]
        pipelines: u32,
        /// Watch for ten minutes each instead of one.
        #[arg(long)]
        long: bool,
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
    /// The hand-offs of some tenants while another one is in trouble or busy, beside those without it.
    Isolation {
        /// Number of chains whose hand-offs are measured.
        #[arg(long, default_value_t = 4, value_name = "N")]
        chains: u32,
        /// Times that they get new data in each condition.
        #[arg(long, default_value_t = 20, value_name = "N")]
        rounds: u32,
        /// Datasets of the tenant with many objects.
        #[arg(long, default_value_t = 500, value_name = "N")]
        datasets: u32,
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
    /// Fault plans of the simulator, beside the same plans without shared beginnings.
    Simulator {
        /// Run every n-th of the plans with one fault.
        #[arg(long, default_value_t = 20, value_name = "N")]
        every: usize,
        /// Number of random plans.
        #[arg(long, default_value_t = 300, value_name = "N")]
        seeds: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Chains and writes a second, beside a raw writer that sends the same requests.
    Throughput {
        /// Numbers of chains that get new data at the same moment.
        #[arg(long, default_values_t = [20, 100], value_delimiter = ',', value_name = "N")]
        chains: Vec<u32>,
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
        Suite::Features { entities, megabytes, long, output } => {
            let time = Duration::from_secs(if long { 30 } else { 3 });
            output.write(features::run(&programs, features::Extent { entities, megabytes, time }).await?)
        }
        Suite::HandOff { chains, output } => output.write(hand_off::run(&programs, &chains).await?),
        Suite::Idle { pipelines, long, output } => {
            let window = Duration::from_secs(if long { 600 } else { 60 });
            output.write(idle::run(&programs, pipelines, window).await?)
        }
        Suite::Ingest { megabytes, output } => output.write(ingest::run(&programs, &megabytes).await?),
        Suite::Isolation { chains, rounds, datasets, output } => {
            let extent = isolation::Extent { chains, rounds, datasets };
            output.write(isolation::run(&programs, extent).await?)
        }
        Suite::Launcher { trainings, output } => output.write(launcher::run(&programs, trainings).await?),
        Suite::Simulator { every, seeds, output } => {
            output.write(simulator::run(&programs, every, seeds).await?)
        }
        Suite::Throughput { chains, output } => output.write(throughput::run(&programs, &chains).await?),
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
