//! The external systems that a piece of work needs.

use crate::plan::System;
use mlop_api::task::{ActivateWork, Redis, RegisterWork, Store, Work};

/// The object stores that a pod needs.
pub fn stores(work: &Work) -> Vec<&Store> {
    match work {
        Work::Probe { store, .. } => vec![store],
        Work::Scan(work) => vec![&work.source, &work.output],
        Work::Version(work) => vec![&work.source, &work.output],
        Work::Snapshot(work) => work.inputs.iter().map(|input| &input.store).chain([&work.output]).collect(),
        Work::Train(work) => work.inputs.iter().map(|input| &input.store).chain([&work.output]).collect(),
        Work::Activate(ActivateWork { table, .. }) => vec![&table.store],
        Work::Register(RegisterWork { model, .. }) | Work::Serve { model, .. } => vec![&model.store],
        _ => Vec::new(),
    }
}

/// The online store that a pod needs. The pod of a snapshot activates it as a piece of work of its own.
pub fn redis(work: &Work) -> Option<&Redis> {
    match work {
        Work::Activate(work) => Some(&work.online.redis),
        Work::ProbeOnline { redis, .. } | Work::Deactivate { redis, .. } => Some(redis),
        _ => None,
    }
}

/// The tracking server that a pod needs, and whether the pod has a key to it.
pub fn tracking(work: &Work) -> Option<(&str, bool)> {
    match work {
        Work::ProbeTracking { tracking, credentials } => Some((tracking.as_str(), *credentials)),
        Work::Register(work) => Some((work.tracking.as_str(), work.credentials)),
        Work::Alias(work) => Some((work.tracking.as_str(), work.credentials)),
        _ => None,
    }
}

/// The external systems that a pod needs.
pub fn systems(work: &Work) -> impl Iterator<Item = System> {
    let needs = [
        (!stores(work).is_empty(), System::ObjectStores),
        (redis(work).is_some(), System::Redis),
        (tracking(work).is_some(), System::Mlflow),
    ];
    needs.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, system)| system)
}
