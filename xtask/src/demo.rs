//! `cargo xtask demo`: from nothing to a prediction served from a model that was trained on real data.
use std::env;
use std::process::Command;

use anyhow::Result;

use crate::cluster::{Choice, Cluster};
use crate::test::environment;
use crate::{paths, process};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
}

pub fn run(args: &Args) -> Result<()> {
    let cluster = args.choice.cluster()?;
    prepare(cluster.as_ref())?;
    let mut demo = process::cargo();
    demo.args(["run", "--quiet", "--package", "mlop-e2e", "--bin", "demo"]).current_dir(paths::repository());
    environment(&mut demo, Some(cluster.as_ref()))?;
    process::show(&mut demo)
}

/// What a person would type: the cluster, the images, the operators.
fn prepare(cluster: &dyn Cluster) -> Result<()> {
    for task in [&["cluster", "up"][..], &["images"], &["install"]] {
        eprintln!("cargo xtask {}", task.join(" "));
        let mut command = Command::new(env::current_exe()?);
        command.args(task).env("MLOP_CLUSTER", cluster.provider().name());
        environment(&mut command, None)?;
        process::show(&mut command)?;
    }
    Ok(())
}
