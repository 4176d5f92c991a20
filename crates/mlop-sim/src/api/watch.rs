//! Watches: streams of the changes after a resource version.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use kube::core::response::Status;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    list::Form,
    selector::Selector,
    server::Server,
    shared::{SharedServer, WeakServer},
    status,
};
use crate::{
    object::Object,
    schema::resource::ResourceType,
    storage::{object_version::ObjectVersion, store::Change, subscriptions::Subscription},
};

/// The interval between the bookmarks of a watch.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The time from the last bookmark to the end of the watch.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// The duration of a watch whose request sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);

/// The parameters of a watch request.
#[derive(Debug)]
pub(crate) struct WatchOptions {
    pub(crate) selector: Selector,
    /// `None` and 0 begin with all current objects. If bookmarks are enabled, one marks the end of these.
    pub(crate) resource_version: Option<u64>,
    pub(crate) bookmarks: bool,
    /// Whether to begin with all current objects for any resource version.
    pub(crate) send_initial_events: bool,
    pub(crate) timeout: Option<Duration>,
}

/// An open watch.
pub(crate) struct Watch {
    server: WeakServer,
    subscription: Subscription,
    ty: Arc<ResourceType>,
    namespace: Option<String>,
    options: WatchOptions,
    form: Form,
    /// The revision at which it began.
    start: u64,
    /// The revision up to which changes were read. After the restore of a backup it can lie in the future. Then the watch
    /// shows nothing until the server reaches that revision again.
    position: u64,
    epoch: Epoch,
    /// Events to send, one per line.
    lines: VecDeque<Bytes>,
    next_bookmark: Instant,
    end: Instant,
    /// Fires at the next bookmark or at the end.
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

impl Watch {
    pub(crate) fn open(
        shared: &SharedServer,
        server: &mut Server,
        ty: Arc<ResourceType>,
        namespace: Option<String>,
        options: WatchOptions,
        form: Form,
    ) -> Self {
        let end = Instant::now() + options.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let start = options.resource_version.unwrap_or_default();
        let (resource, scope) = (ty.resource.clone(), namespace.clone());
        let subscription = server.store.subscribe(move |change| change.concerns(&resource, scope.as_deref()));
        let mut watch = Self {
            server: shared.downgrade(),
            subscription,
            epoch: Epoch::of(server, &ty),
            ty,
            namespace,
            options,
            form,
            start,
            position: start,
            lines: VecDeque::new(),
            next_bookmark: end,
            end,
            timer: Box::pin(sleep_until(end)),
            ended: false,
        };
        watch.schedule_bookmark();
        if start == 0 || watch.options.send_initial_events {
            watch.queue_all(server);
        } else if let Err(expired) = server.store.check_history(start) {
            watch.fail(expired.into());
        } else {
            watch.catch_up(server);
        }
        watch
    }

    /// The body of the response. Each frame is one event on one line.
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
                changed = self.subscription.changed() => {
                    changed.ok()?;
                    true
                }
                () = self.timer.as_mut() => false,
            };
            if !changed && Instant::now() >= self.end {
                return None;
            }
            let server = self.server.clone();
            server.with(|server| self.catch_up(server))?;
            if !changed {
                self.schedule_bookmark();
                // A bookmark at the start would carry no information.
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
            self.next_bookmark = last.unwrap_or(self.end).min(now + BOOKMARK_INTERVAL);
        }
        self.timer.as_mut().reset(self.next_bookmark.min(self.end));
    }

    /// Queues all current objects.
    fn queue_all(&mut self, server: &Server) {
        for (_, object) in server.store.list(&self.ty.resource, self.namespace.as_deref()) {
            if self.options.selector.matches(object) {
                self.lines.push_back(line("ADDED", &self.form.render(object)));
            }
        }
        self.start = server.store.revision();
        self.position = self.start;
        if self.options.bookmarks {
            self.bookmark(true);
        }
    }

    /// Queues the events of all changes since the last call.
    fn catch_up(&mut self, server: &Server) {
        let epoch = Epoch::of(server, &self.ty);
        self.ended |= epoch != self.epoch;
        if epoch.restarts != self.epoch.restarts {
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
            Err(expired) => self.fail(expired.into()),
        }
    }

    /// Queues an error, and ends the watch after it.
    fn fail(&mut self, status: Box<Status>) {
        self.lines.push_back(line("ERROR", status::json(&status).to_string().as_bytes()));
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

/// The lifetime of a server and of a type. Its end ends all watches of that type.
#[derive(PartialEq, Eq)]
struct Epoch {
    restarts: u64,
    /// How often the type was removed.
    removals: u64,
}

impl Epoch {
    fn of(server: &Server, ty: &ResourceType) -> Self {
        Self { restarts: server.store.restarts(), removals: server.types.removals(ty) }
    }
}

/// The event of a change in a watch with this selector; `None` if the selector matches neither state.
fn event(change: &Change, selector: &Selector, form: Form) -> Option<Bytes> {
    let matching =
        |object: &Option<Arc<ObjectVersion>>| object.clone().filter(|object| selector.matches(object));
    match (matching(&change.before), matching(&change.after)) {
        (None, Some(after)) => Some(line("ADDED", &form.render(&after))),
        (Some(_), Some(after)) => Some(line("MODIFIED", &form.render(&after))),
        (Some(before), None) => {
            let mut last = Value::clone(&before);
            last.meta_mut().insert("resourceVersion".into(), json!(change.revision.to_string()));
            Some(line("DELETED", &form.render(&ObjectVersion::new(last, before.managers().clone()))))
        }
        (None, None) => None,
    }
}

/// The text of an event. Its type comes first, as on the real server.
fn line(kind: &str, object: &[u8]) -> Bytes {
    let parts: [&[u8]; 5] = [b"{\"type\":\"", kind.as_bytes(), b"\",\"object\":", object, b"}\n"];
    parts.concat().into()
}
