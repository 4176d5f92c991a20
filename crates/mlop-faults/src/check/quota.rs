//! The oracle of queues. Admitted runs never request more than the quota. No pod is created before its run is admitted.

use kube::ResourceExt;
use mlop_api::{
    labels,
    queue::{QueueRequest, TrainingQueue},
    training::TrainingRun,
};
use mlop_sim::Sim;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// The largest quotas so far, by queue and resource: a lower one ends no run.
#[derive(Default)]
pub struct QuotaOracle {
    quotas: Mutex<BTreeMap<(String, String), i128>>,
}

impl QuotaOracle {
    /// A queue whose admitted runs ask for more than its quota.
    pub fn violation(&self, sim: &Sim) -> Option<String> {
        let mut used: BTreeMap<(String, String), i128> = BTreeMap::new();
        for run in sim.list::<TrainingRun>() {
            for amount in admitted(&run).into_iter().flat_map(|request| &request.resources) {
                let queue = admitted(&run).map(|request| request.queue.clone()).unwrap_or_default();
                *used.entry((queue, amount.name.clone())).or_default() += amount.quantity.billionths();
            }
        }
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in sim.list::<TrainingQueue>() {
            for resource in &queue.spec.resources {
                let quota = quotas.entry((queue.name_any(), resource.name.clone())).or_default();
                *quota = (*quota).max(resource.quota.billionths());
            }
        }
        let over =
            used.iter().find(|(resource, used)| quotas.get(*resource).is_some_and(|quota| *used > quota));
        over.map(|((queue, resource), used)| {
            format!("quota: {used} billionths of {resource} are admitted in TrainingQueue {queue}")
        })
    }

    /// A pod or Job of a run that its queue has not admitted.
    pub fn early_work(sim: &Sim, namespace: &str, created: &Value) -> Option<String> {
        let name = created["metadata"]["labels"][labels::RUN].as_str()?;
        let run = sim.get::<TrainingRun>(namespace, name)?;
        let is_early = run.spec.queue.is_some() && admitted(&run).is_none();
        is_early.then(|| format!("quota: an attempt of {name} is created before its queue has admitted it"))
    }
}

/// What a run is admitted for, and still asks for.
fn admitted(run: &TrainingRun) -> Option<&QueueRequest> {
    let status = run.status.as_ref()?;
    let (request, admission) = (status.queued.as_ref()?, status.admission.as_ref()?);
    (admission.at.is_some() && admission.answers(request)).then_some(request)
}
