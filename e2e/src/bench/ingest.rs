//! The ingestion of CSV from S3, beside DuckDB with the same types and checks, and beside a client that only reads the
//! objects.

use super::lab::{BUCKETS, Cost, Lab, measure};
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use mlop_api::dataset::DatasetContent;
use object_store::{ObjectStoreExt as _, WriteMultipart, aws::AmazonS3, path::Path as Key};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};
use tokio::time::Instant;

/// Bytes of one source object.
const OBJECT_BYTES: usize = 64 << 20;
/// Rows that are written at a time.
const BATCH: u64 = 10_000;
const DUCKDB: &str = include_str!("../../bench/duckdb.py");
const CARRIERS: [&str; 6] = ["AA", "B6", "DL", "EV", "UA", "WN"];
const AIRPORTS: [&str; 6] = ["EWR", "JFK", "LGA", "ATL", "ORD", "LAX"];

/// The columns and checks of the Dataset. `bench/duckdb.py` has the same.
pub(super) fn content() -> Result<DatasetContent> {
    Ok(serde_json::from_value(json!({
        "format": {"csv": {"nullTokens": ["NA"]}},
        "columns": [
            {"name": "id", "type": "int64", "min": "0"},
            {"name": "at", "type": "timestamp"},
            {"name": "carrier", "type": "string", "pattern": "^[A-Z0-9]{2}$"},
            {"name": "flight", "type": "int64", "min": "1", "max": "9999"},
            {"name": "tail", "type": "string", "nullable": true},
            {"name": "origin", "type": "string", "enum": AIRPORTS},
            {"name": "dest", "type": "string", "enum": AIRPORTS},
            {"name": "dep_delay", "type": "float64", "nullable": true, "min": "-120", "max": "3000"},
            {"name": "arr_delay", "type": "float64", "nullable": true, "min": "-120", "max": "3000"},
            {"name": "air_time", "type": "float64", "nullable": true},
            {"name": "distance", "type": "int64", "min": "1"},
            {"name": "hour", "type": "int64"},
            {"name": "temp", "type": "float64", "nullable": true},
            {"name": "wind", "type": "float64", "nullable": true},
            {"name": "cancelled", "type": "bool"},
            {"name": "note", "type": "string", "nullable": true},
        ],
        "quarantine": {"maxRatio": "0"},
    }))?)
}

const HEADER: &str = "id,at,carrier,flight,tail,origin,dest,dep_delay,arr_delay,air_time,distance,hour,temp,wind,cancelled,note\n";

/// Appends one row. Every number has many values, and every nullable column some gaps.
fn write_row(csv: &mut String, id: u64) {
    // A multiplicative hash (Knuth) spreads the values.
    let hash = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let part = |shift: u32, count: u64| (hash >> shift) % count;
    let (minute, hour, day) = (id % 60, id / 60 % 24, 1 + id / 1_440 % 28);
    let pick = |names: &[&'static str; 6], shift: u32| {
        names.get(part(shift, 6) as usize).copied().unwrap_or_default()
    };
    let delay = |shift: u32| match part(shift, 50) {
        0 => "NA".to_owned(),
        _ => format!("{}.{}", part(shift, 180) as i64 - 30, part(shift + 3, 10)),
    };
    let _infallible = writeln!(
        csv,
        "{id},2026-01-{day:02}T{hour:02}:{minute:02}:00Z,{},{},N{:05},{},{},{},{},{},{},{hour},{}.{},{}.5,{},leg {}",
        pick(&CARRIERS, 5),
        1 + part(7, 9_999),
        part(11, 100_000),
        pick(&AIRPORTS, 13),
        pick(&AIRPORTS, 17),
        delay(19),
        delay(23),
        delay(29),
        1 + part(31, 5_000),
        part(37, 40),
        part(41, 10),
        part(43, 30),
        part(47, 2) == 0,
        part(49, 1_000),
    );
}

