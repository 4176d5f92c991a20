//! The export of spans: OTLP over HTTP in JSON, to a collector of the platform's.
//!
//! Nothing waits for it. A collector that is away costs spans, which are counted.

mod document;
#[cfg(test)]
mod tests;

use super::metrics::{Metrics, SpanLabel};
use crate::span::Span;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// Spans of one request.
const BATCH: usize = 256;
/// Time in which a batch is collected.
const COLLECTION: Duration = Duration::from_secs(1);
/// A request without an answer is given up after this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Delays before the retries of a batch.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Where spans are sent, and as whose.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    uri: Uri,
    headers: HeaderMap,
    service: String,
}

impl Destination {
    /// The destination below the base URL `endpoint`, such as `http://collector.observability:4318`. `headers` is a list
    /// such as `key=value,other=value`, as OpenTelemetry's variables have it.
    ///
    /// # Errors
    /// When one of them is not readable, or the endpoint speaks TLS.
    pub(crate) fn new(endpoint: &str, headers: &str, service: &str) -> anyhow::Result<Self> {
        let uri: Uri = format!("{}/v1/traces", endpoint.trim_end_matches('/'))
            .parse()
            .with_context(|| format!("--otlp-endpoint: {endpoint:?} is not a URL"))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            bail!(
                "--otlp-endpoint: {endpoint:?} does not begin with http://; name a collector in the cluster, which can \
                 forward spans over TLS"
            );
        }
        let pairs = headers.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let headers = pairs.map(header).collect::<anyhow::Result<HeaderMap>>()?;
        Ok(Self { uri, headers, service: service.to_owned() })
    }
}

/// The values of headers may be keys: an error does not repeat them.
fn header(pair: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=').context("--otlp-headers: an entry has no =")?;
    let name: HeaderName = name
        .trim()
        .parse()
        .with_context(|| format!("--otlp-headers: {name:?} is not the name of a header"))?;
    let mut parsed: HeaderValue = value
        .trim()
        .parse()
        .with_context(|| format!("--otlp-headers: the value of {name} is not readable"))?;
    parsed.set_sensitive(true);
    Ok((name, parsed))
}

/// Sends spans until the last sender of the queue is gone.
pub(crate) async fn export(destination: Destination, mut spans: mpsc::Receiver<Span>, metrics: Arc<Metrics>) {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(ANSWER_TIMEOUT));
    let client: Transport = Client::builder(TokioExecutor::new()).build(tcp);
    while let Some(first) = spans.recv().await {
        let mut batch = vec![first];
        let collect = async {
            while batch.len() < BATCH
                && let Some(span) = spans.recv().await
            {
                batch.push(span);
            }
        };
        // The time is over when the batch is not full: it is sent as it is.
        let _is_full = timeout(COLLECTION, collect).await;
        let result = match send(&client, &destination, &batch).await {
            Ok(()) => SpanLabel::EXPORTED,
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    spans = batch.len(),
                    "cannot export spans; they are dropped"
                );
                SpanLabel::DROPPED
            }
        };
        metrics.spans.get_or_create(&result).inc_by(batch.len() as u64);
    }
}

type Transport = Client<HttpConnector, Full<Bytes>>;

/// Sends a batch, again if the collector is away or busy.
async fn send(client: &Transport, destination: &Destination, batch: &[Span]) -> anyhow::Result<()> {
    let body = Bytes::from(document::of(&destination.service, batch).to_string());
    let mut delays = RETRIES.into_iter();
    loop {
        let answer = timeout(ANSWER_TIMEOUT, client.request(request(destination, body.clone())?)).await;
        let failure = match answer {
            Ok(Ok(answer)) if answer.status().is_success() => return Ok(()),
            Ok(Ok(answer)) => {
                ensure!(is_busy(answer.status()), "{} answers {}", destination.uri, answer.status());
                anyhow::anyhow!("{} answers {}", destination.uri, answer.status())
            }
            Ok(Err(error)) => anyhow::Error::new(error).context(destination.uri.clone()),
            Err(_) => anyhow::anyhow!("{} does not answer", destination.uri),
        };
        let Some(delay) = delays.next() else { return Err(failure) };
        sleep(delay).await;
    }
}

fn request(destination: &Destination, body: Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::post(destination.uri.clone()).body(Full::new(body))?;
    request.headers_mut().extend(destination.headers.clone());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(request)
}

/// The answers after which a sender tries again.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}
