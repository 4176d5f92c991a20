//! Every reason that a condition, an Event or a metric of mlop can carry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Declares [`Reason`]: the documentation of each variant is also its entry in the reference.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition is as it is. The text in conditions, Events and metrics is the variant's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// All reasons with their documentation, for the reference.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, concat!($($doc),+)),)+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    // States that are not errors
    /// The controller has not looked at the object yet.
    Pending,
    /// The artifact (or the connection) is right for this spec and may be used.
    Ready,
    /// All inputs are usable.
    InputsReady,
    /// The artifact was made from the newest inputs.
    UpToDate,
    /// The run has succeeded.
    Succeeded,
    /// An input does not exist, has published nothing yet, or waits for room in the cluster.
    WaitingForInputs,
    /// Inputs that share a root come from different versions of it.
    InputsDiverged,
    /// A scan of the source is under way.
    Scanning,
    /// A run is under way.
    Running,
    /// The result is being activated outside (online store, alias).
    Activating,
    /// The new version is being rolled out.
    RollingOut,
    /// The Deployment of a ModelDeployment has no replicas.
    ScaledToZero,
    /// The connection is being checked.
    Probing,
    /// Servers that were asked for are starting.
    Starting,
    /// `spec.suspend` is true: nothing new starts.
    Suspended,
    /// `trigger.mode` is manual: new inputs wait for mlop.dev/run-requested-at.
    WaitingForTrigger,
    /// New inputs wait until they have been unchanged for `trigger.stabilizationWindow`.
    Stabilizing,
    /// `spec.pin` names the version in use; newer inputs are not followed.
    Pinned,
    /// An object of the same name is still being deleted.
    WaitingForDeletion,
    /// A pod waits for a node: not enough resources, or no node matches.
    Unschedulable,
    /// The run waits until its TrainingQueue admits it; the message has its position.
    Queued,
    /// The failed attempt is tried again after a delay.
    Retrying,
    /// A user ended the run with mlop.dev/cancel-requested-at; mlop.dev/retry-requested-at goes on.
    Cancelled,
    /// A metric did not pass the gate: the version is recorded but not used.
    GateFailed,

    // Problems of the spec
    /// A field of the spec can never work; the message has its path.
    InvalidSpec,
    /// An input's kind is not among those that this operator watches (`--input-kinds`), not served, or may not be read.
    InputKindUnknown,
    /// The resource depends on itself, directly or around.
    DependencyCycle,
    /// `spec.pin` names no run of this resource that has succeeded.
    PinnedRunNotFound,
    /// An object with the name of a child exists and is not ours; it is left alone.
    NameConflict,
    /// The PodProfile that the spec names does not exist.
    ProfileNotFound,
    /// A field of the PodProfile is not as a pod has it; the message names its section.
    ProfileInvalid,
    /// A connection (ObjectStore, FeatureStore, TrackingServer) that the spec names does not exist or is not ready.
    ConnectionNotReady,
    /// The TrainingQueue that the spec names does not exist.
    QueueNotFound,
    /// The TrainingQueue can never admit the run: it asks for more than the whole quota, or its namespace is not selected.
    QueueRefused,

    // Problems of the data
    /// A column is missing or has another type than the spec says.
    SchemaMismatch,
    /// More rows were rejected than `quarantine` allows.
    QuarantineBudgetExceeded,
    /// The rows as a whole break a rule of `spec.rules`: too few, too different in number, or too old.
    RuleViolated,
    /// No object of the source matches.
    SourceEmpty,
    /// An object changed after it was listed. The source is scanned again at once.
    SourceChanged,
    /// Looking at the source failed; the newest successful look is still in use.
    ScanFailing,
    /// The SQL does not run on these inputs.
    QueryInvalid,
    /// The content of an input does not have the digest that was published.
    InputCorrupt,

    // Problems of running
    /// A container used more memory than its limit.
    OutOfMemory,
    /// The pod wrote more than its volume or its ephemeral storage may hold.
    OutOfDisk,
    /// The node evicted or preempted the pod.
    Evicted,
    /// The pod or its node was lost before it reported.
    PodLost,
    /// An image cannot be pulled.
    ImagePull,
    /// The pod is not fit for the work where it is: no working GPU, too little disk, or a store that it does not reach.
    PreflightFailed,
    /// The user's command ended with an error.
    UserError,
    /// The attempt took longer than `deadline`.
    DeadlineExceeded,
    /// The pod did not start within `startTimeout`.
    StartTimeout,
    /// A quota of the namespace refused the pod.
    QuotaExceeded,
    /// The API server or the node refused the pod (Pod Security, an admission policy, no room after all).
    PodRefused,
    /// The API server refused an object that is not a pod, such as a Deployment or a Service; the message has its words.
    ChildRefused,
    /// A Secret or key that the pod mounts does not exist.
    SecretMissing,
    /// The worker ended without a readable result.
    ResultMissing,
    /// A worker met a state it has no better word for.
    WorkerFailed,
    /// An upstream resource failed; `status.cause` says where it began.
    UpstreamFailed,

    // Problems of external systems
    /// The object store does not answer.
    StoreUnreachable,
    /// The object store refuses the keys.
    StoreDenied,
    /// The bucket does not exist.
    BucketNotFound,
    /// The tracking server does not answer.
    TrackingUnreachable,
    /// The tracking server refused a request.
    TrackingRefused,
    /// The tracking server refuses the login, or allows it too little.
    TrackingDenied,
    /// The online store does not answer.
    OnlineStoreUnreachable,
    /// Another Model has the alias of this registered model.
    AliasTaken,
    /// Somebody has changed or deleted an alias or a version in the registry, or the size of a Deployment, and it was
    /// put back.
    Repaired,
    /// Activation lost against a higher revision.
    ActivationSuperseded,
    /// The new version did not become ready; the earlier one keeps serving.
    RolloutFailed,
    /// The new version did not keep the bounds of `spec.rollout.analysis`, or could not be measured; the earlier one keeps
    /// serving.
    RolledBack,
    /// Cleaning up outside was given up after its attempts.
    CleanupAbandoned,

    // Problems of the operator
    /// A request to the API server failed; it is tried again.
    ApiError,
    /// A reconcile of this object panicked; please report it.
    Panicked,
}

/// A text that is not a [`Reason`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a documented reason")]
pub struct UnknownReason(String);

impl Reason {
    /// Whether what waits for this reason goes on by itself once a node or a quota has room. Nothing has failed then.
    pub const fn waits_for_room(self) -> bool {
        matches!(self, Self::Unschedulable | Self::QuotaExceeded)
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let known = Self::ALL.iter().map(|(reason, _)| *reason).find(|reason| reason.as_str() == text);
        known.ok_or_else(|| UnknownReason(text.to_owned()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_documented_and_serialise_as_their_names() {
        for (reason, doc) in Reason::ALL {
            assert!(doc.trim().len() > 10, "{reason} has no documentation");
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
    }
}
