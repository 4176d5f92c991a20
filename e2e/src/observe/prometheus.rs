//! Queries to Prometheus.

use super::INTERVAL;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};

/// The API of a Prometheus.
pub struct Prometheus {
    base: String,
    client: reqwest::Client,
}

/// A series, with its samples as seconds and values. A gap is not a sample.
#[derive(Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub samples: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    value: Option<(f64, String)>,
}

impl Prometheus {
    pub(super) fn new(address: &str) -> Self {
        Self { base: format!("http://{address}"), client: reqwest::Client::new() }
    }

    /// The newest values.
    ///
    /// # Errors
    /// Prometheus refuses the query.
    pub async fn now(&self, query: &str) -> Result<Vec<Series>> {
        self.ask("query", &[("query", query.to_owned())]).await
    }

    /// The values of the last `past`.
    ///
    /// # Errors
    /// Prometheus refuses the query.
    pub async fn range(&self, query: &str, past: Duration) -> Result<Vec<Series>> {
        let time = self.now("time()").await?;
        let end = time.first().and_then(|series| series.samples.first()).context("Prometheus has no time")?.0;
        let start = end - past.as_secs_f64();
        let step = INTERVAL.as_secs();
        self.ask(
            "query_range",
            &[
                ("query", query.to_owned()),
                ("start", start.to_string()),
                ("end", end.to_string()),
                ("step", step.to_string()),
            ],
        )
        .await
    }

    /// Waits until the query has a value.
    ///
    /// # Errors
    /// Prometheus refuses the query, or `limit` has passed.
    pub async fn until(&self, query: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.now(query).await?.is_empty() {
            if Instant::now() >= deadline {
                bail!("{query} has no value within {} s", limit.as_secs());
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }

    async fn ask(&self, what: &str, query: &[(&str, String)]) -> Result<Vec<Series>> {
        let request = self.client.get(format!("{}/api/v1/{what}", self.base)).query(query);
        let answer: Answer = request.send().await?.json().await?;
        if answer.status != "success" {
            bail!("{}", answer.error);
        }
        series(answer.data)
    }
}

fn series(mut data: Value) -> Result<Vec<Series>> {
    let result = data.get_mut("result").map(Value::take).unwrap_or_default();
    // A scalar has no labels.
    let found: Vec<Found> = if data.get("resultType").is_some_and(|kind| kind == "scalar") {
        let value = serde_json::from_value(result)?;
        vec![Found { metric: BTreeMap::new(), values: Vec::new(), value: Some(value) }]
    } else {
        serde_json::from_value(result)?
    };
    let samples = |found: &Found| {
        let all = found.values.iter().chain(&found.value);
        all.filter_map(|(at, value)| Some((*at, value.parse().ok().filter(|value: &f64| value.is_finite())?)))
            .collect()
    };
    Ok(found
        .into_iter()
        .map(|found| Series { samples: samples(&found), labels: found.metric })
        .filter(|series| !series.samples.is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_that_are_not_numbers_do_not_count() {
        let data = json!({"resultType": "matrix", "result": [
            {"metric": {"a": "b"}, "values": [[1.0, "NaN"], [2.0, "3.5"]]},
            {"metric": {}, "values": [[1.0, "+Inf"]]},
        ]});
        let found = series(data).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0].samples, &found[0].labels["a"]), (&vec![(2.0, 3.5)], &"b".to_owned()));
    }

    #[test]
    fn scalars_and_vectors_have_one_sample() {
        let scalar = series(json!({"resultType": "scalar", "result": [7.0, "7"]})).unwrap();
        let vector = json!({"resultType": "vector", "result": [{"metric": {}, "value": [7.0, "7"]}]});
        assert_eq!(scalar[0].samples, series(vector).unwrap()[0].samples);
    }
}
