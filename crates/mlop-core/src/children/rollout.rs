//! Rollouts of Deployments and StatefulSets.

use super::{pod_outcome, template};
use crate::resource::{ChildObject, PodView};
use kube::ResourceExt;
use mlop_api::{Reason, labels, text::clause};
use serde_json::Value;
use std::sync::Arc;

/// State of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// The present template is rolled out. Pods that are added to it, or restarted, are no rollout.
    Done,
    /// The present template is rolled out, and none of its pods is ready; the text counts them.
    Down(String),
    /// Its controller has not seen the newest change yet, which it does in a moment.
    Unobserved,
    /// Some pods do not have the present template yet, or have not been ready once; the text counts them.
    Progressing(String),
    /// The present template did not become ready before its deadline.
    Failed(String),
}

/// Reads the status of a Deployment or StatefulSet.
pub fn rollout(child: &ChildObject) -> Rollout {
    let number = |pointer: &str| pointer_value(child, pointer).and_then(Value::as_i64);
    let count = |name: &str| number(&format!("/status/{name}")).unwrap_or_default();
    if child.metadata.generation.unwrap_or_default() > count("observedGeneration") {
        return Rollout::Unobserved;
    }
    let wanted = number("/spec/replicas").unwrap_or(1);
    let (updated, ready, all) = (count("updatedReplicas"), count("readyReplicas"), count("replicas"));
    let refused = refusal(child).map(|(_, words)| format!(": {words}")).unwrap_or_default();
    // The sign of the Deployment controller itself. It stays until the template changes.
    let was_complete = condition(child, "Progressing", "reason", "NewReplicaSetAvailable").is_some();
    let is_complete = updated >= wanted && ready >= wanted && all <= wanted.max(updated);
    if is_complete || was_complete && updated == all && ready > 0 {
        Rollout::Done
    } else if was_complete && updated == all {
        Rollout::Down(format!("{ready} of {wanted} pods are ready{refused}"))
    } else if let Some(failed) = condition(child, "Progressing", "reason", "ProgressDeadlineExceeded") {
        Rollout::Failed(format!("{failed}{refused}"))
    } else {
        Rollout::Progressing(format!("{updated} of {wanted} pods updated, {ready} ready{refused}"))
    }
}

/// Why the controller of a Deployment may not create its pods, in the words of the API server: a quota, a LimitRange, Pod
/// Security or a webhook refuses them. A StatefulSet says so in Events only.
fn refusal(child: &ChildObject) -> Option<(Reason, String)> {
    let message = condition(child, "ReplicaFailure", "status", "True")?;
    let is_quota = ["exceeded quota", "failed quota"].iter().any(|words| message.contains(words));
    let reason = if is_quota { Reason::QuotaExceeded } else { Reason::PodRefused };
    Some((reason, message))
}

/// The reason that a pod of the live template does not serve, in the words of its containers, or that there is none.
pub fn trouble(child: &ChildObject, pods: &[Arc<PodView>]) -> Option<(Reason, String)> {
    let mark = template::mark(child);
    // A pod that ends, or has ended, is replaced.
    let has_ended = |pod: &PodView| matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let is_current = |pod: &&Arc<PodView>| {
        let its = pod.annotations().get(labels::TEMPLATE).map(String::as_str);
        mark.is_some() && its == mark && pod.metadata.deletion_timestamp.is_none() && !has_ended(pod)
    };
    let of_a_pod = pods.iter().filter(is_current).find_map(|pod| pod_outcome::trouble(pod));
    of_a_pod.or_else(|| refusal(child))
}

/// Number of ready pods of any template.
pub fn ready_replicas(child: &ChildObject) -> i32 {
    let ready = pointer_value(child, "/status/readyReplicas").and_then(Value::as_i64).unwrap_or_default();
    i32::try_from(ready).unwrap_or(i32::MAX)
}

/// Number of pods that the Deployment asks for.
pub fn wanted_replicas(child: &ChildObject) -> Option<i32> {
    replicas(child, "/spec/replicas")
}

/// Number of pods of any template.
pub fn replicas_of_all(child: &ChildObject) -> Option<i32> {
    replicas(child, "/status/replicas")
}

fn replicas(child: &ChildObject, pointer: &str) -> Option<i32> {
    i32::try_from(pointer_value(child, pointer)?.as_i64()?).ok()
}

/// The message of the condition `kind`, if its `field` is `value`.
fn condition(child: &ChildObject, kind: &str, field: &str, value: &str) -> Option<String> {
    let conditions = pointer_value(child, "/status/conditions")?.as_array()?;
    let text = |c: &Value, field: &str| c.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let found = conditions.iter().find(|c| text(c, "type") == kind && text(c, field) == value)?;
    Some(clause(&text(found, "message")).to_owned())
}

