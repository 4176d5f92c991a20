//! Training: a TrainingJob makes a TrainingRun for each new state of its inputs.

mod job;
mod run;

use mlop_api::{
    dataset::ObjectStore,
    training::{TrainingJob, TrainingRun},
};
use mlop_core::{
    Setup,
    inputs::{Inputs, references},
    intent::{Intent, Sources},
    resource::{JobView, PodView},
    run::Runs,
    triggers::{intent_key, run_key, wake},
};
use std::sync::Arc;

/// Name of the operator.
pub const NAME: &str = "mlop-training";

/// Sets the operator up: what it watches, and what wakes whom.
pub fn install(setup: &mut Setup) {
    let jobs = setup.watch::<TrainingJob>();
    let runs = setup.watch::<TrainingRun>();
    let stores = setup.watch::<ObjectStore>();
    let pods = setup.watch_own::<PodView>();
    let attempts = setup.watch_own::<JobView>();
    let inputs = Inputs::watch(setup);

    let sources = Sources { inputs: inputs.clone(), runs: Arc::clone(&runs), pods: Arc::clone(&pods) };
    let job = setup.control(job::TrainingJobs { sources }, &jobs);
    wake(&runs, &job, |run| intent_key(run, "TrainingJob"));
    inputs.wake(&jobs, &job, |object| references(&job::TrainingIntent::inputs(object)));

    let training = Runs {
        run: run::Training,
        pods: Arc::clone(&pods),
        jobs: Some(Arc::clone(&attempts)),
        stores: Arc::clone(&stores),
    };
    let run = setup.control(training, &runs);
    wake(&pods, &run, |pod| run_key(pod, "TrainingRun"));
    wake(&attempts, &run, |attempt| run_key(attempt, "TrainingRun"));
    mlop_core::run::wake_on_stores(&stores, &runs, &run);
}
