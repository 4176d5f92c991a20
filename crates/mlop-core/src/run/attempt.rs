//! The creation of an attempt: a pod, or a Job with one pod or several.

use super::{Observed, Run, preflight::Avoiding, trace};
use crate::{
    Blocked,
    children::{meta, requests},
    errand,
    plan::Create,
};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec, SuccessPolicy, SuccessPolicyRule},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mlop_api::{Quantity, labels, queue::ResourceAmount, task::Subject};

/// The creation of attempt number `attempt`.
pub(super) fn create<R: Run>(
    observed: &Observed<R>,
    attempt: u32,
    avoiding: Avoiding<'_>,
) -> Result<Create, Blocked> {
    let pod = pod(observed, attempt, avoiding)?;
    let why = format!("attempt {attempt}");
    Ok(match R::replicas(&observed.object) {
        Some(replicas) => Create::of(&indexed_job(pod, replicas), why),
        None if R::JOB => Create::of(&job(pod), why),
        None => Create::of(&pod, why),
    })
}

/// The creation of the attempt's pod, which the API server judges but does not carry out.
pub(super) fn dry_run<R: Run>(
    observed: &Observed<R>,
    attempt: u32,
    avoiding: Avoiding<'_>,
) -> Result<Create, Blocked> {
    let pod = pod(observed, attempt, avoiding)?;
    Ok(Create { dry_run: true, ..Create::of(&pod, format!("the Job of attempt {attempt} has no pod")) })
}

/// Whether `child`, the pod or Job of attempt number `attempt`, was made for another pod than the one that is wanted now:
/// the execution, a connection or the profile was edited, a node is not avoided any more, or the operator upgraded.
pub(super) fn is_outdated<R: Run, K: Resource>(
    observed: &Observed<R>,
    attempt: u32,
    avoiding: Avoiding<'_>,
    child: &K,
) -> bool {
    let Ok(pod) = pod(observed, attempt, avoiding) else { return false };
    let wanted = template(&pod.metadata).cloned();
    // A child of an earlier release has no template.
    template(child.meta()).is_some_and(|made_for| wanted.is_some_and(|wanted| wanted != *made_for))
}

/// What attempt number `attempt` asks a queue for: the requests of all its pods, sorted by name.
pub(super) fn requests<R: Run>(
    observed: &Observed<R>,
    attempt: u32,
    avoiding: Avoiding<'_>,
) -> Result<Vec<ResourceAmount>, Blocked> {
    let pod = pod(observed, attempt, avoiding)?;
    let pods = R::replicas(&observed.object).unwrap_or(1);
    let of_pod = pod.spec.as_ref().map(requests::of).unwrap_or_default();
    let of_all = of_pod.into_iter().map(|(name, amount)| {
        let quantity = Quantity::of_billionths(amount.saturating_mul(i128::from(pods)));
        ResourceAmount { name, quantity }
    });
    Ok(of_all.collect())
}

fn template(meta: &ObjectMeta) -> Option<&String> {
    meta.annotations.as_ref()?.get(labels::TEMPLATE)
}

fn pod<R: Run>(observed: &Observed<R>, attempt: u32, avoiding: Avoiding<'_>) -> Result<Pod, Blocked> {
    let run = observed.object.as_ref();
    let name = run.meta().name.clone().unwrap_or_default();
    let kind = R::Resource::kind(&()).into_owned();
    let labels = [
        (labels::OPERATOR, observed.operator.clone()),
        (labels::ROLE, "run".to_owned()),
        (labels::RUN, name.clone()),
        (labels::RUN_KIND, kind.clone()),
        (labels::INTENT, observed.inherited(labels::INTENT)),
        (labels::INTENT_KIND, observed.inherited(labels::INTENT_KIND)),
        (labels::ATTEMPT, attempt.to_string()),
    ];
    let meta = meta::child_meta(run, format!("{name}-{attempt}"), labels);
    let subject = Subject {
        kind,
        namespace: run.meta().namespace.clone().unwrap_or_default(),
        uid: run.meta().uid.clone().unwrap_or_default(),
        name,
        attempt,
    };
    observed.profile.check()?;
    let mut pod = observed.profile.complete(R::attempt(observed, meta, subject)?);
    trace::join(&mut pod, run, attempt);
    if let Some(spec) = &mut pod.spec {
        avoiding.apply(spec);
        if R::replicas(run).is_some() {
            spec.subdomain = run.meta().name.clone();
        }
    }
    let template = errand::template(&pod).to_string();
    pod.metadata.annotations.get_or_insert_default().insert(labels::TEMPLATE.to_owned(), template);
    Ok(pod)
}

/// A Job of one pod that the Job controller never repeats: it cannot tell an out-of-memory kill from a bad row, and
/// does not remember why a pod failed.
fn job(pod: Pod) -> Job {
    let meta = ObjectMeta {
        labels: pod.metadata.labels.clone(),
        annotations: pod.metadata.annotations.clone(),
        ..Default::default()
    };
    let annotations = template(&meta).map(|digest| [(labels::TEMPLATE.to_owned(), digest.clone())].into());
    Job {
        metadata: ObjectMeta { annotations, ..pod.metadata },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec { metadata: Some(meta), spec: pod.spec },
            ..Default::default()
        }),
        status: None,
    }
}

/// A Job of several pods that start together, with ranks and names. The end of one is that of all, but the operator says
/// so: the Job controller cannot tell the last steps of a leader, which publishes, from an attempt that goes on. What is
/// left when the leader has published is ended by it.
fn indexed_job(pod: Pod, replicas: u32) -> Job {
    let replicas = i32::try_from(replicas).unwrap_or(i32::MAX);
    let mut job = job(pod);
    if let Some(spec) = &mut job.spec {
        let leader = SuccessPolicyRule { succeeded_indexes: Some("0".to_owned()), succeeded_count: None };
        spec.backoff_limit = None;
        spec.backoff_limit_per_index = Some(0);
        spec.completion_mode = Some("Indexed".to_owned());
        (spec.completions, spec.parallelism) = (Some(replicas), Some(replicas));
        spec.success_policy = Some(SuccessPolicy { rules: vec![leader] });
    }
    job
}
