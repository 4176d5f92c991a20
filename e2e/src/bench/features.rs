//! Features: their load into Redis and the online API beside Feast and a plain client of Redis, and their computation
//! beside DuckDB.
//!
//! All programs use the same Redis and the same rows.

mod compute;
mod load;
mod online;

use super::{lab::Lab, redis::Redis};
use anyhow::Result;
use load::Wide;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// The extent of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rows of the view that is loaded and served.
    pub entities: usize,
    /// Size of the CSV from which a view is computed.
    pub megabytes: usize,
    /// Longest time in which one size of request is sent to one program.
    pub time: Duration,
}

/// Measures load, online API and computation, and returns the figures.
///
/// # Errors
/// A program is missing or fails, or the programs do not give the same values.
pub async fn run(programs: &Path, extent: Extent) -> Result<Value> {
    let (lab, redis) = (Lab::start(programs).await?, Redis::start().await?);
    let wide = Wide::create(&lab, extent.entities).await?;
    let load = load::run(&lab, &redis, &wide).await?;
    let online = online::run(&lab, &redis, &wide, extent.time).await?;
    let compute = compute::run(&lab, extent.megabytes).await?;
    Ok(json!({"suite": "features", "load": load, "online": online, "compute": compute}))
}
