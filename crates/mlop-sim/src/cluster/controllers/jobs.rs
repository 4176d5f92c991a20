//! The Job controller: one pod per index or completion, and a status derived from the pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::common::{DELAY, MANAGER, RETRY_INTERVAL, condition, set_status};
use crate::{
    api::{delete::DeleteOptions, server::Server, shared::WeakServer, write::WriteOptions},
    object::{Object, array, object_at, text},
    sim::Sim,
    storage::{object_version::ObjectVersion, store::Change, subscriptions::Subscription},
};

/// Starts the Job controller of `sim`. It ends with the server.
pub fn spawn_jobs(sim: &Sim) {
    let is_relevant = |change: &Change| matches!(&*change.key.resource, "jobs.batch" | "pods");
    let subscription = sim.lock().store.subscribe(is_relevant);
    tokio::spawn(run(sim.server.downgrade(), subscription));
}

async fn run(server: WeakServer, mut subscription: Subscription) {
    let mut known = Known::new();
    loop {
        let Some(complete) = server.with(|server| sync_all(server, &mut known)) else { return };
        let changed = subscription.changed();
        let ended = match complete {
            true => changed.await.is_err(),
            false => timeout(RETRY_INTERVAL, changed).await.is_ok_and(|changed| changed.is_err()),
        };
        if ended {
            return;
        }
        sleep(DELAY).await;
        subscription.mark_seen();
    }
}

/// The pods of each Job with a limit per index that were there last: the index of each, by uid. A pod that somebody has
/// removed counts as failed.
type Known = BTreeMap<String, BTreeMap<String, i64>>;

/// Reconciles all Jobs, and returns whether every Job has its pods.
fn sync_all(server: &mut Server, known: &mut Known) -> bool {
    let jobs: Vec<Arc<ObjectVersion>> =
        server.store.list("jobs.batch", None).map(|(_, job)| job.clone()).collect();
    let mut complete = true;
    for job in jobs.iter().filter(|job| !job.is_deleting() && !is_finished(job)) {
        complete &= sync(server, job, known);
    }
    complete
}

fn is_finished(job: &Value) -> bool {
    let mut conditions = array(&job["status"]["conditions"]).iter();
    conditions.any(|c| matches!(text(&c["type"]), "Complete" | "Failed") && c["status"] == "True")
}

/// The pods of a Job, by state.
#[derive(Default)]
struct Pods {
    active: Vec<Arc<ObjectVersion>>,
    terminating: i64,
    failed: i64,
    succeeded: i64,
    /// Indexes that have succeeded, or have a pod that must end before there is another.
    taken: BTreeSet<i64>,
    succeeded_indexes: BTreeSet<i64>,
    failed_indexes: BTreeSet<i64>,
    /// The indexes of all of them, by uid.
    indexes: BTreeMap<String, i64>,
}

impl Pods {
    fn of(server: &Server, job: &Value) -> Self {
        let mut pods = Self::default();
        let controlled =
            |pod: &Value| pod.owner_references().iter().any(|owner| text(&owner["uid"]) == job.uid());
        for (_, pod) in server.store.list("pods", Some(job.namespace())).filter(|(_, pod)| controlled(pod)) {
            let index = index_of(pod);
            pods.indexes.extend(index.map(|index| (pod.uid().to_string(), index)));
            match text(&pod["status"]["phase"]) {
                "Succeeded" => {
                    pods.succeeded += 1;
                    pods.taken.extend(index);
                    pods.succeeded_indexes.extend(index);
                }
                "Failed" => {
                    pods.failed += 1;
                    pods.failed_indexes.extend(index);
                }
                _ if pod.is_deleting() => {
                    pods.terminating += 1;
                    pods.taken.extend(index.filter(|_| waits_for_terminating(&job["spec"])));
                }
                _ => {
                    pods.active.push(pod.clone());
                    pods.taken.extend(index);
                }
            }
        }
        // The status keeps indexes whose pods somebody has removed.
        pods.succeeded_indexes.extend(indexes(&job["status"]["completedIndexes"]));
        pods.failed_indexes.extend(indexes(&job["status"]["failedIndexes"]));
        pods.taken.extend(&pods.succeeded_indexes);
        pods
    }

