//! The proxy between an operator's process and the API server, which contains the fault layer.

use anyhow::Result;
use bytes::Bytes;
use futures::{AsyncBufReadExt as _, FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body};
use mlop_faults::inject::{Answer, Connection, Server};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tower::{BoxError, Service as _};

const IMPERSONATE: HeaderName = HeaderName::from_static("impersonate-user");

/// The real API server, below the fault layer.
#[derive(Clone)]
pub struct Real {
    client: Client,
    /// The highest resource version in a response.
    revision: Arc<AtomicU64>,
}

impl Real {
    pub fn new(client: Client) -> Self {
        Self { client, revision: Arc::default() }
    }

    async fn answer(self, mut request: Request<Body>) -> Result<Answer, BoxError> {
        let is_watch =
            request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let is_write = request.method() != Method::GET;
        request.headers_mut().remove(header::HOST);
        let (mut parts, body) = self.client.send(request).await?.into_parts();
        // These headers belong to the connection to the server.
        for header in [header::TRANSFER_ENCODING, header::CONNECTION] {
            parts.headers.remove(header);
        }
        if is_watch && parts.status.is_success() {
            let lines = body.into_data_stream().map_err(std::io::Error::other).into_async_read().lines();
            let frames = lines.map(|line| Ok::<_, BoxError>(Frame::data(Bytes::from(line? + "\n"))));
            return Ok(Answer::from_parts(parts, StreamBody::new(frames).boxed_unsync()));
        }
        let body = body.collect().await?.to_bytes();
        if is_write && parts.status.is_success() {
            self.saw(&body);
        }
        Ok(Answer::from_parts(parts, Full::from(body).map_err(|never| match never {}).boxed_unsync()))
    }

    fn saw(&self, object: &Bytes) {
        let object: Value = serde_json::from_slice(object).unwrap_or_default();
        let version = object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        self.revision.fetch_max(version.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Server for Real {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Answer, BoxError>> {
        self.clone().answer(request).boxed()
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }
}

/// Serves one operator on its own port until `tasks` is dropped. Its requests impersonate the operator.
pub async fn serve(connection: Connection, tasks: &mut JoinSet<()>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let operator = HeaderValue::from_str(&connection.operator)?;
    tasks.spawn(async move {
        let (exchanges, mut begun) = mpsc::unbounded_channel::<BoxFuture<'static, ()>>();
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    let to = Upstream { connection: connection.clone(), operator: operator.clone(), exchanges: exchanges.clone() };
                    let handler = service_fn(move |request| to.clone().pass(request));
                    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), handler);
                    // A plan or a killed process can break the connection at any time.
                    running.spawn(served.map(drop));
                }
                Some(exchange) = begun.recv() => {
                    running.spawn(exchange);
                }
                Some(_) = running.join_next() => {}
            }
        }
    });
    Ok(port)
}

/// The destination of one operator's requests.
#[derive(Clone)]
struct Upstream {
    connection: Connection,
    operator: HeaderValue,
    exchanges: mpsc::UnboundedSender<BoxFuture<'static, ()>>,
}

impl Upstream {
    /// Forwards a request. An error closes the connection without a response. The server completes the request even if the
    /// operator has died meanwhile.
    async fn pass(mut self, request: Request<Incoming>) -> Result<Answer, BoxError> {
        let (mut parts, body) = request.into_parts();
        parts.headers.remove(header::AUTHORIZATION);
        parts.headers.insert(IMPERSONATE, self.operator);
        let body = body.collect().await?.to_bytes();
        let request = Request::from_parts(parts, Body::from(body.to_vec()));
        let (done, answer) = oneshot::channel();
        let exchange = async move {
            let answer = self.connection.call(request).await;
            // The receiver is gone if the operator has died.
            let _ = done.send(answer);
        };
        // The receiver is gone at the end of the test. Then there is no response.
        let _ = self.exchanges.send(exchange.boxed());
        answer.await?
    }
}
