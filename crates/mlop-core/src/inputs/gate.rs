//! The gate: whether an input may be used, and which of its changes matter to its dependents.

use super::{
    cause::{UpstreamFailure, upstream_failure},
    graph::Hold,
};
use crate::{
    Blocked,
    blocked::Origin,
    condition,
    resource::{ApiKind, InputObject, Unavailable},
};
use mlop_api::{
    Artifact, Reason,
    common::{Metric, NamedInput, ObjectRef},
    contract::{Cause, InputRecord, condition_type},
    result::Registered,
    run::RunInput,
};
use std::sync::Arc;

/// An input as its cache knows it.
#[derive(Clone, Debug)]
pub struct InputState {
    /// The input's name in the spec.
    pub name: String,
    pub from: ObjectRef,
    /// Address of the kind; none if the operator does not watch it.
    pub kind: Option<ApiKind>,
    /// The object; none if it does not exist.
    pub object: Option<Arc<InputObject>>,
    /// Why objects of the kind cannot be listed; none if they can.
    pub unavailable: Option<Unavailable>,
    /// The objects from this one upstream that a user holds at an earlier artifact.
    pub holds: Vec<Hold>,
}

/// An input that may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyInput {
    pub kind: ApiKind,
    pub input: RunInput,
    pub artifact: Artifact,
    pub metrics: Vec<Metric>,
    pub registered: Option<Registered>,
    /// A failure upstream that leaves this version usable: newer data failed.
    pub upstream: Option<UpstreamFailure>,
    pub holds: Vec<Hold>,
}

/// An input that may not be used yet.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockedInput {
    pub blocked: Blocked,
    /// The failure upstream that blocks it, if it reports one.
    pub upstream: Option<UpstreamFailure>,
}

impl BlockedInput {
    /// The input's own work goes on.
    fn waiting(message: String) -> Self {
        Self { blocked: Blocked::waiting(Reason::WaitingForInputs, message), upstream: None }
    }

    /// No work of the input helps: its name may be wrong.
    fn wrong(message: String) -> Self {
        Self { blocked: Blocked::waiting(Reason::WaitingForInputs, message).here(), upstream: None }
    }

    /// The cause that everything downstream of the object `name` names.
    pub fn cause(&self, kind: &str, name: &str) -> Option<Cause> {
        self.upstream
            .as_ref()
            .map(|upstream| upstream.cause.clone())
            .or_else(|| self.blocked.cause(kind, name))
    }
}

/// The blocked input that somebody should look at first.
pub fn first_to_mend(blocked: Vec<BlockedInput>) -> Option<BlockedInput> {
    blocked.into_iter().min_by_key(|input| match (&input.upstream, &input.blocked.origin) {
        _ if input.blocked.stalled => 0,
        (Some(upstream), _) if upstream.reason() == Reason::UpstreamFailed => 1,
        (None, Origin::Here) => 2,
        (Some(_), _) => 3,
        (None, _) => 4,
    })
}

/// Whether an input may be used: it must not be being deleted, and be Ready with an artifact for exactly its present
/// spec. Anything missing means "not yet".
///
/// # Errors
/// The missing part, with the cause if the input reports one.
#[expect(clippy::result_large_err, reason = "the one caller per reconcile takes both sides apart at once")]
pub fn gate(state: &InputState) -> Result<ReadyInput, BlockedInput> {
    let label = format!("{} {}", state.from.kind, state.from.name);
    let Some(kind) = &state.kind else {
        let message = format!(
            "this operator does not watch the kind {}.{}; add it to --input-kinds",
            state.from.kind, state.from.api_group
        );
        return Err(BlockedInput {
            blocked: Blocked::stalled(Reason::InputKindUnknown, message),
            upstream: None,
        });
    };
    let Some(object) = &state.object else {
        return Err(missing(state, kind, &label));
    };
    if let Some(error) = &object.unreadable {
        let message = format!("{label} does not follow the contract between stages: {error}");
        return Err(BlockedInput::wrong(message));
    }
    if object.metadata.deletion_timestamp.is_some() {
        return Err(BlockedInput::waiting(format!("{label} is being deleted")));
    }
    let upstream = upstream_failure(&state.from, object);
    if let Some(artifact) = ready_artifact(object) {
        return Ok(ready(state, kind, object, artifact, upstream));
    }
    Err(match upstream {
        Some(upstream) => BlockedInput {
            blocked: Blocked::waiting(upstream.reason(), upstream.path.clone()),
            upstream: Some(upstream),
        },
        // The input's own status says why. A copy here would rewrite every status downstream when it changes.
        None => BlockedInput::waiting(format!("{label} is not ready yet")),
    })
}

