//! `cargo xtask demo`: from nothing to a prediction served from a model that was trained on real data.
use anyhow::Result;

use crate::cluster::{self, Choice, task};
use crate::images::{self, Kind};
use crate::lanes::{self, Lane};
use crate::{build, process};

#[derive(clap::Args)]
#[command(
    after_help = "Needs on Debian as root: Rust, Go, a C compiler and Python; elsewhere Docker or Podman and Go. The rest is \
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
    let up = task(&["cluster", "up"], cluster)?;
    let containers = task(&images::arguments(Kind::Container), cluster)?;
    let programs = task(&images::arguments(Kind::Program), cluster)?;
    lanes::run(vec![
        Lane { name: "cluster", commands: vec![up, containers] },
        Lane { name: "operators", commands: vec![programs] },
    ])?;
    for name in ["images", "install"] {
        eprintln!("cargo xtask {name}");
        process::show(&mut task(&[name], cluster)?)?;
    }
    let mut demo = build::run("demo", build::PROFILE)?;
    cluster::environment(&mut demo, cluster)?;
    process::show(&mut demo)
}
