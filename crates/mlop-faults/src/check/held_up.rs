//! The oracle of reasons: what holds a pod up is in the status of its owner within two minutes.

use crate::{
    cluster::{self, Cluster},
    inject::Injector,
};
use kube::ResourceExt;
use mlop_api::{Reason, labels};
use mlop_core::resource::PodView;
use mlop_sim::Sim;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long a hold-up may be missing in the status.
const LIMIT: Duration = Duration::from_secs(120);
/// Reasons that tell of a hold-up, or why the pod no longer matters.
const TOLD: [Reason; 11] = [
    Reason::ImagePull,
    Reason::SecretMissing,
    Reason::Unschedulable,
    Reason::ConnectionNotReady,
    Reason::ScanFailing,
    Reason::Suspended,
    Reason::Pinned,
    Reason::Cancelled,
    Reason::UpstreamFailed,
    Reason::WaitingForInputs,
    Reason::InputsDiverged,
];

/// Looks at all pods from time to time from now on. Violations are among those of the ledger.
pub fn watch(cluster: &Cluster) {
    let (sim, injector) = (cluster.sim.clone(), Arc::clone(&cluster.injector));
    tokio::spawn(async move {
        let (mut seen, mut revision) = (BTreeMap::new(), 0);
        loop {
            sleep(INTERVAL).await;
            if !seen.is_empty() || sim.revision() != revision {
                revision = sim.revision();
                look(&sim, &injector, &mut seen);
            }
        }
    });
}

/// Notes when each held-up pod was seen first, by its uid, and reports those that nobody tells of.
fn look(sim: &Sim, injector: &Injector, seen: &mut BTreeMap<String, Instant>) {
    let pods = sim.list::<PodView>();
    let held_up: Vec<_> = pods.iter().filter_map(|pod| Some((pod, hold_up(pod)?))).collect();
    seen.retain(|uid, _| held_up.iter().any(|(pod, _)| pod.uid().as_ref() == Some(uid)));
    for (pod, reason) in held_up {
        let since = *seen.entry(pod.uid().unwrap_or_default()).or_insert_with(Instant::now);
        if since.elapsed() > LIMIT
            && let Some(owner) = untold(sim, pod)
        {
            let pod = pod.name_any();
            injector.add_violation(format!("untold: pod {pod} is held up by {reason}, but {owner}"));
        }
    }
}

/// What keeps a pod from starting.
fn hold_up(pod: &PodView) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let waiting = pod.status.container_statuses.iter().flatten().find_map(|container| {
        let reason = container.state.as_ref()?.waiting.as_ref()?.reason.clone()?;
        ["ImagePullBackOff", "CreateContainerConfigError"].contains(&reason.as_str()).then_some(reason)
    });
    let is_refused = |reason: &Option<String>| reason.as_deref() == Some("Unschedulable");
    let mut conditions = pod.status.conditions.iter().flatten();
    let queued = || conditions.find(|condition| is_refused(&condition.reason))?.reason.clone();
    waiting.or_else(queued)
}

/// The reasons in the status of a pod's owner, if none tells of a hold-up.
fn untold(sim: &Sim, pod: &PodView) -> Option<String> {
    let (kind, name) = (pod.labels().get(labels::INTENT_KIND)?, pod.labels().get(labels::INTENT)?);
    let owner = cluster::list_kind(sim, kind).into_iter().find(|object| {
        object["metadata"]["name"] == name.as_str() && object["metadata"]["deletionTimestamp"].is_null()
    })?;
    let conditions = owner["status"]["conditions"].as_array()?;
    let reason = |condition: &Value| condition["reason"].as_str().unwrap_or_default().to_owned();
    let reasons: Vec<String> = conditions.iter().map(reason).collect();
    let is_told = reasons.iter().any(|reason| TOLD.iter().any(|told| told.as_str() == reason));
    (!is_told).then(|| format!("{kind} {name} says {}", reasons.join(", ")))
}
