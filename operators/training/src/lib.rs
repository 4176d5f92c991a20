//! Training: a TrainingJob makes a TrainingRun for each new state of its inputs.

mod distributed;
#[cfg(test)]
mod tests;
mod training_job;
mod training_run;

use mlop_core::Setup;
use training_job::TrainingJobIntent;
use training_run::TrainingRunRun;

/// Name of the operator.
pub const NAME: &str = mlop_api::operators::TRAINING.name;

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    setup.intent(TrainingJobIntent);
    setup.runs(TrainingRunRun);
}
