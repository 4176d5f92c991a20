//! Guarantees of mlop-core's controller for every reconciler: isolation, leadership and ownership of children.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use mlop_api::{Reason, contract::condition_type, dataset::ObjectStore, status::ConnectionStatus};
use mlop_core::{
    Clock, Context, Error, Plan, Reconciler, Settings, Setup,
    children::meta,
    condition::{self, ConditionStatus, Conditions},
};
use mlop_sim::Sim;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;

const NS: &str = "default";

/// Reports Ready. The names `hangs`, `panics` and `conflicts` select a failure.
struct Fragile;

impl Reconciler for Fragile {
    type Resource = ObjectStore;
    type Status = ConnectionStatus;
    type Observed = Arc<ObjectStore>;

    async fn observe(&self, _: &Context, object: Arc<ObjectStore>) -> Result<Arc<ObjectStore>, Error> {
        if object.name_any() == "hangs" {
            std::future::pending::<()>().await;
        }
        Ok(object)
    }

    fn plan(object: &Arc<ObjectStore>, now: Timestamp) -> Plan<ConnectionStatus> {
        assert!(object.name_any() != "panics", "requested by the name");
        let mut status = object.status.clone().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        Conditions::new(&mut status.conditions, generation, now).settled();
        Conditions::new(&mut status.conditions, generation, now).set(
            condition_type::READY,
            ConditionStatus::True,
            Reason::Ready,
            "done",
        );
        let child = ConfigMap {
            metadata: meta::child_meta(object.as_ref(), object.name_any(), []),
            ..Default::default()
        };
        let plan = Plan::report(status);
        if object.name_any() == "conflicts" { plan.create(&child, "requested by the name") } else { plan }
    }
}

fn start(leading: watch::Receiver<bool>) -> Sim {
    let sim = Sim::new();
    for crd in mlop_api::kinds::all() {
        sim.register_crd(&crd).unwrap();
    }
    let clock_sim = sim.clone();
    let clock: Clock = Arc::new(move || clock_sim.now());
    let settings = Settings { operator: "mlop-test".into(), ..Default::default() };
    let mut setup = Setup::new(sim.client(), settings, clock);
    let stores = setup.watch::<ObjectStore>();
    setup.control(Fragile, &stores);
    tokio::spawn(setup.run(leading));
    sim
}

fn object(sim: &Sim, name: &str) {
    let object = serde_json::json!({
        "apiVersion": "mlop.dev/v1alpha1", "kind": "ObjectStore",
        "metadata": {"name": name, "namespace": NS},
        "spec": {"endpoint": "http://s3:9000", "bucket": "files"},
    });
    sim.create::<ObjectStore>(&serde_json::from_value(object).unwrap()).unwrap();
}

fn conditions(sim: &Sim, name: &str) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    sim.get::<ObjectStore>(NS, name).unwrap().status.unwrap_or_default().conditions
}

fn is_ready(sim: &Sim, name: &str) -> bool {
    condition::is_true(&conditions(sim, name), condition_type::READY)
}

async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn panic_stalls_only_its_object() {
    let (_leading, is_leading) = watch::channel(true);
    let sim = start(is_leading);
    object(&sim, "panics");
    object(&sim, "works");
    seconds(5).await;
    let stalled = condition::get(&conditions(&sim, "panics"), condition_type::STALLED).cloned().unwrap();
    assert_eq!(stalled.reason, "Panicked");
    assert!(stalled.message.contains("requested by the name"), "{}", stalled.message);
    assert!(is_ready(&sim, "works"));
    object(&sim, "later");
    seconds(5).await;
    assert!(is_ready(&sim, "later"), "the controller continues");
}

#[tokio::test(start_paused = true)]
async fn hanging_reconcile_times_out_and_blocks_no_other_object() {
    let (_leading, is_leading) = watch::channel(true);
    let sim = start(is_leading);
    object(&sim, "hangs");
    object(&sim, "works");
    seconds(2).await;
    assert!(is_ready(&sim, "works"));
    seconds(40).await;
    let reconciling =
        condition::get(&conditions(&sim, "hangs"), condition_type::RECONCILING).cloned().unwrap();
    assert!(reconciling.message.contains("longer than 30 s"), "{}", reconciling.message);
}

#[tokio::test(start_paused = true)]
async fn follower_writes_nothing() {
    let (leading, is_leading) = watch::channel(false);
    let sim = start(is_leading);
    object(&sim, "a");
    seconds(60).await;
    assert!(sim.writes().is_empty(), "{:?}", sim.writes());
    leading.send_replace(true);
    seconds(2).await;
    assert!(is_ready(&sim, "a"), "every object is reconciled when the lease is acquired");
    leading.send_replace(false);
    object(&sim, "b");
    seconds(60).await;
    assert!(!is_ready(&sim, "b"));
}

#[tokio::test(start_paused = true)]
async fn foreign_child_is_kept_and_reported() {
    let (_leading, is_leading) = watch::channel(true);
    let sim = start(is_leading);
    let foreign = ConfigMap {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            name: Some("conflicts".into()),
            namespace: Some(NS.into()),
            ..Default::default()
        },
        data: Some(BTreeMap::from([("whose".to_owned(), "somebody's".to_owned())])),
        ..Default::default()
    };
    sim.create(&foreign).unwrap();
    object(&sim, "conflicts");
    seconds(5).await;
    let stalled = condition::get(&conditions(&sim, "conflicts"), condition_type::STALLED).cloned().unwrap();
    assert_eq!(stalled.reason, "NameConflict");
    let kept = sim.get::<ConfigMap>(NS, "conflicts").unwrap();
    assert_eq!((kept.data, kept.metadata.owner_references), (foreign.data, None));
    sim.delete::<ConfigMap>(NS, "conflicts").unwrap();
    seconds(400).await;
    assert!(is_ready(&sim, "conflicts"), "the child is created once the name is free");
}
