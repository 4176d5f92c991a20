//! `cargo xtask observe`: dashboards and alerts with real servers, on a real cluster.
//!
//! Prometheus and Alertmanager are Debian's packages, unpacked into the cache; the other servers are built from Go modules.
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Subcommand;

use crate::cluster::{self, Choice, Cluster, Kubectl, Provider, task};
use crate::progress::{Outcome, Steps};
use crate::tools::{self, JAEGER, KUBE_STATE_METRICS, VICTORIA_LOGS};
use crate::{build, paths, process, python};

/// Port at which Jaeger takes spans.
const SPANS: u16 = 4318;
/// Package and program.
const DEBIAN: [(&str, &str); 2] =
    [("prometheus", "prometheus"), ("prometheus-alertmanager", "prometheus-alertmanager")];
/// It draws the panels.
const PLOTTER: &str = "matplotlib==3.10.7";
const DRAW: &str = "e2e/observe/draw.py";
/// Where the documents have the pictures.
const PICTURES: &str = "docs/operations/pictures";

#[derive(clap::Args)]
#[command(
    after_help = "Needs the local cluster with images and operators, as `cargo xtask demo` leaves it. Everything that is started ends with \
                  the task.\n\nExamples:\n  \
                  cargo xtask observe dashboards --draw             also draw the pictures of the documents again\n  \
                  cargo xtask observe alerts --only Stalled Down    some alerts"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    choice: Choice,
}

#[derive(Subcommand)]
enum What {
    /// Run the flights pipeline, and ask Prometheus every query of every dashboard. Takes about ten minutes.
    Dashboards {
        /// Draw the panels into docs/operations/pictures.
        #[arg(long)]
        draw: bool,
    },
    /// Make the fault of each alert, and wait until Alertmanager has it. Takes about 20 minutes.
    Alerts {
        /// Only the alerts whose names contain one of these words.
        #[arg(long, num_args = 1.., value_name = "WORD")]
        only: Vec<String>,
    },
    /// Only build and unpack the servers.
    Build,
}

pub fn run(args: &Args) -> Result<()> {
    if matches!(args.what, What::Build) {
        return provide();
    }
    let cluster = args.choice.cluster()?;
    let cluster = cluster.as_ref();
    let spans = spans_address(cluster)?;
    provide()?;
    install(cluster, &spans)?;
    // The alerts need an operator that panics, next to the program.
    let mut compile = build::cargo("build")?;
    process::show(compile.args(["--quiet", "--bin", "panicking", "--bin", "observe"]))?;
    let mut program = build::run("observe", build::PROFILE)?;
    cluster::environment(&mut program, cluster)?;
    match &args.what {
        What::Dashboards { draw } => dashboards(program.args(["--spans", &spans]), *draw),
        What::Alerts { only } => {
            program.args(["--spans", &spans, "alerts"]);
            if !only.is_empty() {
                program.arg("--only").args(only);
            }
            process::show(&mut program)
        }
        What::Build => Ok(()),
    }
}

fn dashboards(program: &mut Command, draw: bool) -> Result<()> {
    program.arg("dashboards");
    if !draw {
        return process::show(program);
    }
    let python = python::environment(&[PLOTTER])?.join("bin/python3");
    let answers = paths::cache()?.join("dashboards.json");
    process::show(program.arg("--answers").arg(&answers))?;
    let mut plot = Command::new(python);
    plot.arg(paths::repository().join(DRAW)).arg(&answers).arg(paths::repository().join(PICTURES));
    process::show(&mut plot)
}

/// Makes all servers available.
pub fn provide() -> Result<()> {
    let mut steps = Steps::new(2);
    steps.run("Prometheus and Alertmanager", || {
        let mut outcome = Outcome::Present;
        for (package, program) in DEBIAN {
            if tools::debian(package, program)? {
                outcome = Outcome::Done;
            }
        }
        Ok(outcome)
    })?;
    steps.run("kube-state-metrics, Jaeger and VictoriaLogs", || {
        tools::provide(&[&KUBE_STATE_METRICS, &VICTORIA_LOGS, &JAEGER])
    })
}

/// # Errors
/// Prometheus on this machine does not reach the pods of this cluster.
pub fn check(cluster: &dyn Cluster) -> Result<()> {
    ensure!(
        cluster.provider() == Provider::Local,
        "Prometheus on this machine reaches the pods of a local cluster only, not of a {} one: use --provider local",
        cluster.provider().name()
    );
    Ok(())
}

/// The address of this machine at which pods reach Jaeger, with its port.
pub fn spans_address(cluster: &dyn Cluster) -> Result<String> {
    check(cluster)?;
    let address = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    let kubectl = Kubectl::new(cluster.kubeconfig()?);
    let address = process::output(&mut kubectl.command(&["get", "nodes", "-o", address])?)?;
    Ok(format!("{}:{SPANS}", address.trim()))
}

/// Installs the operators so that they send their spans to Jaeger.
pub fn install(cluster: &dyn Cluster, spans: &str) -> Result<()> {
    eprintln!("cargo xtask install");
    process::show(&mut task(&["install", "--set", &format!("global.otlp.endpoint=http://{spans}")], cluster)?)
}
