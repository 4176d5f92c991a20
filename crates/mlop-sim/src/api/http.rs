//! The HTTP interface of the server, as a `tower` service.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::{client::Body as ClientBody, core::response::Status};
use serde_json::json;

use super::{
    request::ApiRequest,
    resource_request::ResourceRequest,
    server::Server,
    shared::SharedServer,
    status::{self, Result},
    url::Target,
    write::{Body, Written},
};

/// The frames of a response body.
pub type Frames = Pin<Box<dyn futures::Stream<Item = std::result::Result<Frame<Bytes>, Infallible>> + Send>>;

/// The body of a response.
///
/// A document is one frame. A watch has one frame per event, and each frame is one JSON document with a line feed. So a
/// layer can drop, repeat, delay or rewrite frames without searching for line ends. `ResponseBody` is a `Stream` of its
/// frames, and is created from one.
pub type ResponseBody = StreamBody<Frames>;

/// The server as a `tower` service.
///
/// All requests pass through [`call`](tower::Service::call), so layers around it can delay, fail or record them. A watch
/// is a GET with `watch=true` or `watch=1` in its query and 200 in its response. Its frames are produced as the body is
/// polled, and the end of the body is the end of the watch.
#[derive(Clone)]
pub struct Service {
    pub(crate) server: SharedServer,
}

impl tower::Service<Request<ClientBody>> for Service {
    type Response = Response<ResponseBody>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ClientBody>) -> Self::Future {
        let server = self.server.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            Ok(respond(&ApiRequest::new(&parts, body), &server))
        })
    }
}

fn respond(request: &ApiRequest, shared: &SharedServer) -> Response<ResponseBody> {
    let mut server = shared.lock();
    if request.method == Method::GET && request.flag("watch") {
        let routed = ResourceRequest::route(request, &server);
        return match routed.and_then(|routed| routed.watch(shared, &mut server)) {
            Ok(watch) => response(200, JSON, Box::pin(watch.into_stream().map(|line| Ok(Frame::data(line))))),
            Err(failure) => refusal(request, &server, &failure),
        };
    }
    match document(request, &mut server) {
        Ok((code, document)) => whole(code, JSON, document),
        Err(failure) => refusal(request, &server, &failure),
    }
}

/// The response to a request other than a watch.
fn document(request: &ApiRequest, server: &mut Server) -> Result<(u16, Bytes)> {
    if request.path == "/version" {
        let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0-mlop-sim", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        return Ok((200, version.to_string().into()));
    }
    if let Some(target) = request.target().filter(|target| target.plural.is_empty()) {
        let document = server.types.discovery(&target.group, &target.version);
        return document.map(|d| (200, d.to_string().into())).ok_or_else(status::no_such_resource);
    }
    if let Some((namespace, name)) =
        request.target().as_ref().and_then(Target::log).filter(|_| request.method == Method::GET)
    {
        let tail = request.param("tailLines").and_then(|lines| lines.parse().ok()).unwrap_or(usize::MAX);
        return Ok((200, server.read_log(namespace, name, tail)?.into()));
    }
    let routed = ResourceRequest::route(request, server)?;
    if request.method == Method::GET {
        return routed.read(server);
    }
    let Written { code, body, .. } = routed.traced_write(server)?;
    Ok(match body {
        Body::Object(object) => (code, request.form(server).render(&object)),
        Body::Status(status) => (code, status::json(&status).to_string().into()),
    })
}

fn refusal(request: &ApiRequest, server: &Server, failure: &Status) -> Response<ResponseBody> {
    if is_unknown_path(request, server) {
        return whole(404, "text/plain; charset=utf-8", Bytes::from_static(b"404 page not found\n"));
    }
    whole(failure.code, JSON, status::json(failure).to_string().into())
}

/// Whether the real server would respond with plain text instead of a `Status`, as it does for custom types that are not
/// registered.
fn is_unknown_path(request: &ApiRequest, server: &Server) -> bool {
    let Some(target) = request.target() else { return true };
    let (group, version) = (&target.group, &target.version);
    let served = match server.types.get(&target.plural, group) {
        Some(ty) => ty.version == *version,
        None => target.plural.is_empty() && server.types.discovery(group, version).is_some(),
    };
    !served && !server.types.is_built_in(group, version)
}

const JSON: &str = "application/json";

fn whole(code: u16, content_type: &'static str, document: Bytes) -> Response<ResponseBody> {
    response(code, content_type, Box::pin(futures::stream::iter([Ok(Frame::data(document))])))
}

fn response(code: u16, content_type: &'static str, frames: Frames) -> Response<ResponseBody> {
    let mut response = Response::new(StreamBody::new(frames));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
