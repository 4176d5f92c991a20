//! HTTP: from a request to an operation of the server, and back.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body as ClientBody;
use serde_json::{Value, json};

use crate::{
    delete::DeleteOptions,
    object::{Object, text},
    patch,
    read::{Form, ListOptions},
    resource::ResourceType,
    select::Selector,
    server::{Body, Part, Server, WriteOptions, Written},
    status::{self, Result},
    trace::Write,
    url::{Target, query},
    watch::{Watch, WatchOptions},
};

/// The frames of a response.
pub type Frames = Pin<Box<dyn futures::Stream<Item = std::result::Result<Frame<Bytes>, Infallible>> + Send>>;

/// A response of the simulator. A whole document is one frame. A watch has one frame for each event, and each frame
/// is one JSON document and a line feed: a layer may drop, repeat, hold back or rewrite frames without looking for
/// the ends of lines. (`ResponseBody` is a `Stream` of its frames, and is made of one.)
pub type ResponseBody = StreamBody<Frames>;

/// The server as a `tower` service. All requests pass through [`call`](tower::Service::call): layers that delay,
/// fail or record them go around it. A watch is a GET with `watch=true` (or `1`) in its query that is answered
/// with 200; its frames come when the body is polled, and it ends by ending its body.
#[derive(Clone)]
pub struct Service {
    pub(crate) server: Arc<Mutex<Server>>,
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
            let call = Call::new(&parts, body);
            Ok(call.answer(&server))
        })
    }
}

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request, read but not yet understood.
struct Call {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    content_type: String,
    metadata_only: bool,
    user_agent: String,
    body: Bytes,
}

/// A request for a type that is served.
struct Routed<'a> {
    call: &'a Call,
    ty: Arc<ResourceType>,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
}

impl Call {
    fn new(parts: &http::request::Parts, body: Bytes) -> Self {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let metadata_only = header(header::ACCEPT).contains("as=PartialObjectMetadata");
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_string(),
            query: query(parts.uri.query().unwrap_or_default()),
            content_type: header(header::CONTENT_TYPE).to_string(),
            metadata_only,
            user_agent: header(header::USER_AGENT).to_string(),
            body,
        }
    }

    fn form(&self, server: &Server) -> Form {
        match (self.metadata_only, server.shows_managers) {
            (true, _) => Form::Metadata,
            (false, true) => Form::Full,
            (false, false) => Form::Unmanaged,
        }
    }

    fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.param(name), Some("true" | "1"))
    }

    fn answer(&self, shared: &Arc<Mutex<Server>>) -> Response<ResponseBody> {
        let mut server = lock(shared);
        if self.method == Method::GET && self.flag("watch") {
            return match self.route(&server).and_then(|routed| routed.watch(shared, &mut server)) {
                Ok(watch) => {
                    respond(200, JSON, Box::pin(watch.into_stream().map(|line| Ok(Frame::data(line)))))
                }
                Err(failure) => self.refuse(&server, &failure),
            };
        }
        match self.document(&mut server) {
            Ok((code, document)) => whole(code, JSON, document),
            Err(failure) => self.refuse(&server, &failure),
        }
    }

    fn refuse(&self, server: &Server, failure: &kube::core::Status) -> Response<ResponseBody> {
        if self.is_unknown(server) {
            return whole(404, "text/plain; charset=utf-8", Bytes::from_static(b"404 page not found\n"));
        }
        whole(failure.code, JSON, status::json(failure).to_string().into())
    }

    /// Whether no part of the real server feels responsible for this path, not even to answer with a `Status`: a
    /// custom type that is not registered (any more), for one.
    fn is_unknown(&self, server: &Server) -> bool {
        let Some(Target { group, version, plural, .. }) = Target::parse(&self.path) else { return true };
        let served = match server.types.get(&plural, &group) {
            Some(ty) => ty.version == version,
            None => plural.is_empty() && server.types.discovery(&group, &version).is_some(),
        };
        !served && !server.types.is_built_in(&group, &version)
    }

    fn route(&self, server: &Server) -> Result<Routed<'_>> {
        let target = Target::parse(&self.path).ok_or_else(status::no_such_resource)?;
        let ty = server
            .types
            .get(&target.plural, &target.group)
            .filter(|ty| ty.version == target.version)
            .ok_or_else(status::no_such_resource)?;
        let status = match target.subresource.as_deref() {
            None => false,
            Some("status") if ty.has_status => true,
            Some(_) => return Err(status::no_such_resource()),
        };
        Ok(Routed { call: self, ty: ty.clone(), namespace: target.namespace, name: target.name, status })
    }

    /// The answer to anything but a watch.
    fn document(&self, server: &mut Server) -> Result<(u16, Bytes)> {
        if self.path == "/version" {
            let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0-mlop-sim", "gitCommit": "",
                "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            return Ok((200, version.to_string().into()));
        }
        if let Some(target) = Target::parse(&self.path).filter(|target| target.plural.is_empty()) {
            let document = server.types.discovery(&target.group, &target.version);
            return document.map(|d| (200, d.to_string().into())).ok_or_else(status::no_such_resource);
        }
        let routed = self.route(server)?;
        if self.method == Method::GET {
            return routed.read(server);
        }
        let Written { code, body, .. } = routed.traced(server)?;
        Ok(match body {
            Body::Object(object) => (code, self.form(server).of(&object)),
            Body::Status(status) => (code, status::json(&status).to_string().into()),
        })
    }

    fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
        })
    }
}

