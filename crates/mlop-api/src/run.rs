//! The common parts of the specs of all runs.

use crate::{
    Digest,
    common::{Resources, Retry, Toleration, label_value},
    contract::{Ancestor, InputRecord},
    duration::Span,
    text::printable,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap};

/// An input as it was when the run was decided: enough to read and to verify it without asking anyone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunInput {
    /// Who published it.
    #[serde(flatten)]
    pub record: InputRecord,
    /// ObjectStore that holds it.
    #[schemars(length(max = 63))]
    pub store: String,
    /// A table or a tree.
    #[schemars(length(max = 128))]
    pub media_type: String,
}

/// A kind of run as the shared code of the operators sees it.
pub trait RunSpec {
    /// The part of the intent's spec that determines the output.
    type Content: Serialize;

    fn content(&self) -> &Self::Content;
    fn lineage(&self) -> &Lineage;
    fn execution(&self) -> &Execution;

    /// Name of the ObjectStore that holds the output.
    fn store(&self) -> &str;

    /// Name of the ObjectStore that holds the source; none for a run that reads artifacts only.
    fn source_store(&self) -> Option<&str> {
        None
    }

    /// The store as it enters the input digest; none for a run that writes no objects.
    fn digested_store(&self) -> Option<&str>;

    /// Names and digests of the inputs that are not resources.
    fn digests(&self) -> Vec<(String, Digest)> {
        Vec::new()
    }

    /// Drops the large fields that only an attempt reads, for caches of succeeded runs. Decisions compare digests.
    fn drop_work(&mut self) {}
}

/// The inputs of a run, and the digest of everything that determines its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// Digest of everything that determines the output.
    pub input_digest: Digest,
    /// Version of the rules by which the digest was computed; it enters the digest.
    pub semantics_version: u32,
    /// The inputs.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub inputs: Vec<RunInput>,
    /// The resources that the output will descend from, the inputs included; those without inputs first.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub ancestors: Vec<Ancestor>,
}

/// How a run is carried out; never part of a digest. Mirrored from the intent until the run has succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Execution {
    /// Computing resources.
    pub resources: Resources,
    /// Attempts and delays.
    pub retry: Retry,
    /// Longest time of one attempt; without it unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Longest time from creating a pod to its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Span>,
    /// How long the last attempt's pod stays for its logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Span>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = label_value()))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod accepts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Name of the PodProfile that completes the pods. Default: the one named `default`, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub profile: Option<String>,
    /// Names of Secrets for pulling images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 253)))]
    pub pull_secrets: Vec<String>,
    /// The request to try again that gave this budget of attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = REQUEST_CHARS_MAX))]
    pub retry_requested_at: Option<String>,
    /// The request to end the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = REQUEST_CHARS_MAX))]
    pub cancel_requested_at: Option<String>,
}

impl Execution {
    /// The settings that every kind of intent has. The kind adds its own.
    pub fn of(resources: &Resources, retry: &Retry, deadline: Option<Span>) -> Self {
        Self { resources: resources.clone(), retry: retry.clone(), deadline, ..Self::default() }
    }
}

/// Longest request of a user in an [`Execution`], in characters.
pub const REQUEST_CHARS_MAX: usize = 64;

/// A user's annotation as a field carries it: itself, or its digest if it is too long, or has characters that a status
/// cannot have.
pub fn bounded_request(request: &str) -> String {
    let is_printable = matches!(printable(request), Cow::Borrowed(_));
    if is_printable && request.chars().count() <= REQUEST_CHARS_MAX {
        request.to_owned()
    } else {
        Digest::of_bytes(request.as_bytes()).short(REQUEST_CHARS_MAX).to_owned()
    }
}
