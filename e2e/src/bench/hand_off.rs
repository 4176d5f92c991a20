//! The time from the write that ends a stage to the requests that start the next one, from the API server's audit log.
//!
//! Chains of five stages get new data at the same moment. The baseline, [`bare_loop`], does nothing but these requests, on
//! the same server and for as many chains.

use super::{
    bare_loop,
    chains::{Operators, namespaces, serve_first, serve_next},
    times::Times,
    workers::{self, Epoch},
};
use crate::{
    audit::{AuditLog, Entry},
    control_plane::ControlPlane,
};
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use mlop_api::operators;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Duration};

/// The requests between two stages: the status of `from`, then the creation of a `run`, then that of its `child`.
pub(super) struct Edge {
    pub(super) from: &'static str,
    /// None: the next stage has no runs, and the write of its child starts it.
    pub(super) run: Option<&'static str>,
    pub(super) child: &'static str,
    /// Name of the object of kind `from`.
    pub(super) name: &'static str,
}

/// The edges of a chain, in order. Plural names.
pub(super) const EDGES: [Edge; 4] = [
    Edge { from: "datasets", run: Some("featuresnapshots"), child: "pods", name: "flights" },
    Edge { from: "featureviews", run: Some("trainingruns"), child: "jobs", name: "routes" },
    Edge { from: "trainingjobs", run: Some("modelversions"), child: "pods", name: "delay" },
    Edge { from: "models", run: None, child: "deployments", name: "delay" },
];

/// The hand-offs of one edge.
#[derive(Default)]
pub(super) struct HandOffs {
    /// Until the request that creates the run.
    to_run: Vec<Duration>,
    /// Until the request that writes the pod, Job or Deployment.
    pub(super) to_child: Vec<Duration>,
}

/// Measures the hand-offs of each number of chains beside those of the bare loop, prints a table, and returns it as JSON.
///
/// # Errors
/// A program does not start, or a chain does not serve in time.
pub async fn run(programs: &Path, chains: &[u32]) -> Result<Value> {
    let mut results = Vec::new();
    println!(
        "chains  hand-off              to       p50 ms   p99 ms   max ms     loop:                     ratio p50, p99"
    );
    for chains in chains {
        results.push(measure(programs, *chains).await.with_context(|| format!("{chains} chains"))?);
    }
    Ok(json!({"handOff": results}))
}

async fn measure(programs: &Path, chains: u32) -> Result<Value> {
    let server = ControlPlane::start_audited().await?;
    let client = server.client.clone();
    let log = AuditLog::at(server.audit_log());
    let epoch = Epoch::default();
    let namespaces = namespaces(chains);
    let work = workers::run(client.clone(), epoch.clone());
    let measurements = async {
        let mut operators = Operators::start(programs, &server).await?;
        serve_first(&client, &namespaces, &epoch).await?;
        operators.settle().await?;

        let (from, before) = (last(&log)?, operators.cpu()?);
        let took = serve_next(&client, &namespaces, &epoch).await?;
        operators.settle().await?;
        let used = operators.cpu()? - before;
        operators.kill().await?;
        let entries = since(&log, from)?;
        let measured = hand_offs(&entries, &namespaces);
        let writes = writes(&entries, chains);

        let from = last(&log)?;
        bare_loop::run(&client, &namespaces).await?;
        let bare = hand_offs(&since(&log, from)?, &namespaces);

        print!("{}", table(chains, &measured, &bare));
        println!(
            "{chains:>6}  new data served by all after {:.2} s, {:.1} chains a second; {:.1} ms of CPU of all operators for each",
            took.as_secs_f64(),
            f64::from(chains) / took.as_secs_f64(),
            used * 1e3 / f64::from(chains)
        );
        println!("{chains:>6}  writes of the operators for each chain: {writes}");
        Ok(json!({
            "chains": chains, "seconds": took.as_secs_f64(), "cpuSeconds": used, "writes": writes,
            "edges": EDGES.iter().zip(measured.iter().zip(&bare)).map(|(edge, (ours, bare))| json!({
                "from": edge.from, "to": edge.child,
                "mlop": times(&ours.to_child).to_json(), "loop": times(&bare.to_child).to_json(),
            })).collect::<Vec<_>>(),
        }))
    };
    tokio::select! {
        ended = measurements => ended,
        () = work => Err(anyhow::anyhow!("the stand-in for the workers has ended")),
    }
}

