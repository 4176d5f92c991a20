//! One request to the tracking server and its answer.

use mlop_api::{Reason, labels, result::Failure};
use mlop_artifact::{secret::MountedSecret, untrusted};
use serde_json::Value;
use std::{error::Error as _, future::Future, path::Path, time::Duration};

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

/// The server's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Where a redirection leads.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// There was no answer, or not all of one. Whether the server has acted is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// How requests reach the server. A trait, so that tests can cut the line between any two requests.
pub trait Transport: Send + Sync {
    fn send(&self, request: &Request) -> impl Future<Output = Result<Response, Unanswered>> + Send;

    /// The server's host and port as requests name them.
    fn host(&self) -> &str {
        ""
    }
}

/// HTTP or HTTPS, with the keys and the certificate authority of the server's Secret.
pub struct Http {
    client: reqwest::Client,
    api: String,
    host: String,
    login: Login,
}

/// How requests are authenticated.
enum Login {
    None,
    Bearer(String),
    Basic { username: String, password: String },
}

impl Http {
    /// `tracking` is the base URL of the server, which may have a path. `secret` is the directory of its Secret.
    ///
    /// # Errors
    /// [`Reason::InvalidSpec`], terminal, for a URL that cannot be used; [`Reason::SecretMissing`] for a Secret without
    /// usable keys.
    pub fn new(tracking: &str, secret: Option<&Path>) -> Result<Self, Failure> {
        let base = tracking.trim_end_matches('/');
        let invalid = |why: &str| {
            Failure::terminal(Reason::InvalidSpec, format!("the tracking server's address {base:?} {why}"))
        };
        let url = reqwest::Url::parse(base).map_err(|error| invalid(&format!("is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid("must begin with http:// or https:// and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("must not hold a password; put username and password into a Secret"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("must end with its path"));
        }
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // MLflow with several workers answers on a reused connection 40 ms later (no TCP_NODELAY).
            .pool_max_idle_per_host(0);
        let mut login = Login::None;
        if let Some(directory) = secret {
            let secret = MountedSecret::new("the tracking server".to_owned(), directory.to_owned());
            let authority = authority(&secret)?;
            login = self::login(&secret, !authority.is_empty())?;
            client = authority.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        let client =
            client.build().map_err(|error| invalid(&format!("cannot be used: {}", chain(&error))))?;
        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        Ok(Self { client, api: format!("{base}/api/2.0/mlflow"), host, login })
    }
}

fn authority(secret: &MountedSecret) -> Result<Vec<reqwest::Certificate>, Failure> {
    let Some(pem) = secret.text(labels::CA_CERTIFICATE)? else { return Ok(Vec::new()) };
    let bundle = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
    if bundle.is_empty() {
        let flaw = format!("has a key {} without a certificate (PEM)", labels::CA_CERTIFICATE);
        return Err(secret.unusable(&flaw));
    }
    Ok(bundle)
}

fn login(secret: &MountedSecret, is_optional: bool) -> Result<Login, Failure> {
    if let Some(token) = secret.optional(labels::TRACKING_TOKEN)? {
        return Ok(Login::Bearer(token));
    }
    match secret.optional(labels::TRACKING_USERNAME)? {
        Some(username) => {
            Ok(Login::Basic { username, password: secret.required(labels::TRACKING_PASSWORD)? })
        }
        None if is_optional => Ok(Login::None),
        None => Err(secret.unusable("has neither a key token nor the keys username and password; add them")),
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
        sent = match &self.login {
            Login::None => sent,
            Login::Bearer(token) => sent.bearer_auth(token),
            Login::Basic { username, password } => sent.basic_auth(username, Some(password)),
        };
        if let Some(body) = &request.body {
            sent = sent.json(body);
        }
        let unanswered = |error: reqwest::Error| {
            let text = chain(&error);
            let advice = untrusted(&text, "spec.existing.secretName", "spec.existing.url");
            Unanswered(advice.map_or(text.clone(), |advice| format!("{advice} ({text})")))
        };
        let mut answer = sent.send().await.map_err(unanswered)?;
        let location = answer.headers().get(reqwest::header::LOCATION);
        let location = location.and_then(|location| location.to_str().ok()).map(str::to_owned);
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Unanswered(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, location, body })
    }

    fn host(&self) -> &str {
        &self.host
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
