//! Errands: small pods that look at an external system or change it. Probes, scans and clean-ups are errands.
//!
//! All of them follow one policy. [`Errand::decide`] derives it from the pods alone, without a client or a clock:
//!
//! 1. An errand asks a question. An answer to another question, such as one about an earlier spec, does not count.
//! 2. No pod starts while a connection that it needs is not ready ([`Errand::waits_for`]), or its PodProfile is missing.
//! 3. An answer holds until the interval is over or a user requests another one.
//! 4. A failed pod is repeated with delays that grow to five minutes. A failure that only a user can mend is reported
//!    as stalled, and repeated too: the user may mend it in the external system.
//! 5. A pod that does not start within [`START_TIMEOUT`], exceeds its deadline or is lost has failed. Time in which no
//!    node has room does not count.
//! 6. A pod that has not started and differs from the wanted one is replaced at once: the image after an upgrade, a
//!    corrected Secret's name.
//!
//! The pods are the only memory. Each one carries the number of its attempt and the failure before it.
//!
//! # Example
//!
//! The reconciler of a connection builds the errand, asks for a decision, and reports it:
//!
//! ```
//! use jiff::{SignedDuration, Timestamp};
//! use k8s_openapi::api::core::v1::Pod;
//! use mlop_api::{Digest, dataset::ObjectStore, task::Work};
//! use mlop_core::{Plan, children::{container, pod, profile::Profile}, errand::{Errand, Limits, report_connection}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store: ObjectStore = serde_json::from_value(serde_json::json!({
//!     "apiVersion": "mlop.dev/v1alpha1",
//!     "kind": "ObjectStore",
//!     "metadata": {"name": "files", "namespace": "default", "uid": "1", "generation": 1},
//!     "spec": {"endpoint": "https://s3.example.com", "bucket": "files"},
//! }))?;
//! let pods = Vec::new(); // those of the cache whose labels name the store
//! let errand = Errand {
//!     owner: &store,
//!     role: "probe",
//!     operator: "mlop-ingestion",
//!     pods: &pods,
//!     question: Digest::of_json(&store.spec)?,
//!     request: None,
//!     interval: Some(SignedDuration::from_mins(10)),
//!     limits: Limits { deadline: SignedDuration::from_mins(5), deadline_field: None, memory_field: None },
//!     profile: &Profile::default(),
//!     waits_for: None,
//! };
//! let work = Work::Probe { store: pod::store(&store), read_only: false };
//! let build = |builder: pod::Builder| {
//!     builder.keys(&store).scratch("tmp", None, false).container(container::worker(
//!         "worker:1",
//!         &[],
//!         &[&store],
//!         &Default::default(),
//!     ))
//! };
//! let now = Timestamp::UNIX_EPOCH;
//! let decision = errand.decide(work, build, now);
//! let address = store.spec.endpoint.clone();
//! let plan = report_connection(&store, store.status.as_ref(), address, &decision, "the bucket can be read", now);
//! let plan = decision.carry_out(plan);
//! assert!(plan.creates[0].object["metadata"]["name"].as_str().unwrap().starts_with("files-probe-"));
//! assert_eq!(plan.status.unwrap().conditions[0].reason, "Probing");
//! # Ok(())
//! # }
//! ```

mod decide;
mod limits;
mod report;
#[cfg(test)]
mod tests;

use crate::{
    Blocked,
    children::profile::Profile,
    plan::{Action, Create, Delete, Plan},
    resource::PodView,
};
use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use mlop_api::{
    Digest, Reason, labels,
    result::{Failure, ResultDocument, UNNAMED_SECRET},
};
use std::sync::Arc;

pub(crate) use decide::{attempt, failure_before, pause, remember_failure, template};
pub use limits::{Limits, PodState, START_TIMEOUT};
pub use report::{Trouble, report_connection};

/// Time from one probe of a connection to the next.
pub(crate) const PROBE_INTERVAL: SignedDuration = SignedDuration::from_mins(10);

/// One question to an external system, or one change of it.
pub struct Errand<'a, K: Resource> {
    /// The object that it is for.
    pub owner: &'a K,
    /// The pods' role: `probe`, `scan` or `cleanup`. It is a part of their names.
    pub role: &'static str,
    /// Name of the operator.
    pub operator: &'a str,
    /// Pods of the owner. Those of other roles are ignored.
    pub pods: &'a [Arc<PodView>],
    /// Digest of the question. Answers to other questions do not count, and their pods are deleted.
    pub question: Digest,
    /// A user's request, such as an annotation's value. A new value asks again at once.
    pub request: Option<String>,
    /// Time after which the question is asked again; none: one answer is enough.
    pub interval: Option<SignedDuration>,
    pub limits: Limits,
    /// The profile of its pods.
    pub profile: &'a Profile,
    /// The reason that no pod may start now, such as a connection that is not ready.
    pub waits_for: Option<Blocked>,
}

impl<'a, K: Resource> Errand<'a, K> {
    /// A probe of the connection `owner` for as long as `deadline`. It is repeated every ten minutes, and at once when a
    /// user asks for a retry.
    pub fn probe(
        owner: &'a K,
        operator: &'a str,
        pods: &'a [Arc<PodView>],
        question: Digest,
        deadline: SignedDuration,
        profile: &'a Profile,
    ) -> Self {
        let annotations = owner.meta().annotations.as_ref();
        Self {
            owner,
            role: "probe",
            operator,
            pods,
            question,
            request: annotations.and_then(|all| all.get(labels::RETRY_REQUESTED_AT)).cloned(),
            interval: Some(PROBE_INTERVAL),
            limits: Limits { deadline, deadline_field: None, memory_field: None },
            profile,
            waits_for: None,
        }
    }
}

/// The state of an errand.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// A pod is due but must not start.
    Blocked(Blocked),
    /// A pod is on its way: what holds it up, and the failure of the attempt before.
    Active { attempt: u32, held_up: Option<(Reason, String)>, last: Option<Failure> },
    /// The newest pod has succeeded, and no other one is due.
    Answered,
    /// The newest pod has failed. The next one starts at `next`. `disrupted`: the platform ended it, and the attempts
    /// before it have not failed either.
    Failed { attempt: u32, failure: Failure, disrupted: bool, next: Timestamp },
}

/// The newest success.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub result: ResultDocument,
    /// When its pod ended.
    pub at: Option<Timestamp>,
}

/// The state of an errand and the writes that carry it on.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub state: State,
    /// The newest answer to the present question. It stays while the question is asked again.
    pub answer: Option<Answer>,
    pub create: Option<Create>,
    pub deletes: Vec<Delete>,
    pub action: Action,
}

impl Decision {
    /// A decision without any write.
    fn of(state: State) -> Self {
        Self { state, answer: None, create: None, deletes: Vec::new(), action: Action::AwaitChange }
    }

    /// Names `secret` in the failure of a worker that lacks a key. A worker knows the keys of its Secret only.
    #[must_use]
    pub fn naming_secret(mut self, secret: Option<&str>) -> Self {
        let failure = match &mut self.state {
            State::Failed { failure, .. } | State::Active { last: Some(failure), .. } => failure,
            _ => return self,
        };
        if let Some(name) = secret {
            failure.message = failure.message.replace(UNNAMED_SECRET, &format!("its Secret {name}"));
        }
        self
    }

    /// Adds the decision's writes to `plan`.
    pub fn carry_out<S>(self, plan: Plan<S>) -> Plan<S> {
        let mut plan = plan.with_action(self.action);
        plan.creates.extend(self.create);
        plan.deletes.extend(self.deletes);
        plan
    }
}
