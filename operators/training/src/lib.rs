//! Training: a TrainingJob makes a TrainingRun for each new state of its inputs.

mod job;
mod run;

use mlop_core::Setup;

/// Name of the operator.
pub const NAME: &str = "mlop-training";

/// Sets the operator up: its watches, controllers and triggers.
pub fn install(setup: &mut Setup) {
    setup.intent(job::TrainingIntent);
    setup.runs(run::Training);
}
