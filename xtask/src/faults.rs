//! `cargo xtask faults`: the whole chain under faults, in virtual time or for real.
use std::ffi::OsString;
use std::{env, iter};

use anyhow::Result;

use crate::tools::{self, KUBE_ALL};
use crate::{mutants, paths, process, test};

#[derive(clap::Args)]
pub struct Args {
    /// On a real API server, against the operators' real programs, instead of in virtual time. Needs Go and openssl, and
    /// no cluster: etcd, the API server and its controllers are started on loopback for it.
    #[arg(long)]
    real: bool,
    /// What the harness is given; `cargo xtask faults [--real] -- --help` lists it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// The packages of the real programs and of what tries them. They are built together: with the same features.
const REAL: [&str; 6] =
    ["mlop-e2e", "mlop-ingestion", "mlop-feature-store", "mlop-training", "mlop-registry", "mlop-deployment"];

pub fn run(args: &Args) -> Result<()> {
    if args.real {
        return real(&args.arguments);
    }
    let mut cargo = process::cargo();
    cargo.args(["run", "--quiet", "--profile", "faults", "--package", "mlop-faults", "--"]);
    cargo.args(&args.arguments).current_dir(paths::repository());
    test::environment(&mut cargo, None)?;
    process::show(&mut cargo)?;
    match mutants::killed()? {
        Some(killed) => println!("mutants killed: {killed}"),
        None => println!("mutants killed: not tried with this code yet; `cargo xtask mutants` does"),
    }
    Ok(())
}

fn real(arguments: &[String]) -> Result<()> {
    tools::provide(&[&KUBE_ALL])?;
    let packages: Vec<&str> = REAL.iter().flat_map(|package| ["--package", package]).collect();
    let cargo = |what: &[&str]| -> Result<_> {
        let mut cargo = process::cargo();
        cargo.args(what).args(&packages).args(["--test", "faults"]).current_dir(paths::repository());
        test::environment(&mut cargo, None)?;
        cargo.env("PATH", path()?);
        Ok(cargo)
    };
    process::show(cargo(&["build", "--quiet"])?.arg("--bins"))?;
    process::show(cargo(&["test", "--quiet"])?.arg("--").args(arguments))
}

/// Our own programs before those of the machine.
fn path() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(iter::once(paths::bin()?).chain(env::split_paths(&path)))?)
}
