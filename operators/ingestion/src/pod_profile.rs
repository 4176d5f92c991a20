//! `PodProfile`: whether the API server accepts pods that it completes.
//!
//! The API server judges a sample of each section without creating it. That happens once per edit; a refusal is judged
//! again with the delays of a failed reconcile.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use mlop_api::{
    Reason,
    common::Resources,
    contract::condition_type,
    labels,
    profile::{PodFragment, PodProfile},
    status::PolicyStatus,
};
use mlop_core::{
    Blocked, Context, Error, Plan, Reconciler,
    children::{container, meta, pod, profile::Profile},
    condition::{self, ConditionStatus, Conditions},
    plan::Create,
};
use std::sync::Arc;

/// Longest summary, in bytes.
const SUMMARY_BYTES_MAX: usize = 256;

pub struct PodProfileReconciler;

pub struct Observed {
    pub object: Arc<PodProfile>,
    pub operator: String,
    pub worker_image: String,
}

impl Reconciler for PodProfileReconciler {
    type Resource = PodProfile;
    type Status = PolicyStatus;
    type Observed = Observed;

    async fn observe(&self, cx: &Context, object: Arc<PodProfile>) -> Result<Observed, Error> {
        let operator = cx.settings.operator.clone();
        Ok(Observed { object, operator, worker_image: cx.settings.worker_image.clone() })
    }

    fn plan(observed: &Observed, now: Timestamp) -> Plan<PolicyStatus> {
        let object = observed.object.as_ref();
        if object.metadata.deletion_timestamp.is_some() {
            return Plan::idle();
        }
        let generation = object.metadata.generation.unwrap_or_default();
        let mut status = object.status.clone().unwrap_or_default();
        let is_seen = status.observed_generation == Some(generation);
        let is_accepted = is_seen && condition::is_true(&status.conditions, condition_type::READY);
        status.observed_generation = Some(generation);
        status.summary = Some(summary(object));
        let mut conditions = Conditions::new(&mut status.conditions, generation, now);
        let profile = Profile::new(None, Some(object));
        if let Err(Blocked { reason, message, .. }) = profile.check() {
            conditions.set(condition_type::READY, ConditionStatus::False, reason, &message);
            conditions.stalled(reason, &message);
            return Plan::report(status);
        }
        if !is_seen {
            // Reported first, so that the reason of a refusal is not hidden by the state before the edit.
            let message = "the API server is asked whether it accepts sample pods";
            conditions.set(condition_type::READY, ConditionStatus::Unknown, Reason::Probing, message);
            conditions.reconciling(Reason::Probing, message);
            return Plan::report(status);
        }
        let message = "the API server accepts sample pods with it";
        conditions.set(condition_type::READY, ConditionStatus::True, Reason::Ready, message);
        conditions.settled();
        let samples = if is_accepted { Vec::new() } else { observed.samples(&profile) };
        Plan { creates: samples, ..Plan::report(status) }
    }
}

impl Observed {
    /// A pod of mlop and one with user code, for the API server to judge.
    fn samples(&self, profile: &Profile) -> Vec<Create> {
        let sample = |section: &str, containers: &[&str]| {
            let name = format!("{}-{section}", self.object.name_any());
            let labels = meta::child_labels(self.object.as_ref(), &self.operator, "sample");
            let builder = pod::Builder::once(meta::child_meta(self.object.as_ref(), name, labels));
            let add = |builder: pod::Builder, name: &&str| builder.container(self.container(name));
            let pod: Pod = profile.complete(containers.iter().fold(builder, add).build());
            Create { dry_run: true, ..Create::of(&pod, "the profile is judged") }
        };
        vec![
            sample("workers", &[labels::WORKER_CONTAINER]),
            sample("user", &[labels::USER_CONTAINER, labels::WORKER_CONTAINER]),
        ]
    }

    fn container(&self, name: &str) -> Container {
        Container {
            name: name.to_owned(),
            image: Some(self.worker_image.clone()),
            resources: Some(container::requirements(&Resources::default())),
            ..Container::default()
        }
    }
}

/// The fields that each section sets.
fn summary(object: &PodProfile) -> String {
    let sections = [("workers", &object.spec.workers), ("user", &object.spec.user)];
    let set = sections.iter().filter(|(_, fragment)| **fragment != PodFragment::default());
    let words: Vec<_> =
        set.map(|(name, fragment)| format!("{name}: {}", fields(fragment).join(", "))).collect();
    condition::truncated(&words.join("; "), SUMMARY_BYTES_MAX)
}

fn fields(fragment: &PodFragment) -> Vec<String> {
    let value = serde_json::to_value(fragment).unwrap_or_default();
    value.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_core::testing::{NOW, at, object};
    use serde_json::{Value, json};

    /// The plans until the first quiet one, in words, if the API server accepts every sample.
    fn words(spec: &Value) -> Vec<String> {
        let mut profile: PodProfile = object("gpu", spec);
        let mut words = Vec::new();
        for second in 0..4 {
            let observed = Observed {
                object: Arc::new(profile.clone()),
                operator: "mlop-test".to_owned(),
                worker_image: "worker".to_owned(),
            };
            let plan = PodProfileReconciler::plan(&observed, at(NOW + second));
            let status = plan.status.unwrap();
            if profile.status.as_ref() == Some(&status) && plan.creates.is_empty() {
                return words;
            }
            let ready = condition::get(&status.conditions, condition_type::READY).unwrap();
            let tries = plan.creates.iter().map(|create| {
                assert!(create.dry_run);
                format!(" try {}", create.object["metadata"]["name"].as_str().unwrap())
            });
            words.push(format!("{}/{}{}", ready.status, ready.reason, tries.collect::<String>()));
            profile.status = Some(status);
        }
        panic!("never quiet: {words:?}")
    }

    #[test]
    fn profile_is_judged_once_per_edit() {
        let rows = [
            ("an empty one", json!({}), vec!["Unknown/Probing", "True/Ready try gpu-workers try gpu-user"]),
            (
                "a field of another type",
                json!({"workers": {"affinity": {"nodeAffinity": 1}}}),
                vec!["False/ProfileInvalid"],
            ),
        ];
        for (situation, spec, want) in rows {
            assert_eq!(words(&spec), want, "{situation}");
        }
    }

    #[test]
    fn summary_names_the_fields_of_each_section() {
        let profile: PodProfile = object(
            "gpu",
            &json!({"workers": {"nodeSelector": {"a": "b"}, "schedulerName": "x"}, "user": {"container": {"env": [{"name": "A"}]}}}),
        );
        assert_eq!(summary(&profile), "workers: nodeSelector, schedulerName; user: container");
    }
}
