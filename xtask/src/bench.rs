//! `cargo xtask bench`: measurements of the operators' programs on a real API server.
use anyhow::Result;
use mlop_api::operators;

use crate::tools::{self, KUBE_ALL};
use crate::{build, faults, process};

#[derive(clap::Args)]
#[command(
    after_help = "Needs Go and openssl, but no cluster: etcd and the API server start on loopback. All programs share the machine, so \
                  measure on an idle one.\n\n`cargo xtask bench -- --help` lists the suites, `cargo xtask bench hand-off --help` their arguments."
)]
pub struct Args {
    /// Cargo profile of the operators: `fast` is optimized for speed, `release` as in published images.
    #[arg(long, default_value = build::FAST, value_name = "NAME")]
    profile: String,
    /// Suite and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "SUITE")]
    arguments: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    tools::provide(&[&KUBE_ALL])?;
    let mut operators = build::shared("build")?;
    operators.args(["--quiet", "--profile", &args.profile]);
    process::show(operators.args(operators::ALL.iter().flat_map(|operator| ["--bin", operator.name])))?;
    let mut bench = build::run("bench", &args.profile)?;
    process::show(bench.args(&args.arguments).env("PATH", faults::path()?))
}
