//! A router: requests of users on one port, its health and metrics on another.

use crate::{
    lanes::Choice,
    proxy::{Answer, BUFFER, Proxy, plain},
};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use mlop_api::labels;
use mlop_artifact::listener::{self, Bounds};
use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;

/// Requests come in on so many connections, each with one to a server.
const USERS: Bounds = Bounds { connections: 1_024, buffer: BUFFER };
const WATCHERS: Bounds = Bounds { connections: 32, buffer: BUFFER };

/// The flags of a router.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// File with the routes. It is read again when it changes.
    #[arg(long, env = "MLOP_ROUTES", default_value_os_t = PathBuf::from(labels::ROUTES_DIR).join(labels::ROUTES_FILE))]
    pub routes: PathBuf,
    /// Address for requests.
    #[arg(long, env = "MLOP_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: String,
    /// Address for health and metrics.
    #[arg(long, env = "MLOP_METRICS_LISTEN", default_value = "0.0.0.0:8081")]
    pub metrics_listen: String,
    /// Seconds in which requests are still accepted after SIGTERM, while clients learn that this router stops.
    #[arg(long, env = "MLOP_DRAIN_SECONDS", default_value_t = 5)]
    pub drain_seconds: u64,
}

/// Routes until `stop`, then drains: for some seconds the router is not ready but answers, then it finishes the requests
/// under way.
///
/// # Errors
/// When an address cannot be listened on.
pub async fn run(options: Options, stop: impl Future<Output = ()> + Send) -> io::Result<()> {
    let users = TcpListener::bind(&options.listen).await?;
    let watchers = TcpListener::bind(&options.metrics_listen).await?;
    run_on(users, watchers, options.routes, Duration::from_secs(options.drain_seconds), stop).await;
    Ok(())
}

/// As [`run`], on these listeners.
pub async fn run_on(
    users: TcpListener,
    watchers: TcpListener,
    routes: PathBuf,
    drain: Duration,
    stop: impl Future<Output = ()> + Send,
) {
    let address = |listener: &TcpListener| listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
    tracing::info!(users = address(&users), watchers = address(&watchers), "listening");
    let stopping = Arc::new(AtomicBool::new(false));
    let choice = Arc::new(Choice::new());
    let proxy = Arc::new(Proxy::new(Arc::clone(&choice), Arc::clone(&stopping)));
    let passed = service_fn(move |request: Request<Incoming>| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.pass(request).await) }
    });
    let (watched, state) = (Arc::clone(&choice), Arc::clone(&stopping));
    let shown = service_fn(move |request: Request<Incoming>| {
        let answer = show(request.uri().path(), &watched, state.load(Ordering::Relaxed));
        async move { Ok::<_, Infallible>(answer) }
    });
    let drained = async {
        stop.await;
        stopping.store(true, Ordering::Relaxed);
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = listener::serve(users, passed, USERS, drained) => {}
        () = listener::serve(watchers, shown, WATCHERS, std::future::pending()) => {}
        () = choice.follow(&routes) => {}
    }
}

/// The health and the metrics.
fn show(path: &str, choice: &Choice, is_stopping: bool) -> Answer {
    match path {
        "/livez" => plain(StatusCode::OK, "ok"),
        "/health" if is_stopping => plain(StatusCode::SERVICE_UNAVAILABLE, "the router is stopping"),
        "/health" if !choice.is_known() => plain(StatusCode::SERVICE_UNAVAILABLE, "there are no routes yet"),
        "/health" => plain(StatusCode::OK, "ok"),
        "/metrics" => match choice.metrics.text() {
            Ok(text) => {
                let mut answer = plain(StatusCode::OK, text.trim_end());
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                answer
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        _ => plain(StatusCode::NOT_FOUND, "no such path: /health, /livez, /metrics"),
    }
}
