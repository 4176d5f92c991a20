//! The training operator with a bug: every reconcile of a TrainingJob panics. `cargo xtask observe alerts` runs it to see that
//! a panic costs one reconcile of one object, and raises its alert.
#![allow(clippy::panic, reason = "its purpose")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mlop_api::{
    common::{Flow, NamedInput},
    operators,
    run::{Execution, Lineage},
    training::{TrainingContent, TrainingJob, TrainingRun},
};
use mlop_core::{
    Blocked,
    inputs::ReadyInput,
    intent::{Identity, Intent, Observed},
};
use std::sync::Arc;

struct Panicking;

impl Intent for Panicking {
    type Resource = TrainingJob;
    type Run = TrainingRun;
    type Related = ();

    fn observe(&self, _: &TrainingJob, _: &[Arc<TrainingRun>]) {}

    fn flow(object: &TrainingJob) -> &dyn Flow {
        &object.spec
    }

    fn inputs(_: &TrainingJob) -> Vec<NamedInput> {
        Vec::new()
    }

    fn identity(_: &Observed<Self>) -> Result<Identity<TrainingContent>, Blocked> {
        panic!("a bug that was put in on purpose")
    }

    fn execution(object: &TrainingJob) -> Execution {
        Execution::of(&object.spec.resources, &object.spec.retry, None)
    }

    fn run(
        _: &Observed<Self>,
        _: ObjectMeta,
        _: &Identity<TrainingContent>,
        _: Lineage,
        _: Execution,
        _: &[ReadyInput],
    ) -> TrainingRun {
        panic!("a bug that was put in on purpose")
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    mlop_core::main(operators::TRAINING.name, |setup| drop(setup.intent(Panicking))).await
}
