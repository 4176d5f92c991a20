//! `cargo xtask faults`: the whole chain under faults, in virtual time or for real.
use std::ffi::OsString;
use std::{env, iter};

use anyhow::Result;

use crate::generate::rights::OPERATORS;
use crate::tools::{self, KUBE_ALL};
use crate::{build, mutants, paths, process};

#[derive(clap::Args)]
pub struct Args {
    /// On a real API server, against the operators' real programs, instead of in virtual time. Needs Go and openssl, and
    /// no cluster: etcd, the API server and its controllers are started on loopback for it.
    #[arg(long)]
    real: bool,
    /// Cargo profile in virtual time: `faults` runs fastest, `e2e` shares its dependencies with `cargo xtask test`.
    #[arg(long, default_value = "faults", value_name = "NAME")]
    profile: String,
    /// What the harness is given; `cargo xtask faults [--real] -- --help` lists it.
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
        None => println!("mutants killed: not tried with this code yet; `cargo xtask mutants` does"),
    }
    Ok(())
}

fn real(arguments: &[String]) -> Result<()> {
    tools::provide(&[&KUBE_ALL])?;
    // The tests find the operators next to themselves.
    let mut operators = build::cargo("build")?;
    operators.arg("--quiet").args(OPERATORS.iter().flat_map(|operator| ["--bin", operator.chart]));
    process::show(&mut operators)?;
    let mut tests = build::cargo("test")?;
    tests.args(["--quiet", "--test", "faults", "--"]).args(arguments).env("PATH", path()?);
    process::show(&mut tests)
}

/// Our own programs before those of the machine.
fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(iter::once(paths::bin()?).chain(env::split_paths(&path)))?)
}