/// Measures each size in megabytes, and returns the figures.
///
/// # Errors
/// A program is missing or fails, or the programs do not keep the same rows.
pub async fn run(programs: &Path, megabytes: &[usize]) -> Result<Value> {
    let lab = Lab::start(programs).await?;
    let mut figures = Vec::new();
    println!("{:>8} {:>9} {:<16} {:>33} {:>8}", "MB", "rows", "program", "cost", "MB/s");
    for size in megabytes {
        figures.push(measure_size(&lab, *size).await?);
    }
    Ok(json!({"suite": "ingest", "figures": figures}))
}

async fn measure_size(lab: &Lab, megabytes: usize) -> Result<Value> {
    let Source { prefix, directory, rows } = write_source(lab, megabytes).await?;
    let show = |program: &str, cost: Cost| {
        let rate = megabytes as f64 / cost.seconds;
        println!("{megabytes:>8} {rows:>9} {program:<16} {cost} {rate:>8.1}");
        cost.to_json()
    };
    let reading = read_once(&lab.bucket(BUCKETS[0])?, &prefix).await?;
    println!("{megabytes:>8} {rows:>9} {:<16} {reading:>7.2} s", "reading once");

    let name = format!("version-{megabytes}");
    let worker = lab.version_worker(&name, &prefix, content()?).await?;
    let ours = show("mlop", measure(worker).await?);
    let summary = lab.result(&name)?.summary.unwrap_or_default().replace(',', "");
    ensure!(summary.starts_with(&format!("{rows} rows 0 rejected")), "mlop: {summary}");

    let mut duckdb = lab.python(DUCKDB)?;
    let out = lab.directory("duckdb")?.join(format!("{megabytes}.parquet"));
    duckdb.arg(directory).arg(&out).arg(rows.to_string());
    let theirs = show("DuckDB", measure(duckdb).await?);
    Ok(
        json!({"megabytes": megabytes, "rows": rows, "readingSeconds": reading, "mlop": ours, "duckdb": theirs}),
    )
}

/// Rows as CSV, in objects and in files.
pub(super) struct Source {
    /// Prefix of the objects.
    pub prefix: String,
    /// Directory of the files.
    pub directory: PathBuf,
    pub rows: u64,
}

/// Writes CSV of this size.
pub(super) async fn write_source(lab: &Lab, megabytes: usize) -> Result<Source> {
    let (prefix, bytes) = (format!("{megabytes}/"), megabytes * 1_000_000);
    let bucket = lab.bucket(BUCKETS[0])?;
    let directory = lab.directory(&format!("local-{megabytes}"))?;
    let (mut written, mut id, mut object) = (0, 0, 0);
    while written < bytes {
        let name = format!("{object:04}.csv");
        let mut upload =
            WriteMultipart::new(bucket.put_multipart(&Key::from(format!("{prefix}{name}"))).await?);
        let mut file = File::create(directory.join(name))?;
        let (mut size, limit) = (0, OBJECT_BYTES.min(bytes - written));
        let mut csv = HEADER.to_owned();
        while size < limit {
            (id..id + BATCH).for_each(|id| write_row(&mut csv, id));
            id += BATCH;
            upload.write(csv.as_bytes());
            file.write_all(csv.as_bytes())?;
            size += csv.len();
            csv.clear();
        }
        upload.finish().await?;
        written += size;
        object += 1;
    }
    Ok(Source { prefix, directory, rows: id })
}

/// The seconds in which one client reads all objects, one after the other, and does nothing with them.
async fn read_once(bucket: &AmazonS3, prefix: &str) -> Result<f64> {
    use object_store::ObjectStore as _;
    let begin = Instant::now();
    let prefix = Key::from(prefix.trim_end_matches('/'));
    let mut objects = bucket.list(Some(&prefix));
    while let Some(object) = objects.next().await {
        let mut body = bucket.get(&object?.location).await?.into_stream();
        while let Some(chunk) = body.next().await {
            chunk.context("a body broke off")?;
        }
    }
    Ok(begin.elapsed().as_secs_f64())
}
