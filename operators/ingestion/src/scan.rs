//! Looking at a Dataset's source, by a pod per time slot.
//!
//! The newest successful pod is the memory of what was seen; the status takes it over only when it saw something
//! new, so that looking at unchanged data writes nothing but the pod.

use crate::dataset::{DatasetIntent, usable_store};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mlop_api::{
    Digest, Reason,
    common::Resources,
    contract::condition_type,
    dataset::Dataset,
    labels,
    result::{Failure, ResultDocument},
    status::{IntentStatus, Scan},
    task::{ScanWork, Subject, Task, Work},
};
use mlop_core::{
    Blocked, Plan,
    children::{
        container, pod,
        pod_outcome::{self, Outcome},
    },
    condition::{self, ConditionStatus, Conditions},
    intent::Observed,
    plan::Create,
    resource::PodView,
};
use serde_json::json;
use std::sync::Arc;

/// Pause before a failed scan is repeated.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// The digest of what the newest successful scan of the present source saw.
pub fn newest(observed: &Observed<DatasetIntent>) -> Option<Digest> {
    seen(observed).map(|scan| scan.digest)
}

/// When that scan ended, while its pod is there.
pub fn newest_at(observed: &Observed<DatasetIntent>) -> Option<Timestamp> {
    newest_success(observed, &source_digest(&observed.object))?.0
}

/// Why there is no listing yet.
pub fn hold(observed: &Observed<DatasetIntent>) -> Blocked {
    match failure(observed) {
        Some((_, failure)) => Blocked { reason: failure.reason, message: failure.message, stalled: false },
        None => Blocked {
            reason: Reason::Scanning,
            message: "the source is being looked at for the first time".to_owned(),
            stalled: false,
        },
    }
}

/// Adds to `plan` what scanning needs: the next pod, the removal of old ones, and what the status says about it.
pub fn add(
    observed: &Observed<DatasetIntent>,
    mut plan: Plan<IntentStatus>,
    now: Timestamp,
) -> Plan<IntentStatus> {
    if observed.object.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    remember(observed, &mut plan, now);
    plan = tidy(observed, plan);
    if observed.object.spec.suspend {
        return plan;
    }
    let wanted = name(observed, now);
    let plan = plan.requeue_at(slot_end(&observed.object, now));
    let mut scans = scans(observed);
    if scans.clone().any(|pod| matches!(pod_outcome::of(pod), Outcome::Running | Outcome::Starting(_))) {
        return plan;
    }
    match scans.find(|pod| pod.name_any() == wanted).map(|pod| (pod, pod_outcome::of(pod))) {
        None => match create(observed, wanted) {
            Some(create) => Plan { creates: plan.creates.iter().cloned().chain([create]).collect(), ..plan },
            None => plan,
        },
        Some((pod, Outcome::Failed(_))) => {
            let due = pod_outcome::ended_at(pod).and_then(|at| at.checked_add(RETRY).ok()).unwrap_or(now);
            if due <= now { plan.delete(pod.as_ref(), "the scan is repeated") } else { plan.requeue_at(due) }
        }
        Some(_) => plan,
    }
}

fn scans(observed: &Observed<DatasetIntent>) -> impl Iterator<Item = &Arc<PodView>> + Clone {
    observed.pods.iter().filter(|pod| pod.labels().get(labels::ROLE).is_some_and(|role| role == "scan"))
}

/// Digest of what is asked for: an edit of the source makes earlier scans worthless.
fn source_digest(dataset: &Dataset) -> Digest {
    Digest::of_bytes(
        json!({"objects": dataset.spec.source.objects, "store": dataset.spec.store}).to_string().as_bytes(),
    )
}

fn belongs(pod: &PodView, source: &Digest) -> bool {
    pod.labels().get(labels::DIGEST).is_some_and(|digest| digest == source.short(63))
}

/// What the newest scan of `source` that succeeded saw, and when.
fn newest_success(
    observed: &Observed<DatasetIntent>,
    source: &Digest,
) -> Option<(Option<Timestamp>, ResultDocument)> {
    let succeeded =
        scans(observed).filter(|pod| belongs(pod, source)).filter_map(|pod| match pod_outcome::of(pod) {
            Outcome::Succeeded(result) => Some((pod_outcome::ended_at(pod), pod, result)),
            _ => None,
        });
    let newest = succeeded.max_by_key(|(at, pod, _)| (*at, pod.name_any()));
    newest.map(|(at, _, result)| (at, *result))
}

fn seen(observed: &Observed<DatasetIntent>) -> Option<Scan> {
    let source = source_digest(&observed.object);
    let from_pod = newest_success(observed, &source).and_then(|(_, result)| {
        Some(Scan {
            digest: result.digest?,
            store: observed.object.spec.source.objects.as_ref()?.store.clone(),
            source_digest: source.clone(),
            summary: result.summary,
        })
    });
    let recorded =
        || observed.object.status.as_ref()?.scan.clone().filter(|scan| scan.source_digest == source);
    from_pod.or_else(recorded)
}

/// The newest scan of the present source, if it failed.
fn failure(observed: &Observed<DatasetIntent>) -> Option<(Timestamp, Failure)> {
    let source = source_digest(&observed.object);
    let ended =
        scans(observed).filter(|pod| belongs(pod, &source)).filter_map(|pod| match pod_outcome::of(pod) {
            Outcome::Succeeded(_) => Some((pod_outcome::ended_at(pod)?, None)),
            Outcome::Failed(ended) => Some((pod_outcome::ended_at(pod)?, Some(ended.failure))),
            _ => None,
        });
    let (at, failure) = ended.max_by_key(|(at, _)| *at)?;
    failure.map(|failure| (at, failure))
}

