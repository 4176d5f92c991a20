//! Queues: trainings of several namespaces share quota. A run without room waits, and starts no pod.

mod decide;
#[cfg(test)]
mod tests;
mod training_queue;

use kube::ResourceExt;
use mlop_api::queue::TrainingQueue;
use mlop_core::{
    Index, Key, Setup,
    resource::{NamespaceView, QueuedRun},
};
use std::{collections::BTreeSet, sync::Arc};
use training_queue::TrainingQueueReconciler;

/// Name of the operator.
pub const NAME: &str = mlop_api::operators::QUEUE.name;

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    let queues = setup.watch_cluster::<TrainingQueue>();
    let runs = setup.watch::<QueuedRun>();
    let namespaces = setup.watch_cluster::<NamespaceView>();
    let by_queue = Index::new(&runs, |run| queues_of(run).into_iter().collect());
    let reconciler = TrainingQueueReconciler {
        runs: by_queue,
        by_key: Arc::clone(&runs),
        namespaces: Arc::clone(&namespaces),
    };
    let all = Arc::clone(&queues);
    setup
        .control(reconciler, &queues)
        .enqueue_changes(&runs, |before, after| {
            let states = [before, after].into_iter().flatten();
            let names: BTreeSet<String> = states.flat_map(queues_of).collect();
            names.into_iter().map(|name| Key::new("", name)).collect()
        })
        .enqueue_changes(&namespaces, move |before, after| {
            let labels =
                |namespace: Option<&NamespaceView>| namespace.map(|namespace| namespace.labels().clone());
            if labels(before) == labels(after) { Vec::new() } else { all.keys() }
        });
}

/// The queues that a run concerns: the one that it is for, the one that it asks, and the one that has admitted it.
fn queues_of(run: &QueuedRun) -> BTreeSet<String> {
    let wanted = run.spec.queue.as_ref().map(|queue| &queue.name);
    let asked = run.status.queued.as_ref().map(|request| &request.queue);
    let admitted = run.status.admission.as_ref().map(|admission| &admission.queue);
    wanted.into_iter().chain(asked).chain(admitted).cloned().collect()
}
