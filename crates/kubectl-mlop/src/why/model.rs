//! An explanation as data.

use crate::{snapshot::ObjectId, state::State};
use jiff::Timestamp;
use serde::Serialize;

/// The answer for one object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub namespace: String,
    #[serde(flatten)]
    pub object: ObjectId,
    pub state: State,
    /// The answer in one sentence.
    pub sentence: String,
    /// From the object to the one where it began, both included.
    pub path: Vec<ObjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    pub next: Vec<Step>,
}

/// Where it began.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Root {
    #[serde(flatten)]
    pub object: ObjectId,
    /// Whether it is a problem. Otherwise it is work that goes on, or a user's wish.
    pub is_problem: bool,
    pub reason: String,
    /// The documentation of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Path of the field to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The run that failed or works, with its attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// Something to do: in words, and as a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}
