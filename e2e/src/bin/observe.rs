//! The program of `cargo xtask observe`: dashboards and alerts of a real run.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use mlop_api::{dataset::Dataset, registry::Model};
use mlop_e2e::{
    demo,
    namespace::TestNamespace,
    observe::{Durations, Observatory, dashboards, drills},
};
use serde_json::json;
use std::{fs, path::PathBuf, time::Duration};
use tokio::time::Instant;

/// `for` of the alerts in drills, if it is longer as shipped.
const SHORT: Duration = Duration::from_secs(30);
/// The time limit from a change to its sample in Prometheus.
const SEEN: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(bin_name = "cargo xtask observe")]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Address, `host:port`, at which Jaeger takes the operators' spans.
    #[arg(long, value_name = "ADDRESS", global = true, default_value = "127.0.0.1:4318")]
    spans: String,
}

#[derive(Subcommand)]
enum What {
    /// Run the flights pipeline, and ask Prometheus every query of every dashboard.
    Dashboards {
        /// File for the answers, from which the pictures are drawn.
        #[arg(long, value_name = "FILE")]
        answers: Option<PathBuf>,
    },
    /// Make the fault of each alert, and wait until Alertmanager has the alert.
    Alerts {
        /// Only the alerts whose names contain one of these words.
        #[arg(long, num_args = 1.., value_name = "WORD")]
        only: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    match args.what {
        What::Dashboards { answers } => dashboards(&args.spans, answers).await,
        What::Alerts { only } => alerts(&args.spans, &only).await,
    }
}

async fn dashboards(spans: &str, answers: Option<PathBuf>) -> Result<()> {
    let ns = TestNamespace::open(dashboards::NAMESPACE).await?;
    let observatory = Observatory::start(&ns.cluster, spans, Durations::AsShipped).await?;
    let started = Instant::now();
    demo::run(&ns).await?;
    let prometheus = &observatory.prometheus;
    // Panels about problems and about choices of users have something to show.
    change(&ns, "0.99", true).await?;
    for sign in ["mlop_resource_cause_info", "mlop_resource_suspended == 1"] {
        prometheus.until(sign, SEEN).await?;
    }
    let asked = dashboards::ask(prometheus, started.elapsed()).await;
    change(&ns, "0.65", false).await?;
    let (report, pictures) = asked?;
    println!("\n{} queries of dashboards: {} have data", report.queries, report.with_data);
    report.empty.iter().for_each(|line| println!("  empty: {line}"));
    println!("{}", observatory.counts("mlop-training", dashboards::NAMESPACE).await?);
    if let Some(file) = answers {
        fs::write(&file, serde_json::to_string(&pictures)?).with_context(|| file.display().to_string())?;
    }
    report.check()
}

/// Edits the gate of the flights' Model, and whether its Dataset is suspended.
async fn change(ns: &TestNamespace, least: &str, suspend: bool) -> Result<()> {
    let gates = json!([{"name": "quality", "metric": "auc", "min": least}]);
    ns.patch::<Model>("delay", &json!({"spec": {"gates": gates}})).await?;
    ns.patch::<Dataset>("flights", &json!({"spec": {"suspend": suspend}})).await.map(drop)
}

async fn alerts(spans: &str, only: &[String]) -> Result<()> {
    TestNamespace::run("alerts", async |ns| {
        let observatory = Observatory::start(&ns.cluster, spans, Durations::AtMost(SHORT)).await?;
        let seen = drills::run(ns, &observatory, only).await?;
        println!("\n{}", drills::table(&seen, SHORT));
        Ok(())
    })
    .await
}
