//! The status of a ModelDeployment.

use crate::{server, serving::serving};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use mlop_api::{
    Artifact, Reason,
    contract::{Cause, condition_type},
    deployment::ModelDeployment,
    status::{DeploymentStatus, Serving},
};
use mlop_core::{
    Blocked, cause,
    children::rollout,
    condition::{self, ConditionStatus, Conditions},
    inputs::{self, BlockedInput, ReadyInput, UpstreamFailure},
    plan::Event,
    resource::{ChildObject, PodView},
};
use std::sync::Arc;

/// Time from the beginning of a rollout after which its progress alone is worth a write.
const PROGRESS_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// A draft of the next status of one ModelDeployment, with the Events on its changes.
pub struct Draft<'a> {
    object: &'a ModelDeployment,
    deployment: Option<&'a ChildObject>,
    /// The Deployment of the new version in a rollout in steps.
    pub canary: Option<&'a ChildObject>,
    /// Pods that serve.
    pods: &'a [Arc<PodView>],
    pub status: DeploymentStatus,
    pub events: Vec<Event>,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    pub fn new(
        object: &'a ModelDeployment,
        deployment: Option<&'a ChildObject>,
        pods: &'a [Arc<PodView>],
        now: Timestamp,
    ) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let mut draft = Self { object, deployment, canary: None, pods, status, events: Vec::new(), now };
        draft.status.observed_generation = Some(draft.generation());
        draft.status.replicas = deployment.and_then(rollout::replicas_of_all);
        draft.status.selector = Some(server::selector(&object.name_any()));
        draft
    }

    fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }

    fn ready_replicas(&self) -> i32 {
        self.deployment.map_or(0, rollout::ready_replicas)
    }

    fn wanted_replicas(&self) -> i32 {
        self.deployment.and_then(rollout::wanted_replicas).unwrap_or_else(|| self.ready_replicas())
    }

    /// `version` is the published one.
    fn summarize(&mut self, version: &str) {
        let (ready, replicas) = (self.ready_replicas(), self.wanted_replicas());
        self.status.summary = Some(format!("{version} on {ready} of {replicas} pods"));
    }

    /// The published version in words. The status knows it from the time when it was rolled out.
    fn published(&self) -> Option<String> {
        let serving = self.status.serving.first()?;
        let version = serving.version.as_ref().map(|version| format!("version {version}"));
        Some(version.unwrap_or_else(|| serving.model_version.clone()))
    }

    fn label(&self) -> String {
        format!("{} {}", ModelDeployment::kind(&()), self.object.name_any())
    }

    /// When the draft is to be written; none if it equals the present status.
    ///
    /// The number of pods and the versions that they serve change many times in a rollout. They are reported together
    /// with other news, and alone only once the rollout has lasted.
    pub fn due(&self) -> Option<Timestamp> {
        let before = self.object.status.clone().unwrap_or_default();
        if self.status == before {
            return None;
        }
        let (serving, replicas) = (self.status.serving.clone(), self.status.replicas);
        let is_progress = self.status == DeploymentStatus { serving, replicas, ..before };
        let began = condition::get(&self.status.conditions, condition_type::RECONCILING);
        let began = began.filter(|_| is_progress).map(|reconciling| reconciling.last_transition_time.0);
        Some(began.and_then(|began| began.checked_add(PROGRESS_AFTER).ok()).unwrap_or(self.now))
    }

    /// Moves the served artifact to the present generation: the edit of the spec has left its Deployment as it is.
    pub fn keep_artifact(&mut self) {
        let generation = Some(self.generation());
        if let Some(artifact) = &mut self.status.artifact {
            artifact.generation = generation;
        }
    }

    fn conditions(&mut self) -> Conditions<'_> {
        let generation = self.generation();
        Conditions::new(&mut self.status.conditions, generation, self.now)
    }

    fn cause_of(&self, problem: &BlockedInput) -> Option<Cause> {
        problem.cause(&ModelDeployment::kind(&()), &self.object.name_any())
    }

    /// Waits for an object that is missing or not ready.
    pub fn wait(&mut self, blocked: &Blocked) {
        let cause = blocked.cause(&ModelDeployment::kind(&()), &self.object.name_any());
        self.hold(ConditionStatus::Unknown, blocked.reason, &blocked.message, cause);
    }

    fn path(&self, upstream: &UpstreamFailure) -> String {
        inputs::path(&self.label(), &upstream.cause, Some(upstream))
    }

    /// The status and the message of the conditions while the model may not be used.
    fn words(&self, problem: &BlockedInput) -> (ConditionStatus, String) {
        match &problem.upstream {
            Some(upstream) => (upstream.status(), self.path(upstream)),
            None => (ConditionStatus::Unknown, problem.blocked.message.clone()),
        }
    }

    /// Reports whether the model may be served.
    pub fn input(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        match input {
            Ok(_) => self.conditions().set(
                condition_type::INPUTS_READY,
                ConditionStatus::True,
                Reason::InputsReady,
                "the model is usable",
            ),
            Err(problem) => {
                let (is, text) = self.words(problem);
                self.conditions().set(condition_type::INPUTS_READY, is, problem.blocked.reason, &text);
            }
        }
    }

    /// Whether `wanted` is the published version at the present generation.
    pub fn is_published(&self, wanted: &Artifact) -> bool {
        let published = self.status.artifact.as_ref();
        published.is_some_and(|artifact| {
            artifact.digest == wanted.digest && artifact.generation == Some(self.generation())
        })
    }

    /// `wanted` is served, and nothing else is.
    pub fn served(&mut self, wanted: &Artifact, input: &Result<ReadyInput, BlockedInput>) {
        let generation = self.generation();
        let ready = self.ready_replicas();
        let before = self.status.artifact.take();
        let changed = before.as_ref().is_none_or(|artifact| artifact.digest != wanted.digest);
        let revision = before.as_ref().map_or(0, |artifact| artifact.revision) + i64::from(changed);
        let version = match input {
            Ok(usable) => usable.registered.as_ref().map(|registered| registered.version.clone()),
            Err(_) => self.status.serving.first().and_then(|serving| serving.version.clone()),
        };
        let model_version = match (input, self.status.serving.first()) {
            (Err(_), Some(serving)) => serving.model_version.clone(),
            _ => wanted.run.clone(),
        };
        let (parents, ancestors) = match input {
            Ok(usable) => {
                let known = before.as_ref().map_or(&[][..], |known| &known.ancestors);
                let ancestors = inputs::renewed_ancestors(known, std::slice::from_ref(usable));
                (vec![usable.input.record.clone()], ancestors)
            }
            Err(_) => before
                .as_ref()
                .map(|known| (known.inputs.clone(), known.ancestors.clone()))
                .unwrap_or_default(),
        };
        self.status.artifact = Some(Artifact {
            revision,
            generation: Some(generation),
            inputs: parents,
            ancestors,
            run: model_version.clone(),
            produced_at: before
                .filter(|_| !changed)
                .map_or_else(|| self.now.into(), |artifact| artifact.produced_at),
            ..wanted.clone()
        });
        let what =
            version.as_ref().map_or_else(|| model_version.clone(), |version| format!("version {version}"));
        let replicas = self.wanted_replicas();
        self.summarize(&what);
        self.status.serving =
            vec![Serving { digest: wanted.digest.clone(), model_version, version, ready_replicas: ready }];
        self.status.url = Some(server::url(self.object));
        self.conditions().set(
            condition_type::READY,
            ConditionStatus::True,
            Reason::Ready,
            &format!("{what} is served"),
        );
        self.conditions().settled();
        if let Some((reason, message)) = self.trouble().filter(|_| ready < replicas) {
            let message = format!("{ready} of {replicas} pods serve: {message}");
            self.conditions().reconciling(reason, &message);
        }
        if changed {
            let message = format!("{what} is served ({})", wanted.digest);
            self.events.push(Event { warning: false, reason: Reason::Ready, message });
        }
        self.up_to_date(input);
    }

    /// No pod of the published version is ready, although it was rolled out.
    pub fn down(&mut self, published: &Artifact, detail: &str, input: &Result<ReadyInput, BlockedInput>) {
        let starting = || (Reason::Starting, format!("no pod of {} serves: {detail}", published.run));
        let (reason, message) = self.trouble().unwrap_or_else(starting);
        if let Some(version) = self.published() {
            self.summarize(&version);
        }
        self.conditions().set(condition_type::READY, ConditionStatus::False, reason, &message);
        self.conditions().reconciling(reason, &message);
        self.up_to_date(input);
    }

    /// Somebody has given the Deployment another size than the spec, and `replicas` is applied again.
    pub fn size_put_back(&mut self, child: &ChildObject, replicas: i32) {
        let is_known = self.object.status.as_ref().is_some_and(|status| {
            // The first reconcile of an edit applies the new size.
            status.observed_generation == Some(self.generation())
        });
        let found = rollout::wanted_replicas(child).filter(|found| is_known && *found != replicas);
        if let Some(found) = found {
            let message = format!(
                "the Deployment {} had been scaled to {found}, and spec.target.deployment.replicas is {replicas}: \
                 scale the ModelDeployment instead, or leave replicas out for an autoscaler of the Deployment",
                child.name_any()
            );
            self.events.push(Event { warning: true, reason: Reason::Repaired, message });
        }
    }

    /// Others have given the Deployment no pods.
    pub fn scaled_to_zero(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        let message = "the Deployment has no replicas; scale it up";
        if let Some(version) = self.published() {
            self.summarize(&version);
        }
        self.status.serving.clear();
        self.conditions().set(condition_type::READY, ConditionStatus::False, Reason::ScaledToZero, message);
        self.conditions().settled();
        self.up_to_date(input);
    }

    /// Lists the versions that ready pods serve: the published one, and during a rollout the newest one too.
    pub fn list_serving(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        let newest = input.as_ref().ok().map(|usable| Serving {
            digest: usable.artifact.digest.clone(),
            model_version: usable.artifact.run.clone(),
            version: usable.registered.as_ref().map(|registered| registered.version.clone()),
            ready_replicas: 0,
        });
        let known = std::mem::take(&mut self.status.serving);
        let published = self.status.artifact.as_ref().map(|artifact| &artifact.digest);
        let ready = self.ready_replicas() + self.canary.map_or(0, rollout::ready_replicas);
        self.status.serving = serving(known, newest, published, ready, self.pods);
    }

    /// Reports whether the served version is the newest.
    fn up_to_date(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        let upstream = match input {
            Ok(usable) => usable.upstream.as_ref(),
            Err(problem) => problem.upstream.as_ref(),
        };
        self.status.cause = match input {
            Ok(_) => upstream.map(|upstream| upstream.cause.clone()),
            Err(problem) => self.cause_of(problem),
        };
        match (upstream, input) {
            (Some(upstream), _) => {
                let text = self.path(upstream);
                self.conditions().set(
                    condition_type::UP_TO_DATE,
                    upstream.status(),
                    upstream.reason(),
                    &text,
                );
            }
            (None, Ok(_)) => self.conditions().set(
                condition_type::UP_TO_DATE,
                ConditionStatus::True,
                Reason::UpToDate,
                "the newest usable version is served",
            ),
            (None, Err(problem)) => self.conditions().set(
                condition_type::UP_TO_DATE,
                ConditionStatus::Unknown,
                problem.blocked.reason,
                &problem.blocked.message,
            ),
        }
    }

    /// Ready is True while an artifact of this generation is served, also during a rollout.
    fn ready(&mut self, is: ConditionStatus, reason: Reason, message: &str) {
        let generation = self.generation();
        let ready = self.ready_replicas();
        match self
            .status
            .artifact
            .as_ref()
            .filter(|artifact| artifact.generation == Some(generation) && ready > 0)
        {
            Some(artifact) => {
                let message = format!("{} is served", artifact.run);
                self.conditions().set(condition_type::READY, ConditionStatus::True, Reason::Ready, &message);
            }
            None => self.conditions().set(condition_type::READY, is, reason, message),
        }
    }

    /// `wanted` is being rolled out; `trouble` keeps a pod of it from serving.
    pub fn rolling(&mut self, wanted: &Artifact, trouble: Option<(Reason, String)>) {
        self.under_way(format!("{} is being rolled out", wanted.run), trouble);
    }

    /// A rollout whose state is `words`; `trouble` holds it up.
    pub fn under_way(&mut self, words: String, trouble: Option<(Reason, String)>) {
        let is_down = trouble.is_some() && self.ready_replicas() == 0;
        let (reason, message) = trouble.unwrap_or((Reason::RollingOut, words));
        self.status.cause = None;
        self.ready(if is_down { ConditionStatus::False } else { ConditionStatus::Unknown }, reason, &message);
        let is =
            if self.status.artifact.is_some() { ConditionStatus::False } else { ConditionStatus::Unknown };
        self.conditions().set(condition_type::UP_TO_DATE, is, reason, &message);
        self.conditions().reconciling(reason, &message);
    }

    /// What keeps a pod of the observed template from serving.
    pub fn trouble(&self) -> Option<(Reason, String)> {
        rollout::trouble(self.deployment?, self.pods)
    }

    pub fn failed(&mut self, artifact: &Artifact, message: &str) {
        let words = self.trouble().map_or_else(
            || "see the logs of its pods".to_owned(),
            |(reason, message)| format!("{reason}: {message}"),
        );
        let message = format!("{} did not become ready: {message}; {words}", artifact.run);
        self.gave_up(Reason::RolloutFailed, &message);
    }

    /// The newest version is not served, for a `reason` that stays until the version or the spec changes.
    pub fn gave_up(&mut self, reason: Reason, message: &str) {
        let cause = cause(&ModelDeployment::kind(&()), &self.object.name_any(), reason, message);
        let text = inputs::path(&self.label(), &cause, None);
        if self.status.cause.as_ref() != Some(&cause) {
            self.events.push(Event { warning: true, reason, message: text.clone() });
        }
        self.status.cause = Some(cause);
        self.ready(ConditionStatus::False, reason, &text);
        self.conditions().set(condition_type::UP_TO_DATE, ConditionStatus::False, reason, &text);
        self.conditions().stalled(reason, &text);
    }

    pub fn hold(&mut self, is: ConditionStatus, reason: Reason, message: &str, cause: Option<Cause>) {
        self.status.cause = cause;
        self.ready(is, reason, message);
        let shown =
            if self.status.artifact.is_some() { ConditionStatus::False } else { ConditionStatus::Unknown };
        self.conditions().set(condition_type::UP_TO_DATE, shown, reason, message);
        self.conditions().settled();
    }

    /// Nothing changes: the object is suspended, or there is no model to serve yet.
    pub fn idle(&mut self, input: &Result<ReadyInput, BlockedInput>) {
        match input {
            Ok(_) => self.hold(
                ConditionStatus::Unknown,
                Reason::Suspended,
                "spec.suspend is true: what is served stays",
                None,
            ),
            Err(problem) => {
                let (is, text) = self.words(problem);
                let cause = self.cause_of(problem);
                self.hold(is, problem.blocked.reason, &text, cause);
            }
        }
    }
}
