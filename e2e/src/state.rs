//! Uniform access to the statuses of all kinds, for tests and the demo.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use mlop_api::{
    Artifact, Reason,
    contract::{Cause, condition_type::READY},
    dataset::{Dataset, DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    registry::{Model, ModelVersion, TrackingServer},
    run::Lineage,
    status::{IntentStatus, RunStatus},
    training::{TrainingJob, TrainingRun},
};
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Write as _};

/// A kind of mlop with conditions.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    fn conditions(&self) -> &[Condition];

    fn cause(&self) -> Option<&Cause> {
        None
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
        let mut text =
            format!("{} {} (generation {:?})", Self::kind(&()), self.name_any(), self.meta().generation);
        for c in self.conditions() {
            write!(text, "\n  {}={} {}: {}", c.type_, c.status, c.reason, c.message).ok();
        }
        if let Some(cause) = self.cause() {
            write!(text, "\n  cause: {} {} {}: {}", cause.kind, cause.name, cause.reason, cause.message).ok();
        }
        text
    }
}

/// A kind that publishes the artifacts of its runs.
pub trait Intent: Kind {
    type Run: Run;

    fn status(&self) -> Option<&IntentStatus>;

    fn artifact(&self) -> Option<&Artifact> {
        self.status()?.artifact.as_ref()
    }
}

/// A kind whose objects an operator creates.
pub trait Run: Kind {
    fn status(&self) -> Option<&RunStatus>;
    fn lineage(&self) -> &Lineage;
}

macro_rules! connections {
    ($($kind:ty),+) => {$(
        impl Kind for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        }
    )+};
}

macro_rules! intents {
    ($($kind:ty => $run:ty),+) => {$(
        impl Kind for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
            fn cause(&self) -> Option<&Cause> {
                self.status.as_ref()?.cause.as_ref()
            }
        }
        impl Intent for $kind {
            type Run = $run;
            fn status(&self) -> Option<&IntentStatus> {
                self.status.as_ref()
            }
        }
        impl Kind for $run {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
        }
        impl Run for $run {
            fn status(&self) -> Option<&RunStatus> {
                self.status.as_ref()
            }
            fn lineage(&self) -> &Lineage {
                &self.spec.lineage
            }
        }
    )+};
}

connections!(ObjectStore, FeatureStore, TrackingServer);
intents!(
    Dataset => DatasetVersion,
    FeatureView => FeatureSnapshot,
    TrainingJob => TrainingRun,
    Model => ModelVersion
);

impl Kind for ModelDeployment {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
    fn cause(&self) -> Option<&Cause> {
        self.status.as_ref()?.cause.as_ref()
    }
}
