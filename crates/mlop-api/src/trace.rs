//! Ids of traces and spans (W3C Trace Context), as pure functions of names and digests.
//!
//! A propagation is what follows from one new artifact of a root, that is of a resource without inputs: a new version of a
//! Dataset, and every run downstream that it causes. All of it is one trace. The id of the trace comes from the namespace,
//! the newest root and the root's input digest, and the id of a span from the uid of its run and the attempt. So every
//! operator, every pod and every other program knows the ids without being told, and a span that is exported twice is the
//! same span.
//!
//! ```
//! use mlop_api::{Digest, trace::{SpanId, TraceId, traceparent}};
//!
//! let trace = TraceId::of_root("flights", "Dataset", "flights", &Digest::of_bytes(b"listing"));
//! let parent = traceparent(&trace, &SpanId::of_attempt("7c0e", 1));
//! assert_eq!(TraceId::of_traceparent(&parent), Some(trace));
//! ```

use crate::{Digest, contract::Ancestor};
use serde_json::{Value, json};
use std::{cmp::Reverse, fmt};

/// Name of the variable in the pods of runs with the [`traceparent`] of their attempt.
pub const TRACEPARENT: &str = "TRACEPARENT";

/// Id of a trace: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(String);

/// Id of a span: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(String);

impl TraceId {
    /// The trace of the propagation that begins with the artifact that the root `kind` `name` makes from inputs of this
    /// digest.
    pub fn of_root(namespace: &str, kind: &str, name: &str, input_digest: &Digest) -> Self {
        Self(id(&json!(["trace", namespace, kind, name, input_digest]), 32))
    }

    /// The trace of work on artifacts with these ancestors: that of the root that was published last. None without roots.
    pub fn of(namespace: &str, ancestors: &[Ancestor]) -> Option<Self> {
        let roots = ancestors.iter().filter(|ancestor| ancestor.root);
        let newest = roots.max_by_key(|root| (root.produced_at, Reverse((&root.kind, &root.name))))?;
        // Lineages of an earlier release do not have the input digest.
        let digest = newest.input_digest.as_ref().unwrap_or(&newest.digest);
        Some(Self::of_root(namespace, &newest.kind, &newest.name, digest))
    }

    /// The trace that a [`traceparent`] names.
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let id = text.split('-').nth(1)?;
        let is_valid = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_valid.then(|| Self(id.to_owned()))
    }

    /// The first span of the trace: that of the run that makes the root's artifact. All other runs are its children.
    pub fn root_span(&self) -> SpanId {
        SpanId(id(&json!(["root", self.0]), 16))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpanId {
    /// The span of the run with this uid.
    pub fn of_run(uid: &str) -> Self {
        Self(id(&json!(["run", uid]), 16))
    }

    /// The span of one attempt of the run with this uid.
    pub fn of_attempt(uid: &str, attempt: u32) -> Self {
        Self(id(&json!(["attempt", uid, attempt]), 16))
    }

    /// The span in which the ModelDeployment with this uid came to serve this revision.
    pub fn of_rollout(uid: &str, revision: i64) -> Self {
        Self(id(&json!(["rollout", uid, revision]), 16))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The header or variable that makes `span` the parent of what its receiver does, with the flag "sampled".
pub fn traceparent(trace: &TraceId, span: &SpanId) -> String {
    format!("00-{trace}-{span}-01")
}

/// The first digits of the SHA-256 of `identity`. The id of all zeros, which is not valid, does not occur in practice.
fn id(identity: &Value, digits: usize) -> String {
    Digest::of(identity).short(digits).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: &str) -> Digest {
        Digest::of_bytes(of.as_bytes())
    }

    fn ancestor(name: &str, root: bool, produced_at: &str) -> Ancestor {
        Ancestor {
            api_group: "mlop.dev".to_owned(),
            kind: "Dataset".to_owned(),
            name: name.to_owned(),
            digest: digest("content"),
            root,
            input_digest: root.then(|| digest(name)),
            produced_at: Some(produced_at.parse::<jiff::Timestamp>().unwrap().into()),
        }
    }

    /// Other programs compute the ids too: they must never change.
    #[test]
    fn ids_are_those_of_every_release() {
        let trace = TraceId::of_root("ns", "Dataset", "flights", &digest("listing"));
        let ids = [
            trace.to_string(),
            trace.root_span().to_string(),
            SpanId::of_run("uid-1").to_string(),
            SpanId::of_attempt("uid-1", 2).to_string(),
            SpanId::of_rollout("uid-1", 3).to_string(),
        ];
        let golden = [
            "907c5ac1b82f8f505efebc961a8e170b",
            "ead9375f1f068047",
            "e1653999f34e42ee",
            "88b1bf9cf7685c3e",
            "5577d037a943ef52",
        ];
        assert_eq!(ids, golden);
        assert_eq!(traceparent(&trace, &SpanId::of_run("uid-1")), format!("00-{}-{}-01", ids[0], ids[2]));
    }

    #[test]
    fn trace_is_that_of_the_newest_root() {
        let of = |name: &str| Some(TraceId::of_root("ns", "Dataset", name, &digest(name)));
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let rows = [
            ("no roots", vec![ancestor("view", false, late)], None),
            ("a newer ancestor", vec![ancestor("a", true, early), ancestor("view", false, late)], of("a")),
            ("the last is newer", vec![ancestor("a", true, early), ancestor("b", true, late)], of("b")),
            ("the first is newer", vec![ancestor("a", true, late), ancestor("b", true, early)], of("a")),
            ("equal times", vec![ancestor("b", true, late), ancestor("a", true, late)], of("a")),
        ];
        for (situation, ancestors, want) in rows {
            assert_eq!(TraceId::of("ns", &ancestors), want, "{situation}");
        }
        let earlier_release = ancestor("a", true, early).identity();
        let of_output = TraceId::of_root("ns", "Dataset", "a", &digest("content"));
        assert_eq!(TraceId::of("ns", &[earlier_release]), Some(of_output));
    }

    #[test]
    fn traceparent_without_an_id_has_no_trace() {
        for text in ["", "00", "00--1-01", "00-XYZ-1-01", "00-0123456789abcdef-1-01"] {
            assert_eq!(TraceId::of_traceparent(text), None, "{text}");
        }
    }
}
