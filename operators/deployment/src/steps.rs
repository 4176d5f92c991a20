//! A ModelDeployment with a rollout in steps: from the observed state to the engine, and from the recorded status to the
//! children.

mod pods;

use crate::{
    model_deployment::{Observed, Wanted, report},
    rollout::{self as engine, Requests, Seen},
    router::{self, Router},
    server::{self, Server},
    status::Draft,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use mlop_api::{
    Digest, Reason,
    common::Resources,
    labels,
    rollout::{RolloutPhase, RolloutSpec, RolloutStatus, RolloutVersion},
    routes::{Backend, Canary, Routes},
    status::DeploymentStatus,
};
use mlop_core::{
    Plan,
    children::{container, owned, pod, rollout},
    errand::{Decision, Errand, Limits},
    inputs::{BlockedInput, ReadyInput},
    plan::Event,
    resource::{ChildObject, PodView},
};
use pods::{Stable, mark_of};
use serde_json::json;
use std::sync::Arc;

/// Role of the pods that measure.
pub const ANALYSIS: &str = "analysis";
/// The launcher's command that measures.
const ANALYZE: &str = "analyze";
/// Longest interval of a measurement, in seconds.
const INTERVAL_MAX: u64 = 3_600;
/// Time of an analysis pod besides its interval.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// A reconcile of a ModelDeployment with `spec.rollout`.
struct Steps<'a> {
    observed: &'a Observed,
    spec: &'a RolloutSpec,
    server: Server<'a>,
    wanted: &'a Wanted<'a>,
    /// The wanted version, if its artifact is usable.
    version: Option<RolloutVersion>,
    /// The recorded state, which children follow.
    recorded: Option<&'a RolloutStatus>,
    now: Timestamp,
}

/// Brings the routers and the pods of both versions to the recorded state of the rollout, and reports the next state.
pub fn serve(
    observed: &Observed,
    spec: &RolloutSpec,
    draft: &mut Draft<'_>,
    wanted: &Wanted<'_>,
    input: &Result<ReadyInput, BlockedInput>,
    now: Timestamp,
) -> Plan<DeploymentStatus> {
    let server = observed.server();
    let deployment = server.deployment(wanted.target, &wanted.artifact, wanted.store);
    let status = observed.object.status.as_ref();
    let recorded = status.and_then(|status| status.rollout.as_ref());
    let number = match input {
        Ok(usable) => usable.registered.as_ref().map(|registered| registered.version.clone()),
        Err(_) => status.and_then(|status| status.serving.first()?.version.clone()),
    };
    // A rollout under way goes on without its input. An edit is rolled out with the version that serves.
    let is_known = input.is_ok() || !recorded.is_some_and(|recorded| recorded.phase.is_open());
    let version =
        server::identity(mark_of(&deployment)).filter(|_| is_known).map(|template| RolloutVersion {
            digest: wanted.artifact.digest.clone(),
            run: wanted.artifact.run.clone(),
            version: number,
            template: template.to_owned(),
        });
    let steps = Steps { observed, spec, server, wanted, version, recorded, now };
    let stable = steps.stable(deployment);
    let measured = steps.measure();
    let next = steps.next(&stable, measured.as_ref());
    steps.report(draft, next.as_ref(), &stable, measured.as_ref(), input);
    let plan = steps.children(stable);
    let is_next = next.as_ref() != recorded;
    draft.status.rollout = next;
    match measured {
        // Its pods are those of the recorded state. The next state has others.
        Some(decision) if !is_next => decision.carry_out(steps.requeue(plan)),
        Some(_) => plan,
        None => steps.delete_analyses(steps.requeue(plan)),
    }
}

/// Takes away what only a rollout in steps needs. The Service of users is in front of the servers again.
pub fn remove(observed: &Observed, mut plan: Plan<DeploymentStatus>) -> Plan<DeploymentStatus> {
    let name = server::name(&observed.object.name_any());
    let extra = observed.children.iter().filter(|child| {
        child
            .object
            .metadata
            .name
            .as_deref()
            .is_some_and(|child| child.strip_prefix(&*name).is_some_and(|rest| !rest.is_empty()))
    });
    let extra: Vec<_> = extra.cloned().collect();
    plan = owned::prune(plan, &extra);
    observed
        .analyses
        .iter()
        .fold(plan, |plan, pod| plan.delete(pod.as_ref(), "nothing is rolled out in steps"))
}

