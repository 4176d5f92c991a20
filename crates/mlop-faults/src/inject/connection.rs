//! The connection of one operator, with faults at its requests.

use super::{
    injector::Injector,
    other_client,
    request::OperatorRequest,
    responses::{self, forbidden, quota_exceeded, refusal},
    server::Answer,
    watch,
};
use crate::plan::Fault;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use std::{
    future::pending,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::sleep;
use tower::{BoxError, Service};

/// An operator has seen a response or an event after this time.
const SEEN: Duration = Duration::from_millis(100);

/// The transport of one operator's client.
#[derive(Clone)]
pub struct Connection {
    pub operator: String,
    /// The namespace of the objects that lists are falsified with.
    pub namespace: String,
    pub injector: Arc<Injector>,
}

impl Service<Request<Body>> for Connection {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let id = OperatorRequest::parse(&connection.operator, &parts, body.clone());
            connection.answer(Request::from_parts(parts, Body::from(body.to_vec())), id).await
        })
    }
}

impl Connection {
    async fn answer(&self, request: Request<Body>, id: OperatorRequest) -> Result<Answer, BoxError> {
        match self.injector.admit(&id) {
            None => pending().await,
            Some(latency) if latency.is_zero() => {}
            Some(latency) => sleep(latency).await,
        }
        if let Some(outage) = self.injector.outage(&id.by, &id.kind, id.is_write()) {
            match outage.fault {
                Fault::Partition => pending().await,
                Fault::ServerDown => return Ok(refusal(503, "ServiceUnavailable", "the server is down")),
                Fault::QuotaExceeded if id.verb == "create" => return Ok(quota_exceeded(&id)),
                Fault::Forbidden => return Ok(forbidden(&id)),
                _ => {}
            }
        }
        match id.verb {
            "watch" => {
                let answer = self.send(request).await?;
                Ok(watch::tap(answer, Arc::clone(&self.injector), id))
            }
            "list" => self.list(request, id).await,
            "get" => self.send(request).await,
            _ => match self.injector.take_fault(|nth| id.point(nth)) {
                None => self.write(request, &id).await,
                Some(fault) => self.write_under(fault, request, &id).await,
            },
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        self.injector.server.call(request).await
    }

    async fn write(&self, request: Request<Body>, id: &OperatorRequest) -> Result<Answer, BoxError> {
        let response = self.send(request).await?;
        self.injector.record_write(id, response.status().as_u16());
        Ok(response)
    }

    async fn write_under(
        &self,
        fault: Fault,
        request: Request<Body>,
        id: &OperatorRequest,
    ) -> Result<Answer, BoxError> {
        if let Some(answer) = self.refuse(fault, id) {
            return Ok(answer);
        }
        let injector = &self.injector;
        match fault {
            Fault::CrashBefore => {
                injector.strike(fault, &id.by, &id.kind);
                pending().await
            }
            Fault::CrashAfter => {
                self.write(request, id).await?;
                injector.strike(fault, &id.by, &id.kind);
                pending().await
            }
            Fault::NoAnswer => pending().await,
            Fault::AnswerLost => {
                self.write(request, id).await?;
                Err("connection reset by peer".into())
            }
            Fault::TimeoutAfterCommit => {
                self.write(request, id).await?;
                Ok(refusal(504, "Timeout", "the server did not answer in time"))
            }
            Fault::Partition => {
                injector.strike(fault, &id.by, &id.kind);
                pending().await
            }
            Fault::NameTaken
            | Fault::Deleted
            | Fault::ChildDeleted
            | Fault::AnswerOvertaken
            | Fault::ChildEdited => self.write_beside_other(fault, request, id).await,
            other => {
                injector.strike(other, &id.by, &id.kind);
                self.write(request, id).await
            }
        }
    }

    /// The refusal of a write that does not take effect.
    fn refuse(&self, fault: Fault, id: &OperatorRequest) -> Option<Answer> {
        let (code, reason, message) = match fault {
            Fault::Conflict => (409, "Conflict", "the object has been modified"),
            Fault::TooManyRequests => (429, "TooManyRequests", "too many requests"),
            Fault::InternalError => (500, "InternalError", "an error on the server"),
            Fault::Unavailable => (503, "ServiceUnavailable", "the server is down"),
            Fault::Timeout => (504, "Timeout", "the server did not answer in time"),
            Fault::Invalid => (422, "Invalid", "the object is invalid"),
            Fault::ServerDown => {
                self.injector.strike(fault, &id.by, &id.kind);
                (503, "ServiceUnavailable", "the server is down")
            }
            Fault::Forbidden => {
                self.injector.begin_outage(fault, &id.by, &id.kind);
                return Some(forbidden(id));
            }
            Fault::QuotaExceeded if id.verb == "create" => {
                self.injector.begin_outage(fault, "", &id.kind);
                return Some(quota_exceeded(id));
            }
            _ => return None,
        };
        Some(refusal(code, reason, message))
    }

    /// A write before or after that of another client.
    async fn write_beside_other(
        &self,
        fault: Fault,
        request: Request<Body>,
        id: &OperatorRequest,
    ) -> Result<Answer, BoxError> {
        let (injector, path) = (Arc::clone(&self.injector), id.object_path());
        match fault {
            Fault::NameTaken => other_client::take_name(&injector, id).await,
            Fault::Deleted => other_client::delete(&injector, &path).await,
            _ => {}
        }
        let response = self.write(request, id).await?;
        match fault {
            Fault::ChildDeleted => {
                tokio::spawn(async move {
                    sleep(SEEN).await;
                    other_client::delete(&injector, &path).await;
                });
            }
            Fault::AnswerOvertaken => {
                other_client::delete(&injector, &path).await;
                sleep(SEEN).await;
            }
            Fault::ChildEdited => other_client::label(&injector, &path).await,
            _ => {}
        }
        Ok(response)
    }

    async fn list(&self, request: Request<Body>, id: OperatorRequest) -> Result<Answer, BoxError> {
        let (mut parts, body) = request.into_parts();
        if self.injector.take_stale(&id.by, &id.kind) {
            let query = parts.uri.query().unwrap_or_default();
            let old = self.injector.earlier_revision();
            let uri = format!("{}?{query}&resourceVersion={old}&resourceVersionMatch=Exact", id.path);
            parts.uri = uri.parse()?;
        }
        let response = self.send(Request::from_parts(parts, body)).await?;
        if !self.injector.take_undecodable(&id.by, &id.kind) {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await?.to_bytes();
        let mut list: Value = serde_json::from_slice(&bytes)?;
        let version = list["metadata"]["resourceVersion"].clone();
        let name = json!({"name": "undecodable", "namespace": self.namespace, "uid": "u", "resourceVersion": version});
        if let Some(items) = list["items"].as_array_mut() {
            items.insert(0, json!({"metadata": name, "spec": "a text instead of an object", "status": 7}));
        }
        Ok(Response::new(responses::body(list.to_string())))
    }
}
