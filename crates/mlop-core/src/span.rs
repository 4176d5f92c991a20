//! Spans: what took how long in a propagation, for OpenTelemetry.
//!
//! A span is derived from stored objects, and its ids are functions of them ([`mlop_api::trace`]). A process that derives it
//! again gets the same span.

use jiff::{SignedDuration, Timestamp};
use mlop_api::trace::{SpanId, TraceId};
use serde_json::Value;

/// A process that starts exports again what ended within this time before. What its predecessor has not exported is lost
/// after this time.
const EXPORTED_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// A piece of work that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    /// The span that caused this one; none for the first span of a trace.
    pub parent: Option<SpanId>,
    pub name: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Texts and integers.
    pub attributes: Vec<(&'static str, Value)>,
    /// The reason why it failed; none if it succeeded.
    pub error: Option<String>,
}

/// Whether what ended at `end` and is stored already is exported at `now`, since an earlier process may not have done so.
pub fn is_exported_again(end: Timestamp, now: Timestamp) -> bool {
    now.duration_since(end) <= EXPORTED_AGAIN
}
