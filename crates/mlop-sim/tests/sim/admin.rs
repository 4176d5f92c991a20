//! Removed types, terminated namespaces and quotas, as clients see them.

use std::time::Duration;

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, WatchParams},
};
use mlop_sim::{
    Sim, conformance, controllers,
    kubelet::{self, PodOutcome},
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    config_map, config_maps, names, next_event, owner_reference, phase, pod, refusal, until_true, watch,
    widget, widgets,
};

#[tokio::test(start_paused = true)]
async fn removed_type_loses_its_objects_and_gets_404() {
    let sim = Sim::new();
    let crd = conformance::crd().unwrap();
    sim.register_crd(&crd).unwrap();
    let api = widgets(&sim);
    let mut held = widget("held");
    held.metadata.finalizers = Some(vec!["test.dev/hold".into()]);
    let owner = api.create(&PostParams::default(), &held).await.unwrap();
    let mut dependent = config_map("dependent");
    let mut reference = owner_reference("held", &owner.uid().unwrap());
    reference.api_version = "conformance.mlop.dev/v1".into();
    reference.kind = "Widget".into();
    dependent.metadata.owner_references = Some(vec![reference]);
    sim.create(&dependent).unwrap();
    let mut events = watch(&api, &sim.revision().to_string()).await;

    sim.remove_crd("widgets", "conformance.mlop.dev").unwrap();
    assert_eq!([next_event(&mut events).await, next_event(&mut events).await], ["DELETED held", "END"]);
    until_true(&sim, |sim| names(sim).is_empty()).await;
    let missing = refusal(api.list(&ListParams::default()).await);
    assert_eq!((missing.code, missing.message.as_str()), (404, "404 page not found"));
    assert_eq!(refusal(api.create(&PostParams::default(), &widget("b")).await).code, 404);
    assert_eq!(refusal(api.watch(&WatchParams::default(), "0").await.map(|_| ())).code, 404);
    assert!(sim.remove_crd("widgets", "conformance.mlop.dev").is_err());
    assert!(sim.remove_crd("configmaps", "").is_err(), "only custom types come and go");

    sim.register_crd(&crd).unwrap();
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items, []);
    api.create(&PostParams::default(), &widget("held")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn watch_ends_when_its_type_is_removed_without_objects() {
    let sim = Sim::new();
    let crd = conformance::crd().unwrap();
    sim.register_crd(&crd).unwrap();
    let mut events = watch(&widgets(&sim), &sim.revision().to_string()).await;
    let mut others = watch(&config_maps(&sim), &sim.revision().to_string()).await;
    sim.remove_crd("widgets", "conformance.mlop.dev").unwrap();
    sim.register_crd(&crd).unwrap();
    assert_eq!(next_event(&mut events).await, "END");
    sim.create(&config_map("a")).unwrap();
    assert_eq!(next_event(&mut others).await, "ADDED a");
}

#[tokio::test(start_paused = true)]
async fn terminated_namespace_is_emptied_and_removed() {
    let sim = Sim::new();
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    sim.create(&namespace).unwrap();
    let api: Api<ConfigMap> = Api::namespaced(sim.client(), "team");
    let mut held = config_map("held");
    held.metadata.finalizers = Some(vec!["test.dev/hold".into()]);
    for object in [&held, &config_map("free")] {
        api.create(&PostParams::default(), object).await.unwrap();
    }
    sim.create(&config_map("elsewhere")).unwrap();

    sim.terminate_namespace("team").unwrap();
    let refused = refusal(api.create(&PostParams::default(), &config_map("late")).await);
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "configmaps \"late\" is forbidden: unable to create new content in namespace team because it is being \
         terminated"
    );
    let cause = &refused.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("NamespaceTerminating", "metadata.namespace"));
    assert_eq!(cause.message, "namespace team is being terminated");

    sleep(Duration::from_secs(60)).await;
    assert_eq!(names(&sim), ["elsewhere", "held"]);
    assert!(sim.get::<Namespace>("", "team").is_some(), "a finalizer holds it");
    sim.edit::<ConfigMap>("team", "held", |map| map.metadata.finalizers = None).unwrap();
    until_true(&sim, |sim| sim.get::<Namespace>("", "team").is_none()).await;
    assert_eq!(names(&sim), ["elsewhere"]);
    let refused = refusal(api.create(&PostParams::default(), &config_map("later")).await);
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"team\" not found"));
    assert!(sim.terminate_namespace("team").is_err());

    sim.create(&namespace).unwrap();
    api.create(&PostParams::default(), &config_map("later")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn terminated_namespace_stops_its_running_pods() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::run_forever());
    sim.create(&pod("a")).unwrap();
    until_true(&sim, |sim| phase(sim, "a") == "Running").await;
    sim.terminate_namespace("default").unwrap();
    until_true(&sim, |sim| sim.get::<Namespace>("", "default").is_none()).await;
    assert_eq!(sim.count::<Pod>(), 0);
}

#[tokio::test(start_paused = true)]
async fn quota_refuses_creations_above_the_limit() {
    let sim = Sim::new();
    sim.set_quota("default", "pods", Some(2)).unwrap();
    let api: Api<Pod> = Api::namespaced(sim.client(), "default");
    for name in ["a", "b"] {
        api.create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    for name in ["a", "c"] {
        let refused = refusal(api.create(&PostParams::default(), &pod(name)).await);
        assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
        assert_eq!(
            refused.message,
            format!(
                "pods \"{name}\" is forbidden: exceeded quota: quota, requested: pods=1, used: pods=2, limited: pods=2"
            ),
            "whether the name is free is asked later"
        );
    }
    let elsewhere: Api<Pod> = Api::namespaced(sim.client(), "kube-system");
    elsewhere.create(&PostParams::default(), &pod("c")).await.unwrap();
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    sim.create(&secret).unwrap();

    api.delete("a", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &pod("c")).await.unwrap();
    assert_eq!(refusal(api.create(&PostParams::default(), &pod("d")).await).code, 403);
    sim.set_quota("default", "pods", None).unwrap();
    api.create(&PostParams::default(), &pod("d")).await.unwrap();
    assert!(sim.set_quota("default", "teapots", None).is_err());
}

#[tokio::test(start_paused = true)]
async fn quota_ignores_ended_pods() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::succeed(""));
    sim.set_quota("default", "pods", Some(1)).unwrap();
    sim.create(&pod("a")).unwrap();
    assert_eq!(sim.create(&pod("b")).unwrap_err().code, 403);
    until_true(&sim, |sim| phase(sim, "a") == "Succeeded").await;
    sim.create(&pod("b")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn job_creates_pods_when_the_quota_is_removed() {
    let sim = Sim::new();
    kubelet::spawn(&sim, |_| PodOutcome::succeed(""));
    controllers::spawn_jobs(&sim);
    sim.set_quota("default", "pods", Some(0)).unwrap();
    let job: Job = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "a:1"}]}}}}))
    .unwrap();
    sim.create(&job).unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(sim.count::<Pod>(), 0);
    sim.set_quota("default", "pods", None).unwrap();
    let succeeded = |sim: &Sim| sim.get::<Job>("default", "a").unwrap().status.unwrap().succeeded;
    until_true(&sim, |sim| succeeded(sim) == Some(1)).await;
}
