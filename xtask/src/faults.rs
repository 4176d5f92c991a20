//! `cargo xtask faults`: the whole chain under faults, in virtual time or on a real API server.
use std::ffi::OsString;
use std::{env, iter};

use anyhow::Result;
use mlop_api::operators;

use crate::tools::{self, KUBE_ALL};
use crate::{build, mutants, paths, process};

#[derive(clap::Args)]
pub struct Args {
    /// Run the operators' programs on a real API server instead of virtual time. Needs Go and openssl, but no cluster: etcd,
    /// the API server and its controllers start on loopback.
    #[arg(long)]
    real: bool,
    /// Cargo profile in virtual time: `fast` runs fastest, `e2e` shares its dependencies with `cargo xtask test`.
    #[arg(long, default_value = build::FAST, value_name = "NAME")]
    profile: String,
    /// Arguments of the harness. `cargo xtask faults [--real] -- --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    if args.real {
        return real(&args.arguments);
    }
    process::show(build::run("mlop-faults", &args.profile)?.args(&args.arguments))?;
    match mutants::killed()? {
        Some(killed) => println!("mutants killed: {killed}"),
        None => println!("mutants killed: unknown for this code; run `cargo xtask mutants`"),
    }
    Ok(())
}

fn real(arguments: &[String]) -> Result<()> {
    provide_programs()?;
    let mut tests = build::cargo("test")?;
    tests.args(["--quiet", "--test", "faults", "--"]).args(arguments).env("PATH", path()?);
    process::show(&mut tests)
}

/// Builds the operators and the control plane. Programs in the same target directory find the operators next to
/// themselves.
pub fn provide_programs() -> Result<()> {
    tools::provide(&[&KUBE_ALL])?;
    let mut operators = build::cargo("build")?;
    operators.arg("--quiet").args(operators::ALL.iter().flat_map(|operator| ["--bin", operator.name]));
    process::show(&mut operators)
}

/// The `PATH` with mlop's tools before those of the machine.
pub fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(iter::once(paths::bin()?).chain(env::split_paths(&path)))?)
}
