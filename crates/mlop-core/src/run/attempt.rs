//! The creation of an attempt: a pod, or a Job with one pod.

use super::{Observed, Run, trace};
use crate::{Blocked, children::meta, errand, plan::Create};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use mlop_api::{labels, task::Subject};

/// The creation of attempt number `attempt`.
pub(super) fn create<R: Run>(observed: &Observed<R>, attempt: u32) -> Result<Create, Blocked> {
    let pod = pod(observed, attempt)?;
    let why = format!("attempt {attempt}");
    Ok(if R::JOB { Create::of(&job(pod), why) } else { Create::of(&pod, why) })
}

/// The creation of the attempt's pod, which the API server judges but does not carry out.
pub(super) fn dry_run<R: Run>(observed: &Observed<R>, attempt: u32) -> Result<Create, Blocked> {
    let pod = pod(observed, attempt)?;
    Ok(Create { dry_run: true, ..Create::of(&pod, format!("the Job of attempt {attempt} has no pod")) })
}

/// Whether `child`, the pod or Job of attempt number `attempt`, was made for another pod than the one that is wanted now:
/// the execution, a connection or the profile was edited, or the operator upgraded.
pub(super) fn is_outdated<R: Run, K: Resource>(observed: &Observed<R>, attempt: u32, child: &K) -> bool {
    let Ok(pod) = pod(observed, attempt) else { return false };
    let wanted = template(&pod.metadata).cloned();
    // A child of an earlier release has no template.
    template(child.meta()).is_some_and(|made_for| wanted.is_some_and(|wanted| wanted != *made_for))
}

fn template(meta: &ObjectMeta) -> Option<&String> {
    meta.annotations.as_ref()?.get(labels::TEMPLATE)
}

fn pod<R: Run>(observed: &Observed<R>, attempt: u32) -> Result<Pod, Blocked> {
    let run = observed.object.as_ref();
    let name = run.meta().name.clone().unwrap_or_default();
    let kind = R::Resource::kind(&()).into_owned();
    let inherited =
        |label: &str| run.meta().labels.as_ref().and_then(|all| all.get(label)).cloned().unwrap_or_default();
    let labels = [
        (labels::OPERATOR, observed.operator.clone()),
        (labels::ROLE, "run".to_owned()),
        (labels::RUN, name.clone()),
        (labels::RUN_KIND, kind.clone()),
        (labels::INTENT, inherited(labels::INTENT)),
        (labels::INTENT_KIND, inherited(labels::INTENT_KIND)),
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
