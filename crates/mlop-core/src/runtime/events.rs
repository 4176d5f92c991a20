//! The way of Events out of a reconcile: a bounded queue and its writer. No reconcile waits for an Event.

use super::{error::words, metrics::Metrics};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, Client, api::PostParams};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Events that wait for their creation.
const QUEUE: usize = 4_096;
/// Requests at a time: a webhook that hangs in one namespace holds up a part of them only.
const CONCURRENCY: usize = 4;

/// Takes the Events of an operator's reconciles.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Event>,
}

impl Recorder {
    /// A recorder, and the end of its queue.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (queue, events) = mpsc::channel(QUEUE);
        (Self { queue }, events)
    }

    /// Queues an Event. A full queue drops it and counts it.
    pub(super) fn record(&self, event: Event, metrics: &Metrics) {
        if self.queue.try_send(event).is_err() {
            metrics.lost_events.inc();
        }
    }
}

/// Creates the Events of the queue until its recorder is gone. One that the API server refuses is logged and counted.
pub(crate) async fn write(client: Client, mut events: mpsc::Receiver<Event>, metrics: Arc<Metrics>) {
    let queued = stream::poll_fn(|cx| events.poll_recv(cx));
    queued.for_each_concurrent(CONCURRENCY, |event| create(&client, event, &metrics)).await;
}

async fn create(client: &Client, event: Event, metrics: &Metrics) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    match Api::<Event>::namespaced(client.clone(), namespace).create(&PostParams::default(), &event).await {
        Ok(_) => {}
        // Its name is a digest of its content: it was published before.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => {
            metrics.lost_events.inc();
            let object = &event.involved_object;
            tracing::warn!(
                error = words(&error),
                namespace,
                kind = object.kind,
                name = object.name,
                reason = event.reason,
                "cannot publish an Event"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_events_and_counts_them() {
        let (recorder, events) = Recorder::new();
        let metrics = Metrics::default();
        (0..QUEUE + 2).for_each(|_| recorder.record(Event::default(), &metrics));
        assert_eq!(events.len(), QUEUE);
        assert_eq!(metrics.lost_events.get(), 2);
    }
}
