//! Probes and metrics over HTTP.
//!
//! Alive: the process turns its loop. Ready: every cache has received its first list; a follower is ready too, since
//! restarting it would not help anyone.

use crate::runtime::metrics::Metrics;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, sync::Arc};
use tokio::net::TcpListener;

/// Answers `/livez`, `/readyz` and `/metrics` until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: String,
    metrics: Arc<Metrics>,
    ready: impl Fn() -> Vec<String> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(&address).await?;
    let ready = Arc::new(ready);
    loop {
        let (stream, _) = listener.accept().await?;
        let (metrics, ready) = (Arc::clone(&metrics), Arc::clone(&ready));
        tokio::spawn(async move {
            let handler = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.uri().path(), &metrics, ready.as_ref());
                async move { Ok::<_, Infallible>(response) }
            });
            // A probe that hangs up early is no concern of ours.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handler).await;
        });
    }
}

fn answer(path: &str, metrics: &Metrics, waiting: &dyn Fn() -> Vec<String>) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/livez" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match waiting() {
            missing if missing.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
            missing => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", "))),
        },
        "/metrics" => (StatusCode::OK, metrics.render()),
        _ => (StatusCode::NOT_FOUND, "paths: /livez /readyz /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