impl Routed<'_> {
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    fn read(&self, server: &Server) -> Result<(u16, Bytes)> {
        let form = self.call.form(server);
        match &self.name {
            Some(name) => Ok((200, form.of(&*server.find(&self.ty, self.namespace(), name)?))),
            None => {
                let document =
                    server.list(&self.ty, self.namespace.as_deref(), &self.list_options()?, form)?;
                Ok((200, document))
            }
        }
    }

    fn selector(&self) -> Result<Selector> {
        let param = |name| self.call.param(name).unwrap_or_default();
        Selector::parse(&self.ty, param("labelSelector"), param("fieldSelector"))
    }

    fn resource_version(&self) -> Result<Option<u64>> {
        match self.call.param("resourceVersion") {
            None | Some("") => Ok(None),
            Some(version) => version
                .parse()
                .map(Some)
                .map_err(|_| status::bad_request(format!("invalid resource version: {version}"))),
        }
    }

    fn list_options(&self) -> Result<ListOptions> {
        Ok(ListOptions {
            selector: self.selector()?,
            resource_version: self.resource_version()?,
            exact: self.call.param("resourceVersionMatch") == Some("Exact"),
            limit: self.call.param("limit").and_then(|limit| limit.parse().ok()),
            token: self.call.param("continue").map(str::to_string),
        })
    }

    fn watch(&self, shared: &Arc<Mutex<Server>>, server: &mut Server) -> Result<Watch> {
        let options = WatchOptions {
            selector: self.selector()?,
            resource_version: self.resource_version()?,
            bookmarks: self.call.flag("allowWatchBookmarks"),
            send_initial_events: self.call.flag("sendInitialEvents"),
            timeout: self.call.param("timeoutSeconds").and_then(|s| s.parse().ok()).map(Duration::from_secs),
        };
        let form = self.call.form(server);
        Ok(Watch::open(shared, server, self.ty.clone(), self.namespace.clone(), options, form))
    }

    /// Does the write and records it, whatever became of it.
    fn traced(&self, server: &mut Server) -> Result<Written> {
        let outcome = self.write(server);
        let created = match &outcome {
            Ok(Written { body: Body::Object(object), .. }) => object.name().to_string(),
            _ => String::new(),
        };
        let write = Write {
            time: server.clock.now().to_string(),
            verb: self.verb().into(),
            resource: self.ty.resource.to_string(),
            namespace: self.namespace().into(),
            name: self.name.clone().unwrap_or(created),
            subresource: if self.status { "status".into() } else { String::new() },
            field_manager: self.call.param("fieldManager").unwrap_or_default().into(),
            code: outcome.as_ref().map_or_else(|failure| failure.code, |written| written.code),
            changed: outcome.as_ref().is_ok_and(|written| written.changed),
        };
        server.writes.push(write);
        outcome
    }

    fn verb(&self) -> &'static str {
        match self.call.method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH if self.is_apply() => "apply",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "unknown",
        }
    }

    fn is_apply(&self) -> bool {
        self.call.content_type.starts_with("application/apply-patch")
    }

    fn write_options(&self) -> WriteOptions {
        let agent = self.call.user_agent.split('/').next().filter(|agent| !agent.is_empty());
        WriteOptions {
            manager: self.call.param("fieldManager").or(agent).unwrap_or("unknown").into(),
            part: if self.status { Part::Status } else { Part::Main },
            dry_run: self.call.param("dryRun").is_some(),
            force: self.call.flag("force"),
            strict: self.call.param("fieldValidation") == Some("Strict"),
        }
    }

    fn write(&self, server: &mut Server) -> Result<Written> {
        let body = self.call.json()?;
        let options = self.write_options();
        let (ty, namespace) = (&self.ty, self.namespace());
        if ty.namespaced && namespace.is_empty() {
            return Err(status::method_not_allowed());
        }
        match (&self.call.method, &self.name) {
            (&Method::POST, None) => server.create(ty, namespace, body, &options),
            (&Method::PUT, Some(name)) => server.update(ty, namespace, name, body, &options),
            (&Method::PATCH, Some(name)) if self.is_apply() => {
                if self.call.param("fieldManager").is_none_or(str::is_empty) {
                    let message = "Required value: is required for apply patch";
                    return Err(status::invalid_options("fieldManager", "FieldValueRequired", message));
                }
                server.apply(ty, namespace, name, body, &options)
            }
            (&Method::PATCH, Some(name)) => {
                let old = server.find(ty, namespace, name)?;
                let new = patch::patched(&old, &self.call.content_type, body)?;
                if text(&new.meta()["name"]) != name {
                    return Err(status::bad_request(
                        "the name of the object does not match the name on the URL",
                    ));
                }
                server.replace(ty, &old, new, None, &options)
            }
            (&Method::DELETE, Some(name)) if !self.status => {
                server.delete(ty, namespace, name, &DeleteOptions::decode(&body))
            }
            _ => Err(status::method_not_allowed()),
        }
    }
}

const JSON: &str = "application/json";

fn whole(code: u16, content_type: &'static str, document: Bytes) -> Response<ResponseBody> {
    respond(code, content_type, Box::pin(futures::stream::iter([Ok(Frame::data(document))])))
}

fn respond(code: u16, content_type: &'static str, frames: Frames) -> Response<ResponseBody> {
    let mut response = Response::new(StreamBody::new(frames));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
