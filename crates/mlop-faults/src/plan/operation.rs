//! What users do: the scenarios, and the operations of restless users.

use super::Fault;
use mlop_api::operators::{self, Operator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The story of a run: the actions of users while faults strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scenario {
    /// The pipeline is applied and becomes a served model. New data becomes a second one.
    NewData,
    /// As `NewData`. Then the model is pinned to the earlier version, and unpinned.
    Pin,
    /// The pipeline is applied, becomes a served model, and is deleted.
    Deletion,
    /// The pipeline is applied and becomes a served model. Then its view moves to another FeatureStore.
    Move,
    /// As `NewData`, with a training in two pods. It shares a queue with another training; there is room for one of them.
    Distributed,
    /// The pipeline is applied, with a rollout in steps. A good version is promoted, and a bad one rolled back. Then users
    /// cancel a rollout, try its version again, and promote it.
    Steps,
    /// The pipeline is applied and users change their minds for a minute. Then they apply it again, with new data.
    Restless,
}

/// Something that a user does at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Virtual milliseconds after the pipeline was applied.
    pub at: u64,
    pub does: Action,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Puts other data into the bucket and requests a refresh.
    Data(u8),
    /// Changes the spec of this kind's object.
    Edit(Stage),
    /// Undoes all edits of this kind's object, suspension and pin included.
    Apply(Stage),
    Suspend(Stage),
    /// Pins this kind's object to its first result.
    Pin(Stage),
    Delete(Stage),
    /// The next pod of this work fails. `true`: a retry cannot succeed.
    Break(Work, bool),
    /// Points all aliases in MLflow to version 1.
    MoveAliases,
    /// Deletes all model versions in MLflow, and their aliases.
    DeleteVersions,
    /// Changes fields of a spec.
    Change(Change),
    /// Sets an annotation of this kind's object.
    Request(Stage, Request),
    /// Deletes one of the children of a kind.
    DeleteChild(Child, u8),
    /// Changes one of the children of a kind by hand.
    EditChild(Child, u8),
    DeleteSecret(String),
    /// The system that a Secret opens accepts another key from now on.
    RotateKey(String),
    /// An external system does not answer for some seconds.
    Away(System, u32),
    /// An external system loses its data.
    Empty(System),
    /// The next pod of this work takes another course.
    Disturb(Work, Course),
}

/// A change of a spec, as a merge patch: `null` removes a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    pub kind: String,
    pub name: String,
    pub spec: Value,
}

/// The request of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    Retry,
    Cancel,
    Refresh,
    Run,
    Promote,
}

/// A kind of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Child {
    Deployment,
    Service,
    Job,
    Pod,
    DatasetVersion,
    FeatureSnapshot,
    TrainingRun,
    ModelVersion,
}

/// An external system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum System {
    ObjectStores,
    Redis,
    Mlflow,
}

/// An unusual course of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Course {
    /// Its image cannot be pulled.
    ImagePull,
    /// A Secret that a container needs is missing.
    SecretMissing,
    /// No node has room for ten minutes.
    Queued,
    /// Its work takes ten minutes longer.
    Slow,
    /// The scheduler takes its node for another pod.
    Preempted,
    /// Its node is short of memory.
    Evicted,
    /// Its node dies.
    NodeLost,
    /// Its volume is full.
    DiskFull,
    /// Its node refuses it.
    Rejected,
}

/// The kind of an intent of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    Dataset,
    FeatureView,
    TrainingJob,
    Model,
    ModelDeployment,
}

/// A kind of work of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    Scan,
    Version,
    Snapshot,
    Activate,
    Train,
    Register,
    Alias,
    Probe,
    Check,
    Deactivate,
    Analyze,
}

impl Scenario {
    pub const ALL: [Self; 7] = [
        Self::NewData,
        Self::Pin,
        Self::Deletion,
        Self::Move,
        Self::Distributed,
        Self::Steps,
        Self::Restless,
    ];

    /// Whether the scenario means nothing under a fault that deletes objects of a kind: users refer to them by name, or to
    /// what they remember.
    pub fn excludes(self, fault: Fault, plural: &str) -> bool {
        match self {
            Self::Pin => fault.deletes_object() && matches!(plural, "models" | "modelversions"),
            // Without a version that serves, the newest one is rolled out at once.
            Self::Steps => {
                fault.deletes_object() && matches!(plural, "models" | "modelversions" | "modeldeployments")
            }
            // Objects go with their kind whatever their finalizers, and with them the record of where a view was online.
            Self::Move => fault == Fault::TypeRemoved && plural == "featureviews",
            _ => false,
        }
    }

    /// The only operators that work otherwise than in the scenario before; none if all do.
    pub fn operators(self) -> &'static [&'static Operator] {
        match self {
            Self::Distributed => &[&operators::TRAINING, &operators::QUEUE],
            Self::Steps => &[&operators::DEPLOYMENT],
            _ => &[],
        }
    }

    /// Whether no object remains at the end.
    pub fn leaves_nothing(self) -> bool {
        self == Self::Deletion
    }
}

