//! A scripted API server, and the context of an operator that uses it.

use crate::{
    resource::ApiKind,
    runtime::{
        cache::WriteThrough,
        context::{Clock, Context, Settings},
        events::Recorder,
        leader_election::Leading,
        leftovers::Leftovers,
    },
    testing::{Forecast, NOW, NS, at},
};
use http::{Request, Response};
use jiff::SignedDuration;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{sync::watch, time::Instant};
use tower::BoxError;

/// A request that the server has received.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    pub method: String,
    pub path: String,
    pub body: Value,
}

/// A status code and the body of an answer.
pub(super) type Answer = (u16, Value);
type Script = Box<dyn Fn(&Sent) -> Answer + Send + Sync>;

/// Answers requests from a script and records them. Watches are never answered.
pub(super) struct Server {
    sent: Mutex<Vec<Sent>>,
    answer: Script,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Sent) -> Answer + Send + Sync + 'static) -> (Arc<Self>, Client) {
        let server = Arc::new(Self { sent: Mutex::default(), answer: Box::new(answer) });
        let receiver = Arc::clone(&server);
        let service = tower::service_fn(move |request| Arc::clone(&receiver).receive(request));
        (server, Client::new(service, NS))
    }

    async fn receive(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        if parts.uri.query().is_some_and(|query| query.contains("watch=true")) {
            return std::future::pending().await;
        }
        let body = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
        let sent = Sent { method: parts.method.to_string(), path: parts.uri.path().to_owned(), body };
        let (status, answer) = (self.answer)(&sent);
        self.sent.lock().unwrap().push(sent);
        Ok(Response::builder().status(status).body(Body::from(answer.to_string().into_bytes()))?)
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// The methods of the requests so far.
    pub(super) fn methods(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| sent.method).collect()
    }
}

/// Accepts every request: the answer to a write is the written object, with a uid and a version.
pub(super) fn accept(sent: &Sent) -> Answer {
    let mut object = sent.body.clone();
    object["metadata"]["uid"] = json!("given");
    object["metadata"]["resourceVersion"] = json!("7");
    (200, object)
}

/// A refusal by the API server.
pub(super) fn refuse(code: u16, reason: &str, message: &str) -> Answer {
    let status =
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
    (code, status)
}

/// The intent `a`, with a uid.
pub(super) fn forecast() -> Forecast {
    let mut forecast = Forecast::new("a", Default::default());
    forecast.metadata.namespace = Some(NS.to_owned());
    forecast.metadata.uid = Some("a-uid".to_owned());
    forecast.metadata.resource_version = Some("1".to_owned());
    forecast.metadata.generation = Some(1);
    forecast
}

/// A clock that follows tokio's from [`NOW`] on.
pub(super) fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || at(NOW) + SignedDuration::try_from(start.elapsed()).unwrap())
}

/// The context of an operator, and its leadership.
pub(super) fn context(
    client: Client,
    stores: BTreeMap<ApiKind, Arc<dyn WriteThrough>>,
) -> (Arc<Context>, watch::Sender<Leading>) {
    let (leads, leading) = watch::channel(Some(Instant::now()));
    let (settings, metrics) = (Settings::default(), Arc::default());
    let leftovers = Leftovers::default();
    (
        Arc::new(Context {
            client,
            settings,
            clock: clock(),
            metrics,
            leading,
            stores,
            leftovers,
            events: Recorder::new().0,
            tracer: None,
        }),
        leads,
    )
}
