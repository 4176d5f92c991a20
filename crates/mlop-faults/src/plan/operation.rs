//! What users do: the scenarios, and the operations of restless users.

use serde::{Deserialize, Serialize};

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
    /// Pins the model to its first version.
    Pin,
    Delete(Stage),
    /// The next pod of this work fails. `true`: a retry cannot succeed.
    Break(Work, bool),
    /// Points all aliases in MLflow to version 1.
    MoveAliases,
    /// Deletes all model versions in MLflow, and their aliases.
    DeleteVersions,
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

/// A kind of work of pods that users wait for.
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
}

impl Scenario {
    pub const ALL: [Self; 4] = [Self::NewData, Self::Pin, Self::Deletion, Self::Restless];

    /// Whether users refer to objects of this kind by name. A fault that deletes one makes the scenario meaningless.
    pub fn needs(self, plural: &str) -> bool {
        self == Self::Pin && matches!(plural, "models" | "modelversions")
    }

    /// Whether no object remains at the end.
    pub fn leaves_nothing(self) -> bool {
        self == Self::Deletion
    }
}

impl Action {
    pub fn random(random: &mut fastrand::Rng) -> Self {
        let stage = Stage::ALL[random.usize(..Stage::ALL.len())];
        match random.u8(..10) {
            0 | 1 => Self::Data(random.u8(..3)),
            2 => Self::Edit(stage),
            3 => Self::Apply(stage),
            4 => Self::Suspend(stage),
            5 => Self::Pin,
            6 => Self::Delete(stage),
            7 => Self::MoveAliases,
            8 => Self::DeleteVersions,
            _ => Self::Break(Work::ALL[random.usize(..Work::ALL.len())], random.bool()),
        }
    }
}

impl Stage {
    const ALL: [Self; 5] =
        [Self::Dataset, Self::FeatureView, Self::TrainingJob, Self::Model, Self::ModelDeployment];
}

impl Work {
    pub const ALL: [Self; 7] =
        [Self::Scan, Self::Version, Self::Snapshot, Self::Activate, Self::Train, Self::Register, Self::Alias];

    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Version => "version",
            Self::Snapshot => "snapshot",
            Self::Activate => "activate",
            Self::Train => "train",
            Self::Register => "register",
            Self::Alias => "alias",
        }
    }
}