impl Action {
    /// Something that users do. `changes` are the changes of specs to choose from, and `secrets` the Secrets.
    pub fn random(random: &mut fastrand::Rng, changes: &[Change], secrets: &[&str]) -> Self {
        let stage = pick(random, &Stage::ALL);
        match random.u8(..24) {
            0 | 1 => Self::Data(random.u8(..3)),
            2 => Self::Edit(stage),
            3 => Self::Apply(stage),
            4 => Self::Suspend(stage),
            5 => Self::Pin(stage),
            6 => Self::Delete(stage),
            7 => Self::MoveAliases,
            8 => Self::DeleteVersions,
            9 => Self::Break(pick(random, &Work::ALL), random.bool()),
            10 => Self::Pin(Stage::Model),
            11 => Self::Request(stage, pick(random, &Request::ALL)),
            12 => Self::DeleteChild(pick(random, &Child::ALL), random.u8(..4)),
            13 => Self::EditChild(pick(random, &Child::ALL), random.u8(..4)),
            14 => Self::DeleteSecret(pick(random, secrets).to_owned()),
            15 => Self::RotateKey(pick(random, secrets).to_owned()),
            16 => Self::Away(pick(random, &System::ALL), pick(random, &OUTAGES)),
            17 => Self::Empty(pick(random, &[System::Redis, System::Mlflow])),
            18 | 19 => Self::Disturb(pick(random, &Work::ALL_PODS), pick(random, &Course::ALL)),
            _ => Self::Change(changes[random.usize(..changes.len())].clone()),
        }
    }

    /// Every action, one of each kind of children.
    pub fn each(changes: &[Change], secrets: &[&str]) -> Vec<Self> {
        let mut all: Vec<Self> = changes.iter().cloned().map(Self::Change).collect();
        all.extend(secrets.iter().map(|secret| Self::DeleteSecret((*secret).to_owned())));
        all.extend(secrets.iter().map(|secret| Self::RotateKey((*secret).to_owned())));
        for stage in Stage::ALL {
            all.extend([Self::Edit(stage), Self::Suspend(stage), Self::Pin(stage), Self::Delete(stage)]);
            all.extend(Request::ALL.map(|request| Self::Request(stage, request)));
        }
        for child in Child::ALL {
            all.extend([Self::DeleteChild(child, 0), Self::EditChild(child, 0)]);
        }
        for system in System::ALL {
            all.extend(OUTAGES.map(|seconds| Self::Away(system, seconds)));
        }
        all.extend([System::Redis, System::Mlflow].map(Self::Empty));
        all.extend([Self::MoveAliases, Self::DeleteVersions]);
        all.extend(
            Work::ALL
                .into_iter()
                .flat_map(|work| [true, false].map(|is_terminal| Self::Break(work, is_terminal))),
        );
        for work in Work::ALL_PODS {
            all.extend(Course::ALL.map(|course| Self::Disturb(work, course)));
        }
        all
    }

    /// Whether it changes what operators have written, so that a status may be wrong until they notice.
    pub fn is_foreign(&self) -> bool {
        const CONNECTIONS: [&str; 3] = ["ObjectStore", "FeatureStore", "TrackingServer"];
        let edits_connection =
            matches!(self, Self::Change(change) if CONNECTIONS.contains(&change.kind.as_str()));
        edits_connection
            || matches!(
                self,
                Self::Delete(_)
                    | Self::MoveAliases
                    | Self::DeleteVersions
                    | Self::DeleteChild(..)
                    | Self::EditChild(..)
                    | Self::Empty(_)
            )
    }
}

fn pick<T: Copy>(random: &mut fastrand::Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}

/// Seconds, minutes and hours for which an external system does not answer.
const OUTAGES: [u32; 3] = [5, 300, 7_200];

impl Request {
    const ALL: [Self; 5] = [Self::Retry, Self::Cancel, Self::Refresh, Self::Run, Self::Promote];
}

impl Child {
    const ALL: [Self; 8] = [
        Self::Deployment,
        Self::Service,
        Self::Job,
        Self::Pod,
        Self::DatasetVersion,
        Self::FeatureSnapshot,
        Self::TrainingRun,
        Self::ModelVersion,
    ];
}

impl System {
    const ALL: [Self; 3] = [Self::ObjectStores, Self::Redis, Self::Mlflow];
}

impl Course {
    const ALL: [Self; 9] = [
        Self::ImagePull,
        Self::SecretMissing,
        Self::Queued,
        Self::Slow,
        Self::Preempted,
        Self::Evicted,
        Self::NodeLost,
        Self::DiskFull,
        Self::Rejected,
    ];
}

impl Stage {
    const ALL: [Self; 5] =
        [Self::Dataset, Self::FeatureView, Self::TrainingJob, Self::Model, Self::ModelDeployment];

    /// Kind and name of the stage's object in the pipeline.
    pub fn object(self) -> (&'static str, &'static str) {
        match self {
            Self::Dataset => ("Dataset", "flights"),
            Self::FeatureView => ("FeatureView", "routes"),
            Self::TrainingJob => ("TrainingJob", "delay"),
            Self::Model => ("Model", "delay"),
            Self::ModelDeployment => ("ModelDeployment", "delay"),
        }
    }
}

impl Work {
    /// The work for each state of the data.
    pub const ALL: [Self; 7] =
        [Self::Scan, Self::Version, Self::Snapshot, Self::Activate, Self::Train, Self::Register, Self::Alias];
    const ALL_PODS: [Self; 11] = [
        Self::Scan,
        Self::Version,
        Self::Snapshot,
        Self::Activate,
        Self::Train,
        Self::Register,
        Self::Alias,
        Self::Probe,
        Self::Check,
        Self::Deactivate,
        Self::Analyze,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Version => "version",
            Self::Snapshot => "snapshot",
            Self::Activate => "activate",
            Self::Train => "train",
            Self::Register => "register",
            Self::Alias => "alias",
            Self::Probe => "probe",
            Self::Check => "check",
            Self::Deactivate => "deactivate",
            Self::Analyze => "analyze",
        }
    }
}
