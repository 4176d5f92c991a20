//! The runs and pods that an intent keeps, and the execution that its runs mirror.

use super::{Intent, Observed, decide::execution, pin::pinned_run, revision::Revision};
use crate::{
    plan::{Apply, Delete},
    resource::ApiKind,
    run::{RunState, run_state},
};
use kube::{Resource, ResourceExt};
use mlop_api::status::IntentStatus;
use serde_json::json;
use std::{cmp::Reverse, sync::Arc};

/// Brings the intent's execution into the active run and into `dead_run`, which gets a new budget of attempts. Runs that
/// died for earlier inputs stay dead.
pub(super) fn mirror_execution<I: Intent>(observed: &Observed<I>, dead_run: Option<&str>) -> Vec<Apply> {
    let wanted = execution(observed);
    let is_open = |run: &Arc<I::Run>| match run_state(run.as_ref()) {
        RunState::Active(_) => run.meta().deletion_timestamp.is_none(),
        RunState::Dead(..) => dead_run == Some(&run.name_any()),
        RunState::Succeeded => false,
    };
    let outdated =
        observed.runs.iter().filter(|run| is_open(run) && !I::is_mirrored(run, &wanted, &observed.object));
    let kind = ApiKind::of::<I::Run>();
    outdated
        .map(|run| Apply {
            object: json!({
                "apiVersion": kind.api_version(),
                "kind": kind.kind,
                "metadata": {"name": run.name_any(), "namespace": run.namespace(), "uid": run.uid()},
                "spec": I::execution_patch(&wanted, &observed.object),
            }),
            kind: kind.clone(),
            why: "the execution was edited or a retry was requested".to_owned(),
        })
        .collect()
}

/// Deletes finished runs above the history limit, and pods of earlier activations. Bytes in the store stay.
pub(super) fn prune<I: Intent>(observed: &Observed<I>, status: &IntentStatus) -> Vec<Delete> {
    let flow = I::flow(&observed.object);
    let mut finished: Vec<_> =
        observed.runs.iter().filter(|run| !matches!(run_state(run.as_ref()), RunState::Active(_))).collect();
    finished.sort_by_key(|run| Reverse((run.meta().creation_timestamp.clone(), run.name_any())));
    // The newest one may wait for its activation, and a rejected one would be started again.
    let newest = finished.first().map(|run| run.name_any());
    let pinned = flow.pin().and_then(|pin| pinned_run(observed, pin)).map(|run| run.name_any());
    let is_needed = |run: &Arc<I::Run>| {
        let name = run.name_any();
        newest.as_ref() == Some(&name)
            || status.artifact.as_ref().is_some_and(|artifact| artifact.run == name)
            || pinned.as_ref() == Some(&name)
            || status.dead_letters.first().is_some_and(|dead| dead.run == name)
            || run.meta().deletion_timestamp.is_some()
    };
    let old_runs = finished.into_iter().filter(|run| !is_needed(run)).skip(flow.history_limit() as usize);
    let old_runs = old_runs.filter_map(|run| Delete::of(run.as_ref(), "above spec.historyLimit"));
    let active = status.activation.as_ref().and_then(|active| Revision::new(active.revision));
    let is_earlier = |revision: Revision| Some(revision) < active;
    let old_pods = observed.pods.iter().filter(|pod| Revision::of(pod.as_ref()).is_some_and(is_earlier));
    let old_pods = old_pods.filter_map(|pod| Delete::of(pod.as_ref(), "a later revision is active"));
    old_runs.chain(old_pods).collect()
}
