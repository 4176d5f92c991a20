//! The hand-offs of some chains while another tenant of the same operators is in trouble or busy, beside those without it.

use super::{
    chains::{Operators, create_pipeline, namespaces, serve_first, serve_next},
    hand_off::{hand_offs, last, since},
    scale,
    times::Times,
    workers::{self, Epoch, HANGING},
};
use crate::{audit::AuditLog, control_plane::ControlPlane};
use anyhow::Result;
use kube::Client;
use serde_json::{Value, json};
use std::path::Path;

/// The extent of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Chains whose hand-offs are measured.
    pub chains: u32,
    /// Times that they get new data in each condition.
    pub rounds: u32,
    /// Datasets of the tenant with many objects.
    pub datasets: u32,
}

/// The chains of the tenants whose hand-offs are measured.
struct Others<'a> {
    client: &'a Client,
    log: &'a AuditLog,
    epoch: &'a Epoch,
    namespaces: Vec<String>,
}

/// Measures the hand-offs alone and in each condition, and returns the figures.
///
/// # Errors
/// A program does not start, or a chain does not serve in time.
pub async fn run(programs: &Path, extent: Extent) -> Result<Value> {
    let server = ControlPlane::start_audited().await?;
    let client = server.client.clone();
    let (log, epoch) = (AuditLog::at(server.audit_log()), Epoch::default());
    let work = workers::run(client.clone(), epoch.clone());
    let measurements = async {
        let mut operators = Operators::start(programs, &server).await?;
        let namespaces = namespaces(extent.chains);
        let others = Others { client: &client, log: &log, epoch: &epoch, namespaces };
        serve_first(&client, &others.namespaces, &epoch).await?;
        operators.settle().await?;
        println!(
            "{:<36} {:>6} {:>8} {:>8} {:>8} {:>10} {:>10}",
            "condition", "count", "p50 ms", "p99 ms", "max ms", "ratio p50", "p99"
        );

        // The first new data is slower: programs open connections and fill caches.
        others.hand_offs(1).await?;
        let alone = others.hand_offs(extent.rounds).await?;
        let mut figures = vec![row("alone", &alone, &alone)];
        create_pipeline(&client, HANGING).await?;
        figures.push(row("a chain whose pods never end", &others.hand_offs(extent.rounds).await?, &alone));
        scale::create_connection(&client).await?;
        let (made, busy) =
            tokio::join!(scale::make_datasets(&client, extent.datasets), others.hand_offs(extent.rounds),);
        made?;
        figures.push(row(&format!("{} Datasets, while they are made", extent.datasets), &busy?, &alone));
        operators.settle().await?;
        let rest = others.hand_offs(extent.rounds).await?;
        figures.push(row(&format!("{} Datasets at rest", extent.datasets), &rest, &alone));
        Ok(
            json!({"suite": "isolation", "chains": extent.chains, "rounds": extent.rounds, "figures": figures}),
        )
    };
    tokio::select! {
        ended = measurements => ended,
        () = work => Err(anyhow::anyhow!("the stand-in for the workers has ended")),
    }
}

impl Others<'_> {
    /// The hand-offs of all chains and edges, when all chains get new data `rounds` times, one time after the other.
    async fn hand_offs(&self, rounds: u32) -> Result<Times> {
        let mut durations = Vec::new();
        for _ in 0..rounds {
            let from = last(self.log)?;
            serve_next(self.client, &self.namespaces, self.epoch).await?;
            let edges = hand_offs(&since(self.log, from)?, &self.namespaces);
            durations.extend(edges.into_iter().flat_map(|edge| edge.to_child));
        }
        Ok(durations.into_iter().collect())
    }
}

fn row(condition: &str, times: &Times, alone: &Times) -> Value {
    let ratio = |percent| times.percentile(percent).div_duration_f64(alone.percentile(percent));
    println!("{condition:<36} {:>6} {times} {:>10.2} {:>10.2}", times.len(), ratio(50), ratio(99));
    json!({"condition": condition, "milliseconds": times.to_json(), "ratioP50": ratio(50), "ratioP99": ratio(99)})
}
