//! Situations for tests of decisions, and the plans in them. Operators use them with the feature `testing`.
//!
//! A test is a table: each row is a situation in words, the situation as a [`Situation`], and its plan in one line.
//! [`check`] compares, and reconciles every row a second time: that must write nothing.
//!
//! [`IntentCase`] is a situation of an intent, [`RunCase`] one of a run. Inputs ([`ready`], [`missing`], ...) and pods
//! ([`running`], [`terminated`], ...) come in the states that matter. [`golden`] is a created object as a text to compare
//! with a file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test ends where it fails"
)]

mod golden;
mod inputs;
mod intent_case;
#[cfg(test)]
mod kinds;
mod pods;
mod run_case;
mod runs;
mod situation;

pub use golden::{golden, live};
pub use inputs::{because, dataset, descendant, failed, input, missing, of_kind, outdated, ready, version};
pub use intent_case::IntentCase;
#[cfg(test)]
pub(crate) use kinds::{Forecast, ForecastContent, ForecastRun, ForecastRunSpec, ForecastSpec, TestLineage};
pub use pods::{held_up, pod_of, running, scheduled, terminated, worker_of};
pub use run_case::{RunCase, store};
pub use runs::{active, dead, finish, refused, repeated, retrying, succeeded, without_image};
pub use situation::{Situation, as_written, check};

use crate::{
    children::profile::Profile,
    condition::{ConditionStatus, Conditions},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt, core::object::HasStatus};
use mlop_api::{Reason, contract::condition_type, profile::PodProfile, status::ConnectionStatus};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Seconds since the epoch at which decisions are made, unless a test says otherwise.
pub const NOW: i64 = 1_000_000;
/// The namespace of all objects.
pub const NS: &str = "default";

/// The time of this second.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The time of this second as Kubernetes writes it.
pub fn time(second: i64) -> Time {
    Time(at(second))
}

/// An object with this name and spec that was just created.
pub fn object<K: Resource<DynamicType = ()> + DeserializeOwned>(name: &str, spec: &Value) -> K {
    let object = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "namespace": NS, "uid": format!("{name}-uid"), "generation": 1},
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// The profile of an object whose `spec.profile` is `name`, from the PodProfiles of its namespace.
pub(crate) fn profile(all: &[PodProfile], name: Option<&str>) -> Profile {
    let found = all.iter().find(|profile| profile.name_any() == Profile::name_of(name));
    Profile::new(name, found)
}

/// The connection `object` with its servers ready at `address`.
#[must_use]
pub fn connected<K: HasStatus<Status = ConnectionStatus>>(mut object: K, address: &str) -> K {
    let status = object.status_mut().get_or_insert_default();
    status.address = Some(address.to_owned());
    let mut conditions = Conditions::new(&mut status.conditions, 1, at(NOW));
    conditions.set(condition_type::READY, ConditionStatus::True, Reason::Ready, "ready");
    object
}

/// Counts an edit of the spec, as the API server does.
pub(crate) fn count_edit(meta: &mut ObjectMeta) {
    meta.generation = meta.generation.map(|generation| generation + 1);
}

/// `object` as the API server returns it after its creation at `now`.
pub fn created<K: DeserializeOwned>(mut object: Value, now: Timestamp) -> K {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    object["metadata"]["uid"] = json!(format!("{name}-uid"));
    object["metadata"]["generation"] = json!(1);
    object["metadata"]["creationTimestamp"] = json!(Time(now));
    if matches!(object["kind"].as_str(), Some("Pod" | "Job")) {
        object["status"] = json!({});
    }
    serde_json::from_value(object).unwrap()
}
