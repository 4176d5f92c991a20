//! An explanation as data.

use crate::{snapshot::ObjectId, state::State};
use jiff::Timestamp;
use serde::Serialize;
use std::fmt;

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
    /// Problems of other objects upstream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Problem>,
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
    /// The next attempt of work that is repeated by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// The run that failed or works, with its attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// When a run, a probe or a scan is tried again without anybody's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Retry {
    Running,
    At(Timestamp),
}

/// An object with a problem of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(flatten)]
    pub object: ObjectId,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// Something to do: in words, and as a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}
