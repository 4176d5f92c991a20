//! `cargo xtask faults`: the whole chain under faults, in virtual time.
use anyhow::Result;

use crate::{paths, process, test};

#[derive(clap::Args)]
pub struct Args {
    /// What the harness is given; `cargo xtask faults -- --help` lists it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--profile", "faults", "--package", "mlop-faults", "--"]);
    cargo.args(&args.arguments).current_dir(paths::repository());
    test::environment(&mut cargo, None)?;
    process::show(&mut cargo)
}
