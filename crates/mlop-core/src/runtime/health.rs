//! Probes and metrics over HTTP.
//!
//! Alive: the process exists. A busy node or a slow API server is no reason to restart it, because it would start as
//! slowly. Ready: every cache has received its first list, also on a follower. A kind that is not
//! served and a namespace that is gone count as empty.

use crate::runtime::metrics::Metrics;
use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::oneshot};

/// What `/readyz` says.
pub(crate) struct Readiness {
    /// Resources whose first list is not complete.
    pub unsynced: Vec<String>,
    /// Resources that cannot be listed and count as empty.
    pub unavailable: Vec<String>,
}

/// Answers `/livez`, `/readyz` and `/metrics` from a thread of its own, so that a probe never waits for a reconcile.
/// The receiver reports why the thread has ended; it ends with the process otherwise.
///
/// # Errors
/// When the address cannot be listened on, or no thread can be started.
pub(crate) fn serve(
    address: &str,
    metrics: Arc<Metrics>,
    readiness: impl Fn() -> Readiness + Send + Sync + 'static,
) -> anyhow::Result<(SocketAddr, oneshot::Receiver<anyhow::Error>)> {
    let listener =
        std::net::TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (ended, receiver) = oneshot::channel();
    std::thread::Builder::new().name("health".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(accept(listener, &metrics, &Arc::new(readiness))) {
            // The receiver is gone when the process stops anyway.
            let _ = ended.send(error);
        }
    })?;
    Ok((bound, receiver))
}

async fn accept(
    listener: std::net::TcpListener,
    metrics: &Arc<Metrics>,
    readiness: &Arc<impl Fn() -> Readiness + Send + Sync + 'static>,
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (metrics, readiness) = (Arc::clone(metrics), Arc::clone(readiness));
        tokio::spawn(async move {
            let handler = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.uri().path(), &metrics, readiness.as_ref());
                async move { Ok::<_, Infallible>(response) }
            });
            // A probe may hang up before it has the answer.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handler).await;
        });
    }
}

fn answer(path: &str, metrics: &Metrics, readiness: &dyn Fn() -> Readiness) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/livez" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let Readiness { unsynced, unavailable } = readiness();
            let (status, mut text) = match unsynced.is_empty() {
                true => (StatusCode::OK, "ok\n".to_owned()),
                false => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", unsynced.join(", "))),
            };
            for resource in unavailable {
                text.push_str(&format!("{resource}; it counts as empty\n"));
            }
            (status, text)
        }
        "/metrics" => (StatusCode::OK, metrics.render()),
        _ => (StatusCode::NOT_FOUND, "paths: /livez /readyz /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::Duration,
    };

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The blocking client holds the only thread of the operator's runtime.
    #[tokio::test(flavor = "current_thread")]
    async fn probes_answer_while_the_main_thread_is_blocked() {
        let readiness = || Readiness {
            unsynced: vec!["datasets".to_owned()],
            unavailable: vec!["pods in b: forbidden".to_owned()],
        };
        let (address, _ended) = serve("127.0.0.1:0", Arc::default(), readiness).unwrap();
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
        let ready = get(address, "/readyz");
        assert!(
            ready.starts_with("HTTP/1.1 503")
                && ready.ends_with("waiting for datasets\npods in b: forbidden; it counts as empty\n"),
            "{ready}"
        );
        assert!(get(address, "/metrics").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn serve_names_an_address_that_is_in_use() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error =
            serve(&address, Arc::default(), || Readiness { unsynced: Vec::new(), unavailable: Vec::new() })
                .unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }
}
