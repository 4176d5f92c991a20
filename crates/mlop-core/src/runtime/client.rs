//! The HTTP stack: bounded retry, a limit on concurrency, authentication, transport.
//!
//! Built by hand, because kube's default retries for minutes behind a reconcile's back, does not limit concurrency,
//! waits for an answer without limit, and puts a layer that is added later outside its own retry.

use crate::runtime::{backoff, metrics::RequestLabels};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use prometheus_client::metrics::{counter::Counter, family::Family};
use std::time::Duration;
use tokio::time::Sleep;
use tower::{
    BoxError, Service, ServiceBuilder,
    limit::ConcurrencyLimitLayer,
    retry::{Policy, RetryLayer},
    timeout::TimeoutLayer,
};

/// Concurrent requests. A watch counts only until it is answered.
const CONCURRENCY: usize = 64;
const RETRIES: u32 = 4;
/// Longest wait before a retry that the server can demand; a reconcile must end in time.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A request without an answer is given up after this time. A watch is answered when it begins.
///
/// An admission webhook has ten seconds, unless its configuration says otherwise. The API server then answers which one
/// is silent.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// A client for the cluster that `config` names. Its requests are counted in `requests`.
///
/// # Errors
/// When the configuration's certificates or addresses are unusable.
pub fn connect(mut config: Config, requests: Family<RequestLabels, Counter>) -> anyhow::Result<Client> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // A request consists of several small packets. With Nagle's algorithm it would lose up to 40 ms.
    tcp.set_nodelay(true);
    let https = config.rustls_https_connector_with_connector(tcp)?;
    let transport: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .map_err(BoxError::from)
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service_fn(move |request: Request<Body>| {
            let (method, requests) = (request.method().clone(), requests.clone());
            let answer = transport.request(request);
            async move {
                let answer = answer.await;
                let code = answer.as_ref().ok().map(Response::status);
                requests.get_or_create(&RequestLabels::of(&method, code)).inc();
                answer
            }
        });
    Ok(over(service, config.default_namespace))
}

/// A client over `transport`, with the retries and limits of every operator.
pub fn over<S, B>(transport: S, default_namespace: impl Into<String>) -> Client
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(Retries::default()))
        .layer(ConcurrencyLimitLayer::new(CONCURRENCY))
        .layer(TimeoutLayer::new(ANSWER_TIMEOUT))
        .service(transport);
    Client::new(service, default_namespace)
}

/// Retries requests that a busy server has refused. Every request may be repeated: creates are idempotent by name, other
/// writes carry preconditions.
#[derive(Clone, Default)]
struct Retries {
    done: u32,
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Retries {
    type Future = Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<B>, BoxError>,
    ) -> Option<Sleep> {
        let response = result.as_ref().ok().filter(|response| is_busy(response.status()))?;
        if self.done >= RETRIES {
            return None;
        }
        self.done += 1;
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = asked.map_or(Duration::ZERO, Duration::from_secs).min(RETRY_AFTER_MAX);
        Some(tokio::time::sleep(backoff::request_delay(self.done, request.uri().path()).max(asked)))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut copy = Request::new(request.body().try_clone()?);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }
}

fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}
