//! The layer that carries a plan out: below an operator's client and its retries, above the server.

use crate::plan::{Fault, Injection, NotificationId, Point, WorkId, WriteId, stable};
use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use mlop_sim::Sim;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tower::{BoxError, Service};

/// How long a refusal or an outage lasts.
pub const OUTAGE: Duration = Duration::from_secs(20);
/// How late an event is, and how far behind a server is.
const LATE: Duration = Duration::from_secs(5);
/// After this time an operator has seen an answer or an event.
const SEEN: Duration = Duration::from_millis(100);
/// How long a foreign object keeps a name.
const NAME_TAKEN: Duration = Duration::from_secs(30);
/// How often whoever took a name gives it back.
const NAME_GIVEN_BACK: u32 = 10;
/// Within this time whoever has lost a lease has noticed it: a renewal and a request that is not answered.
const NOTICED: Duration = Duration::from_secs(10);
/// How far a clock is off, in seconds.
const CLOCK_WRONG: i64 = 60;
/// How long a user needs to create anew what was deleted.
pub const RECREATION: Duration = Duration::from_secs(5);

/// What an operator gets.
pub type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// The API server, as the layer needs it.
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

/// What only the owner of the processes can do.
#[derive(Debug)]
pub enum Command {
    Crash(String),
    AllCrash,
    SecondLeader(String),
    /// Tell the operator to stop.
    Terminate(String),
    TakeLease(String),
    /// Put the operator's clock ahead by so many seconds, for a while.
    Clock(String, i64),
    /// Restore the server to what it was before.
    Restore,
    /// Remove the kind of this plural, and bring it back later.
    RemoveType(String),
    EndNamespace,
    /// Delete the Dataset; [`Command::Recreate`] follows.
    RecreateInput,
    /// Create this object of a user's anew.
    Recreate(Value),
    FlapSource,
}

/// Decides at each request and event whether something goes wrong, and remembers what happened.
pub struct Injector {
    server: Box<dyn Server>,
    commands: mpsc::UnboundedSender<Command>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pending: Vec<Injection>,
    seen: BTreeMap<Point, u32>,
    points: Vec<Point>,
    outages: Vec<Outage>,
    /// Lists of this operator and kind come from a server that is behind.
    behind: BTreeSet<(String, String)>,
    /// Watches of this operator and kind begin late.
    late: BTreeSet<(String, String)>,
    undecodable: BTreeSet<(String, String)>,
    revisions: VecDeque<(Instant, u64)>,
    last_fault: Option<Instant>,
    ledger: crate::oracle::Ledger,
    /// How long each request takes.
    latency: Duration,
    /// When an operator lost its lease to somebody else.
    lost: BTreeMap<String, Instant>,
    /// Users want nothing back that is deleted.
    for_good: bool,
    /// Names of objects; requests for them are never answered.
    hanging: BTreeSet<String>,
}

#[derive(Clone)]
struct Outage {
    until: Instant,
    what: Fault,
    /// All operators if empty.
    by: String,
    /// All kinds if empty.
    kind: String,
}

