//! Uniform access to the statuses of all kinds, for tests and the demo.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Resource, ResourceExt,
    core::{NamespaceResourceScope, object::HasStatus},
};
use mlop_api::{
    Artifact, Reason,
    contract::{Cause, condition_type::READY},
    dataset::{Dataset, DatasetVersion},
    features::{FeatureSnapshot, FeatureView},
    kinds,
    registry::{Model, ModelVersion},
    run::Lineage,
    status::{Conditioned as _, IntentStatus, RunStatus},
    training::{TrainingJob, TrainingRun},
};
use std::fmt::Write as _;

/// A kind of mlop with a namespace, with the questions of tests to its status.
pub trait Kind: kinds::Kind + Resource<DynamicType = (), Scope = NamespaceResourceScope> {
    fn cause(&self) -> Option<&Cause> {
        self.status()?.cause()
    }

    /// The condition of this type, if it is of the current generation.
    fn current(&self, condition_type: &str) -> Option<&Condition> {
        let generation = self.meta().generation;
        self.conditions().iter().find(|c| c.type_ == condition_type && c.observed_generation == generation)
    }

    /// Whether the condition of this type has `status`, and is of the current generation.
    fn has_status(&self, condition_type: &str, status: &str) -> bool {
        self.current(condition_type).is_some_and(|condition| condition.status == status)
    }

    /// Whether the condition of this type has `reason`, and is of the current generation.
    fn has_reason(&self, condition_type: &str, reason: Reason) -> bool {
        self.current(condition_type).is_some_and(|condition| condition.reason == reason.as_str())
    }

    fn is_ready(&self) -> bool {
        self.has_status(READY, "True")
    }

    /// The conditions and the cause, as text.
    fn describe(&self) -> String {
        let generation = self.meta().generation.unwrap_or_default();
        let mut text = format!("{} {} (generation {generation})", Self::kind(&()), self.name_any());
        for c in self.conditions() {
            write!(text, "\n  {}={} {}: {}", c.type_, c.status, c.reason, c.message).ok();
        }
        if let Some(cause) = self.cause() {
            write!(text, "\n  cause: {} {} {}: {}", cause.kind, cause.name, cause.reason, cause.message).ok();
        }
        text
    }
}

impl<K: kinds::Kind + Resource<DynamicType = (), Scope = NamespaceResourceScope>> Kind for K {}

/// A kind that publishes the artifacts of its runs.
pub trait Intent: Kind + HasStatus<Status = IntentStatus> {
    type Run: Run;

    fn artifact(&self) -> Option<&Artifact> {
        self.status()?.artifact.as_ref()
    }
}

/// A kind whose objects an operator creates.
pub trait Run: Kind + HasStatus<Status = RunStatus> {
    fn lineage(&self) -> &Lineage;
}

macro_rules! intents {
    ($($kind:ty => $run:ty),+) => {$(
        impl Intent for $kind {
            type Run = $run;
        }
        impl Run for $run {
            fn lineage(&self) -> &Lineage {
                &self.spec.lineage
            }
        }
    )+};
}

intents!(
    Dataset => DatasetVersion,
    FeatureView => FeatureSnapshot,
    TrainingJob => TrainingRun,
    Model => ModelVersion
);
