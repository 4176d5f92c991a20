//! `cargo xtask demo`: from nothing to a prediction served from a model that was trained on real data.
use std::env;
use std::process::Command;

use anyhow::Result;

use crate::cluster::{self, Choice, Cluster};
use crate::images::{self, Kind};
use crate::lanes::{self, Lane};
use crate::{build, process};

#[derive(clap::Args)]
#[command(
    after_help = "Needs on Debian as root: Rust, Go, a C compiler and Python; elsewhere kind with Docker or Podman. The rest is \
                  installed or built once and cached in ~/.cache/mlop.\n\n\
                  Take the cluster away again: cargo xtask cluster down"
)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
}

pub fn run(args: &Args) -> Result<()> {
    let cluster = args.choice.cluster()?;
    let cluster = cluster.as_ref();
    let up = xtask(&["cluster", "up"], cluster)?;
    let containers = xtask(&images::arguments(Kind::Container), cluster)?;
    let programs = xtask(&images::arguments(Kind::Program), cluster)?;
    lanes::run(vec![
        Lane { name: "cluster", commands: vec![up, containers] },
        Lane { name: "operators", commands: vec![programs] },
    ])?;
    for task in ["images", "install"] {
        eprintln!("cargo xtask {task}");
        process::show(&mut xtask(&[task], cluster)?)?;
    }
    let mut demo = build::run("demo", build::PROFILE)?;
    cluster::environment(&mut demo, cluster)?;
    process::show(&mut demo)
}

/// A task as a person would start it, with the same cluster.
fn xtask(task: &[&str], cluster: &dyn Cluster) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(task).env("MLOP_CLUSTER", cluster.provider().name());
    build::environment(&mut command)?;
    Ok(command)
}
