//! Scans of a Dataset's source: an errand that is repeated at every `refresh.interval`.
//!
//! The newest pod that succeeded keeps the listing. The status takes it over only if it is a new one: a scan of unchanged
//! data writes nothing but the pod.

use crate::object_store::Stores;
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Digest, Reason,
    common::Resources,
    contract::condition_type,
    dataset::{Dataset, ObjectStore},
    labels,
    status::{IntentStatus, Scan},
    task::{ScanWork, Store, Work},
};
use mlop_core::{
    Blocked, Plan,
    children::{connection, container, pod, profile::Profile},
    condition::{self, ConditionStatus, Conditions},
    errand::{Decision, Errand, Limits, Trouble},
    resource::PodView,
};
use serde_json::json;
use std::sync::Arc;

/// Shortest time between two scans, in seconds.
const INTERVAL_MIN: i64 = 60;

/// Longest time of a scan in seconds, also if a version may take longer: a listing of millions of objects ends earlier.
const DEADLINE_MAX: i64 = 7_200;

/// The scans of one Dataset.
pub struct Scans<'a> {
    pub dataset: &'a Dataset,
    /// All pods of the Dataset.
    pub pods: &'a [Arc<PodView>],
    pub stores: &'a Stores,
    /// The profile of its pods.
    pub profile: &'a Profile,
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
        self.errand().answer()?.at
    }

    /// The reason that there is no listing yet. [`add`](Self::add) says what holds the scan up.
    pub fn hold(&self) -> Blocked {
        if self.dataset.spec.suspend {
            let message = "the source has not been looked at, because spec.suspend is true";
            return Blocked::waiting(Reason::Suspended, message);
        }
        Blocked::waiting(Reason::Scanning, "the source is being looked at for the first time")
    }

    /// Adds to `plan` the next pod, the removal of old ones, and the changes of the status.
    pub fn add(&self, plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        if self.dataset.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        let decision = self.decide(now);
        let before = self.dataset.status.clone().unwrap_or_default();
        let mut status = plan.status.clone().unwrap_or_else(|| before.clone());
        // A listing that starts a run is recorded in the run; the status follows when the run has ended.
        if plan.creates.is_empty() && plan.status.is_some() {
            status.scan = self.seen().or(status.scan);
        }
        // Suspension is the user's wish and not a problem of the listing that is in use.
        if let Some(trouble) =
            decision.trouble().filter(|trouble| trouble.blocked.reason != Reason::Suspended)
        {
            self.report(&mut status, &before, &trouble, now);
        }
        // A version is published first: the refusal of a scan's pod would hold it up.
        let is_publishing = status.artifact != before.artifact;
        let plan = plan.with_status(status, Some(&before));
        if is_publishing { plan } else { decision.carry_out(plan) }
    }

    /// Reports that the source cannot be looked at.
    fn report(&self, status: &mut IntentStatus, before: &IntentStatus, trouble: &Trouble, now: Timestamp) {
        let has_listing = self.newest().is_some();
        // Start from the reported conditions, not from those of the plan: the transition times must stay.
        let kinds: &[_] = match has_listing {
            true => &[condition_type::UP_TO_DATE],
            false => &[
                condition_type::READY,
                condition_type::UP_TO_DATE,
                condition_type::RECONCILING,
                condition_type::STALLED,
            ],
        };
        for kind in kinds {
            status.conditions.retain(|c| c.type_ != *kind);
            status.conditions.extend(condition::get(&before.conditions, kind).cloned());
        }
        let Trouble { blocked, message, failed } = trouble;
        let (reason, words) = match (has_listing, *failed) {
            (true, true) => (Reason::ScanFailing, "looking at the source failed: "),
            (true, false) => (blocked.reason, "the source cannot be looked at: "),
            (false, _) => (blocked.reason, ""),
        };
        let problem = Blocked { reason, message: format!("{words}{}", blocked.message), ..blocked.clone() };
        let cause = problem.cause(&Dataset::kind(&()), &self.dataset.name_any());
        // A problem of the version in the making is told again when the source can be looked at.
        status.cause = cause.or(status.cause.take());
        let message = format!("{words}{message}");
        let generation = self.dataset.metadata.generation.unwrap_or_default();
        let mut conditions = Conditions::new(&mut status.conditions, generation, now);
        conditions.set(condition_type::UP_TO_DATE, ConditionStatus::Unknown, reason, &message);
        if has_listing {
            return;
        }
        let ready = if blocked.stalled { ConditionStatus::False } else { ConditionStatus::Unknown };
        conditions.set(condition_type::READY, ready, reason, &message);
        if blocked.stalled {
            conditions.stalled(reason, &message);
        } else {
            conditions.reconciling(reason, &message);
        }
    }

    /// The newest listing of the present source, from its pod or from the status.
    fn seen(&self) -> Option<Scan> {
        let source = source_digest(self.dataset);
        let from_pod = self.errand().answer().and_then(|answer| {
            Some(Scan {
                digest: answer.result.digest?,
                store: self.dataset.spec.source.objects.as_ref()?.store.clone(),
                source_digest: source.clone(),
                summary: answer.result.summary,
            })
        });
        let recorded =
            || self.dataset.status.as_ref()?.scan.clone().filter(|scan| scan.source_digest == source);
        from_pod.or_else(recorded)
    }

    /// The newest version that could not be made because an object changed after the scan. It asks for another scan.
    fn changed_meanwhile(&self) -> Option<&str> {
        let dead = &self.dataset.status.as_ref()?.dead_letters;
        let changed = dead.iter().find(|letter| letter.reason == Reason::SourceChanged.as_str())?;
        Some(&changed.run)
    }

    fn errand(&self) -> Errand<'_, Dataset> {
        let spec = &self.dataset.spec;
        let asked = [labels::REFRESH_REQUESTED_AT, labels::RETRY_REQUESTED_AT];
        let asked = asked.iter().filter_map(|name| self.dataset.annotations().get(*name).cloned());
        let asked = asked.chain(self.changed_meanwhile().map(str::to_owned));
        let interval = i64::try_from(spec.refresh.interval.as_secs()).unwrap_or(i64::MAX);
        let deadline = i64::try_from(spec.deadline.as_secs()).unwrap_or(i64::MAX);
        Errand {
            owner: self.dataset,
            role: "scan",
            operator: self.operator,
            pods: self.pods,
            question: source_digest(self.dataset),
            request: Some(asked.collect::<Vec<_>>().join(" ")),
            interval: Some(SignedDuration::from_secs(interval.max(INTERVAL_MIN))),
            limits: Limits {
                deadline: SignedDuration::from_secs(deadline.min(DEADLINE_MAX)),
                deadline_field: Some("spec.deadline"),
                memory_field: None,
            },
            profile: self.profile,
            waits_for: self.connected().err(),
        }
    }

    /// Whether the stores that a scan reads and writes are ready.
    fn connected(&self) -> Result<(), Blocked> {
        let spec = &self.dataset.spec;
        if spec.suspend {
            return Err(self.hold());
        }
        let source = spec.source.objects.as_ref().map_or(&spec.store, |objects| &objects.store);
        connection::ready(connection::named(self.stores, source)?)?;
        connection::writable(connection::named(self.stores, &spec.store)?)?;
        Ok(())
    }

    fn decide(&self, now: Timestamp) -> Decision {
        let spec = &self.dataset.spec;
        let objects = spec.source.objects.as_ref();
        let source = objects.and_then(|objects| self.stores.get(&objects.store)).map(Arc::as_ref);
        let output = self.stores.get(&spec.store).map(Arc::as_ref);
        let address = |store: Option<&ObjectStore>| store.map_or_else(Store::default, pod::store);
        let work = Work::Scan(ScanWork {
            source: address(source),
            prefix: objects.map(|objects| objects.prefix.clone()).unwrap_or_default(),
            include: objects.map(|objects| objects.include.clone()).unwrap_or_default(),
            output: address(output),
        });
        let stores: Vec<&ObjectStore> = source.into_iter().chain(output).collect();
        let resources = Resources::small(128);
        let build = |builder: pod::Builder| {
            stores
                .iter()
                .fold(builder, |builder, store| builder.keys(store))
                .scratch("tmp", Some("1Gi"), false)
                .container(container::worker(self.worker_image, &[], &stores, &resources))
        };
        self.errand().decide(work, build, now)
    }
}

/// Digest of the source: earlier scans are worthless after an edit of it.
fn source_digest(dataset: &Dataset) -> Digest {
    Digest::of_bytes(
        json!({"objects": dataset.spec.source.objects, "store": dataset.spec.store}).to_string().as_bytes(),
    )
}
