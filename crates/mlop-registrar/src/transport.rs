//! One request to the tracking server and its answer.

use mlop_api::{Reason, result::Failure};
use serde_json::Value;
use std::{error::Error as _, future::Future, time::Duration};

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time from a request to the end of its answer. SQLite behind MLflow may wait several seconds for a lock.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// A request, relative to the server's API.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: Method,
    /// For example `runs/search`.
    pub path: &'static str,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Delete,
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// There was no answer, or not all of one. Whether the server has acted is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// How requests reach the server. A trait, so that tests can cut the line between any two requests.
pub trait Transport: Send + Sync {
    fn send(&self, request: &Request) -> impl Future<Output = Result<Response, Unanswered>> + Send;
}

/// Plain HTTP. There is no TLS in this worker: the server is a Service in the same cluster.
pub struct Http {
    client: reqwest::Client,
    api: String,
}

impl Http {
    /// `tracking` is the base URL of the server.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`], terminal, for a URL that is not plain http.
    pub fn new(tracking: &str) -> Result<Self, Failure> {
        let base = tracking.trim_end_matches('/');
        let invalid = |why: String| {
            Failure::terminal(Reason::InvalidSpec, format!("the tracking server's address {base:?} {why}"))
        };
        if !base.starts_with("http://") {
            return Err(invalid(
                "must begin with http:// (https is not supported: use a Service in the cluster)".into(),
            ));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // MLflow with several workers answers on a reused connection 40 ms later (no TCP_NODELAY).
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .map_err(|error| invalid(format!("cannot be used: {}", chain(&error))))?;
        Ok(Self { client, api: format!("{base}/api/2.0/mlflow") })
    }
}

impl Transport for Http {
    async fn send(&self, request: &Request) -> Result<Response, Unanswered> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut sent =
            self.client.request(method, format!("{}/{}", self.api, request.path)).query(&request.query);
        if let Some(body) = &request.body {
            sent = sent.json(body);
        }
        let unanswered = |error: reqwest::Error| Unanswered(chain(&error));
        let mut answer = sent.send().await.map_err(unanswered)?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Unanswered(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, body })
    }
}

/// The error and its causes in one line.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
