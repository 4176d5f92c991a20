//! Workers that compute digests in place of data.

use super::{
    courses,
    external::{CourseChange, ExternalSystems, view_pointer},
    mlflow, object_stores, progress,
};
use crate::{inject::Injector, plan::Fault};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mlop_api::{
    Digest, Reason,
    common::Metric,
    labels,
    preflight::Check,
    result::{Activated, Failure, ResultDocument},
    task::{ActivateWork, AliasWork, Input, Provenance, Task, Work},
};
use mlop_sim::kubelet::PodOutcome;
use std::{fmt::Debug, time::Duration};

/// Does the work of a pod in the external systems, and decides how the pod ends.
pub fn work(pod: &Pod, external: &mut ExternalSystems, injector: &Injector) -> PodOutcome {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get(labels::TASK));
    let Some(task) = text.and_then(|text| serde_json::from_str::<Task>(text).ok()) else {
        return PodOutcome::run_forever();
    };
    let (name, seconds) = match &task.work {
        Work::Probe { .. } | Work::ProbeTracking { .. } | Work::ProbeOnline { .. } => ("probe", 1),
        Work::Scan(_) => ("scan", 1),
        Work::Version(_) => ("version", 2),
        Work::Snapshot(_) => ("snapshot", 2),
        Work::Activate(_) => ("activate", 1),
        Work::Deactivate { .. } => ("deactivate", 1),
        Work::Train(_) => ("train", 30),
        Work::Register(_) => ("register", 1),
        Work::Alias(work) if work.check => ("check", 1),
        Work::Alias(_) => ("alias", 1),
        Work::Analyze(work) => ("analyze", work.seconds),
        Work::Serve { .. } => return PodOutcome::run_forever(),
    };
    let courses = external.courses.entry(name).or_default();
    let planned = if courses.is_empty() { None } else { Some(courses.remove(0)) };
    let fault = injector.fault_of_work(name);
    let mut change = course(fault).or(planned);
    let mut ended = match change {
        Some(change) if !courses::works(change) => {
            *external.started.entry(name).or_default() += 1;
            Ended::Killed
        }
        _ => end(name, fault, pod, &task.work, external),
    };
    if let Ended::Reported(made) = &mut ended
        && let Some((name, next, activation)) = activation(&task.work, made)
    {
        let fault = injector.fault_of_work(name);
        change = course(fault).or(change);
        match end(name, fault, pod, &next, external) {
            Ended::Reported(active) if active.error.is_none() => made.activated = Some(activation),
            Ended::Reported(_) => {}
            killed => ended = killed,
        }
    }
    let outcome = match ended {
        Ended::Killed => PodOutcome::fail(137, "Error", ""),
        Ended::OutOfMemory => PodOutcome::fail(137, "OOMKilled", "").in_container("user"),
        Ended::Reported(document) => match &document.error {
            Some(_) => PodOutcome::fail(1, "Error", document.to_message()).in_container("worker"),
            None => PodOutcome::succeed(document.to_message()).in_container("worker"),
        },
    };
    let outcome = outcome
        .starting_after(Duration::from_millis(500))
        .running_for(Duration::from_secs(seconds))
        .printing(progress::log(&task));
    match change {
        Some(change) => change(outcome),
        None => outcome,
    }
}

/// The end of a piece of work.
enum Ended {
    Killed,
    OutOfMemory,
    Reported(Box<ResultDocument>),
}

/// The course of a pod under a fault.
fn course(fault: Option<Fault>) -> Option<CourseChange> {
    fault.and_then(Fault::course).map(courses::change)
}

/// Carries out a piece of work, unless a fault or a planned failure ends it.
fn end(
    name: &'static str,
    fault: Option<Fault>,
    pod: &Pod,
    work: &Work,
    external: &mut ExternalSystems,
) -> Ended {
    *external.started.entry(name).or_default() += 1;
    let failed = |failure| Ended::Reported(Box::new(ResultDocument::failed(failure)));
    match fault {
        Some(Fault::KilledBefore) => return Ended::Killed,
        Some(Fault::KilledAfter) => {
            carry_out(pod, work, external);
            return Ended::Killed;
        }
        Some(Fault::StoreUnreachable) => {
            return failed(Failure::transient(Reason::StoreUnreachable, "the store does not answer"));
        }
        Some(Fault::Unfit) => return failed(Failure::preflight(Check::Gpu, "no working GPU")),
        _ => {}
    }
    let failures = external.failures.entry(name).or_default();
    if failures.is_empty() {
        return Ended::Reported(Box::new(carry_out(pod, work, external)));
    }
    let failure = failures.remove(0);
    if failure.reason == Reason::OutOfMemory { Ended::OutOfMemory } else { failed(failure) }
}

