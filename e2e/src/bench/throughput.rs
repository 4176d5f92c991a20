//! The chains and writes a second, as a share of a raw writer's.
//!
//! The raw writer sends the same requests again, in other namespaces of the same server: those of each chain one after the
//! other, all chains at once. It waits for no watch and decides nothing. The stand-in for the workers and the controllers
//! of Jobs and Deployments work in both cases.

use super::{
    chains::{Operators, create_pipeline, each, namespaces, serve_first, serve_next},
    raw_writer::{self, Recorded},
    workers::{self, Epoch},
};
use crate::{audit::AuditLog, control_plane::ControlPlane};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path, time::Duration};
use tokio::time::Instant;

/// Measures each number of chains, prints a table, and returns it as JSON.
///
/// # Errors
/// A program does not start, or a chain does not serve in time.
pub async fn run(programs: &Path, chains: &[u32]) -> Result<Value> {
    println!(
        "{:>6} {:<10} {:>8} {:>9} {:>11} {:>10} {:>9} {:>9}",
        "chains", "writer", "seconds", "chains/s", "resources/s", "writes/s", "refused", "no change"
    );
    let mut figures = Vec::new();
    for chains in chains {
        figures.push(measure(programs, *chains).await.with_context(|| format!("{chains} chains"))?);
    }
    Ok(json!({"suite": "throughput", "figures": figures}))
}

async fn measure(programs: &Path, chains: u32) -> Result<Value> {
    let server = ControlPlane::start_audited_with_bodies().await?;
    let client = server.client.clone();
    let log = AuditLog::at(server.audit_log());
    let epoch = Epoch::default();
    let namespaces = namespaces(chains);
    let work = workers::run(client.clone(), epoch.clone());
    let measurements = async {
        let mut operators = Operators::start(programs, &server).await?;
        serve_first(&client, &namespaces, &epoch).await?;
        operators.settle().await?;
        let first = raw_writer::recorded(&log)?;
        let log = log.from_its_end()?;

        let took = serve_next(&client, &namespaces, &epoch).await?;
        operators.settle().await?;
        operators.kill().await?;
        let second = raw_writer::recorded(&log)?;
        let ours = Rates::of(chains, &second, took);
        ours.print(
            "mlop",
            raw_writer::refused(&second).len(),
            Some(raw_writer::without_change(&first, &second)),
        );

        let writer = raw_writer::RawWriter::new(&server).await?;
        let copies: Vec<String> = namespaces.iter().map(|namespace| raw_writer::copy(namespace)).collect();
        each(&copies, |namespace| create_pipeline(&client, namespace)).await?;
        writer.send(&namespaces, &first).await?;
        let began = Instant::now();
        let refused = writer.send(&namespaces, &second).await?;
        let raw = Rates::of(chains, &second, began.elapsed());
        raw.print("raw", refused.len(), None);
        if !refused.is_empty() {
            println!("{chains:>6} refused to the raw writer: {}", raw_writer::kinds(&refused));
        }
        println!("{chains:>6} share of the raw writer: {:.0} %", ours.chains / raw.chains * 100.0);
        Ok(json!({"chains": chains, "mlop": ours.to_json(), "raw": raw.to_json()}))
    };
    tokio::select! {
        ended = measurements => ended,
        () = work => Err(anyhow::anyhow!("the stand-in for the workers has ended")),
    }
}

/// What is done in a second.
struct Rates {
    number: u32,
    seconds: f64,
    chains: f64,
    /// Objects of mlop's kinds that get another status.
    resources: f64,
    writes: f64,
}

impl Rates {
    fn of(chains: u32, writes: &[Recorded], took: Duration) -> Self {
        let resources: BTreeSet<_> = writes.iter().filter_map(Recorded::reported).collect();
        let seconds = took.as_secs_f64();
        Self {
            number: chains,
            seconds,
            chains: f64::from(chains) / seconds,
            resources: resources.len() as f64 / seconds,
            writes: writes.len() as f64 / seconds,
        }
    }

    fn print(&self, writer: &str, refused: usize, without_change: Option<usize>) {
        let Self { number, seconds, chains, resources, writes } = self;
        let without_change = without_change.map_or_else(|| "-".to_owned(), |count| count.to_string());
        println!(
            "{number:>6} {writer:<10} {seconds:>8.2} {chains:>9.2} {resources:>11.1} {writes:>10.1} {refused:>9} {without_change:>9}"
        );
    }

    fn to_json(&self) -> Value {
        json!({
            "seconds": self.seconds, "chainsPerSecond": self.chains,
            "resourcesPerSecond": self.resources, "writesPerSecond": self.writes,
        })
    }
}