impl Steps<'_> {
    fn name(&self) -> String {
        self.observed.object.name_any()
    }

    fn is_routed(&self) -> bool {
        self.observed.routers.as_deref().is_some_and(|routers| rollout::ready_replicas(routers) > 0)
    }

    /// The answer and the pods of the recorded state's measurement; none if nothing is to be measured.
    fn measure(&self) -> Option<Decision> {
        let status = self.recorded.filter(|status| engine::is_measuring(status, self.spec, self.now))?;
        let seconds = self.spec.analysis.interval.as_secs().min(INTERVAL_MAX);
        let interval = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or_default());
        let question = json!([status.attempt, status.step, status.since, status.measurements]);
        let errand = Errand {
            owner: self.observed.object.as_ref(),
            role: ANALYSIS,
            operator: &self.observed.operator,
            pods: &self.observed.analyses,
            question: Digest::of(&question),
            request: None,
            interval: None,
            limits: Limits {
                deadline: interval.saturating_add(MARGIN),
                deadline_field: None,
                memory_field: None,
            },
            profile: &self.observed.profile,
            waits_for: None,
        };
        let work = router::analysis(&self.name(), status, seconds);
        let resources = Resources::small(64);
        let build = |builder: pod::Builder| {
            let image = &self.observed.launcher_image;
            let worker = container::worker(image, &[ANALYZE], &[], &resources);
            builder.scratch("tmp", Some("64Mi"), false).container(worker)
        };
        Some(errand.decide(work, build, self.now))
    }

    fn next(&self, stable: &Stable, measured: Option<&Decision>) -> Option<RolloutStatus> {
        let status = self.observed.object.status.as_ref()?;
        // Without a version that serves, there is nothing to compare a new one with.
        let served = status.artifact.as_ref()?;
        let annotations = self.observed.object.annotations();
        let request = |name: &str| annotations.get(name).map(String::as_str);
        let seen = Seen {
            spec: self.spec,
            wanted: self.version.clone(),
            stable: RolloutVersion {
                digest: served.digest.clone(),
                run: served.run.clone(),
                version: status.serving.first().and_then(|serving| serving.version.clone()),
                template: stable.template.clone(),
            },
            stable_runs: self.runs(&stable.template),
            canary: self.canary_pods(),
            is_routed: self.is_routed(),
            answer: measured.and_then(|decision| decision.answer.as_ref()).map(|answer| &answer.result),
            requests: Requests {
                retry: request(labels::RETRY_REQUESTED_AT),
                cancel: request(labels::CANCEL_REQUESTED_AT),
                promote: request(labels::PROMOTE_REQUESTED_AT),
            },
            now: self.now,
        };
        engine::next(self.recorded, &seen)
    }

    /// The recorded rollout, while its version has pods.
    fn open(&self) -> Option<&RolloutStatus> {
        self.recorded.filter(|status| status.phase.is_open())
    }

    fn routes(&self, stable: &Stable) -> Routes {
        let name = self.name();
        let backend = |address, version: &str| Backend { address, version: version.to_owned() };
        let canary = self.open().filter(|status| status.weight > 0).map(|status| Canary {
            backend: backend(router::canary_address(&name), &status.canary.template),
            weight: u8::try_from(status.weight).unwrap_or_default(),
        });
        // Requests to pods that are being replaced count for the version that they had.
        let version = self.open().map_or(&stable.template, |status| &status.stable.template);
        Routes { stable: backend(router::stable_address(&name), version), canary }
    }

    /// The children of the recorded state. The weights come before the pods that they lead to.
    fn children(&self, stable: Stable) -> Plan<DeploymentStatus> {
        let why = "versions are rolled out in steps";
        let router = Router { server: &self.server, observed: self.observed.routers.as_deref() };
        let routes = self.routes(&stable);
        let mut plan = Plan::idle().apply(&router.routes(&routes), why);
        plan.applies.extend(router.told(&routes, &self.observed.routing));
        plan = router.services().iter().fold(plan, |plan, service| plan.apply(service, why));
        plan = plan
            .apply(&router.deployment(self.spec), why)
            .apply(&router.budget(), why)
            .apply(&router.users_service(self.is_routed()), why);
        plan.applies.push(stable.apply);
        plan.applies.extend(self.canary_apply());
        plan.apply(&self.server.budget(), why)
    }

    fn requeue(&self, plan: Plan<DeploymentStatus>) -> Plan<DeploymentStatus> {
        let due = self.recorded.and_then(|status| engine::due(status, self.spec, self.now));
        due.into_iter().fold(plan, Plan::requeue_at)
    }

    fn delete_analyses(&self, plan: Plan<DeploymentStatus>) -> Plan<DeploymentStatus> {
        let delete = |plan: Plan<_>, pod: &Arc<PodView>| plan.delete(pod.as_ref(), "nothing is measured");
        self.observed.analyses.iter().fold(plan, delete)
    }

    /// The reason that the rollout does not go on.
    fn trouble(&self, status: &RolloutStatus, measured: Option<&Decision>) -> Option<(Reason, String)> {
        let of = |child: Option<&ChildObject>| rollout::trouble(child?, &self.observed.pods);
        let routers = || rollout::trouble(self.observed.routers.as_deref()?, &self.observed.routing);
        let analysis = || {
            let trouble = measured?.trouble()?;
            Some((trouble.blocked.reason, format!("requests are not measured: {}", trouble.message)))
        };
        of(self.canary(status)).or_else(routers).or_else(analysis)
    }

    /// Reports the conditions in the state `next`, and an Event if a rollout begins or ends well.
    fn report(
        &self,
        draft: &mut Draft<'_>,
        next: Option<&RolloutStatus>,
        stable: &Stable,
        measured: Option<&Decision>,
        input: &Result<ReadyInput, BlockedInput>,
    ) {
        let phases = [self.recorded, next].map(|status| status.map(|it| (it.phase, &it.attempt)));
        if let Some(next) = next.filter(|_| phases[0] != phases[1]) {
            let is_good = matches!(next.phase, RolloutPhase::Progressing | RolloutPhase::Promoted);
            if is_good {
                let event =
                    Event { warning: false, reason: Reason::RollingOut, message: next.message.clone() };
                draft.events.push(event);
            }
        }
        match next {
            Some(next) if !stable.is_wanted => match next.phase {
                RolloutPhase::RolledBack => draft.gave_up(Reason::RolledBack, &next.message),
                _ => draft.under_way(next.message.clone(), self.trouble(next, measured)),
            },
            _ => report(self.observed, &self.server, draft, self.wanted, input),
        }
    }
}