/// Carries out a piece of work in the external systems, if they let the pod.
fn carry_out(pod: &Pod, work: &Work, external: &mut ExternalSystems) -> ResultDocument {
    let is_reached = external.reach_all(work).and_then(|()| external.credentials.check(pod, work));
    if let Err(failure) = is_reached.and_then(|()| external.object_stores.read_all(work)) {
        return ResultDocument::failed(failure);
    }
    if pod.labels().get(labels::RANK).is_some_and(|rank| rank != "0") {
        // The leader publishes.
        return ResultDocument::default();
    }
    let mut result = result(work, external);
    if let Work::Train(_) = work {
        let attempt = pod.labels().get(labels::ATTEMPT).and_then(|attempt| attempt.parse().ok());
        result.progress = attempt.map(progress::last);
    }
    external.note_faulty(work, result.digest.as_ref());
    if let (Some(store), Some(digest)) = (object_stores::output(work), &result.digest) {
        external.object_stores.write(store, digest);
    }
    result
}

/// The work of a pod after its own: the activation of its result.
fn activation(work: &Work, made: &ResultDocument) -> Option<(&'static str, Work, Activated)> {
    let digest = made.digest.clone()?;
    match work {
        Work::Snapshot(work) if work.active.as_ref() != Some(&digest) => {
            let online = work.online.clone()?;
            let (media_type, store) = (String::new(), work.output.clone());
            let table = Input { name: String::new(), digest, media_type, store };
            let activation = online.activation.clone();
            Some(("activate", Work::Activate(ActivateWork { table, online }), activation))
        }
        Work::Register(work) => {
            let (alias, registered) = (work.alias.clone()?, made.registered.clone()?);
            let activation = alias.activation.clone();
            let (tracking, version) = (work.tracking.clone(), registered.version);
            let work = AliasWork {
                tracking,
                credentials: work.credentials,
                registered_model: registered.name,
                version,
                run: String::new(),
                alias,
                check: false,
                register: None,
            };
            Some(("alias", Work::Alias(work), activation))
        }
        _ => None,
    }
}

fn result(work: &Work, external: &mut ExternalSystems) -> ResultDocument {
    let made = |from: &dyn Debug| Some(Digest::of_bytes(format!("{from:?}").as_bytes()));
    match work {
        Work::Scan(work) => {
            let seen =
                if object_stores::is_source(&work.source) { external.bucket.as_str() } else { "nothing" };
            ResultDocument {
                digest: made(&(seen, &work.prefix, &work.include)),
                summary: Some(format!("saw {seen}")),
                ..Default::default()
            }
        }
        Work::Version(work) => ResultDocument {
            digest: made(&(&work.listing, &work.content.columns)),
            summary: Some("10 rows".into()),
            ..Default::default()
        },
        Work::Snapshot(work) => {
            let inputs: Vec<_> = work.inputs.iter().map(|input| &input.digest).collect();
            ResultDocument {
                digest: made(&(inputs, &work.content.sql)),
                summary: Some("10 rows".into()),
                ..Default::default()
            }
        }
        Work::Train(work) => ResultDocument {
            // A size that users change while the work lasts changes nothing here.
            digest: made(&Provenance { size: None, ..Provenance::from(work) }),
            metrics: vec![Metric::new("auc", external.auc)],
            summary: Some(format!("auc={}", external.auc)),
            ..Default::default()
        },
        Work::Register(work) => {
            let model = external.registered_model(&work.tracking, &work.registered_model);
            let number = model.register(&work.input_digest);
            ResultDocument {
                digest: Some(work.model.digest.clone()),
                metrics: work.metrics.clone(),
                summary: Some(format!("version {number}")),
                registered: Some(mlflow::registered(work, number)),
                ..Default::default()
            }
        }
        Work::Activate(ActivateWork { table, online }) => external.activate(
            view_pointer(&online.redis.address, &online.view),
            &online.activation,
            table.digest.to_string(),
        ),
        Work::Alias(work) => external.give_alias(work),
        Work::ProbeOnline { seen, .. } => external.probe_online(*seen),
        Work::Deactivate { view, redis, left } => {
            let name = view_pointer(&redis.address, view);
            match left {
                Some(left) => external.leave(name, left),
                None => drop(external.pointers.remove(&name)),
            }
            ResultDocument::default()
        }
        Work::Analyze(work) => external.measure(work),
        _ => ResultDocument::default(),
    }
}
