//! The outcome of a decision: one variant per situation of an intent. It is derived on every reconcile and never stored.

use super::{Intent, revision::Revision};
use crate::{
    Blocked,
    inputs::{ReadyInput, UpstreamFailure},
    plan::{Action, Create, Delete},
};
use jiff::Timestamp;
use mlop_api::{
    Reason,
    result::Registered,
    status::{ActivationRecord, Verdict},
};
use std::sync::Arc;

/// The next step of an intent.
pub(super) enum Step<I: Intent> {
    /// An input, a connection or the spec prevents any decision.
    Blocked { blocked: Blocked, upstream: Option<UpstreamFailure> },
    /// The inputs are ready, but a run must not start now.
    Paused { reason: Reason, message: String, action: Action },
    /// The inputs come from different versions of a shared ancestor since `since`.
    Diverged { message: String, since: Timestamp },
    /// A run starts.
    Start(Box<Create>),
    /// A run for other inputs or an earlier spec is deleted because it has made no progress.
    Supersede(Arc<I::Run>),
    /// A run is active. `newer_waits`: it is not the run of the present inputs.
    Running { run: Arc<I::Run>, held_up: Option<(Reason, String)>, newer_waits: bool },
    /// The run of the present inputs has used up its attempts.
    Dead { run: Arc<I::Run>, reason: Reason, message: String },
    /// The run has succeeded, but a gate refuses its result.
    Rejected { run: Arc<I::Run>, verdict: Verdict },
    /// The result is being brought to the external system.
    Activating(Box<Activating>),
    /// The run's result becomes the artifact.
    Publish(Publication<I>),
    /// The artifact is the result of the present inputs.
    Current,
}

/// An activation on its way.
pub(super) struct Activating {
    pub create: Option<Create>,
    pub delete: Option<Delete>,
    /// What it waits for, without attempts and times.
    pub blocked: Blocked,
    pub message: String,
    /// When its pod was created.
    pub since: Timestamp,
    /// The published result is not active any more: another target is wanted, or the external system has lost it.
    pub is_lost: bool,
    pub action: Action,
}

/// A result that becomes the artifact.
pub(super) struct Publication<I: Intent> {
    pub run: Arc<I::Run>,
    pub verdict: Option<Verdict>,
    /// The artifact's new revision. None keeps the revision of an equal digest and counts on for another one.
    pub revision: Option<Revision>,
    pub activation: Option<ActivationRecord>,
    /// How the registry knows it, if the activation has found that out. None: as the run has reported it.
    pub registered: Option<Registered>,
}

/// Facts learnt on the way to the step.
#[derive(Default)]
pub(super) struct Findings {
    /// The inputs, once all of them are ready.
    pub inputs: Option<Vec<ReadyInput>>,
    /// A failure upstream that leaves the present artifact usable.
    pub upstream: Option<UpstreamFailure>,
    /// When the newest input was published, once all of them are ready.
    pub newest: Option<Timestamp>,
}

impl<I: Intent> Step<I> {
    /// A step that is blocked by something other than an input.
    pub(super) fn blocked(blocked: Blocked) -> Self {
        Self::Blocked { blocked, upstream: None }
    }
}

impl<I: Intent> From<Activating> for Step<I> {
    fn from(activating: Activating) -> Self {
        Self::Activating(Box::new(activating))
    }
}
