//! `FeatureSnapshot`: one pod runs the SQL over the inputs and writes a table.

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use mlop_api::{
    MEDIA_TABLE,
    features::FeatureSnapshot,
    task::{SnapshotWork, Subject, Task, Work},
};
use mlop_core::{
    pod,
    run::{Run, RunResource, World},
};

/// Share of the pod's memory that the query may use before it spills to disk.
const QUERY_SHARE: f64 = 0.6;

pub struct Snapshot;

impl Run for Snapshot {
    type Resource = FeatureSnapshot;
    type Extra = ();
    const MEDIA_TYPE: &'static str = MEDIA_TABLE;

    fn attempt(world: &World<Self>, meta: ObjectMeta, subject: Subject) -> Result<Pod, String> {
        let identity = &world.object.spec.identity;
        let stores = world.all_stores()?;
        let execution = world.object.execution();
        let work = Work::Snapshot(SnapshotWork {
            inputs: world.inputs()?,
            sql: identity.sql.clone(),
            entities: identity.entities.clone(),
            timestamp: identity.timestamp.clone(),
            output: pod::store(world.store(&identity.store)?),
            memory_bytes: query_memory(&execution.resources.memory),
        });
        let builder = pod::Builder::once(meta)
            .task(&Task { subject, work })
            .scratch("tmp", Some("8Gi"), false)
            .container(pod::worker(&world.worker_image, &[], &stores, &execution.resources))
            .execution(execution);
        Ok(stores.into_iter().fold(builder, |builder, store| builder.keys(store)).build())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn query_memory(quantity: &str) -> u64 {
    (bytes(quantity) * QUERY_SHARE) as u64
}

/// The bytes that a quantity of memory names; the schema has checked its form.
fn bytes(quantity: &str) -> f64 {
    let split = quantity.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(split);
    let factor = match unit {
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => 1.0,
    };
    number.parse::<f64>().unwrap_or_default() * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_use_a_share_of_the_memory() {
        assert_eq!(query_memory("1000"), 600);
        assert_eq!(query_memory("1Gi"), 644_245_094);
        assert_eq!(query_memory("1.5G"), 900_000_000);
    }
}
