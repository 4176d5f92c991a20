//! The measurement of an interval: all routers are asked at its beginning and at its end.

use crate::counts::Counts;
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mlop_api::{
    common::Metric,
    result::ResultDocument,
    task::{AnalyzeWork, MEASURED},
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::time::{sleep, timeout};

/// Most routers that are asked.
const ROUTERS_MAX: usize = 64;
/// Longest time in which a router answers.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// The texts of the metrics of all routers that answer, by their addresses.
type Texts = BTreeMap<SocketAddr, String>;

/// Counts the requests of an interval. A router that cannot be asked at both of its ends counts nothing, and without any
/// router the result has no metrics.
pub async fn analyze(work: &AnalyzeWork) -> ResultDocument {
    tracing::info!(model = %work.model, version = work.canary, seconds = work.seconds, "measuring");
    let before = ask_all(&work.routers).await;
    sleep(Duration::from_secs(work.seconds)).await;
    let after = ask_all(&work.routers).await;
    result(work, &before, &after)
}

fn result(work: &AnalyzeWork, before: &Texts, after: &Texts) -> ResultDocument {
    let both = || after.iter().filter_map(|(address, text)| Some((before.get(address)?, text)));
    if both().next().is_none() {
        let summary = format!("no router at {} could be asked", work.routers);
        return ResultDocument { summary: Some(summary), ..ResultDocument::default() };
    }
    let change = |version: &str| {
        let changes =
            both().map(|(old, new)| Counts::parse(new, version).since(&Counts::parse(old, version)));
        changes.fold(Counts::default(), |sum, change| sum.plus(&change))
    };
    let (canary, stable) = (change(&work.canary), change(&work.stable));
    let values =
        [canary.requests, canary.errors, canary.p99(), stable.requests, canary.refused, stable.refused];
    let summary = format!(
        "{} of {} requests failed in {} s, {} were refused, p99 {:.4} s; {} requests to the stable version, {} refused",
        canary.errors,
        canary.requests,
        work.seconds,
        canary.refused,
        canary.p99(),
        stable.requests,
        stable.refused
    );
    ResultDocument {
        metrics: MEASURED.into_iter().zip(values).map(|(name, value)| Metric::new(name, value)).collect(),
        summary: Some(summary),
        ..ResultDocument::default()
    }
}

async fn ask_all(routers: &str) -> Texts {
    let addresses = match tokio::net::lookup_host(routers).await {
        Ok(addresses) => addresses.take(ROUTERS_MAX).collect::<Vec<_>>(),
        Err(error) => {
            tracing::warn!(routers, %error, "the routers have no address");
            Vec::new()
        }
    };
    let client = Client::builder(TokioExecutor::new()).build_http();
    let asked = addresses.into_iter().map(|address| {
        let client: &Client<HttpConnector, Empty<Bytes>> = &client;
        async move {
            match timeout(TIMEOUT, ask(client, address)).await {
                Ok(Ok(text)) => return Some((address, text)),
                Ok(Err(error)) => tracing::warn!(%address, error, "a router does not answer"),
                Err(_) => tracing::warn!(%address, "a router does not answer in time"),
            }
            None
        }
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn ask(client: &Client<HttpConnector, Empty<Bytes>>, address: SocketAddr) -> Result<String, String> {
    let uri: Uri = format!("http://{address}/metrics").parse().map_err(|error| format!("{error}"))?;
    let answer = client.get(uri).await.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), TEXT_BYTES_MAX).collect().await.map_err(|e| e.to_string())?;
    String::from_utf8(body.to_bytes().into()).map_err(|error| error.to_string())
}
