//! Scans of a Dataset's source: one pod per time slot.
//!
//! The newest pod that succeeded keeps the listing. The status takes it over only if it is a new one: a scan of unchanged
//! data writes nothing but the pod.

use crate::object_store::{Stores, usable_store};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
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
    Blocked, Key, Plan,
    children::{
        container, meta, pod,
        pod_outcome::{self, Outcome},
    },
    condition::{self, ConditionStatus, Conditions},
    plan::Create,
    resource::PodView,
};
use serde_json::json;
use std::sync::Arc;

/// Pause before a failed scan is repeated.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// The role of a pod that scans.
const ROLE: &str = "scan";

/// The scans of one Dataset.
pub struct Scans<'a> {
    pub dataset: &'a Dataset,
    /// All pods of the Dataset.
    pub pods: &'a [Arc<PodView>],
    pub stores: &'a Stores,
    /// Name of the operator.
    pub operator: &'a str,
    pub worker_image: &'a str,
}

impl Scans<'_> {
    /// The digest of the listing that the newest successful scan of the present source made.
    pub fn newest(&self) -> Option<Digest> {
        self.seen().map(|scan| scan.digest)
    }

    /// Time at which that scan ended, while its pod exists.
    pub fn newest_at(&self) -> Option<Timestamp> {
        self.newest_success(&source_digest(self.dataset))?.0
    }

    /// The reason that there is no listing yet.
    pub fn hold(&self) -> Blocked {
        match self.failure() {
            Some((_, failure)) => {
                Blocked { reason: failure.reason, message: failure.message, stalled: false }
            }
            None => Blocked {
                reason: Reason::Scanning,
                message: "the source is being looked at for the first time".to_owned(),
                stalled: false,
            },
        }
    }

    /// Adds to `plan` the next pod, the removal of old ones, and the changes of the status.
    pub fn add(&self, mut plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        if self.dataset.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        self.remember(&mut plan, now);
        plan = self.tidy(plan);
        if self.dataset.spec.suspend {
            return plan;
        }
        let wanted = self.name(now);
        let plan = plan.requeue_at(Slot::at(self.dataset, now).end);
        let mut scans = self.all();
        if scans.clone().any(|pod| matches!(pod_outcome::of(pod), Outcome::Running | Outcome::Starting(_))) {
            return plan;
        }
        match scans.find(|pod| pod.name_any() == wanted).map(|pod| (pod, pod_outcome::of(pod))) {
            None => match self.create(wanted) {
                Some(create) => {
                    Plan { creates: plan.creates.iter().cloned().chain([create]).collect(), ..plan }
                }
                None => plan,
            },
            Some((pod, Outcome::Failed(_))) => {
                let due = pod_outcome::ended_at(pod).and_then(|at| at.checked_add(RETRY).ok()).unwrap_or(now);
                if due <= now {
                    plan.delete(pod.as_ref(), "the scan is repeated")
                } else {
                    plan.requeue_at(due)
                }
            }
            Some(_) => plan,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<PodView>> + Clone {
        self.pods.iter().filter(|pod| pod.labels().get(labels::ROLE).is_some_and(|role| role == ROLE))
    }

    /// The result of the newest successful scan of `source`, and the time at which it ended.
    fn newest_success(&self, source: &Digest) -> Option<(Option<Timestamp>, ResultDocument)> {
        let succeeded =
            self.all().filter(|pod| belongs(pod, source)).filter_map(|pod| match pod_outcome::of(pod) {
                Outcome::Succeeded(result) => Some((pod_outcome::ended_at(pod), pod, result)),
                _ => None,
            });
        let newest = succeeded.max_by_key(|(at, pod, _)| (*at, pod.name_any()));
        newest.map(|(at, _, result)| (at, *result))
    }

    fn seen(&self) -> Option<Scan> {
        let source = source_digest(self.dataset);
        let from_pod = self.newest_success(&source).and_then(|(_, result)| {
            Some(Scan {
                digest: result.digest?,
                store: self.dataset.spec.source.objects.as_ref()?.store.clone(),
                source_digest: source.clone(),
                summary: result.summary,
            })
        });
        let recorded =
            || self.dataset.status.as_ref()?.scan.clone().filter(|scan| scan.source_digest == source);
        from_pod.or_else(recorded)
    }

    /// The newest scan of the present source, if it failed.
    fn failure(&self) -> Option<(Timestamp, Failure)> {
        let source = source_digest(self.dataset);
        let ended =
            self.all().filter(|pod| belongs(pod, &source)).filter_map(|pod| match pod_outcome::of(pod) {
                Outcome::Succeeded(_) => Some((pod_outcome::ended_at(pod)?, None)),
                Outcome::Failed(ended) => Some((pod_outcome::ended_at(pod)?, Some(ended.failure))),
                _ => None,
            });
        let (at, failure) = ended.max_by_key(|(at, _)| *at)?;
        failure.map(|failure| (at, failure))
    }

    /// Whether the wanted scan has succeeded: an earlier failure does not matter then.
    fn has_succeeded(&self, wanted: &str) -> bool {
        let mut wanted = self.all().filter(|pod| pod.name_any() == wanted);
        wanted.any(|pod| matches!(pod_outcome::of(pod), Outcome::Succeeded(_)))
    }

    /// `<dataset>-scan-<slot>-<6 hex>`: the slot is the time divided by the refresh interval, and the suffix tells scans
    /// of other sources or on other requests in the same slot apart.
    fn name(&self, now: Timestamp) -> String {
        let slot = Slot::at(self.dataset, now).number;
        let request = self.dataset.annotations().get(labels::REFRESH_REQUESTED_AT);
        let asked = match self.changed_meanwhile() {
            None => json!([source_digest(self.dataset), request]),
            Some(run) => json!([source_digest(self.dataset), request, run]),
        };
        let asked = Digest::of_bytes(asked.to_string().as_bytes());
        format!("{}-scan-{slot}-{}", self.dataset.name_any(), asked.short(6))
    }

    /// The newest version that could not be made because an object changed after the scan. It asks for another scan.
    fn changed_meanwhile(&self) -> Option<&str> {
        let dead = &self.dataset.status.as_ref()?.dead_letters;
        let changed = dead.iter().find(|letter| letter.reason == Reason::SourceChanged.as_str())?;
        Some(&changed.run)
    }

    fn create(&self, name: String) -> Option<Create> {
        let spec = &self.dataset.spec;
        let objects = spec.source.objects.as_ref()?;
        let source = usable_store(self.stores, &objects.store).ok()?;
        let output = usable_store(self.stores, &spec.store).ok()?;
        let mut meta =
            meta::child_meta(self.dataset, name, meta::child_labels(self.dataset, self.operator, ROLE));
        let key = Key::of(&self.dataset.metadata);
        meta.labels
            .get_or_insert_default()
            .insert(labels::DIGEST.to_owned(), source_digest(self.dataset).short(63).to_owned());
        let subject = Subject {
            kind: Dataset::kind(&()).into_owned(),
            namespace: key.namespace,
            name: key.name,
            uid: self.dataset.uid().unwrap_or_default(),
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
            .container(container::worker(self.worker_image, &[], &[source, output], &resources))
            .build();
        Some(Create::of(&pod, "it is time to look at the source"))
    }

    /// Records new results of the scans in the status that the plan reports.
    fn remember(&self, plan: &mut Plan<IntentStatus>, now: Timestamp) {
        let before = self.dataset.status.clone().unwrap_or_default();
        let mut status = plan.status.clone().unwrap_or_else(|| before.clone());
        // A listing that starts a run is recorded in the run; the status follows when the run has ended.
        let is_news = |scan: &Scan| {
            status
                .scan
                .as_ref()
                .is_none_or(|known| known.digest != scan.digest || known.source_digest != scan.source_digest)
        };
        if let Some(scan) =
            self.seen().filter(|scan| plan.creates.is_empty() && plan.status.is_some() && is_news(scan))
        {
            status.scan = Some(scan);
        }
        if let Some((_, failure)) = self.failure().filter(|_| !self.has_succeeded(&self.name(now))) {
            let message = format!("looking at the source failed: {}", failure.message);
            let generation = self.dataset.metadata.generation.unwrap_or_default();
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

    /// Deletes all ended scans but the newest success and the newest failure.
    fn tidy(&self, plan: Plan<IntentStatus>) -> Plan<IntentStatus> {
        let mut ended: Vec<_> = self
            .all()
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
}

/// Digest of the source: earlier scans are worthless after an edit of it.
fn source_digest(dataset: &Dataset) -> Digest {
    Digest::of_bytes(
        json!({"objects": dataset.spec.source.objects, "store": dataset.spec.store}).to_string().as_bytes(),
    )
}

fn belongs(pod: &PodView, source: &Digest) -> bool {
    pod.labels().get(labels::DIGEST).is_some_and(|digest| digest == source.short(63))
}

/// A period in which a Dataset's source is looked at once.
struct Slot {
    number: i64,
    end: Timestamp,
}

impl Slot {
    /// The slot of `now`. The uid shifts the slots of a Dataset, so that Datasets with the same interval are not all
    /// scanned in the same second.
    fn at(dataset: &Dataset, now: Timestamp) -> Self {
        let interval = i64::try_from(dataset.spec.refresh.interval.as_secs()).unwrap_or(i64::MAX).max(60);
        let hash = Digest::of_bytes(dataset.uid().unwrap_or_default().as_bytes());
        let shift = i64::from_str_radix(hash.short(15), 16).unwrap_or_default() % interval;
        let number = now.as_second().saturating_add(shift).div_euclid(interval);
        let end = (number + 1).saturating_mul(interval) - shift;
        Self { number, end: Timestamp::from_second(end).unwrap_or(Timestamp::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hourly(uid: usize) -> Dataset {
        serde_json::from_value(json!({
            "apiVersion": "mlop.dev/v1alpha1",
            "kind": "Dataset",
            "metadata": {"name": "a", "uid": uid.to_string()},
            "spec": {
                "source": {"objects": {"store": "raw", "prefix": "a/"}, "format": {"csv": {}}},
                "columns": [{"name": "x", "type": "string"}],
                "refresh": {"interval": "1h"},
                "store": "mlop",
            },
        }))
        .unwrap()
    }

    #[test]
    fn scans_of_equal_intervals_are_spread_over_the_interval() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ends: Vec<_> = (0..1000).map(|uid| Slot::at(&hourly(uid), now).end).collect();
        let hour = now..=now + SignedDuration::from_hours(1);
        assert!(ends.iter().all(|end| hour.contains(end)));
        let minutes: BTreeSet<i64> = ends.iter().map(|end| end.as_second() / 60).collect();
        assert!(minutes.len() >= 60, "scans in {} minutes of the hour", minutes.len());
    }

    #[test]
    fn slots_of_a_dataset_follow_each_other_at_its_interval() {
        let dataset = hourly(7);
        let first = Slot::at(&dataset, Timestamp::from_second(1_800_000_000).unwrap());
        let just_before = Slot::at(&dataset, first.end - SignedDuration::from_secs(1));
        let next = Slot::at(&dataset, first.end);
        assert_eq!(just_before.number, first.number);
        assert_eq!(
            (next.number, next.end.duration_since(first.end)),
            (first.number + 1, SignedDuration::from_hours(1))
        );
    }
}