impl Injector {
    pub fn new(
        server: impl Server + 'static,
        faults: Vec<Injection>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Arc<Self> {
        let injector = Arc::new(Self {
            server: Box::new(server),
            commands,
            state: Mutex::new(State { pending: faults, ..Default::default() }),
        });
        injector.schedule();
        injector
    }

    /// Faults of a moment need nothing but the clock.
    fn schedule(self: &Arc<Self>) {
        let timed: Vec<_> = {
            let mut state = self.state();
            let (timed, others) =
                state.pending.drain(..).partition(|injection| matches!(injection.at, Point::Millisecond(_)));
            state.pending = others;
            timed
        };
        for injection in timed {
            let Point::Millisecond(at) = injection.at else { continue };
            let injector = Arc::clone(self);
            tokio::spawn(async move {
                sleep(Duration::from_millis(at)).await;
                injector.strike(injection.fault, "", "");
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every point that was passed so far, in order.
    pub fn points(&self) -> Vec<Point> {
        self.state().points.clone()
    }

    /// Faults whose point has not come.
    pub fn pending(&self) -> Vec<Injection> {
        self.state().pending.clone()
    }

    /// When the last fault ended.
    pub fn last_fault(&self) -> Option<Instant> {
        let state = self.state();
        state.outages.iter().map(|outage| outage.until).chain(state.last_fault).max()
    }

    pub fn ledger(&self) -> crate::oracle::Ledger {
        self.state().ledger.clone()
    }

    /// Somebody else has the operator's lease now; it has it again when it writes it.
    pub fn lost_its_lease(&self, operator: &str) {
        self.state().lost.insert(operator.to_owned(), Instant::now());
    }

    /// From now on users create nothing anew that is deleted.
    pub fn let_go(&self) {
        self.state().for_good = true;
    }

    /// Whether users create anew what is deleted.
    pub fn wants_back(&self) -> bool {
        !self.state().for_good
    }

    /// Requests take so long from now on.
    pub fn take(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Requests for objects of this name are never answered from now on.
    pub fn hang(&self, name: &str) {
        self.state().hanging.insert(name.to_owned());
    }

    /// A pod begins its work: does something go wrong with it?
    pub fn work(&self, kind: &str) -> Option<Fault> {
        self.pass(|nth| Point::Work(WorkId { kind: kind.to_owned(), nth }))
    }

    /// Counts the point, and takes the fault that is planned for it.
    fn pass(&self, point: impl Fn(u32) -> Point) -> Option<Fault> {
        let mut state = self.state();
        let count = state.seen.entry(point(0)).or_default();
        *count += 1;
        let point = point(*count);
        let index = state.pending.iter().position(|injection| injection.at == point);
        state.points.push(point);
        let fault = index.map(|index| state.pending.remove(index).fault);
        if fault.is_some() {
            state.last_fault = Some(Instant::now());
        }
        fault
    }

    /// What is not about one request.
    fn strike(self: &Arc<Self>, fault: Fault, by: &str, kind: &str) {
        self.state().last_fault = Some(Instant::now());
        let outage = |what, by: &str| Outage {
            until: Instant::now() + OUTAGE,
            what,
            by: by.to_owned(),
            kind: String::new(),
        };
        let command = match fault {
            Fault::Partition => return self.state().outages.push(outage(fault, by)),
            Fault::ServerDown => return self.state().outages.push(outage(fault, "")),
            Fault::CrashBefore | Fault::CrashAfter => Command::Crash(by.to_owned()),
            Fault::TwoLeaders => {
                self.state().ledger.rivals();
                Command::SecondLeader(by.to_owned())
            }
            Fault::Terminated => Command::Terminate(by.to_owned()),
            Fault::LeaseTaken => Command::TakeLease(by.to_owned()),
            Fault::ClockAhead => Command::Clock(by.to_owned(), CLOCK_WRONG),
            Fault::ClockBehind => Command::Clock(by.to_owned(), -CLOCK_WRONG),
            Fault::Restored => Command::Restore,
            Fault::TypeRemoved => Command::RemoveType(kind.to_owned()),
            Fault::NamespaceEnds => Command::EndNamespace,
            Fault::InputRecreated => Command::RecreateInput,
            Fault::UpstreamFlaps => Command::FlapSource,
            _ => Command::AllCrash,
        };
        self.command(command);
    }

    fn command(&self, command: Command) {
        // The receiver ends with the world.
        let _ = self.commands.send(command);
    }

    fn outage(&self, by: &str, kind: &str, writes: bool) -> Option<Outage> {
        let state = self.state();
        let now = Instant::now();
        let hits = |outage: &&Outage| {
            outage.until > now
                && (outage.by.is_empty() || outage.by == by)
                && (outage.kind.is_empty() || outage.kind == kind)
                && (writes || matches!(outage.what, Fault::Partition | Fault::ServerDown))
        };
        state.outages.iter().find(hits).cloned()
    }

    fn refuse(&self, what: Fault, by: &str, kind: &str) {
        let until = Instant::now() + OUTAGE;
        self.state().outages.push(Outage { until, what, by: by.to_owned(), kind: kind.to_owned() });
    }

    /// A version of the server that was current some time ago.
    fn earlier(&self) -> u64 {
        let state = self.state();
        let old = state.revisions.iter().take_while(|(at, _)| at.elapsed() > LATE * 2).last();
        old.or(state.revisions.front()).map_or(1, |(_, revision)| *revision)
    }

    fn written(&self, call: &Call, code: u16) {
        let revision = self.server.revision();
        let mut state = self.state();
        state.revisions.push_back((Instant::now(), revision));
        if (200..300).contains(&code) {
            state.ledger.accepted(call);
            let lost = state.lost.get(&call.by).is_some_and(|at| at.elapsed() > NOTICED);
            if call.kind == "leases" {
                state.lost.remove(&call.by);
            } else if lost {
                state.ledger.usurped(call);
            }
        }
    }

    /// A request of somebody who is not an operator.
    async fn somebody(&self, method: Method, path: &str, content: &str, body: &Value) -> Option<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?fieldManager=somebody"))
            .header(header::CONTENT_TYPE, content)
            .body(Body::from(if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }))
            .ok()?;
        let response = self.server.call(request).await.ok()?;
        let bytes = BodyExt::collect(response.into_body()).await.ok()?.to_bytes();
        serde_json::from_slice(&bytes).ok()
    }

    async fn delete(self: &Arc<Self>, path: &str) {
        let object = self.somebody(Method::GET, path, "", &Value::Null).await;
        self.somebody(Method::DELETE, path, JSON, &Value::Null).await;
        let is_users = object.as_ref().is_some_and(|object| object["metadata"]["ownerReferences"].is_null());
        if let Some(object) = object.filter(|object| is_users && object["kind"] != "Status") {
            self.recreate_later(object, RECREATION);
        }
    }

    /// A user creates `object` anew after a while.
    pub fn recreate_later(self: &Arc<Self>, object: Value, after: Duration) {
        let injector = Arc::clone(self);
        self.state().last_fault = Some(Instant::now() + after);
        tokio::spawn(async move {
            sleep(after).await;
            injector.command(Command::Recreate(object));
        });
    }

    /// The server goes back: what was reported counts no more.
    pub fn restored(&self) {
        self.state().ledger.restored();
    }

    async fn take_name(self: &Arc<Self>, call: &Call) {
        let mut object: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        let name = object["metadata"]["name"].clone();
        object["metadata"] = json!({"name": name, "labels": {"app": "somebody"}});
        let taken = self.somebody(Method::POST, &call.path, JSON, &object).await.unwrap_or_default();
        let only_it = json!({"preconditions": {"uid": taken["metadata"]["uid"]}});
        let (injector, path) = (Arc::clone(self), call.object_path());
        self.state().last_fault = Some(Instant::now() + NAME_TAKEN);
        tokio::spawn(async move {
            // A restored server brings it back.
            for _ in 0..NAME_GIVEN_BACK {
                sleep(NAME_TAKEN).await;
                injector.somebody(Method::DELETE, &path, JSON, &only_it).await;
            }
        });
    }
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

/// One request, as the plan sees it.
pub struct Call {
    pub by: String,
    pub verb: &'static str,
    /// Plural name.
    pub kind: String,
    pub name: String,
    pub subresource: String,
    pub body: Bytes,
    path: String,
}

impl Call {
    fn of(by: &str, parts: &http::request::Parts, body: Bytes) -> Self {
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        let mut segments: VecDeque<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        // `api/v1` or `apis/<group>/<version>`, then perhaps `namespaces/<name>`.
        let root = if segments.front() == Some(&"api") { 2 } else { 3 };
        segments.drain(..root.min(segments.len()));
        if segments.len() > 2 && segments.front() == Some(&"namespaces") {
            segments.drain(..2);
        }
        let mut next = || segments.pop_front().unwrap_or_default().to_owned();
        let (kind, mut name, subresource) = (next(), next(), next());
        let is_apply = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/apply-patch"));
        let verb = match parts.method {
            Method::GET if query.split('&').any(|part| part == "watch=true") => "watch",
            Method::GET if name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::DELETE => "delete",
            _ if is_apply => "apply",
            _ => "patch",
        };
        if verb == "create" {
            let object: Named = serde_json::from_slice(&body).unwrap_or_default();
            name = object.metadata.name;
        }
        Self { by: by.to_owned(), verb, kind, name, subresource, body, path }
    }

    fn is_write(&self) -> bool {
        !matches!(self.verb, "watch" | "list" | "get")
    }

    fn id(&self, nth: u32) -> Point {
        Point::Write(WriteId {
            by: self.by.clone(),
            verb: self.verb.to_owned(),
            kind: self.kind.clone(),
            name: stable(&self.name),
            subresource: self.subresource.clone(),
            nth,
        })
    }

    fn object_path(&self) -> String {
        if self.verb == "create" {
            return format!("{}/{}", self.path, self.name);
        }
        let suffix = format!("/{}", self.subresource);
        match self.path.strip_suffix(&suffix) {
            Some(path) if !self.subresource.is_empty() => path.to_owned(),
            _ => self.path.clone(),
        }
    }
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    metadata: Meta,
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    object: Named,
}

/// The connection of one operator.
#[derive(Clone)]
pub struct Connection {
    pub operator: String,
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
            let call = Call::of(&connection.operator, &parts, body.clone());
            connection.answer(Request::from_parts(parts, Body::from(body.to_vec())), call).await
        })
    }
}

impl Connection {
    async fn answer(&self, request: Request<Body>, call: Call) -> Result<Answer, BoxError> {
        let (latency, hangs) = {
            let mut state = self.injector.state();
            state.ledger.asked(&call.by);
            (state.latency, state.hanging.contains(&call.name))
        };
        if hangs {
            never::<()>().await;
        }
        if !latency.is_zero() {
            sleep(latency).await;
        }
        if let Some(outage) = self.injector.outage(&call.by, &call.kind, call.is_write()) {
            match outage.what {
                Fault::Partition => never().await,
                Fault::ServerDown => return Ok(refusal(503, "ServiceUnavailable", "the server is down")),
                Fault::QuotaExceeded if call.verb == "create" => return Ok(quota(&call)),
                Fault::Forbidden => return Ok(forbidden(&call)),
                _ => {}
            }
        }
        match call.verb {
            "watch" => self.watch(request, call).await,
            "list" => self.list(request, call).await,
            "get" => self.send(request).await,
            _ => {
                let fault = self.injector.pass(|nth| call.id(nth));
                match fault {
                    None => self.write(request, &call).await,
                    Some(fault) => self.faulty(fault, request, &call).await,
                }
            }
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        self.injector.server.call(request).await
    }

    async fn write(&self, request: Request<Body>, call: &Call) -> Result<Answer, BoxError> {
        let response = self.send(request).await?;
        self.injector.written(call, response.status().as_u16());
        Ok(response)
    }

    async fn faulty(&self, fault: Fault, request: Request<Body>, call: &Call) -> Result<Answer, BoxError> {
        let injector = &self.injector;
        match fault {
            Fault::CrashBefore => {
                injector.strike(fault, &call.by, &call.kind);
                never().await
            }
            Fault::CrashAfter => {
                self.write(request, call).await?;
                injector.strike(fault, &call.by, &call.kind);
                never().await
            }
            Fault::AnswerLost => {
                self.write(request, call).await?;
                Err("connection reset by peer".into())
            }
            Fault::TimeoutAfterCommit => {
                self.write(request, call).await?;
                Ok(refusal(504, "Timeout", "the server did not answer in time"))
            }
            Fault::NoAnswer => never().await,
            Fault::Conflict => Ok(refusal(409, "Conflict", "the object has been modified")),
            Fault::TooManyRequests => Ok(refusal(429, "TooManyRequests", "too many requests")),
            Fault::InternalError => Ok(refusal(500, "InternalError", "an error on the server")),
            Fault::Unavailable => Ok(refusal(503, "ServiceUnavailable", "the server is down")),
            Fault::Timeout => Ok(refusal(504, "Timeout", "the server did not answer in time")),
            Fault::Invalid => Ok(refusal(422, "Invalid", "the object is invalid")),
            Fault::Forbidden => {
                injector.refuse(fault, &call.by, &call.kind);
                Ok(forbidden(call))
            }
            Fault::QuotaExceeded if call.verb == "create" => {
                injector.refuse(fault, "", &call.kind);
                Ok(quota(call))
            }
            Fault::NameTaken => {
                injector.take_name(call).await;
                self.write(request, call).await
            }
            Fault::Deleted => {
                injector.delete(&call.object_path()).await;
                self.write(request, call).await
            }
            Fault::ChildDeleted => {
                let response = self.write(request, call).await?;
                let (injector, path) = (Arc::clone(injector), call.object_path());
                tokio::spawn(async move {
                    sleep(SEEN).await;
                    injector.delete(&path).await;
                });
                Ok(response)
            }
            Fault::AnswerOvertaken => {
                let response = self.write(request, call).await?;
                injector.delete(&call.object_path()).await;
                sleep(SEEN).await;
                Ok(response)
            }
            Fault::ChildEdited => {
                let response = self.write(request, call).await?;
                let label = json!({"metadata": {"labels": {"edited-by": "somebody"}}});
                injector.somebody(Method::PATCH, &call.object_path(), MERGE, &label).await;
                Ok(response)
            }
            other => {
                injector.strike(other, &call.by, &call.kind);
                match other {
                    Fault::Partition => never().await,
                    Fault::ServerDown => Ok(refusal(503, "ServiceUnavailable", "the server is down")),
                    _ => self.write(request, call).await,
                }
            }
        }
    }

    async fn list(&self, request: Request<Body>, call: Call) -> Result<Answer, BoxError> {
        let key = (call.by.clone(), call.kind.clone());
        let (mut parts, body) = request.into_parts();
        if self.injector.state().behind.remove(&key) {
            let query = parts.uri.query().unwrap_or_default();
            let old = self.injector.earlier();
            let uri = format!("{}?{query}&resourceVersion={old}&resourceVersionMatch=Exact", call.path);
            parts.uri = uri.parse()?;
        }
        let response = self.send(Request::from_parts(parts, body)).await?;
        if !self.injector.state().undecodable.remove(&key) {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await?.to_bytes();
        let mut list: Value = serde_json::from_slice(&bytes)?;
        let version = list["metadata"]["resourceVersion"].clone();
        let object = json!({
            "metadata": {"name": "undecodable", "namespace": crate::world::NS, "uid": "u", "resourceVersion": version},
            "spec": "nothing that anybody could read", "status": 7,
        });
        if let Some(items) = list["items"].as_array_mut() {
            items.insert(0, object);
        }
        Ok(Response::new(whole(list.to_string())))
    }

    async fn watch(&self, request: Request<Body>, call: Call) -> Result<Answer, BoxError> {
        let response = self.send(request).await?;
        let (parts, body) = response.into_parts();
        let late = self.injector.state().late.remove(&(call.by.clone(), call.kind.clone()));
        let tap = Tap {
            lines: Box::pin(body.into_data_stream().filter_map(|line| async { line.ok() }).fuse()),
            injector: Arc::clone(&self.injector),
            to: call.by,
            kind: call.kind,
            ready: VecDeque::new(),
            mode: if late { Mode::Holding(Instant::now() + LATE) } else { Mode::Flowing },
            skipped: None,
        };
        let frames =
            futures::stream::unfold(tap, |mut tap| async move { tap.next().await.map(|f| (f, tap)) }).fuse();
        Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
    }
}

/// A watch with an ear on it.
struct Tap {
    lines: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    injector: Arc<Injector>,
    to: String,
    kind: String,
    ready: VecDeque<Bytes>,
    mode: Mode,
    /// The object whose event is not to be seen when a later one of it comes, and how many events wait behind it.
    skipped: Option<String>,
}

#[derive(Clone, Copy)]
enum Mode {
    Flowing,
    /// Events wait until then.
    Holding(Instant),
    /// Events are lost.
    Silent,
    Dead,
    /// The stream ends.
    Over,
}

type Line = Result<Frame<Bytes>, BoxError>;

impl Tap {
    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(outage) = self.injector.outage(&self.to, &self.kind, false) {
                sleep_until(outage.until).await;
                continue;
            }
            match self.mode {
                Mode::Over => return None,
                Mode::Dead => never().await,
                Mode::Flowing => {
                    if let Some(line) = self.ready.pop_front() {
                        return Some(Ok(Frame::data(line)));
                    }
                    let line = self.lines.next().await?;
                    if let Some(answer) = self.take(line) {
                        return Some(answer);
                    }
                }
                Mode::Silent => {
                    self.lines.next().await?;
                }
                Mode::Holding(until) => {
                    tokio::select! {
                        biased;
                        () = sleep_until(until) => {
                            self.mode = Mode::Flowing;
                            self.skipped = None;
                        }
                        line = self.lines.next() => match line {
                            Some(line) => self.hold(line),
                            None => {
                                sleep_until(until).await;
                                self.mode = if self.ready.is_empty() { Mode::Over } else { Mode::Flowing };
                            }
                        }
                    }
                }
            }
        }
    }

    fn hold(&mut self, line: Bytes) {
        let name = serde_json::from_slice::<Event>(&line).map(|event| event.object.metadata.name);
        if let (Some(skipped), Ok(name)) = (&self.skipped, name)
            && *skipped == name
        {
            self.ready.pop_front();
            self.skipped = None;
            self.mode = Mode::Flowing;
        }
        self.ready.push_back(line);
    }

    /// An event comes in; what the client sees of it now.
    fn take(&mut self, line: Bytes) -> Option<Line> {
        let whole = || Some(Ok(Frame::data(line.clone())));
        let Ok(event) = serde_json::from_slice::<Event>(&line) else { return whole() };
        if event.kind == "BOOKMARK" || event.kind == "ERROR" {
            return whole();
        }
        let name = event.object.metadata.name;
        let fault = self.injector.pass(|nth| {
            Point::Notification(NotificationId {
                to: self.to.clone(),
                kind: self.kind.clone(),
                event: event.kind.clone(),
                name: stable(&name),
                nth,
            })
        });
        let key = (self.to.clone(), self.kind.clone());
        match fault {
            None => return whole(),
            Some(Fault::Duplicated) => {
                self.ready.push_back(line.clone());
                return whole();
            }
            Some(Fault::Reset) => {
                self.mode = Mode::Over;
                return Some(Err("connection reset by peer".into()));
            }
            Some(Fault::Gone) => return self.gone(),
            Some(Fault::TimeTravel) => {
                let mut state = self.injector.state();
                state.behind.insert(key.clone());
                state.late.insert(key);
                drop(state);
                return self.gone();
            }
            Some(Fault::Undecodable) => {
                self.injector.state().undecodable.insert(key);
                return self.gone();
            }
            Some(Fault::Silent) => self.mode = Mode::Silent,
            Some(Fault::Dead) => self.mode = Mode::Dead,
            Some(Fault::Skipped) => {
                self.skipped = Some(name);
                self.ready.push_back(line);
                self.mode = Mode::Holding(Instant::now() + LATE);
            }
            Some(Fault::Delayed) => {
                self.ready.push_back(line);
                self.mode = Mode::Holding(Instant::now() + LATE);
            }
            Some(other) => {
                self.injector.strike(other, &self.to, &self.kind);
                return whole();
            }
        }
        None
    }

    fn gone(&mut self) -> Option<Line> {
        self.mode = Mode::Over;
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "too old resource version", "reason": "Expired", "code": 410});
        let mut line = json!({"type": "ERROR", "object": status}).to_string();
        line.push('\n');
        Some(Ok(Frame::data(Bytes::from(line))))
    }
}

async fn never<T>() -> T {
    std::future::pending().await
}

fn whole(text: String) -> UnsyncBoxBody<Bytes, BoxError> {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

fn refusal(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    let mut response = Response::new(whole(status.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if code == 429 {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn forbidden(call: &Call) -> Answer {
    let message =
        format!("{} {:?} is forbidden: User \"{}\" cannot {} it", call.kind, call.name, call.by, call.verb);
    refusal(403, "Forbidden", &message)
}

fn quota(call: &Call) -> Answer {
    let message = format!("{} {:?} is forbidden: exceeded quota: count/{}", call.kind, call.name, call.kind);
    refusal(403, "Forbidden", &message)
}
