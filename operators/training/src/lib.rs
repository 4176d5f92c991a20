//! Training: a TrainingJob makes a TrainingRun for each new state of its inputs.

mod distributed;
#[cfg(test)]
mod tests;
mod training_job;
mod training_run;

use kube::ResourceExt;
use mlop_api::{queue::TrainingQueue, training::TrainingRun};
use mlop_core::{Index, Key, Setup};
use std::sync::Arc;
use training_job::TrainingJobIntent;
use training_run::TrainingRunRun;

/// Name of the operator.
pub const NAME: &str = mlop_api::operators::TRAINING.name;

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    setup.intent(TrainingJobIntent);
    let queues = setup.watch_cluster::<TrainingQueue>();
    let runs = setup.runs(TrainingRunRun { queues: Arc::clone(&queues) });
    let users = runs.index(|run| run.spec.queue.iter().map(|queue| queue.name.clone()).collect());
    runs.enqueue_changes(&queues, move |before, after| told(&users, before, after));
}

/// The runs that a change of a queue concerns: those whose positions it has, before and after. When the queue comes, goes
/// or is seen for the first time, these are all that name it.
fn told(
    users: &Index<TrainingRun>,
    before: Option<&TrainingQueue>,
    after: Option<&TrainingQueue>,
) -> Vec<Key> {
    let is_seen = |queue: Option<&TrainingQueue>| {
        queue.and_then(|queue| queue.status.as_ref()?.observed_generation).is_some()
    };
    if is_seen(before) != is_seen(after) || before.is_none() || after.is_none() {
        return before.or(after).map(|queue| users.keys_everywhere(&queue.name_any())).unwrap_or_default();
    }
    let status = [before, after].into_iter().flatten().filter_map(|queue| queue.status.as_ref());
    status.flat_map(|status| &status.waiting).map(|run| Key::new(&run.namespace, &run.run)).collect()
}
