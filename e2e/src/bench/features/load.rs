//! The load of a table into Redis, beside Feast's `materialize` and a client that only writes the same rows.

use crate::bench::{
    lab::{BUCKETS, Cost, Lab, interpreter, measure},
    redis::{self, Redis, Row},
};
use anyhow::{Context as _, Result, ensure};
use mlop_api::{
    Digest, MEDIA_TABLE,
    dataset::DatasetContent,
    result::Activated,
    task::{self, ActivateWork, Input, Online, ViewKey, Work},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};
use tokio::time::Instant;

pub(super) const NAMESPACE: &str = "bench";
pub(super) const VIEW: &str = "wide";
/// The column that names an entity.
pub(super) const ENTITY: &str = "id";
/// Features of the view.
const FEATURES: usize = 50;
const FEAST: &str = include_str!("../../../bench/feast_online.py");

/// A table with one row for each entity.
pub(super) struct Wide {
    pub entities: usize,
    /// The rows as CSV.
    csv: PathBuf,
    /// Digest of the table in the store.
    table: Digest,
}

/// The names of the view's features. The first letter is the type: double, integer or string.
pub(super) fn features() -> Vec<String> {
    let letters = ["d", "d", "d", "i", "s"].iter().cycle().take(FEATURES).enumerate();
    letters.map(|(number, letter)| format!("{letter}{number:02}")).collect()
}

impl Wide {
    /// Writes the rows as CSV, and as a table into the store.
    pub(super) async fn create(lab: &Lab, entities: usize) -> Result<Self> {
        let csv = csv(entities);
        let file = lab.directory("wide")?.join("wide.csv");
        fs::write(&file, &csv)?;
        let prefix = "wide/";
        lab.put(BUCKETS[0], &format!("{prefix}wide.csv"), csv.into_bytes()).await?;
        let table = lab.version("wide", prefix, content()?).await?.digest.context("no table")?;
        Ok(Self { entities, csv: file, table })
    }
}

fn content() -> Result<DatasetContent> {
    let features = features().into_iter().map(|name| {
        let kind = match name.chars().next() {
            Some('d') => "float64",
            Some('i') => "int64",
            _ => "string",
        };
        json!({"name": name, "type": kind})
    });
    let columns = [json!({"name": ENTITY, "type": "int64"}), json!({"name": "at", "type": "timestamp"})];
    let columns: Vec<_> = columns.into_iter().chain(features).collect();
    Ok(serde_json::from_value(
        json!({"format": {"csv": {}}, "columns": columns, "quarantine": {"maxRatio": "0"}}),
    )?)
}

fn csv(entities: usize) -> String {
    let features = features();
    let mut csv = format!("{ENTITY},at,{}\n", features.join(","));
    for entity in 0..entities as u64 {
        let _infallible = write!(csv, "{entity},2026-11-01T00:00:00Z");
        for (place, name) in features.iter().enumerate() {
            // A multiplicative hash (Knuth) spreads the values.
            let hash = (entity * FEATURES as u64 + place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let _infallible = match name.chars().next() {
                Some('d') => write!(csv, ",{}.{:03}", hash >> 44, hash >> 20 & 0x1ff),
                Some('i') => write!(csv, ",{}", hash >> 32),
                _ => write!(csv, ",value-{}", hash >> 52),
            };
        }
        csv.push('\n');
    }
    csv
}

/// Loads the rows with each program, and returns the figures.
pub(super) async fn run(lab: &Lab, redis: &Redis, wide: &Wide) -> Result<Value> {
    println!("{:>9} {:>9} {:<14} {:>33} {:>10}", "entities", "features", "load by", "cost", "rows/s");
    let show = |program: &str, cost: Cost| {
        let rate = wide.entities as f64 / cost.seconds;
        println!("{:>9} {FEATURES:>9} {program:<14} {cost} {rate:>10.0}", wide.entities);
        cost.to_json()
    };
    let ours = show("mlop", measure(activation(lab, redis, wide)?).await?);
    let feast = lab.directory("feast")?;
    let mut materialize = feast_command(lab, "load")?;
    materialize.arg(&wide.csv).arg(redis.address()).stdout(Stdio::null());
    let memory = measure(materialize).await?.memory;
    let used: Used = serde_json::from_slice(&fs::read(feast.join("cost.json"))?)?;
    let theirs = show("Feast", Cost { seconds: used.seconds, cpu_seconds: used.cpu_seconds, memory });
    let rows = rows(redis).await?;
    ensure!(rows.len() == wide.entities, "{} rows in Redis", rows.len());
    let mut client = redis.connect().await?;
    let begin = Instant::now();
    redis::write(&mut client, &rows).await?;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{:>9} {FEATURES:>9} {:<14} {seconds:>8.3} s {:>34.0}",
        wide.entities,
        "plain client",
        wide.entities as f64 / seconds
    );
    Ok(json!({
        "entities": wide.entities, "features": FEATURES, "mlop": ours, "feast": theirs,
        "plain": {"seconds": seconds},
    }))
}

/// What `materialize` alone has used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Used {
    seconds: f64,
    cpu_seconds: f64,
}

/// The rows that mlop has loaded.
pub(super) async fn rows(redis: &Redis) -> Result<Vec<Row>> {
    redis::rows(&mut redis.connect().await?, &format!("mlop:{{{NAMESPACE}/{VIEW}}}:*:e:*")).await
}

/// The worker that loads the table.
fn activation(lab: &Lab, redis: &Redis, wide: &Wide) -> Result<Command> {
    let store = lab.store(BUCKETS[1]);
    let table = Input {
        name: VIEW.to_owned(),
        digest: wide.table.clone(),
        media_type: MEDIA_TABLE.to_owned(),
        store,
    };
    let online = Online {
        view: ViewKey { namespace: NAMESPACE.to_owned(), name: VIEW.to_owned() },
        entities: vec![ENTITY.to_owned()],
        timestamp: "at".to_owned(),
        ttl_seconds: None,
        as_of: None,
        redis: task::Redis {
            address: redis.address(),
            password: false,
            user: None,
            tls: false,
            cluster: false,
        },
        activation: Activated { revision: 1, parameters: Digest::of_bytes(b"bench") },
    };
    lab.worker("mlop-features", "activation", "FeatureView", Work::Activate(ActivateWork { table, online }))
}

/// Feast's script, in the directory that its modes share.
pub(super) fn feast_command(lab: &Lab, mode: &str) -> Result<Command> {
    let directory = lab.directory("feast")?;
    let mut command = interpreter("MLOP_BENCH_FEAST", FEAST)?;
    // Its server keeps files in the home directory.
    command.arg(mode).arg(&directory).env("HOME", &directory);
    Ok(command)
}
