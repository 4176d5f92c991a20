//! Restored backups, as clients see them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    ResourceExt,
    api::{ListParams, PostParams},
};
use mlop_sim::{
    Sim, conformance,
    kubelet::{self, PodOutcome},
};
use tokio::time::sleep;

use crate::{
    config_map, config_maps, names, next_event, owner_reference, phase, pod, refusal, until_true, watch,
    widget, widgets,
};

#[tokio::test(start_paused = true)]
async fn restore_shows_older_objects_and_reuses_versions() {
    let sim = Sim::new();
    sim.create(&config_map("kept")).unwrap();
    sim.create(&config_map("deleted")).unwrap();
    let (backup, then) = (sim.snapshot(), sim.revision());
    let lost = sim.create(&config_map("lost")).unwrap();
    sim.delete::<ConfigMap>("default", "deleted").unwrap();
    sim.edit::<ConfigMap>("default", "kept", |map| map.data = Some([("k".into(), "v".into())].into()))
        .unwrap();

    sim.restore(&backup);
    assert_eq!(sim.revision(), then);
    let list = config_maps(&sim).list(&ListParams::default()).await.unwrap();
    assert_eq!(list.metadata.resource_version, Some(then.to_string()));
    let listed: Vec<_> = list.iter().map(|map| (map.name_any(), map.data.clone())).collect();
    assert_eq!(listed, [("deleted".into(), None), ("kept".into(), None)]);

    let new = sim.create(&config_map("new")).unwrap();
    assert_eq!(new.resource_version(), lost.resource_version());
    assert_ne!(new.uid(), lost.uid());
}

#[tokio::test(start_paused = true)]
async fn snapshot_can_be_restored_twice() {
    let sim = Sim::new();
    let backup = sim.snapshot();
    for name in ["a", "b"] {
        sim.create(&config_map(name)).unwrap();
        assert_eq!(names(&sim), [name]);
        sim.restore(&backup);
        assert_eq!(names(&sim), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn restore_ends_watches_and_silences_those_from_later_versions() {
    let sim = Sim::new();
    let api = config_maps(&sim);
    let (backup, then) = (sim.snapshot(), sim.revision().to_string());
    let mut events = watch(&api, &then).await;
    for name in ["a", "b"] {
        sim.create(&config_map(name)).unwrap();
    }
    assert_eq!([next_event(&mut events).await, next_event(&mut events).await], ["ADDED a", "ADDED b"]);
    let lost = sim.revision().to_string();
    sim.restore(&backup);
    assert_eq!(next_event(&mut events).await, "END");

    let mut resumed = watch(&api, &lost).await;
    sim.create(&config_map("c")).unwrap();
    sim.create(&config_map("d")).unwrap();
    assert_eq!(next_event(&mut resumed).await, "SILENCE");
    sim.create(&config_map("e")).unwrap();
    assert_eq!(next_event(&mut resumed).await, "ADDED e");

    let mut from_backup = watch(&api, &then).await;
    let seen = [
        next_event(&mut from_backup).await,
        next_event(&mut from_backup).await,
        next_event(&mut from_backup).await,
    ];
    assert_eq!(seen, ["ADDED c", "ADDED d", "ADDED e"]);
}

#[tokio::test(start_paused = true)]
async fn watch_from_undone_version_sends_no_bookmarks() {
    let sim = Sim::new();
    let backup = sim.snapshot();
    for name in ["a", "b", "c"] {
        sim.create(&config_map(name)).unwrap();
    }
    let lost = sim.revision().to_string();
    sim.restore(&backup);
    let mut resumed = watch(&config_maps(&sim), &lost).await;
    sim.create(&config_map("d")).unwrap();
    assert_eq!(next_event(&mut resumed).await, "SILENCE");
    assert_eq!(next_event(&mut resumed).await, "SILENCE");
    for name in ["e", "f", "g"] {
        sim.create(&config_map(name)).unwrap();
    }
    assert_eq!(next_event(&mut resumed).await, "ADDED g");
    assert_eq!(next_event(&mut resumed).await, format!("BOOKMARK {}", sim.revision()));
}

#[tokio::test(start_paused = true)]
async fn restore_expires_older_versions_and_rejects_newer_ones() {
    let sim = Sim::new();
    let before = sim.revision().to_string();
    sim.create(&config_map("a")).unwrap();
    let backup = sim.snapshot();
    sim.create(&config_map("b")).unwrap();
    let lost = sim.revision().to_string();
    sim.restore(&backup);
    let api = config_maps(&sim);
    assert_eq!(next_event(&mut watch(&api, &before).await).await, "ERROR 410");
    assert_eq!(refusal(api.list(&ListParams::default().at(&lost)).await).code, 504);
}

#[tokio::test(start_paused = true)]
async fn restore_includes_types_and_quotas() {
    let sim = Sim::new();
    sim.register_crd(&conformance::crd().unwrap()).unwrap();
    sim.set_quota("default", "configmaps", Some(1)).unwrap();
    widgets(&sim).create(&PostParams::default(), &widget("a")).await.unwrap();
    let backup = sim.snapshot();
    sim.remove_crd("widgets", "conformance.mlop.dev").unwrap();
    sim.set_quota("default", "configmaps", None).unwrap();
    sim.restore(&backup);
    assert_eq!(widgets(&sim).get("a").await.unwrap().data["spec"]["size"], 1);
    sim.create(&config_map("a")).unwrap();
    assert_eq!(sim.create(&config_map("b")).unwrap_err().code, 403);
}

#[tokio::test(start_paused = true)]
async fn kubelet_reports_pods_again_after_restore() {
    let sim = Sim::new();
    let seconds = Duration::from_secs;
    kubelet::spawn(&sim, move |_| PodOutcome::succeed("done").running_for(seconds(20)));
    sim.create(&pod("ended")).unwrap();
    sim.create(&pod("forgotten")).unwrap();
    until_true(&sim, |sim| phase(sim, "ended") == "Running").await;
    let backup = sim.snapshot();
    until_true(&sim, |sim| phase(sim, "ended") == "Succeeded").await;
    let ended = sim.get::<Pod>("default", "ended").unwrap().status;
    sim.delete::<Pod>("default", "forgotten").unwrap();
    sim.create(&pod("lost")).unwrap();
    sleep(seconds(5)).await;

    sim.restore(&backup);
    sleep(seconds(1)).await;
    assert_eq!(
        sim.get::<Pod>("default", "ended").unwrap().status,
        ended,
        "the kubelet repeats its last report"
    );
    assert_eq!(phase(&sim, "forgotten"), "Running");
    assert_eq!(phase(&sim, "lost"), "none");
    until_true(&sim, |sim| phase(sim, "forgotten") == "Succeeded").await;
    sim.delete::<Pod>("default", "ended").unwrap();
    until_true(&sim, |sim| phase(sim, "ended") == "none").await;
}

#[tokio::test(start_paused = true)]
async fn garbage_collector_works_after_restore() {
    let sim = Sim::new();
    let owner = sim.create(&config_map("owner")).unwrap();
    let mut dependent = config_map("dependent");
    dependent.metadata.owner_references =
        Some(vec![owner_reference(&owner.name_any(), &owner.uid().unwrap())]);
    sim.create(&dependent).unwrap();
    sim.delete::<ConfigMap>("default", "owner").unwrap();
    let backup = sim.snapshot();
    until_true(&sim, |sim| names(sim).is_empty()).await;
    sim.restore(&backup);
    assert_eq!(names(&sim), ["dependent"]);
    until_true(&sim, |sim| names(sim).is_empty()).await;
}
