//! The names under which the pods of an attempt find each other: a headless Service for the time of the run.

use super::{Observed, Run, RunResource};
use crate::{
    children::{meta, service},
    plan::Plan,
};
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, core::object::HasStatus};
use mlop_api::{labels, status::RunStatus};

/// The name of pod `rank` of an attempt's Job, as the other pods of the run resolve it.
pub fn host<R: RunResource>(run: &R, attempt: u32, rank: u32) -> String {
    let name = run.meta().name.as_deref().unwrap_or_default();
    format!("{name}-{attempt}-{rank}.{name}")
}

/// Adds the Service to a plan of a run with an attempt of several pods.
pub(super) fn complete<R: Run>(observed: &Observed<R>, plan: Plan<RunStatus>) -> Plan<RunStatus> {
    let run = observed.object.as_ref();
    let status = plan.status.as_ref().or(run.status());
    let has_ended = status.is_some_and(|status| status.finished_at.is_some());
    let has_attempt = !observed.pods.is_empty()
        || !observed.jobs.is_empty()
        || plan.creates.iter().any(|create| !create.dry_run);
    if has_ended || !has_attempt || R::replicas(run).is_none() {
        return plan;
    }
    plan.apply(&service_of(observed), "the pods of an attempt find each other by its names")
}

fn service_of<R: Run>(observed: &Observed<R>) -> Service {
    let run = observed.object.as_ref();
    let name = run.meta().name.clone().unwrap_or_default();
    let kind = R::Resource::kind(&()).into_owned();
    let of_run = [(labels::RUN, name.clone()), (labels::RUN_KIND, kind)];
    let inherited = [labels::INTENT, labels::INTENT_KIND].map(|label| (label, observed.inherited(label)));
    let own = [(labels::OPERATOR, observed.operator.clone()), (labels::ROLE, "run".to_owned())];
    let meta = meta::child_meta(run, name, own.into_iter().chain(of_run.clone()).chain(inherited));
    service::headless(meta, of_run.map(|(label, value)| (label.to_owned(), value)).into())
}
