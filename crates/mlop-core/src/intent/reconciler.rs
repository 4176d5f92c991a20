//! The reconciler of every kind of intent.

use super::{Intent, Observed, plan};
use crate::{
    children::profiles::Profiles,
    inputs::{self, Inputs},
    plan::Plan,
    resource::PodView,
    run,
    runtime::{
        context::Context,
        controller::Reconciler,
        error::Error,
        index::Index,
        setup::Setup,
        triggers::{Controls, by_intent},
        workqueue::Key,
    },
};
use jiff::Timestamp;
use kube::Resource;
use mlop_api::{common::ObjectRef, status::IntentStatus};
use std::sync::Arc;

/// The controller of a kind of intent.
pub struct Intents<I: Intent> {
    intent: I,
    inputs: Inputs,
    /// By the name of the intent.
    runs: Index<I::Run>,
    /// By the name of the intent.
    pods: Index<PodView>,
    profiles: Profiles,
}

impl<I: Intent> Reconciler for Intents<I> {
    type Resource = I::Resource;
    type Status = IntentStatus;
    type Observed = Observed<I>;

    async fn observe(&self, cx: &Context, object: Arc<I::Resource>) -> Result<Observed<I>, Error> {
        let key = Key::of(object.meta());
        let wanted = I::inputs(&object);
        let start = ObjectRef {
            api_group: I::Resource::group(&()).into_owned(),
            kind: Observed::<I>::kind(),
            name: key.name.clone(),
        };
        let references = inputs::references(&wanted);
        let runs = self.runs.get(&key.namespace, &key.name);
        Ok(Observed {
            inputs: wanted.iter().map(|input| self.inputs.state(&key.namespace, input)).collect(),
            pods: self.pods.get(&key.namespace, &key.name),
            cycle: inputs::cycle(&start, &references, |from| self.inputs.lookup(&key.namespace, from)),
            profile: self.profiles.of(&key.namespace, I::flow(&object).profile()),
            operator: cx.settings.operator.clone(),
            worker_image: cx.settings.worker_image.clone(),
            related: self.intent.observe(&object, &runs),
            runs,
            object,
        })
    }

    fn plan(observed: &Observed<I>, now: Timestamp) -> Plan<IntentStatus> {
        I::amend(observed, plan(observed, now), now)
    }
}

impl Setup {
    /// Reconciles all intents of a kind. A change of an input, of a run or of its PodProfile enqueues an intent.
    pub fn intent<I: Intent>(&mut self, intent: I) -> Controls<I::Resource> {
        let objects = self.watch::<I::Resource>();
        let runs = self.watch_projected(run::project::<I::Run>);
        let pods = self.watch_own::<PodView>();
        let inputs = Inputs::watch(self);
        let profiles = Profiles::watch(self);
        let intents = Intents {
            intent,
            inputs: inputs.clone(),
            runs: by_intent::<I::Resource, _>(&runs),
            pods: by_intent::<I::Resource, _>(&pods),
            profiles: profiles.clone(),
        };
        let controls = self.control(intents, &objects).owns(&runs);
        let controls = profiles.enqueue_users(controls, |object| Some(I::flow(object).profile()));
        inputs.enqueue_dependents(&controls, |object| inputs::references(&I::inputs(object)));
        controls
    }
}