/// The time of the newest entry.
pub(super) fn last(log: &AuditLog) -> Result<Timestamp> {
    Ok(log.entries(|_| true)?.last().map_or(Timestamp::MIN, |entry| entry.at))
}

/// The accepted requests that came after `from`.
pub(super) fn since(log: &AuditLog, from: Timestamp) -> Result<Vec<Entry>> {
    log.entries(|entry| entry.received > from && entry.is_accepted())
}

/// The hand-offs of each edge in all chains.
pub(super) fn hand_offs(entries: &[Entry], namespaces: &[String]) -> Vec<HandOffs> {
    let mut chains: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        chains.entry(&entry.namespace).or_default().push(entry);
    }
    let chains: Vec<&Vec<&Entry>> = namespaces.iter().filter_map(|name| chains.get(name.as_str())).collect();
    EDGES.iter().map(|edge| chains.iter().filter_map(|chain| hand_off(edge, chain)).collect()).collect()
}

/// The times from the end of a stage until the requests for the run, if the next stage has one, and for its child.
fn hand_off(edge: &Edge, chain: &[&Entry]) -> Option<(Option<Duration>, Duration)> {
    let status = format!("{}/status", edge.from);
    let (begins, creates) = match edge.run {
        Some(run) => (run, "create"),
        None => (edge.child, "patch"),
    };
    let begin = chain.iter().find(|entry| entry.resource == begins && entry.verb == creates)?;
    // The last status before it published what the run uses. A watch may show a write before its response is complete.
    let ended = chain.iter().rfind(|entry| entry.resource == status && entry.received <= begin.received)?;
    let after =
        |entry: &Entry| Duration::try_from(entry.received.duration_since(ended.at)).unwrap_or_default();
    let child = match edge.run {
        Some(_) => chain.iter().find(|entry| {
            entry.resource == edge.child && entry.verb == "create" && entry.name.starts_with(&begin.name)
        })?,
        None => begin,
    };
    Some((edge.run.map(|_| after(begin)), after(child)))
}

impl FromIterator<(Option<Duration>, Duration)> for HandOffs {
    fn from_iter<I: IntoIterator<Item = (Option<Duration>, Duration)>>(all: I) -> Self {
        let mut hand_offs = Self::default();
        for (to_run, to_child) in all {
            hand_offs.to_run.extend(to_run);
            hand_offs.to_child.push(to_child);
        }
        hand_offs
    }
}

fn times(durations: &[Duration]) -> Times {
    durations.iter().copied().collect()
}

fn table(chains: u32, measured: &[HandOffs], bare: &[HandOffs]) -> String {
    let mut text = String::new();
    let mut row = |edge: &Edge, to: &str, ours: &[Duration], bare: &[Duration]| {
        let (ours, bare) = (times(ours), times(bare));
        let ratio = |percent| {
            let (ours, bare) = (ours.percentile(percent), bare.percentile(percent));
            if bare.is_zero() { "-".to_owned() } else { format!("{:.2}", ours.div_duration_f64(bare)) }
        };
        writeln!(
            text,
            "{chains:>6}  {:<14} {:>4} x {to:<17} {ours}   {bare}   {:>6} {:>6}",
            edge.from,
            ours.len(),
            ratio(50),
            ratio(99)
        )
        .ok();
    };
    for (edge, (ours, bare)) in EDGES.iter().zip(measured.iter().zip(bare)) {
        if let Some(run) = edge.run {
            row(edge, run, &ours.to_run, &bare.to_run);
        }
        row(edge, edge.child, &ours.to_child, &bare.to_child);
    }
    text
}

/// The operators' writes for each chain, by resource, the most frequent first.
fn writes(entries: &[Entry], chains: u32) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.is_write() && operators::named(&entry.user).is_some()) {
        *counts.entry(format!("{} {}", entry.verb, entry.resource)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(what, count)| (std::cmp::Reverse(*count), what.clone()));
    let each = |count: u32| f64::from(count) / f64::from(chains);
    let total: u32 =
        counts.iter().filter(|(what, _)| !what.ends_with(" events")).map(|(_, count)| count).sum();
    let list: Vec<_> = counts.iter().map(|(what, count)| format!("{what} {:.1}", each(*count))).collect();
    format!("{:.1} without Events: {}", each(total), list.join(", "))
}
