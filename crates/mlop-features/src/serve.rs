//! The online API: Feast's `POST /get-online-features` over the rows in Redis.
//!
//! It knows neither Kubernetes nor the object store: everything about a view is stored next to its rows. Memory is bounded
//! by the [budget](budget::Budget) of all requests.

mod answer;
mod budget;
mod error;
mod features;
mod metrics;
mod request;

use crate::online::{
    connection::{Server, Tls},
    mark::mark_key,
    read::Reader,
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use budget::Budget;
use error::ApiError;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use metrics::Metrics;
use mlop_artifact::listener::{self, Bounds};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, time::Instant};

/// Longest time to answer a request that has been received, waiting included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for Redis.
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

/// The buffer is that of hyper.
const BOUNDS: Bounds = Bounds { connections: 1_024, buffer: 400 << 10 };

/// The flags of the server.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Address of Redis, host:port.
    #[arg(long, env = "MLOP_REDIS")]
    pub redis: String,
    /// User of Redis; without it the default user.
    #[arg(long, env = "MLOP_REDIS_USER")]
    pub user: Option<String>,
    /// Speak TLS with Redis.
    #[arg(long, env = "MLOP_REDIS_TLS")]
    pub tls: bool,
    /// File with the certificates (PEM) of Redis' own authority; if it is not there, public authorities count.
    #[arg(long, env = "MLOP_REDIS_CA_FILE")]
    pub ca_file: Option<std::path::PathBuf>,
    /// Redis is a cluster, and the address that of one of its nodes.
    #[arg(long, env = "MLOP_REDIS_CLUSTER")]
    pub cluster: bool,
    /// File with the password of Redis; without it no password is sent.
    #[arg(long, env = "MLOP_REDIS_PASSWORD_FILE")]
    pub password_file: Option<std::path::PathBuf>,
    /// Namespace whose views are served.
    #[arg(long, env = "MLOP_NAMESPACE")]
    pub namespace: String,
    /// Name of the FeatureStore. With it, `GET /health` fails while the online store lacks the store's mark: it came back
    /// empty, and is not filled again yet.
    #[arg(long, env = "MLOP_FEATURE_STORE")]
    pub feature_store: Option<String>,
    /// Address to listen on.
    #[arg(long, env = "MLOP_LISTEN", default_value = "0.0.0.0:6566")]
    pub listen: String,
    /// Seconds in which requests are still accepted after SIGTERM, while clients learn that this server stops.
    #[arg(long, env = "MLOP_DRAIN_SECONDS", default_value_t = 5)]
    pub drain_seconds: u64,
}

/// Reads the time; a test brings its own.
pub type Clock = fn() -> Timestamp;

struct Api {
    reader: Reader,
    metrics: Metrics,
    budget: Budget,
    clock: Clock,
    /// Set while the server drains: it answers, and is not ready for more.
    stopping: Arc<AtomicBool>,
    /// Key of the store's mark.
    mark: Option<String>,
}

/// Serves until `stop`, then drains: for some seconds it is not ready but answers, then it finishes the requests under
/// way.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn run(options: Options, clock: Clock, stop: impl Future<Output = ()> + Send) -> io::Result<()> {
    let listener = TcpListener::bind(&options.listen).await?;
    tracing::info!(address = %listener.local_addr()?, namespace = options.namespace, "listening");
    let drain = Duration::from_secs(options.drain_seconds);
    let stopping = Arc::new(AtomicBool::new(false));
    let router = routes(options, clock, Arc::clone(&stopping));
    let drained = async move {
        stop.await;
        stopping.store(true, Ordering::Relaxed);
        tokio::time::sleep(drain).await;
    };
    listener::serve(listener, TowerToHyperService::new(router), BOUNDS, drained).await;
    Ok(())
}

/// The API's routes.
pub fn router(options: Options, clock: Clock) -> Router {
    routes(options, clock, Arc::default())
}

fn routes(options: Options, clock: Clock, stopping: Arc<AtomicBool>) -> Router {
    let mark = options.feature_store.as_ref().map(|name| mark_key(&options.namespace, name));
    let server = Server {
        address: options.redis,
        user: options.user,
        password_file: options.password_file,
        tls: options.tls.then_some(Tls { ca_file: options.ca_file }),
        cluster: options.cluster,
        response_timeout: REDIS_TIMEOUT,
    };
    let api = Api {
        reader: Reader::new(server, options.namespace),
        metrics: Metrics::new(),
        budget: Budget::new(),
        clock,
        stopping,
        mark,
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
    let answered = api.receive_and_answer(body).await;
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
    async fn receive_and_answer(&self, body: Body) -> Result<Vec<u8>, ApiError> {
        let body = self.budget.receive(body).await?;
        let wanted = request::Request::parse(&body.bytes)?;
        drop(body);
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, self.answer(&wanted)).await;
        answered.unwrap_or_else(|_| Err(ApiError::unavailable("the server is too busy: try again")))
    }

    async fn answer(&self, wanted: &request::Wanted) -> Result<Vec<u8>, ApiError> {
        let mut room = self.budget.room(wanted.values()).await?;
        let answer = features::answer(&self.reader, wanted, (self.clock)(), &mut room).await?;
        self.metrics.answer(&answer, wanted.entities.len());
        serde_json::to_vec(&answer)
            .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }
}

async fn health(State(api): State<Arc<Api>>) -> Result<&'static str, ApiError> {
    if api.stopping.load(Ordering::Relaxed) {
        return Err(ApiError::unavailable("the server is stopping"));
    }
    match &api.mark {
        Some(mark) if !api.reader.has(mark).await? => {
            Err(ApiError::unavailable("the online store has lost its data: it is filled again"))
        }
        Some(_) => Ok("ok"),
        None => {
            api.reader.ping().await?;
            Ok("ok")
        }
    }
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
