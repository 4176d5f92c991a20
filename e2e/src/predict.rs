//! The requests of an application: features from the online API, and a prediction from the model.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One value from the online API.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    pub value: Value,
    /// `PRESENT`, `NOT_FOUND`, `NULL_VALUE` or `OUTSIDE_MAX_AGE`.
    pub status: String,
}

#[derive(Deserialize)]
struct Features {
    metadata: FeatureMetadata,
    results: Vec<FeatureColumn>,
}

#[derive(Deserialize)]
struct FeatureMetadata {
    feature_names: Vec<String>,
}

#[derive(Deserialize)]
struct FeatureColumn {
    values: Vec<Value>,
    statuses: Vec<String>,
}

/// Gets the values of `features` (`<view>:<column>`) for one entity, by column name.
///
/// # Errors
/// The API does not respond, or refuses the request.
pub async fn features(
    base: &str,
    features: &[String],
    entity: &[(&str, &str)],
) -> Result<BTreeMap<String, Feature>> {
    let entities: BTreeMap<_, _> = entity.iter().map(|(name, value)| (*name, [*value])).collect();
    let body = json!({"features": features, "entities": entities});
    let answer: Features =
        post(&reqwest::Client::new(), &format!("{base}/get-online-features"), &body).await?;
    let columns = answer.metadata.feature_names.into_iter().zip(answer.results);
    let first = |column: FeatureColumn| {
        let value = column.values.into_iter().next()?;
        Some(Feature { value, status: column.statuses.into_iter().next()? })
    };
    Ok(columns.filter_map(|(name, column)| Some((name, first(column)?))).collect())
}

/// A request of the Open Inference Protocol (V2) for one row of numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    parameters: Value,
    inputs: Vec<Value>,
}

impl Request {
    pub fn new<'a>(row: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let input = |(name, value): (&str, f64)| json!({"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]});
        // With this content type MLServer combines all inputs into one data frame.
        Self { parameters: json!({"content_type": "pd"}), inputs: row.into_iter().map(input).collect() }
    }
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    data: Vec<f64>,
}

/// Sends `request` and returns the numbers of the first output.
///
/// # Errors
/// The server does not respond, or refuses the request.
pub async fn infer(http: &reqwest::Client, url: &str, request: &Request) -> Result<Vec<f64>> {
    let answer: Answer = post(http, url, request).await?;
    Ok(answer.outputs.into_iter().next().context("the answer has no output")?.data)
}

async fn post<T: for<'de> Deserialize<'de>>(
    http: &reqwest::Client,
    url: &str,
    body: &impl Serialize,
) -> Result<T> {
    let response = http.post(url).json(body).send().await.with_context(|| format!("POST {url}"))?;
    let status = response.status();
    let text = response.text().await.with_context(|| format!("POST {url}"))?;
    ensure!(status.is_success(), "POST {url}: {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("POST {url}: unexpected response: {text}"))
}
