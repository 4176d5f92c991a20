//! A chain as data.

use crate::{
    references::{self, Reference},
    snapshot::{Object, ObjectId, Snapshot},
    state::{State, is_seen},
};
use jiff::Timestamp;
use mlop_api::{
    Digest,
    contract::{Cause, condition_type},
    progress::{Checkpoint, Progress},
};
use serde::Serialize;

/// The chains of a namespace.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    pub namespace: String,
    /// The intents, parents before children.
    pub nodes: Vec<Node>,
    /// ObjectStores, FeatureStores, TrackingServers and PodProfiles.
    pub connections: Vec<Node>,
    #[serde(skip)]
    pub now: Timestamp,
}

/// An object of a chain.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    #[serde(flatten)]
    pub id: ObjectId,
    pub state: State,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the problem began, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<InUse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Number in the registry of the version in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The run under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunInProgress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    pub suspended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The objects that it reads.
    pub inputs: Vec<ObjectId>,
    /// The input below which a tree shows it: the one with the longest way from a root.
    #[serde(skip)]
    pub parent: Option<ObjectId>,
}

/// The artifact in use.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InUse {
    pub digest: Digest,
    pub revision: i64,
    pub run: String,
    pub store: String,
    pub published_at: Timestamp,
}

/// A run that has not ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunInProgress {
    #[serde(flatten)]
    pub id: ObjectId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Number of the present attempt, from 1.
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Number of the newest checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// What its code has reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

impl Chain {
    /// The nodes that a tree shows directly below `parent`.
    pub fn below<'a>(&'a self, parent: Option<&'a ObjectId>) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.parent.as_ref() == parent)
    }
}

impl Node {
    pub fn of(snapshot: &Snapshot, object: &Object) -> Self {
        let (reason, message) = reason(object);
        let status = &object.status;
        let in_use = status.artifact.as_ref().map(|artifact| InUse {
            digest: artifact.digest.clone(),
            revision: artifact.revision,
            run: artifact.run.clone(),
            store: artifact.store.clone(),
            published_at: artifact.produced_at.get(),
        });
        let inputs = references::of(&object.spec).into_iter().filter(|reference| reference.is_input);
        Self {
            id: object.id.clone(),
            state: State::of(object),
            reason,
            message,
            cause: status.cause.clone(),
            in_use,
            summary: status.summary.clone().or_else(|| status.address.clone()),
            version: object.version().map(str::to_owned),
            url: status.url.clone(),
            run: snapshot.active_run(&object.id).map(RunInProgress::of),
            pin: object.text("pin").map(str::to_owned),
            suspended: object.is_suspended(),
            created_at: object.created_at(),
            inputs: inputs.map(|reference| reference.to).collect(),
            parent: None,
        }
    }

    /// The node of an input that the snapshot does not have.
    pub(super) fn absent(reference: &Reference) -> Self {
        let (state, reason) = match reference.is_ours {
            true => (State::Failed, "does not exist"),
            false => (State::Pending, "not a kind of mlop"),
        };
        Self {
            id: reference.to.clone(),
            state,
            reason: reason.to_owned(),
            message: None,
            cause: None,
            in_use: None,
            summary: None,
            version: None,
            url: None,
            run: None,
            pin: None,
            suspended: false,
            created_at: None,
            inputs: Vec::new(),
            parent: None,
        }
    }

    /// The object where the problem began, if it is another one.
    pub fn foreign_cause(&self) -> Option<&Cause> {
        self.cause.as_ref().filter(|cause| (&cause.kind, &cause.name) != (&self.id.kind, &self.id.name))
    }
}

impl RunInProgress {
    fn of(run: &Object) -> Self {
        Self {
            id: run.id.clone(),
            since: run.created_at(),
            attempt: run.status.attempts.saturating_add(1),
            message: run.message(),
            checkpoint: run.status.last_checkpoint.as_ref().and_then(Checkpoint::number),
            progress: run.status.progress.clone(),
        }
    }
}

/// The reason and message of the headline, unless the status is older than the spec.
pub fn reason(object: &Object) -> (String, Option<String>) {
    if let Some(unreadable) = &object.unreadable {
        let message = format!("{unreadable}; is kubectl-mlop older than the operators?");
        return ("Unreadable".to_owned(), Some(message));
    }
    if object.meta.deletion_timestamp.is_some() {
        let finalizers = object.meta.finalizers.clone().unwrap_or_default();
        let waits = format!("waits for {}", finalizers.join(", "));
        return ("Deleting".to_owned(), (!finalizers.is_empty()).then_some(waits));
    }
    let Some(observed) = object.status.observed_generation else {
        let operator =
            mlop_api::operators::of(&object.id.kind).map_or("its operator", |operator| operator.name);
        return ("Pending".to_owned(), Some(format!("{operator} has not looked at it yet")));
    };
    if !is_seen(object) {
        let generation = object.generation();
        let message = format!(
            "the operator has not looked at generation {generation} of the spec yet, only at {observed}"
        );
        return ("Pending".to_owned(), Some(message));
    }
    let pinned = object
        .condition(condition_type::UP_TO_DATE)
        .filter(|it| it.reason == mlop_api::Reason::Pinned.as_str());
    let headline = object.status.headline.as_ref().map(|headline| headline.reason.clone());
    let is_ready = headline.as_deref() == Some(mlop_api::Reason::Ready.as_str());
    let reason = match pinned {
        Some(pinned) if is_ready => pinned.reason.clone(),
        _ => headline
            .unwrap_or_else(|| object.main_condition().map_or_else(String::new, |it| it.reason.clone())),
    };
    (reason, object.message())
}
