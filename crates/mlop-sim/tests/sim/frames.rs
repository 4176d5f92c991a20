//! The frames of responses, on which layers rely.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::StreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, client::Body};
use mlop_sim::{Frames, ResponseBody, Service, Sim};
use serde_json::Value;

use crate::{config_map, next_event, watch};

/// A layer that records the frames of watches, and drops those that contain `hidden`.
#[derive(Clone)]
struct Hiding {
    inner: Service,
    frames: tokio::sync::mpsc::UnboundedSender<bytes::Bytes>,
}

impl tower::Service<Request<Body>> for Hiding {
    type Response = Response<ResponseBody>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<kube::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
        let (answer, frames) = (self.inner.call(request), self.frames.clone());
        Box::pin(async move {
            let (parts, body) = answer.await?.into_parts();
            if !is_watch {
                return Ok(Response::from_parts(parts, body));
            }
            let shown = body.filter(move |frame| {
                let line = frame.as_ref().unwrap().data_ref().unwrap().clone();
                let hidden = line.windows(6).any(|part| part == b"hidden");
                frames.send(line).unwrap();
                std::future::ready(!hidden)
            });
            let shown: Frames = Box::pin(shown);
            Ok(Response::from_parts(parts, ResponseBody::new(shown)))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn watch_sends_one_line_per_frame() {
    let sim = Sim::new();
    let (frames, mut recorded) = tokio::sync::mpsc::unbounded_channel();
    let client = Client::new(Hiding { inner: sim.service(), frames }, "default");
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    sim.create(&config_map("first")).unwrap();
    let mut events = watch(&api, "0").await;
    for name in ["hidden", "shown"] {
        let mut map = config_map(name);
        map.data = Some([("text".into(), "two\nlines\r\n".into())].into());
        sim.create(&map).unwrap();
    }
    sim.delete::<ConfigMap>("default", "shown").unwrap();
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &String| event != "DELETED shown") {
        seen.push(next_event(&mut events).await);
    }
    seen.retain(|event| !event.starts_with("BOOKMARK"));
    assert_eq!(seen, ["ADDED first", "ADDED shown", "DELETED shown"]);
    // The bookmarks before the end, and the end.
    while next_event(&mut events).await != "END" {}
    sim.compact();
    assert_eq!(next_event(&mut watch(&api, "1001").await).await, "ERROR 410");

    drop((api, events));
    let mut kinds = Vec::new();
    while let Ok(frame) = recorded.try_recv() {
        let document = frame.strip_suffix(b"\n").expect("it ends its line");
        assert!(!document.contains(&b'\n'), "{frame:?}");
        let event: Value = serde_json::from_slice(document).unwrap();
        assert!(frame.starts_with(b"{\"type\":"), "the type comes first, as the real server has it");
        kinds.push(event["type"].as_str().unwrap().to_string());
    }
    kinds.dedup();
    assert_eq!(kinds, ["ADDED", "BOOKMARK", "ADDED", "DELETED", "BOOKMARK", "ERROR"]);
}

#[tokio::test(start_paused = true)]
async fn document_is_one_frame() {
    let sim = Sim::new();
    let request = Request::get("/api/v1/namespaces/default/configmaps").body(Body::empty()).unwrap();
    let mut body = tower::ServiceExt::oneshot(sim.service(), request).await.unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let list: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(list["kind"], "ConfigMapList");
    assert!(body.frame().await.is_none());
}
