//! Watches: a stream of the changes after a resource version.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    news::News, object::Object, read::Form, resource::ResourceType, select::Selector, server::Server, status,
    store::Change, stored::Stored,
};

/// How often a quiet watch says how far it is, if it may.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A last bookmark comes this long before the watch ends.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long a watch lasts whose client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// What a watch request asks for.
#[derive(Debug)]
pub(crate) struct WatchOptions {
    pub(crate) selector: Selector,
    /// `None` and 0 begin with the objects there are; with bookmarks, one marks their end.
    pub(crate) resource_version: Option<u64>,
    pub(crate) bookmarks: bool,
    /// Begin with the objects there are, whatever the version.
    pub(crate) send_initial_events: bool,
    pub(crate) timeout: Option<Duration>,
}

/// An open watch.
pub(crate) struct Watch {
    server: Weak<Mutex<Server>>,
    news: News,
    ty: Arc<ResourceType>,
    namespace: Option<String>,
    options: WatchOptions,
    form: Form,
    /// Where it began.
    start: u64,
    /// Changes up to here have been looked at. This may lie in the future, after a backup was restored: then nothing
    /// is shown until the server has come that far again.
    position: u64,
    /// How often the server had restarted, and its type gone away, when this watch began.
    life: (u64, u64),
    lines: VecDeque<Bytes>,
    next_bookmark: Instant,
    end: Instant,
    /// Rings at the next bookmark or at the end.
    alarm: Pin<Box<Sleep>>,
    ended: bool,
}

impl Watch {
    pub(crate) fn open(
        shared: &Arc<Mutex<Server>>,
        server: &mut Server,
        ty: Arc<ResourceType>,
        namespace: Option<String>,
        options: WatchOptions,
        form: Form,
    ) -> Self {
        let end = Instant::now() + options.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let start = options.resource_version.unwrap_or_default();
        let (resource, scope) = (ty.resource.clone(), namespace.clone());
        let news = server.store.subscribe(move |change| change.concerns(&resource, scope.as_deref()));
        let mut watch = Self {
            server: Arc::downgrade(shared),
            news,
            life: life(server, &ty),
            ty,
            namespace,
            options,
            form,
            start,
            position: start,
            lines: VecDeque::new(),
            next_bookmark: end,
            end,
            alarm: Box::pin(sleep_until(end)),
            ended: false,
        };
        watch.schedule_bookmark();
        if start == 0 || watch.options.send_initial_events {
            watch.begin_with_everything(server);
        } else if let Err(expired) = server.store.check_history(start) {
            watch.fail(&expired);
        } else {
            watch.catch_up(server);
        }
        watch
    }

    /// The response body: one event a frame, and one line.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold(self, |mut watch| async move { watch.next().await.map(|line| (line, watch)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            let changed = tokio::select! {
                biased;
                news = self.news.next() => {
                    news.ok()?;
                    true
                }
                () = self.alarm.as_mut() => false,
            };
            if !changed && Instant::now() >= self.end {
                return None;
            }
            let shared = self.server.upgrade()?;
            self.catch_up(&shared.lock().unwrap_or_else(PoisonError::into_inner));
            if !changed {
                self.schedule_bookmark();
                // As long as nothing was written there is nothing to say.
                if self.position > self.start {
                    self.bookmark(false);
                }
            }
        }
    }

    fn schedule_bookmark(&mut self) {
        if self.options.bookmarks {
            let now = Instant::now();
            let last = self.end.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now);
            self.next_bookmark = last.unwrap_or(self.end).min(now + BOOKMARK_EVERY);
        }
        self.alarm.as_mut().reset(self.next_bookmark.min(self.end));
    }

    fn begin_with_everything(&mut self, server: &Server) {
        for (_, object) in server.store.list(&self.ty.resource, self.namespace.as_deref()) {
            if self.options.selector.matches(object) {
                self.lines.push_back(line("ADDED", &self.form.of(object)));
            }
        }
        self.start = server.store.revision();
        self.position = self.start;
        if self.options.bookmarks {
            self.bookmark(true);
        }
    }

    /// Queues the events of all changes since the last look.
    fn catch_up(&mut self, server: &Server) {
        let (restarts, removals) = life(server, &self.ty);
        self.ended |= (restarts, removals) != self.life;
        if restarts != self.life.0 {
            return;
        }
        let resource = self.ty.resource.clone();
        match server.store.changes_of(&resource, self.position) {
            Ok(changes) => {
                let namespace = self.namespace.as_deref();
                let (selector, form) = (&self.options.selector, self.form);
                let changes = changes.filter(|change| change.concerns(&resource, namespace));
                self.lines.extend(changes.filter_map(|change| event(change, selector, form)));
                self.position = self.position.max(server.store.revision());
            }
            Err(expired) => self.fail(&expired),
        }
    }

    fn fail(&mut self, status: &kube::core::Status) {
        self.lines.push_back(line("ERROR", status::json(status).to_string().as_bytes()));
        self.ended = true;
    }

    fn bookmark(&mut self, initial_events_end: bool) {
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, api_version) = match self.form {
            Form::Full | Form::Unmanaged => (self.ty.kind.as_str(), self.ty.api_version()),
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".into()),
        };
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        self.lines.push_back(line("BOOKMARK", object.to_string().as_bytes()));
    }
}

/// What ends all watches of a type when it changes.
fn life(server: &Server, ty: &ResourceType) -> (u64, u64) {
    (server.store.restarts(), server.types.removals(ty))
}

/// What a watch with this selector shows of a change.
fn event(change: &Change, selector: &Selector, form: Form) -> Option<Bytes> {
    let matching = |object: &Option<Arc<Stored>>| object.clone().filter(|object| selector.matches(object));
    match (matching(&change.before), matching(&change.after)) {
        (None, Some(after)) => Some(line("ADDED", &form.of(&after))),
        (Some(_), Some(after)) => Some(line("MODIFIED", &form.of(&after))),
        (Some(before), None) => {
            let mut last = Value::clone(&before);
            last.meta_mut().insert("resourceVersion".into(), json!(change.revision.to_string()));
            Some(line("DELETED", &form.of(&Stored::new(last, before.managers().clone()))))
        }
        (None, None) => None,
    }
}

/// An event as watches send it. Its type comes first, as the real server writes it.
fn line(kind: &str, object: &[u8]) -> Bytes {
    let parts: [&[u8]; 5] = [b"{\"type\":\"", kind.as_bytes(), b"\",\"object\":", object, b"}\n"];
    parts.concat().into()
}
