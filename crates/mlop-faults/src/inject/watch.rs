//! The events of one watch, with faults among them.

use super::{
    injector::{Injector, LATE},
    request::{Named, OperatorRequest},
    responses,
    server::Answer,
};
use crate::plan::{Fault, NotificationId, Point, stable};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::Deserialize;
use std::{collections::VecDeque, future::pending, pin::Pin, sync::Arc};
use tokio::time::{Instant, sleep_until};
use tower::BoxError;

/// The events of a watch between the server and an operator.
struct Tap {
    lines: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    injector: Arc<Injector>,
    to: String,
    kind: String,
    ready: VecDeque<Bytes>,
    mode: Mode,
    /// The object whose first waiting event is dropped when a later one arrives.
    skipped: Option<String>,
}

#[derive(Clone, Copy)]
enum Mode {
    Flowing,
    /// Events wait until then.
    Holding(Instant),
    /// Events are dropped.
    Silent,
    /// Nothing arrives, nor the end of the stream.
    Dead,
    /// The stream ends.
    Over,
}

type Line = Result<Frame<Bytes>, BoxError>;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    object: Named,
}

/// The answer to a watch with faults among its events.
pub fn tap(answer: Answer, injector: Arc<Injector>, request: OperatorRequest) -> Answer {
    let (parts, body) = answer.into_parts();
    let is_late = injector.take_late(&request.by, &request.kind);
    let tap = Tap {
        lines: Box::pin(body.into_data_stream().filter_map(|line| async { line.ok() }).fuse()),
        injector,
        to: request.by,
        kind: request.kind,
        ready: VecDeque::new(),
        mode: if is_late { Mode::Holding(Instant::now() + LATE) } else { Mode::Flowing },
        skipped: None,
    };
    let frames = futures::stream::unfold(tap, |mut tap| async move {
        let line = tap.next().await?;
        Some((line, tap))
    });
    Response::from_parts(parts, StreamBody::new(frames.fuse()).boxed_unsync())
}

impl Tap {
    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(outage) = self.injector.outage(&self.to, &self.kind, false) {
                sleep_until(outage.until()).await;
                continue;
            }
            match self.mode {
                Mode::Over => return None,
                Mode::Dead => pending().await,
                Mode::Flowing => {
                    if let Some(line) = self.ready.pop_front() {
                        return Some(Ok(Frame::data(line)));
                    }
                    let line = self.lines.next().await?;
                    if let Some(seen) = self.receive(line) {
                        return Some(seen);
                    }
                }
                Mode::Silent => drop(self.lines.next().await?),
                Mode::Holding(until) => self.wait(until).await,
            }
        }
    }

    /// Collects events until the time is over or an event replaces the one that is to be skipped.
    async fn wait(&mut self, until: Instant) {
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

    /// An event arrives from the server. Returns the part of it that the operator sees now.
    fn receive(&mut self, line: Bytes) -> Option<Line> {
        let seen = || Some(Ok(Frame::data(line.clone())));
        let Ok(event) = serde_json::from_slice::<Event>(&line) else { return seen() };
        if event.kind == "BOOKMARK" || event.kind == "ERROR" {
            return seen();
        }
        let name = event.object.metadata.name;
        let fault = self.injector.take_fault(|nth| {
            Point::Notification(NotificationId {
                to: self.to.clone(),
                kind: self.kind.clone(),
                event: event.kind.clone(),
                name: stable(&name),
                nth,
            })
        });
        match fault {
            None => return seen(),
            Some(Fault::Duplicated) => {
                self.ready.push_back(line.clone());
                return seen();
            }
            Some(Fault::Reset) => {
                self.mode = Mode::Over;
                return Some(Err("connection reset by peer".into()));
            }
            Some(Fault::Gone) => return self.expire(),
            Some(Fault::TimeTravel) => {
                self.injector.make_stale(&self.to, &self.kind);
                return self.expire();
            }
            Some(Fault::Undecodable) => {
                self.injector.make_undecodable(&self.to, &self.kind);
                return self.expire();
            }
            Some(Fault::Silent) => self.mode = Mode::Silent,
            Some(Fault::Dead) => self.mode = Mode::Dead,
            Some(fault @ (Fault::Skipped | Fault::Delayed)) => {
                self.skipped = (fault == Fault::Skipped).then_some(name);
                self.ready.push_back(line);
                self.mode = Mode::Holding(Instant::now() + LATE);
            }
            Some(other) => {
                self.injector.strike(other, &self.to, &self.kind);
                return seen();
            }
        }
        None
    }

    fn expire(&mut self) -> Option<Line> {
        self.mode = Mode::Over;
        Some(Ok(Frame::data(responses::expired_event())))
    }
}
