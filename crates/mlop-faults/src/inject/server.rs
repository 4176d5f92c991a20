//! The API server as the injector sees it.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use kube::client::Body;
use mlop_sim::Sim;
use tower::{BoxError, Service};

/// The response that an operator receives.
pub type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

pub trait Server: Send + Sync {
    /// Answers a request. Each frame of a watch's body is one event with its line feed.
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Answer, BoxError>>;
    /// The resource version of the last write.
    fn revision(&self) -> u64;
}

impl Server for Sim {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Answer, BoxError>> {
        let mut service = self.service();
        Box::pin(async move {
            let response = service.call(request).await?;
            Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        })
    }

    fn revision(&self) -> u64 {
        Sim::revision(self)
    }
}
