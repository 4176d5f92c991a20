//! The online API: Feast's `POST /get-online-features` over the rows in Redis.
//!
//! It knows neither Kubernetes nor the object store: everything about a view is stored next to its rows. Memory is bounded
//! by what a request may hold times the requests that are answered at a time.

mod answer;
mod error;
mod features;
mod metrics;
mod request;

use crate::online::{connection::Server, read::Reader};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use error::ApiError;
use http_body_util::LengthLimitError;
use jiff::Timestamp;
use metrics::Metrics;
use std::{error::Error, io, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};

/// Largest body of a request in bytes.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Requests that are read and answered at a time; others wait.
const CONCURRENCY: usize = 16;
/// Longest time of one request, waiting included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for Redis.
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

/// What the server is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address of Redis, host:port.
    #[arg(long, env = "MLOP_REDIS")]
    pub redis: String,
    /// File with the password of Redis; without it no password is sent.
    #[arg(long, env = "MLOP_REDIS_PASSWORD_FILE")]
    pub password_file: Option<std::path::PathBuf>,
    /// Namespace whose views are served.
    #[arg(long, env = "MLOP_NAMESPACE")]
    pub namespace: String,
    /// Address to listen on.
    #[arg(long, env = "MLOP_LISTEN", default_value = "0.0.0.0:6566")]
    pub listen: String,
}

/// Reads the time; a test brings its own.
pub type Clock = fn() -> Timestamp;

struct Api {
    reader: Reader,
    metrics: Metrics,
    slots: Semaphore,
    clock: Clock,
}

/// Serves until `stop`, then finishes the requests under way.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(
    options: Options,
    clock: Clock,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(&options.listen).await?;
    tracing::info!(address = %listener.local_addr()?, namespace = options.namespace, "listening");
    axum::serve(listener, router(options, clock)).with_graceful_shutdown(stop).await
}

/// The API's routes.
pub fn router(options: Options, clock: Clock) -> Router {
    let server = Server {
        address: options.redis,
        password_file: options.password_file,
        response_timeout: REDIS_TIMEOUT,
    };
    let api = Api {
        reader: Reader::new(server, options.namespace),
        metrics: Metrics::new(),
        slots: Semaphore::new(CONCURRENCY),
        clock,
    };
    Router::new()
        .route("/get-online-features", post(get_online_features))
        .route("/health", get(health))
        .route("/livez", get(async || "ok"))
        .route("/metrics", get(metrics))
        .fallback(async || ApiError::not_found("no such path: POST /get-online-features"))
        .with_state(Arc::new(api))
}

async fn get_online_features(State(api): State<Arc<Api>>, body: Body) -> Response {
    let begin = Instant::now();
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, api.answer(body)).await;
    let answered =
        answered.unwrap_or_else(|_| Err(ApiError::unavailable("the server is too busy: try again")));
    let response = match answered {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            if error.status.is_server_error() {
                tracing::warn!(status = error.status.as_u16(), "{}", error.message);
            }
            error.into_response()
        }
    };
    api.metrics.request(response.status().as_u16(), begin.elapsed());
    response
}

impl Api {
    async fn answer(&self, body: Body) -> Result<Vec<u8>, ApiError> {
        let busy = |_| ApiError::unavailable("the server is stopping");
        let _slot = self.slots.acquire().await.map_err(busy)?;
        let body = read(body).await?;
        let wanted = request::Request::parse(&body)?;
        drop(body);
        let answer = features::answer(&self.reader, &wanted, (self.clock)()).await?;
        self.metrics.answer(&answer, wanted.entities.len());
        serde_json::to_vec(&answer)
            .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
        if error.source().is_some_and(|source| source.is::<LengthLimitError>()) {
            let message = format!("the body has more than {BODY_BYTES_MAX} bytes");
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        ApiError::bad_request(format!("the body cannot be read: {error}"))
    })
}

async fn health(State(api): State<Arc<Api>>) -> Result<&'static str, ApiError> {
    api.reader.ping().await?;
    Ok("ok")
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    match api.metrics.text() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
