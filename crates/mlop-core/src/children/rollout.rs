//! Rollouts of Deployments and StatefulSets.

use crate::resource::ChildObject;
use serde_json::Value;

/// State of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// All pods have the present template and are ready.
    Done,
    /// It goes on; the text says how far it is.
    Progressing(String),
    /// The present template did not become ready before its deadline.
    Failed(String),
}

/// Reads the status of a Deployment or StatefulSet.
pub fn rollout(child: &ChildObject) -> Rollout {
    let number = |pointer: &str| pointer_value(child, pointer).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    let observed = number("/status/observedGeneration").unwrap_or_default();
    if child.metadata.generation.unwrap_or_default() > observed {
        return Rollout::Progressing("the rollout has not begun".to_owned());
    }
    if let Some(failed) = progress_deadline(child) {
        return Rollout::Failed(failed);
    }
    let updated = number("/status/updatedReplicas").unwrap_or_default();
    let ready = number("/status/readyReplicas").unwrap_or_default();
    let all = number("/status/replicas").unwrap_or_default();
    if updated >= wanted && ready >= wanted && all <= wanted.max(updated) {
        Rollout::Done
    } else {
        Rollout::Progressing(format!("{updated} of {wanted} pods updated, {ready} ready"))
    }
}

/// Number of ready pods of any template.
pub fn ready_replicas(child: &ChildObject) -> i32 {
    let ready = pointer_value(child, "/status/readyReplicas").and_then(Value::as_i64).unwrap_or_default();
    i32::try_from(ready).unwrap_or(i32::MAX)
}

fn progress_deadline(child: &ChildObject) -> Option<String> {
    let conditions = pointer_value(child, "/status/conditions")?.as_array()?;
    let is = |c: &&Value| {
        c.pointer("/type").and_then(Value::as_str) == Some("Progressing")
            && c.pointer("/reason").and_then(Value::as_str) == Some("ProgressDeadlineExceeded")
    };
    let message = conditions.iter().find(is)?.pointer("/message").and_then(Value::as_str).unwrap_or_default();
    Some(message.to_owned())
}

fn pointer_value<'a>(child: &'a ChildObject, pointer: &str) -> Option<&'a Value> {
    let (first, rest) = pointer.trim_start_matches('/').split_once('/')?;
    child.body.get(first)?.pointer(&format!("/{rest}"))
}
