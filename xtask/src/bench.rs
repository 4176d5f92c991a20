//! `cargo xtask bench`: measurements of mlop's programs beside baselines.
use std::process::Command;

use anyhow::Result;
use mlop_api::operators;

use crate::tools::{self, KUBE_ALL, MINIO};
use crate::{build, faults, process, python};

/// The baselines of workers, as Python packages.
const BASELINES: [&str; 2] = ["duckdb==2.0.1", "boto3==1.44.8"];

#[derive(clap::Args)]
#[command(
    after_help = "Needs Go, openssl and Python, but no cluster: servers start on loopback. All programs share the machine, so measure on \
                  an idle one.\n\n`cargo xtask bench -- --help` lists the suites, `cargo xtask bench hand-off --help` their arguments."
)]
pub struct Args {
    /// Cargo profile of mlop's programs: `fast` is optimized for speed, `release` as in published images.
    #[arg(long, default_value = build::FAST, value_name = "NAME")]
    profile: String,
    /// Suite and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SUITE")]
    arguments: Vec<String>,
}

/// What a suite measures.
enum Subject {
    Operators,
    Workers,
}

pub fn run(args: &Args) -> Result<()> {
    let subject = match args.arguments.first().map(String::as_str) {
        Some("hand-off" | "scale") => Some(Subject::Operators),
        Some("ingest" | "launcher" | "trees") => Some(Subject::Workers),
        // The program explains itself.
        _ => None,
    };
    let mut bench = build::run("bench", &args.profile)?;
    match subject {
        Some(Subject::Operators) => {
            tools::provide(&[&KUBE_ALL])?;
            programs(&args.profile, &operators::ALL.map(|operator| operator.name))?;
        }
        Some(Subject::Workers) => {
            tools::provide(&[&MINIO])?;
            programs(&args.profile, &["mlop-dataset", "mlop-launcher"])?;
            let environment = python::environment(&BASELINES)?;
            bench.env("MLOP_BENCH_PYTHON", environment.join("bin/python3"));
        }
        None => {}
    }
    process::show(bench.args(&args.arguments).env("PATH", faults::path()?))
}

fn programs(profile: &str, names: &[&str]) -> Result<()> {
    let mut build: Command = build::shared("build")?;
    build.args(["--quiet", "--profile", profile]);
    process::show(build.args(names.iter().flat_map(|name| ["--bin", name])))
}
