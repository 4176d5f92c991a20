//! Watches: a stream of the changes after a resource version.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::{
    object::Object,
    read::{Form, initial},
    resource::ResourceType,
    revisions::Revisions,
    select::Selector,
    server::Server,
    store::Change,
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
    revisions: Revisions,
    ty: Arc<ResourceType>,
    namespace: Option<String>,
    options: WatchOptions,
    form: Form,
    /// Where it began.
    start: u64,
    /// Changes up to here have been looked at.
    position: u64,
    lines: VecDeque<Bytes>,
    next_bookmark: Instant,
    end: Instant,
    ended: bool,
}

impl Watch {
    pub(crate) fn open(
        shared: &Arc<Mutex<Server>>,
        server: &Server,
        ty: Arc<ResourceType>,
        namespace: Option<String>,
        options: WatchOptions,
        form: Form,
    ) -> Self {
        let now = Instant::now();
        let end = now + options.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let from_now = options.resource_version.unwrap_or_default() == 0;
        let mut watch = Self {
            server: Arc::downgrade(shared),
            revisions: server.store.subscribe(),
            ty,
            namespace,
            form,
            start: options.resource_version.unwrap_or_default(),
            position: options.resource_version.unwrap_or_default(),
            lines: VecDeque::new(),
            next_bookmark: now,
            end,
            ended: false,
            options,
        };
        watch.schedule_bookmark();
        if from_now || watch.options.send_initial_events {
            watch.begin_with_everything(server);
        } else {
            watch.catch_up(server);
        }
        watch
    }

    /// The response body: one event a line.
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
            tokio::select! {
                biased;
                changed = self.revisions.changed() => {
                    changed.ok()?;
                    let shared = self.server.upgrade()?;
                    self.catch_up(&shared.lock().unwrap_or_else(PoisonError::into_inner));
                }
                () = sleep_until(self.end) => return None,
                () = sleep_until(self.next_bookmark), if self.options.bookmarks => {
                    self.schedule_bookmark();
                    // As long as nothing was written there is nothing to say.
                    if self.position > self.start {
                        self.bookmark(false);
                    }
                }
            }
        }
    }

    fn schedule_bookmark(&mut self) {
        let now = Instant::now();
        let last = self.end.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now).unwrap_or(self.end);
        self.next_bookmark = last.min(now + BOOKMARK_EVERY);
    }

    fn begin_with_everything(&mut self, server: &Server) {
        for object in initial(server, &self.ty, self.namespace.as_deref(), &self.options.selector).values() {
            self.event("ADDED", object);
        }
        self.start = server.store.revision();
        self.position = self.start;
        if self.options.bookmarks {
            self.bookmark(true);
        }
    }

    /// Queues the events of all changes since the last look.
    fn catch_up(&mut self, server: &Server) {
        let (resource, namespace) = (self.ty.qualified(), self.namespace.clone());
        match server.store.changes_since(self.position) {
            Ok(changes) => {
                changes
                    .filter(|change| change.concerns(&resource, namespace.as_deref()))
                    .for_each(|change| self.change(change));
                self.position = self.position.max(server.store.revision());
            }
            Err(expired) => {
                let mut status = serde_json::to_value(&*expired).unwrap_or_default();
                status["kind"] = json!("Status");
                status["apiVersion"] = json!("v1");
                self.line("ERROR", &status);
                self.ended = true;
            }
        }
    }

    fn change(&mut self, change: &Change) {
        let matches = |object: &Option<Arc<Value>>| {
            object.as_ref().filter(|object| self.options.selector.matches(object)).cloned()
        };
        match (matches(&change.before), matches(&change.after)) {
            (None, Some(after)) => self.event("ADDED", &after),
            (Some(_), Some(after)) => self.event("MODIFIED", &after),
            (Some(before), None) => {
                let mut last = Value::clone(&before);
                last.meta_mut().insert("resourceVersion".into(), json!(change.revision.to_string()));
                self.event("DELETED", &last);
            }
            (None, None) => {}
        }
    }

    fn event(&mut self, kind: &str, object: &Value) {
        self.line(kind, &self.form.of(object));
    }

    fn bookmark(&mut self, initial_events_end: bool) {
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({"kind": self.ty.kind, "apiVersion": self.ty.api_version(), "metadata": metadata});
        self.event("BOOKMARK", &object);
    }

    fn line(&mut self, kind: &str, object: &Value) {
        self.lines.push_back(Bytes::from(format!("{}\n", json!({"type": kind, "object": object}))));
    }
}
