//! `cargo xtask bench-scale`: the cost of the operators with many objects in one namespace.
use anyhow::Result;

use crate::{build, faults, process};

#[derive(clap::Args)]
#[command(
    after_help = "Needs Go and openssl, but no cluster: etcd and the API server start on loopback. 10,000 Datasets take about half an \
                  hour on two cores."
)]
pub struct Args {
    /// Arguments of the program. `cargo xtask bench-scale -- --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    faults::provide_programs()?;
    let mut bench = build::run("scale", build::PROFILE)?;
    process::show(bench.args(&args.arguments).env("PATH", faults::path()?))
}
