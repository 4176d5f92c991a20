//! The computation of a view like that of the demo's flights, beside DuckDB with the same SQL.

use crate::bench::{
    ingest,
    lab::{BUCKETS, Cost, Lab, measure},
};
use anyhow::{Context as _, Result};
use mlop_api::{
    MEDIA_TABLE,
    features::FeatureContent,
    task::{Input, SnapshotWork, Work},
};
use serde_json::{Value, json};

const DUCKDB: &str = include_str!("../../../bench/view.py");
/// The past of each flight begins a week before it and ends a day before it.
const SQL: &str = r#"
    SELECT DISTINCT origin, dest, carrier, "at",
      avg(arr_delay) OVER past AS arr_delay_7d,
      avg(dep_delay) OVER past AS dep_delay_7d,
      avg(CASE WHEN arr_delay > 15 THEN 1.0 WHEN arr_delay <= 15 THEN 0.0 END) OVER past AS late_share_7d,
      count(arr_delay) OVER past AS flights_7d
    FROM flights
    WINDOW past AS (PARTITION BY origin, dest, carrier ORDER BY "at"
      RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND INTERVAL '1' DAY PRECEDING)"#;
const ENTITIES: [&str; 3] = ["origin", "dest", "carrier"];
const TIMESTAMP: &str = "at";
/// Memory of the query before it spills: the default of `spec.resources.memory` of a FeatureView.
const MEMORY_BYTES: u64 = 1 << 30;

/// Computes the view over `megabytes` of CSV with each program, and returns the figures.
pub(super) async fn run(lab: &Lab, megabytes: usize) -> Result<Value> {
    let source = ingest::write_source(lab, megabytes).await?;
    let flights = lab.version("flights", &source.prefix, ingest::content()?).await?;
    println!("{:>9} {:<14} {:>33} {:>10}", "rows", "computed by", "cost", "rows/s");
    let show = |program: &str, cost: Cost| {
        println!("{:>9} {program:<14} {cost} {:>10.0}", source.rows, source.rows as f64 / cost.seconds);
        cost.to_json()
    };
    let [_, store] = BUCKETS;
    let input = Input {
        name: "flights".to_owned(),
        digest: flights.digest.context("no table")?,
        media_type: MEDIA_TABLE.to_owned(),
        store: lab.store(store),
    };
    let work = SnapshotWork {
        inputs: vec![input],
        content: FeatureContent {
            sql: SQL.to_owned(),
            entities: ENTITIES.map(str::to_owned).to_vec(),
            timestamp: TIMESTAMP.to_owned(),
        },
        output: lab.store(store),
        memory_bytes: MEMORY_BYTES,
        as_of: None,
        online: None,
        active: None,
    };
    let worker = lab.worker("mlop-features", "view", "FeatureSnapshot", Work::Snapshot(work))?;
    let ours = show("mlop", measure(worker).await?);
    let result = lab.result("view")?;
    let rows = result.metrics.iter().find(|metric| metric.name == "rows").context("no rows")?;

    let duckdb = |mode: &str| {
        let mut command = lab.python(DUCKDB)?;
        command.arg(mode).arg(&source.directory);
        anyhow::Ok(command)
    };
    measure(duckdb("prepare")?).await?;
    let mut compute = duckdb("compute")?;
    let order = ENTITIES.iter().chain([&TIMESTAMP]).map(|column| format!("\"{column}\""));
    compute.args([SQL, &order.collect::<Vec<_>>().join(", "), &rows.value]);
    let theirs = show("DuckDB", measure(compute).await?);
    Ok(json!({"rows": source.rows, "mlop": ours, "duckdb": theirs}))
}