    /// Whether the Job repeats no index that has failed.
    fn all_ended(&self, completions: i64) -> bool {
        (0..completions)
            .all(|index| self.succeeded_indexes.contains(&index) || self.failed_indexes.contains(&index))
    }
}

/// Whether a pod that is being deleted must have ended before it is replaced.
fn waits_for_terminating(spec: &Value) -> bool {
    spec["podReplacementPolicy"] == "Failed"
}

/// The indexes of a list such as `0,2`.
fn indexes(list: &Value) -> impl Iterator<Item = i64> + '_ {
    text(list).split(',').filter_map(|index| index.parse().ok())
}

/// Whether the indexes that the success policy of a Job names have succeeded.
fn meets_success_policy(spec: &Value, pods: &Pods) -> bool {
    array(&spec["successPolicy"]["rules"]).iter().any(|rule| {
        let mut wanted = indexes(&rule["succeededIndexes"]).peekable();
        wanted.peek().is_some() && wanted.all(|index| pods.succeeded_indexes.contains(&index))
    })
}

fn index_of(pod: &Value) -> Option<i64> {
    text(&pod.meta()["annotations"]["batch.kubernetes.io/job-completion-index"]).parse().ok()
}

/// Reconciles one Job, and returns whether it has its pods.
fn sync(server: &mut Server, job: &Value, known: &mut Known) -> bool {
    let mut complete = true;
    let spec = &job["spec"];
    let parallelism = spec["parallelism"].as_i64().unwrap_or(1);
    let completions = spec["completions"].as_i64().unwrap_or(parallelism);
    let indexed = spec["completionMode"] == "Indexed";
    let mut pods = Pods::of(server, job);
    // With a limit per index, no pod of a failed index is replaced: mlop sets no other limit than 0.
    let per_index = indexed && spec["backoffLimitPerIndex"].is_number();
    if per_index {
        let before = known.insert(job.uid().to_string(), pods.indexes.clone()).unwrap_or_default();
        let removed = before.into_iter().filter(|(uid, _)| !pods.indexes.contains_key(uid));
        let removed = removed.map(|(_, index)| index).filter(|index| !pods.succeeded_indexes.contains(index));
        let removed: Vec<_> = removed.collect();
        pods.failed_indexes.extend(removed);
    }
    let done = if indexed { pods.succeeded_indexes.len() as i64 } else { pods.succeeded };
    let now = server.clock.now_seconds().to_string();
    let mut conditions = Vec::new();
    if meets_success_policy(spec, &pods) {
        conditions.push(condition("SuccessCriteriaMet", "True", "SuccessPolicy", &now));
        stop(server, &pods);
        if pods.active.is_empty() && pods.terminating == 0 {
            conditions.push(condition("Complete", "True", "SuccessPolicy", &now));
        }
    } else if done >= completions {
        conditions.push(condition("SuccessCriteriaMet", "True", "CompletionsReached", &now));
        conditions.push(condition("Complete", "True", "CompletionsReached", &now));
    } else if per_index && pods.all_ended(completions) {
        conditions.push(condition("FailureTarget", "True", "FailedIndexes", &now));
        conditions.push(condition("Failed", "True", "FailedIndexes", &now));
    } else if !per_index && pods.failed > spec["backoffLimit"].as_i64().unwrap_or(6) {
        conditions.push(condition("FailureTarget", "True", "BackoffLimitExceeded", &now));
        conditions.push(condition("Failed", "True", "BackoffLimitExceeded", &now));
        stop(server, &pods);
    } else if spec["suspend"] == true {
        conditions.push(condition("Suspended", "True", "JobSuspended", &now));
        stop(server, &pods);
    } else {
        let busy = pods.active.len() as i64 + if waits_for_terminating(spec) { pods.terminating } else { 0 };
        let failed = if per_index { pods.failed_indexes.len() as i64 } else { 0 };
        let missing = (completions - done - failed).min(parallelism) - busy;
        let has_failed = |index: &i64| per_index && pods.failed_indexes.contains(index);
        let is_free = |index: &i64| !pods.taken.contains(index) && !has_failed(index);
        let free = (0..completions).filter(is_free);
        let indexes: Vec<Option<i64>> = match indexed {
            true => free.take(usize::try_from(missing).unwrap_or_default()).map(Some).collect(),
            false => (0..missing).map(|_| None).collect(),
        };
        for index in indexes {
            complete &= create_pod(server, job, index);
        }
    }
    let failed_indexes = if per_index { pods.failed_indexes } else { BTreeSet::new() };
    report(server, job, conditions, &failed_indexes, &now);
    complete
}

