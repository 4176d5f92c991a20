//! `cargo xtask bench`: measurements of mlop's programs beside baselines.
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use mlop_api::operators;

use crate::cluster::local;
use crate::tools::{self, KUBE_ALL, MINIO};
use crate::{build, faults, process, python};

/// The baselines of workers, as Python packages.
const BASELINES: [&str; 2] = ["duckdb==2.0.1", "boto3==1.44.8"];
/// The baseline of features. Its dependencies are too many to share an environment.
const FEAST: [&str; 1] = ["feast[redis]==0.67.0"];

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
    Features,
    Simulator,
}

pub fn run(args: &Args) -> Result<()> {
    let subject = match args.arguments.first().map(String::as_str) {
        Some("hand-off" | "idle" | "isolation" | "scale" | "throughput") => Some(Subject::Operators),
        Some("ingest" | "launcher" | "trees") => Some(Subject::Workers),
        Some("features") => Some(Subject::Features),
        Some("simulator") => Some(Subject::Simulator),
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
            bench.env("MLOP_BENCH_PYTHON", interpreter(&BASELINES)?);
        }
        Some(Subject::Features) => {
            tools::provide(&[&MINIO])?;
            local::provide("redis-server", "redis-server", "the suite `features` starts one")?;
            programs(&args.profile, &["mlop-dataset", "mlop-features"])?;
            bench.env("MLOP_BENCH_PYTHON", interpreter(&BASELINES)?);
            bench.env("MLOP_BENCH_FEAST", interpreter(&FEAST)?);
        }
        Some(Subject::Simulator) => programs(&args.profile, &["mlop-faults"])?,
        None => {}
    }
    process::show(bench.args(&args.arguments).env("PATH", faults::path()?))
}

/// A Python with these packages.
fn interpreter(packages: &[&str]) -> Result<PathBuf> {
    Ok(python::environment(packages)?.join("bin/python3"))
}

fn programs(profile: &str, names: &[&str]) -> Result<()> {
    let mut build: Command = build::shared("build")?;
    build.args(["--quiet", "--profile", profile]);
    process::show(build.args(names.iter().flat_map(|name| ["--bin", name])))
}
