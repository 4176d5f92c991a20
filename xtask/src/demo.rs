//! `cargo xtask demo`: from nothing to a prediction served from a model that was trained on real data.
use anyhow::Result;

use crate::cluster::{self, Choice, task};
use crate::images::{self, Kind};
use crate::lanes::{self, Lane};
use crate::{build, observe, process};

#[derive(clap::Args)]
#[command(
    after_help = "Needs on Debian as root: Rust, Go, a C compiler and Python; elsewhere Docker or Podman and Go. The rest is \
                  installed or built once and cached in ~/.cache/mlop.\n\n\
                  With --observe: docs/operations/observe.md\n\n\
                  Take the cluster away again: cargo xtask cluster down"
)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Also start Prometheus with the chart's alerts, Alertmanager, kube-state-metrics, Jaeger and a log store. At the end the
    /// screen lists their addresses. Enter or Ctrl-C ends them. Needs the local cluster.
    #[arg(long)]
    observe: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let cluster = args.choice.cluster()?;
    let cluster = cluster.as_ref();
    let up = task(&["cluster", "up"], cluster)?;
    let containers = task(&images::arguments(Kind::Container), cluster)?;
    let programs = task(&images::arguments(Kind::Program), cluster)?;
    let mut of_cluster = vec![up, containers];
    if args.observe {
        observe::check(cluster)?;
        of_cluster.push(task(&["observe", "build"], cluster)?);
    }
    lanes::run(vec![
        Lane { name: "cluster", commands: of_cluster },
        Lane { name: "operators", commands: vec![programs] },
    ])?;
    eprintln!("cargo xtask images");
    process::show(&mut task(&["images"], cluster)?)?;
    let mut demo = build::run("demo", build::PROFILE)?;
    if args.observe {
        let spans = observe::spans_address(cluster)?;
        observe::install(cluster, &spans)?;
        demo.args(["--observe", &spans]);
    } else {
        eprintln!("cargo xtask install");
        process::show(&mut task(&["install"], cluster)?)?;
    }
    cluster::environment(&mut demo, cluster)?;
    process::show(&mut demo)
}