/// An input whose object no cache knows.
fn missing(state: &InputState, kind: &ApiKind, label: &str) -> BlockedInput {
    let address = format!("{}.{}.{}", kind.kind, kind.version, kind.group);
    let message = match state.unavailable {
        None => return BlockedInput::wrong(format!("{label} does not exist yet")),
        Some(Unavailable::NotServed) => {
            format!("{label}: the API server does not serve {address}; install its definition")
        }
        Some(Unavailable::Forbidden) => {
            format!("{label}: this operator may not read {address}; add the kind to inputKinds of its chart")
        }
    };
    BlockedInput { blocked: Blocked::waiting(Reason::InputKindUnknown, message), upstream: None }
}

/// The artifact that `object` publishes for its present generation.
fn ready_artifact(object: &InputObject) -> Option<&Artifact> {
    let generation = object.metadata.generation.unwrap_or_default();
    let ready = condition::get(&object.status.conditions, condition_type::READY)?;
    let is_ready = object.status.observed_generation == Some(generation)
        && ready.status == "True"
        && ready.observed_generation == Some(generation);
    let artifact = object.status.artifact.as_ref()?;
    (is_ready && artifact.generation == Some(generation)).then_some(artifact)
}

fn ready(
    state: &InputState,
    kind: &ApiKind,
    object: &InputObject,
    artifact: &Artifact,
    upstream: Option<UpstreamFailure>,
) -> ReadyInput {
    let record = InputRecord {
        name: state.name.clone(),
        api_group: state.from.api_group.clone(),
        kind: state.from.kind.clone(),
        object: state.from.name.clone(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        digest: artifact.digest.clone(),
    };
    ReadyInput {
        kind: kind.clone(),
        input: RunInput { record, store: artifact.store.clone(), media_type: artifact.media_type.clone() },
        artifact: artifact.clone(),
        metrics: object.status.metrics.clone(),
        registered: object.status.registered.clone(),
        upstream,
        holds: state.holds.clone(),
    }
}

/// The part of an input that its dependents decide on. Other changes of its status do not enqueue them.
#[derive(PartialEq)]
pub struct Signal<'a> {
    uid: Option<&'a str>,
    deleting: bool,
    generation: Option<i64>,
    observed: Option<i64>,
    artifact: Option<&'a Artifact>,
    conditions: Vec<(&'a str, &'a str, &'a str)>,
    cause: Option<&'a Cause>,
    registered: Option<&'a Registered>,
    unreadable: Option<&'a str>,
}

/// The [`Signal`] of `object`.
pub fn signal(object: &InputObject) -> Signal<'_> {
    let watched = [condition_type::READY, condition_type::UP_TO_DATE, condition_type::STALLED];
    let conditions = object.status.conditions.iter().filter(|c| watched.contains(&c.type_.as_str()));
    Signal {
        uid: object.metadata.uid.as_deref(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        generation: object.metadata.generation,
        observed: object.status.observed_generation,
        artifact: object.status.artifact.as_ref(),
        registered: object.status.registered.as_ref(),
        conditions: conditions.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect(),
        cause: object.status.cause.as_ref(),
        unreadable: object.unreadable.as_deref(),
    }
}

impl InputState {
    /// An input that no cache knows.
    pub(super) fn unknown(input: &NamedInput) -> Self {
        Self {
            name: input.name.clone(),
            from: input.from.clone(),
            kind: None,
            object: None,
            unavailable: None,
            holds: Vec::new(),
        }
    }
}
