//! The way of spans out of a reconcile: a bounded queue that never blocks.

use super::metrics::{Metrics, SpanLabel};
use crate::span::Span;
use jiff::Timestamp;
use mlop_api::trace::SpanId;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// Spans that wait for their export.
const QUEUE: usize = 2_048;
/// Spans that are remembered, so that they are exported once.
const REMEMBERED: usize = 4_096;

/// Takes the spans of an operator's reconciles.
#[derive(Clone)]
pub struct Tracer {
    queue: mpsc::Sender<Span>,
    recorded: Arc<Mutex<BTreeSet<(Timestamp, SpanId)>>>,
}

impl Tracer {
    /// A tracer, and the end of its queue.
    pub fn new() -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        (Self { queue, recorded: Arc::default() }, spans)
    }

    /// Queues a span, unless it has been queued before. A full queue drops it and counts it.
    pub(super) fn record(&self, span: Span, metrics: &Metrics) {
        if self.is_new(&span) && self.queue.try_send(span).is_err() {
            metrics.spans.get_or_create(&SpanLabel::DROPPED).inc();
        }
    }

    fn is_new(&self, span: &Span) -> bool {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = recorded.insert((span.end, span.id.clone()));
        if recorded.len() > REMEMBERED {
            recorded.pop_first();
        }
        is_new
    }
}
