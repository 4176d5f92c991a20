//! What the pod of a training checks where it will run, before the user's command starts.

use crate::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the pod needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Needs {
    /// Disk for inputs, output, checkpoints and temporary files, in bytes.
    pub scratch_bytes: u64,
}

/// A check of the preflight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    /// The driver of the GPUs is there and works.
    Gpu,
    /// The disk of the node has room for the scratch space.
    Disk,
    /// The ObjectStores answer the pod.
    Store,
}

/// Most nodes that a run avoids.
pub const AVOIDED_MAX: usize = 8;

/// A node where a preflight of the run has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AvoidedNode {
    /// Name of the node.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The check that failed there last.
    pub check: Check,
    /// When it failed (RFC 3339). For the next ten minutes no attempt of the run starts on the node; if only the store did not answer, others are preferred.
    pub at: Time,
}