/// Whether what is asked for now has been seen: then it does not matter that a request in between failed.
fn has_succeeded(observed: &Observed<DatasetIntent>, wanted: &str) -> bool {
    let mut wanted = scans(observed).filter(|pod| pod.name_any() == wanted);
    wanted.any(|pod| matches!(pod_outcome::of(pod), Outcome::Succeeded(_)))
}

fn interval(dataset: &Dataset) -> i64 {
    i64::try_from(dataset.spec.refresh.interval.as_secs()).unwrap_or(i64::MAX).max(60)
}

/// `<dataset>-scan-<slot>-<6 hex>`: the slot is the time divided by the refresh interval, and the suffix tells scans
/// of other sources or on other requests in the same slot apart.
fn name(observed: &Observed<DatasetIntent>, now: Timestamp) -> String {
    let slot = now.as_second().div_euclid(interval(&observed.object));
    let request = observed.annotation(labels::REFRESH_REQUESTED_AT);
    let asked = Digest::of_bytes(json!([source_digest(&observed.object), request]).to_string().as_bytes());
    format!("{}-scan-{slot}-{}", observed.object.name_any(), asked.short(6))
}

fn slot_end(dataset: &Dataset, now: Timestamp) -> Timestamp {
    let interval = interval(dataset);
    Timestamp::from_second((now.as_second().div_euclid(interval) + 1).saturating_mul(interval))
        .unwrap_or(Timestamp::MAX)
}

fn create(observed: &Observed<DatasetIntent>, name: String) -> Option<Create> {
    let spec = &observed.object.spec;
    let objects = spec.source.objects.as_ref()?;
    let source = usable_store(&observed.related, &objects.store).ok()?;
    let output = usable_store(&observed.related, &spec.store).ok()?;
    let mut meta = observed.child(name, "scan");
    meta.labels
        .get_or_insert_default()
        .insert(labels::DIGEST.to_owned(), source_digest(&observed.object).short(63).to_owned());
    let subject = Subject {
        kind: "Dataset".to_owned(),
        namespace: observed.key().namespace,
        name: observed.key().name,
        uid: observed.object.uid().unwrap_or_default(),
        attempt: 1,
    };
    let work = Work::Scan(ScanWork {
        source: pod::store(source),
        prefix: objects.prefix.clone(),
        include: objects.include.clone(),
        output: pod::store(output),
    });
    let resources = Resources { cpu: "50m".to_owned(), memory: "128Mi".to_owned(), gpu: 0 };
    let pod = pod::Builder::once(meta)
        .task(&Task { subject, work })
        .keys(source)
        .keys(output)
        .scratch("tmp", Some("1Gi"), false)
        .container(container::worker(&observed.worker_image, &[], &[source, output], &resources))
        .build();
    Some(Create::of(&pod, "it is time to look at the source"))
}

/// Takes news of the scans into the status that the plan reports.
fn remember(observed: &Observed<DatasetIntent>, plan: &mut Plan<IntentStatus>, now: Timestamp) {
    let before = observed.object.status.clone().unwrap_or_default();
    let mut status = plan.status.clone().unwrap_or_else(|| before.clone());
    // A listing that starts a run is recorded in the run; the status follows when the run has ended.
    let is_news = |scan: &Scan| {
        status
            .scan
            .as_ref()
            .is_none_or(|known| known.digest != scan.digest || known.source_digest != scan.source_digest)
    };
    if let Some(scan) =
        seen(observed).filter(|scan| plan.creates.is_empty() && plan.status.is_some() && is_news(scan))
    {
        status.scan = Some(scan);
    }
    if let Some((_, failure)) = failure(observed).filter(|_| !has_succeeded(observed, &name(observed, now))) {
        let message = format!("looking at the source failed: {}", failure.message);
        let generation = observed.object.metadata.generation.unwrap_or_default();
        // Start from what was reported, not from what the intent has just put there: the transition time must stay.
        status.conditions.retain(|c| c.type_ != condition_type::UP_TO_DATE);
        status.conditions.extend(condition::get(&before.conditions, condition_type::UP_TO_DATE).cloned());
        Conditions::new(&mut status.conditions, generation, now).set(
            condition_type::UP_TO_DATE,
            ConditionStatus::Unknown,
            Reason::ScanFailing,
            &message,
        );
    }
    plan.status = (status != before).then_some(status);
}

/// Keeps the newest success and the newest failure; earlier scans go.
fn tidy(observed: &Observed<DatasetIntent>, plan: Plan<IntentStatus>) -> Plan<IntentStatus> {
    let mut ended: Vec<_> = scans(observed)
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| match pod_outcome::of(pod) {
            Outcome::Succeeded(_) => Some((true, pod_outcome::ended_at(pod), pod)),
            Outcome::Failed(_) => Some((false, pod_outcome::ended_at(pod), pod)),
            _ => None,
        })
        .collect();
    ended.sort_by_key(|(_, at, pod)| std::cmp::Reverse((*at, pod.name_any())));
    let superseded = [true, false]
        .into_iter()
        .flat_map(|success| ended.iter().filter(move |(s, _, _)| *s == success).skip(1));
    superseded.fold(plan, |plan, (_, _, pod)| plan.delete(pod.as_ref(), "a newer scan has ended"))
}
