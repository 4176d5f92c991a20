//! The HTTP stack: observation, bounded retry, authentication, transport.
//!
//! Built by hand, because kube's default retries for minutes behind a pass's back, has no bound on concurrency, and
//! would put a layer that is added later outside its own retry.

use http::Request;
use hyper_util::rt::TokioExecutor;
use kube::{
    Client, Config,
    client::{Body, ConfigExt, retry::RetryPolicy},
};
use std::time::Duration;
use tower::{BoxError, ServiceBuilder, limit::ConcurrencyLimitLayer, retry::RetryLayer};

/// Requests under way at the same time; watches count too.
const CONCURRENCY: usize = 64;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);
const RETRIES: u32 = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for the cluster that `config` names.
///
/// # Errors
/// When the configuration's certificates or addresses are unusable.
pub fn connect(mut config: Config) -> anyhow::Result<Client> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let https = config.rustls_https_connector()?;
    let transport: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::new(RETRY_DELAY_MIN, RETRY_DELAY_MAX, RETRIES, true)?))
        .layer(ConcurrencyLimitLayer::new(CONCURRENCY))
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service_fn(move |request: Request<Body>| transport.request(request));
    Ok(Client::new(service, config.default_namespace))
}
