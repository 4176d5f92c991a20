//! The program of `cargo xtask demo`: runs the flights pipeline in a cluster with the operators.

use anyhow::Result;
use clap::Parser;
use mlop_e2e::{
    demo,
    namespace::TestNamespace,
    observe::{self, Durations, Observatory},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    select, signal,
};

const NAMESPACE: &str = "flights";
const NEXT: &str = "
The pipeline stays up. Things to try (first: eval \"$(cargo xtask cluster env)\"):
  kubectl -n flights get mlop                          all resources, and whether they are ready
  kubectl -n flights get mlop-all,pods                 with every run and its pods
  kubectl -n flights describe mdep delay               why something is not ready
  kubectl explain trainingjob.spec                     the reference
  kubectl -n flights patch dset flights --type merge -p '{\"spec\":{\"pin\":\"<name of a DatasetVersion>\"}}'
                                                       rolls back to an earlier version: features, model and alias follow
  cargo xtask cluster down                             stops the cluster";

#[derive(Parser)]
#[command(bin_name = "cargo xtask demo")]
struct Args {
    /// Start Prometheus, Alertmanager, kube-state-metrics, Jaeger and a log store beside the cluster. The address, `host:port`,
    /// is that at which Jaeger takes the operators' spans.
    #[arg(long, value_name = "ADDRESS")]
    observe: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let ns = TestNamespace::open(NAMESPACE).await?;
    let observatory = match &args.observe {
        Some(spans) => Some(Observatory::start(&ns.cluster, spans, Durations::AsShipped).await?),
        None => None,
    };
    demo::run(&ns).await?;
    println!("{NEXT}");
    if let Some(observatory) = observatory {
        show(&observatory).await?;
    }
    Ok(())
}

/// Says what the servers have, and keeps them until a line or the end of the input, or until Ctrl-C.
async fn show(observatory: &Observatory) -> Result<()> {
    let counts = observatory.counts("mlop-training", NAMESPACE).await?;
    println!("\n=== What the servers saw: {counts}\n{}", observe::guide(NAMESPACE));
    println!("The servers and their data end with Enter or Ctrl-C.");
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    select! {
        line = input.next_line() => drop(line?),
        stopped = signal::ctrl_c() => stopped?,
    }
    Ok(())
}