/// Deletes the active pods.
fn stop(server: &mut Server, pods: &Pods) {
    let Some(ty) = server.types.get("pods", "").cloned() else { return };
    for pod in &pods.active {
        let options = DeleteOptions { uid: Some(pod.uid().into()), ..DeleteOptions::default() };
        // A pod that is gone needs no deletion.
        let _ = server.delete(&ty, pod.namespace(), pod.name(), &options);
    }
}

/// Creates a pod, and returns whether the server accepted it: a quota may be exceeded, or the namespace terminating.
fn create_pod(server: &mut Server, job: &Value, index: Option<i64>) -> bool {
    let Some(ty) = server.types.get("pods", "").cloned() else { return false };
    let suffix = server.identities.suffix();
    let mut pod = job["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    let name = match index {
        Some(index) => format!("{}-{index}-{suffix}", job.name()),
        None => format!("{}-{suffix}", job.name()),
    };
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job.name(), "uid": job.uid(),
        "controller": true, "blockOwnerDeletion": true});
    let meta = pod.meta_mut();
    meta.insert("name".into(), json!(name));
    meta.insert("ownerReferences".into(), json!([owner]));
    if let Some(index) = index {
        let key = "batch.kubernetes.io/job-completion-index";
        object_at(meta, "annotations").insert(key.into(), json!(index.to_string()));
        object_at(meta, "labels").insert(key.into(), json!(index.to_string()));
        pod["spec"]["hostname"] = json!(format!("{}-{index}", job.name()));
        let variable = json!({"name": "JOB_COMPLETION_INDEX", "value": index.to_string()});
        for list in ["initContainers", "containers"] {
            for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
                let mut env = array(&container["env"]).to_vec();
                env.push(variable.clone());
                container["env"] = json!(env);
            }
        }
    }
    server.create(&ty, job.namespace(), pod, &WriteOptions::direct(MANAGER)).is_ok()
}

fn report(
    server: &mut Server,
    job: &Value,
    conditions: Vec<Value>,
    failed_indexes: &BTreeSet<i64>,
    now: &str,
) {
    let Some(ty) = server.types.get("jobs", "batch").cloned() else { return };
    let pods = Pods::of(server, job);
    let ready = pods.active.iter().filter(|pod| text(&pod["status"]["phase"]) == "Running").count();
    let mut status: BTreeMap<&str, Value> = BTreeMap::new();
    let started = job["status"].get("startTime").cloned().unwrap_or_else(|| json!(now));
    status.insert("startTime", started);
    status.insert("ready", json!(ready));
    status.insert("terminating", json!(pods.terminating));
    status.insert("uncountedTerminatedPods", json!({}));
    for (field, count) in
        [("active", pods.active.len() as i64), ("succeeded", pods.succeeded), ("failed", pods.failed)]
    {
        if count > 0 {
            status.insert(field, json!(count));
        }
    }
    for (field, indexes) in [("completedIndexes", &pods.succeeded_indexes), ("failedIndexes", failed_indexes)]
    {
        let indexes: Vec<String> = indexes.iter().map(i64::to_string).collect();
        if !indexes.is_empty() {
            status.insert(field, json!(indexes.join(",")));
        }
    }
    if conditions.iter().any(|condition| condition["type"] == "Complete") {
        status.insert("completionTime", json!(now));
    }
    let same = |a: &Value, b: &Value| a["type"] == b["type"] && a["status"] == b["status"];
    let before = array(&job["status"]["conditions"]);
    let keep_time = |new: Value| before.iter().find(|old| same(old, &new)).cloned().unwrap_or(new);
    let conditions: Vec<Value> = conditions.into_iter().map(keep_time).collect();
    if !conditions.is_empty() {
        status.insert("conditions", json!(conditions));
    }
    set_status(server, &ty, job.namespace(), job.name(), json!(status));
}