fn pointer_value<'a>(child: &'a ChildObject, pointer: &str) -> Option<&'a Value> {
    let (first, rest) = pointer.trim_start_matches('/').split_once('/')?;
    child.body.get(first)?.pointer(&format!("/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn child(replicas: i64, status: Value) -> ChildObject {
        let object = json!({"metadata": {"name": "a", "generation": 2}, "spec": {"replicas": replicas}, "status": status});
        serde_json::from_value(object).unwrap()
    }

    /// A status that has observed the present template.
    fn counts(updated: i64, ready: i64, all: i64) -> Value {
        json!({"observedGeneration": 2, "updatedReplicas": updated, "readyReplicas": ready, "replicas": all})
    }

    /// The status of a Deployment whose controller may not create pods.
    fn with_refusal(mut status: Value) -> Value {
        let conditions = status.as_object_mut().unwrap().entry("conditions").or_insert(json!([]));
        let message = "pods \"a\" is forbidden: exceeded quota: q";
        let refused =
            json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message});
        conditions.as_array_mut().unwrap().push(refused);
        status
    }

    #[test]
    fn refusal_of_pods_has_a_reason() {
        let refused = |message: &str| {
            let mut status = with_refusal(counts(0, 0, 0));
            status["conditions"][0]["message"] = json!(message);
            refusal(&child(1, status)).map(|(reason, _)| reason)
        };
        assert_eq!(refused("exceeded quota: q, requested: pods=1"), Some(Reason::QuotaExceeded));
        assert_eq!(refused("violates PodSecurity \"restricted:latest\""), Some(Reason::PodRefused));
        assert_eq!(refusal(&child(1, counts(1, 1, 1))), None);
    }

    #[test]
    fn rollout_is_done_when_all_pods_are_new_and_ready() {
        let mut failed = counts(1, 1, 2);
        failed["conditions"] = json!([
            {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out."}]);
        let mut going_on = counts(1, 1, 2);
        going_on["conditions"] =
            json!([{"type": "Progressing", "reason": "ReplicaSetUpdated", "message": "m"}]);
        let earlier =
            json!({"observedGeneration": 1, "updatedReplicas": 2, "readyReplicas": 2, "replicas": 2});
        let progressing = |text: &str| Rollout::Progressing(text.to_owned());
        let rolled_out = |mut status: Value| {
            status["conditions"] =
                json!([{"type": "Progressing", "reason": "NewReplicaSetAvailable", "message": "m"}]);
            child(2, status)
        };
        let rows = [
            ("it was rolled out, and a pod is added", rolled_out(counts(1, 1, 1)), Rollout::Done),
            ("it was rolled out, and a pod restarts", rolled_out(counts(2, 1, 2)), Rollout::Done),
            (
                "it was rolled out, and no pod is ready",
                rolled_out(counts(2, 0, 2)),
                Rollout::Down("0 of 2 pods are ready".to_owned()),
            ),
            (
                "another template was rolled out",
                rolled_out(counts(0, 2, 2)),
                progressing("0 of 2 pods updated, 2 ready"),
            ),
            ("its size was changed", rolled_out(earlier.clone()), Rollout::Unobserved),
            ("all pods are new and ready", child(2, counts(2, 2, 2)), Rollout::Done),
            ("no replicas are wanted", child(0, json!({"observedGeneration": 2})), Rollout::Done),
            ("no status", child(2, json!({})), Rollout::Unobserved),
            ("the template was edited", child(2, earlier), Rollout::Unobserved),
            (
                "one pod is not updated",
                child(2, counts(1, 2, 2)),
                progressing("1 of 2 pods updated, 2 ready"),
            ),
            ("one pod is not ready", child(2, counts(2, 1, 2)), progressing("2 of 2 pods updated, 1 ready")),
            ("an old pod is left", child(2, counts(2, 2, 3)), progressing("2 of 2 pods updated, 2 ready")),
            ("it goes on", child(2, going_on), progressing("1 of 2 pods updated, 1 ready")),
            ("its deadline is over", child(2, failed.clone()), Rollout::Failed("timed out".to_owned())),
            (
                "a quota refuses its pods",
                child(2, with_refusal(counts(0, 0, 0))),
                progressing("0 of 2 pods updated, 0 ready: pods \"a\" is forbidden: exceeded quota: q"),
            ),
            (
                "a quota has refused its pods until the deadline",
                child(2, with_refusal(failed)),
                Rollout::Failed("timed out: pods \"a\" is forbidden: exceeded quota: q".to_owned()),
            ),
        ];
        for (situation, child, want) in rows {
            assert_eq!(rollout(&child), want, "{situation}");
        }
    }

    #[test]
    fn ready_replicas_defaults_to_zero() {
        assert_eq!(ready_replicas(&child(2, counts(2, 1, 2))), 1);
        assert_eq!(ready_replicas(&child(2, json!({}))), 0);
    }
}
