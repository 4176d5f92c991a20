//! One request: to the version that is chosen for it, and its answer back.

use crate::{
    exchange::{AnswerBody, RequestBody},
    lanes::{Choice, Lane},
    metrics::Ending,
};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{
        CONNECTION, CONTENT_TYPE, EXPECT, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
    http::request::Parts,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// Longest time to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time to the head of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// How long connections are used again. A server that stops answers for longer than that, so that no request is sent on a
/// connection that it closes. Requests also spread over new pods.
const POOL_AGE: Duration = Duration::from_secs(2);
/// Bytes that are buffered of a connection.
pub(crate) const BUFFER: usize = 16 << 10;

pub(crate) type Answer = Response<Either<AnswerBody, Full<Bytes>>>;
type Pool = Client<HttpConnector, RequestBody>;

/// Passes requests on.
pub(crate) struct Proxy {
    pub choice: Arc<Choice>,
    pool: Mutex<(Instant, Pool)>,
    /// Set while the router drains: clients come back on another connection.
    pub stopping: Arc<AtomicBool>,
}

/// Why there is no answer.
enum Failure {
    /// Nothing was sent.
    Unreachable(String),
    Broken(String),
}

impl Proxy {
    pub(crate) fn new(choice: Arc<Choice>, stopping: Arc<AtomicBool>) -> Self {
        Self { choice, pool: Mutex::new((Instant::now(), pool())), stopping }
    }

    pub(crate) async fn pass(&self, request: Request<Incoming>) -> Answer {
        let mut answer = self.answer(request).await;
        if self.stopping.load(Ordering::Relaxed) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let Some(chosen) = self.choice.next() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the router has no routes yet: try again");
        };
        let (mut head, body) = request.into_parts();
        if head.uri.path_and_query().is_none() {
            return plain(StatusCode::BAD_REQUEST, "the request has no path");
        }
        take_out_hops(&mut head.headers);
        head.headers.remove(EXPECT);
        let body = RequestBody::new(body);
        let mut failure = match self.send(&chosen.first, &head, &body).await {
            Ok(answer) => return answer,
            Err(failure) => failure,
        };
        // Another pod may have the connection.
        let again = chosen.instead.as_ref().unwrap_or(&chosen.first);
        if matches!(failure, Failure::Unreachable(_)) {
            failure = match self.send(again, &head, &body).await {
                Ok(answer) => return answer,
                Err(failure) => failure,
            };
        }
        let (Failure::Unreachable(why) | Failure::Broken(why)) = failure;
        tracing::warn!("no answer: {why}");
        plain(StatusCode::BAD_GATEWAY, "the model server does not answer: try again")
    }

    /// Sends a request to `lane`, and counts how it ends.
    async fn send(&self, lane: &Lane, head: &Parts, body: &RequestBody) -> Result<Answer, Failure> {
        let begin = Instant::now();
        let sent = async {
            let request = request(lane, head, body)?;
            match timeout(ANSWER_TIMEOUT, self.pool().request(request)).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) if error.is_connect() => Err(Failure::Unreachable(words(lane, &error))),
                Ok(Err(error)) => Err(Failure::Broken(words(lane, &error))),
                Err(_) => {
                    let seconds = ANSWER_TIMEOUT.as_secs();
                    Err(Failure::Broken(format!("{} has not answered within {seconds} s", lane.address)))
                }
            }
        };
        match sent.await {
            Ok(answer) => {
                lane.counters.answered(begin.elapsed());
                let (mut head, body) = answer.into_parts();
                take_out_hops(&mut head.headers);
                let ending = Ending::of(head.status.as_u16());
                let body = AnswerBody::new(body, lane.clone(), ending);
                Ok(Response::from_parts(head, Either::Left(body)))
            }
            Err(failure) => {
                lane.counters.ended(match &failure {
                    Failure::Unreachable(_) => Ending::Unreachable,
                    Failure::Broken(_) => Ending::Broken,
                });
                Err(failure)
            }
        }
    }

    /// The connections that may be used again.
    fn pool(&self) -> Pool {
        let mut current = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0.elapsed() > POOL_AGE {
            *current = (Instant::now(), pool());
        }
        current.1.clone()
    }
}

fn pool() -> Pool {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).http1_max_buf_size(BUFFER).build(connector)
}

fn request(lane: &Lane, head: &Parts, body: &RequestBody) -> Result<Request<RequestBody>, Failure> {
    let wrong = |error: hyper::http::Error| Failure::Unreachable(format!("{}: {error}", lane.address));
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(lane.address.as_str()).path_and_query(path).build();
    let mut request = Request::builder().method(head.method.clone()).uri(uri.map_err(wrong)?);
    if let Some(headers) = request.headers_mut() {
        headers.clone_from(&head.headers);
    }
    request.body(body.clone()).map_err(wrong)
}

/// Takes out the headers that concern one connection only.
fn take_out_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let usual = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    let others = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.into_iter().chain(usual).chain(others) {
        headers.remove(name);
    }
}

/// An error with its causes.
fn words(lane: &Lane, error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("{}: {error}{causes}", lane.address)
}

pub(crate) fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Either::Right(Full::new(Bytes::from(format!("{text}\n")))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_one_connection_are_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("x-yours", "2"),
            ("transfer-encoding", "chunked"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("content-length", "3"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        take_out_hops(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-yours"]);
    }
}
