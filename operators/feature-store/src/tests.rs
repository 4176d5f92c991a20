//! Decisions on feature views and their store. One row is a situation, and the summary of its plan.

use crate::{
    feature_snapshot::{Consumer, FeatureSnapshotRun, Purpose, recorded},
    feature_store::{FeatureStoreReconciler, Observed},
    feature_view::{Connections, FeatureViewIntent},
    feature_view_cleanup::FINALIZER,
    online_store,
};
use expect_test::expect_file;
use kube::ResourceExt;
use mlop_api::{
    Quantity, Reason,
    duration::Span,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    labels,
    result::{Failure, ResultDocument},
    status::{ConnectionStatus, IntentStatus},
};
use mlop_core::{
    Plan, Reconciler,
    children::profile::Profile,
    resource::{ChildObject, PodView},
    testing::{
        IntentCase, NOW, RunCase, Situation, at, check, connected, dead, golden, input, live, missing,
        object, ready, running, store, succeeded, terminated, version,
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

/// A FeatureStore whose servers are ready.
fn features() -> FeatureStore {
    connected(starting_features(), "http://features-fs.default.svc:6566")
}

fn starting_features() -> FeatureStore {
    let redis = json!({"managed": {"image": "redis:8", "secretName": "redis"}});
    object("features", &json!({"store": "files", "redis": redis}))
}

/// Another FeatureStore, whose servers are ready.
fn other() -> FeatureStore {
    let redis = json!({"existing": {"address": "cache:6379"}});
    let store = object("other", &json!({"store": "files", "redis": redis}));
    connected(store, "http://other-fs.default.svc:6566")
}

fn connections(feature_stores: impl IntoIterator<Item = FeatureStore>) -> Connections {
    let named = |store: FeatureStore| (store.name_any(), Arc::new(store));
    Connections {
        feature_stores: feature_stores.into_iter().map(named).collect(),
        stores: [("files".to_owned(), Arc::new(store("files")))].into(),
    }
}

/// The FeatureView `delays` over a Dataset that is ready. It has its finalizer, and the record of where it may be online.
fn view() -> IntentCase<FeatureViewIntent> {
    let mut case = new_view();
    case.object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    case.object.status = Some(IntentStatus { online_in: vec!["features".into()], ..Default::default() });
    case
}

/// The same before its first reconcile.
fn unrecorded() -> IntentCase<FeatureViewIntent> {
    let mut case = view();
    case.object.status = None;
    case
}

fn new_view() -> IntentCase<FeatureViewIntent> {
    let spec = json!({
        "inputs": [{"name": "flights", "from": {"kind": "Dataset", "name": "flights"}}],
        "sql": "SELECT origin, time_hour, delay FROM flights",
        "entities": ["origin"],
        "timestamp": "time_hour",
        "featureStore": "features",
    });
    IntentCase::new("delays", &spec, connections(Some(features()))).observes(ready("flights"))
}

/// `delays`, without an online store.
fn for_trainings() -> IntentCase<FeatureViewIntent> {
    let mut case = view().with(|spec| (spec.feature_store, spec.store) = (None, Some("files".into())));
    case.object.status = None;
    case
}

fn with_features(
    mut case: IntentCase<FeatureViewIntent>,
    feature_stores: impl IntoIterator<Item = FeatureStore>,
) -> IntentCase<FeatureViewIntent> {
    case.related = connections(feature_stores);
    case
}

/// `delays` is served. The operator has been uninstalled, and installed again.
fn released() -> IntentCase<FeatureViewIntent> {
    let mut case = view().its_run(served).reconciled();
    case.object.metadata.finalizers = None;
    case
}

/// The snapshot is made, and its pod has loaded it into Redis.
fn served(run: &mut FeatureSnapshot) {
    succeeded(run);
    let revision = run.metadata.labels.as_ref().unwrap()[labels::REVISION].parse().unwrap();
    let view = view().object;
    let online = online_store::online(&view, &features(), run, revision);
    run.status.as_mut().unwrap().output.as_mut().unwrap().activated = Some(online.activation);
}

fn loaded(pod: &mut PodView) {
    pod.status = terminated(&ResultDocument::default(), NOW);
}

fn unreachable(pod: &mut PodView) {
    let failure = Failure::transient(Reason::OnlineStoreUnreachable, "no connection");
    pod.status = terminated(&ResultDocument::failed(failure), NOW);
}

/// The FeatureSnapshot `delays-1`, which is to be served.
fn snapshot() -> RunCase<FeatureSnapshotRun> {
    let mut run = view().run();
    run.metadata.name = Some("delays-1".into());
    let consumer = Consumer { view: Arc::new(view().object), feature_store: Arc::new(features()) };
    RunCase { related: Purpose { lost: false, consumer: Some(consumer) }, ..RunCase::of(run) }
}

#[test]
fn snapshot_is_made_and_served() {
    let starts =
        "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run";
    let mut tree = view();
    let mut dataset = mlop_core::testing::dataset("flights", 1, 0, json!([]), json!(null));
    dataset["status"]["artifact"]["mediaType"] = json!(mlop_api::MEDIA_TREE);
    tree = tree.observes(input("flights", Some(dataset)));
    check(vec![
        ("the Dataset is ready", view(), starts),
        (
            "a new view gets its finalizer first",
            new_view(),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling hold then quiet \
             create run requeue 3",
        ),
        ("an uninstall has taken its finalizer off", released(), "quiet hold"),
        (
            "the Dataset does not exist",
            view().observes(missing("flights")),
            "Ready=Unknown/WaitingForInputs InputsReady=Unknown/WaitingForInputs UpToDate=Unknown/WaitingForInputs",
        ),
        (
            "its input is not a table",
            tree,
            "Ready=False/InvalidSpec InputsReady=True/InputsReady UpToDate=Unknown/InvalidSpec Stalled",
        ),
        (
            "the FeatureStore does not exist",
            with_features(view(), None),
            "Ready=Unknown/ConnectionNotReady InputsReady=True/InputsReady UpToDate=Unknown/ConnectionNotReady",
        ),
        (
            "the FeatureStore starts: the snapshot does not wait",
            with_features(view(), Some(starting_features())),
            starts,
        ),
        (
            "its pod has made and loaded it",
            view().its_run(served),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        (
            "it is made and not loaded: a pod of its own does it",
            view().its_run(succeeded),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=Unknown/Activating Reconciling \
             create pod 2",
        ),
        (
            "that pod has loaded it",
            view().its_run(succeeded).reconciled().pods(loaded),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 2",
        ),
        (
            "that pod has not reached Redis",
            view().its_run(succeeded).reconciled().pods(unreachable),
            "Ready=Unknown/OnlineStoreUnreachable InputsReady=True/InputsReady UpToDate=Unknown/OnlineStoreUnreachable \
             Reconciling requeue 10",
        ),
        (
            "it is made, and the FeatureStore is not ready",
            with_features(view().its_run(succeeded), Some(starting_features())),
            "Ready=Unknown/ConnectionNotReady InputsReady=True/InputsReady UpToDate=Unknown/ConnectionNotReady",
        ),
        (
            "its run is dead",
            view().its_run(dead),
            "Ready=False/UserError InputsReady=True/InputsReady UpToDate=Unknown/UserError Stalled",
        ),
        (
            "only trainings read it: it is made, and nothing is loaded",
            with_features(for_trainings(), None).its_run(succeeded),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
        (
            "newer data",
            view().its_run(served).reconciled().observes(version("flights", 2, 10)).at(11),
            "quiet create run requeue 10",
        ),
    ]);
}

#[test]
fn edit_makes_a_snapshot_again_only_if_its_content_changes() {
    let used = || view().its_run(served).reconciled();
    check(vec![
        (
            "the query",
            used().edited(|spec| spec.sql.push_str(" WHERE delay > 0")),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=False/Running Reconciling create run",
        ),
        (
            "the time to live of its rows: it is loaded again",
            used().edited(|spec| spec.ttl = Some(Span::minutes(9))),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=False/Activating Reconciling create pod 2",
        ),
        (
            "the memory",
            used().edited(|spec| spec.resources.memory = Quantity::gibi(9)),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1",
        ),
    ]);
}

#[test]
fn deleted_view_is_released_when_its_rows_are_gone() {
    let deleted = || view().its_run(served).reconciled().being_deleted();
    let cleaning = || deleted().at(60).reconciled();
    check(vec![
        ("nothing of it may be online", unrecorded().being_deleted(), "quiet release"),
        ("the FeatureStore is gone", with_features(deleted(), None), "quiet release"),
        (
            "a pod may load it",
            view().its_run(succeeded).reconciled().pods(|pod| pod.status = running()).being_deleted(),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=Unknown/Activating Reconciling \
             delete pod 2 requeue 60 then Ready=Unknown/Activating InputsReady=True/InputsReady \
             UpToDate=Unknown/Activating create cleanup requeue 600",
        ),
        ("its rows are online", deleted().at(60), "quiet create cleanup requeue 540"),
        ("the cleanup runs", cleaning().pods(|pod| pod.status = running()), "quiet requeue 360"),
        ("the rows are gone", cleaning().pods(loaded), "quiet release"),
        (
            "the cleanup has failed",
            cleaning().pods(unreachable).at(61),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate Reconciling create cleanup \
             delete cleanup requeue 539",
        ),
        ("the cleanup has failed for ten minutes", cleaning().pods(unreachable).at(600), "quiet release"),
        ("it has no finalizer any more", new_view().being_deleted(), "quiet"),
    ]);
}

/// `delays` was online in `features`. Its spec names `other` now, where its rows are being loaded.
fn moving() -> IntentCase<FeatureViewIntent> {
    let used = with_features(view().its_run(served).reconciled(), [features(), other()]);
    used.edited(|spec| spec.feature_store = Some("other".into()))
}

/// It is online in `other`.
fn moved() -> IntentCase<FeatureViewIntent> {
    moving().reconciled().pods(loaded)
}

#[test]
fn moved_view_is_removed_from_the_former_store() {
    let leaving = || moved().reconciled();
    let gone = || with_features(leaving(), [other()]);
    check(vec![
        (
            "the record comes before the load",
            moving(),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=False/Activating Reconciling then quiet \
             create pod 2 requeue 3",
        ),
        (
            "it is online in the other store",
            moved(),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 2 create cleanup",
        ),
        ("the former store is cleaned up", leaving().pods(|pod| pod.status = running()), "quiet requeue 360"),
        (
            "its rows are gone",
            leaving().pods(loaded),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate then quiet delete cleanup",
        ),
        (
            "it is back before",
            leaving().edited(|spec| spec.feature_store = Some("features".into())),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=False/Activating Reconciling create pod 3 \
             delete cleanup",
        ),
        (
            "its Redis does not answer",
            leaving().pods(unreachable).at(1),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate Reconciling requeue 9",
        ),
        (
            "the former store is not ready",
            with_features(moved(), [starting_features(), other()]),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate Reconciling artifact 2",
        ),
        ("the former store is gone", gone(), "quiet delete cleanup"),
    ]);
}

#[test]
fn record_of_the_activation_ends_before_the_rows() {
    let offline = || {
        let used = view().its_run(served).reconciled();
        used.edited(|spec| (spec.feature_store, spec.store) = (None, Some("files".into())))
    };
    let plan = offline().plan();
    assert!(plan.creates.is_empty() && plan.status.unwrap().activation.is_none());
    check(vec![(
        "it is online nowhere any more",
        offline(),
        "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1 then quiet create cleanup",
    )]);
}

#[test]
fn attempt_waits_for_its_stores() {
    let lost = RunCase { related: Purpose { lost: true, consumer: None }, ..snapshot() };
    check(vec![
        ("nothing holds it up", snapshot(), "quiet create Pod delays-1-1"),
        (
            "its ObjectStore does not exist",
            snapshot().without_stores(),
            "Unknown/ConnectionNotReady 0 attempts",
        ),
        ("its view is being deleted", lost, "Unknown/WaitingForDeletion 0 attempts"),
    ]);
}

#[test]
fn snapshot_is_served_only_while_its_view_wants_it() {
    let online = |case: RunCase<FeatureSnapshotRun>| {
        let pod = &case.plan().creates[0].object;
        let task = pod["metadata"]["annotations"][labels::TASK].as_str().unwrap().to_owned();
        task.contains("\"online\"")
    };
    let with = |view: FeatureView, feature_store| {
        let consumer = Consumer { view: Arc::new(view), feature_store: Arc::new(feature_store) };
        RunCase { related: Purpose { lost: false, consumer: Some(consumer) }, ..snapshot() }
    };
    assert!(online(snapshot()));
    assert!(!online(with(view().object, starting_features())), "the FeatureStore is not ready");
    let edited = view().edited(|spec| spec.sql.push_str(" WHERE delay > 0")).object;
    assert!(!online(with(edited, features())), "the view has another query by now");
    assert_eq!(recorded(&view().object).map(String::as_str), Some("features"));
    assert_eq!(recorded(&unrecorded().object), None, "a crash would forget where its rows are");
}

#[test]
fn pods_are_those_of_the_golden_files() {
    let cleaning = view().its_run(served).reconciled().being_deleted().at(60).plan();
    let loading = view().its_run(succeeded).plan();
    let pods = [
        ("golden/snapshot.yaml", snapshot().plan().creates),
        ("golden/activation.yaml", loading.creates),
        ("golden/cleanup.yaml", cleaning.creates),
    ];
    for (file, creates) in pods {
        expect_file![file].assert_eq(&golden(&creates[0].object));
    }
}

/// The plan for a FeatureStore with these servers.
fn plan_of(
    object: FeatureStore,
    api: Option<ChildObject>,
    redis: Option<ChildObject>,
) -> Plan<ConnectionStatus> {
    let observed = Observed {
        object: Arc::new(object),
        api: api.map(Arc::new),
        redis: redis.map(Arc::new),
        children: Vec::new(),
        pods: Vec::new(),
        profile: Profile::default(),
        operator: "mlop-test".into(),
        worker_image: "worker".into(),
    };
    FeatureStoreReconciler::plan(&observed, at(NOW))
}

/// The Deployment of the online API.
fn api(plan: &Plan<ConnectionStatus>) -> &Value {
    &plan.applies.iter().find(|apply| apply.kind.kind == "Deployment").unwrap().object
}

#[test]
fn servers_are_those_of_the_golden_files() {
    let plan = plan_of(starting_features(), None, None);
    for apply in &plan.applies {
        let name = apply.object["metadata"]["name"].as_str().unwrap();
        let file = format!("golden/{name}-{}.yaml", apply.kind.kind.to_lowercase());
        expect_file![file].assert_eq(&golden(&apply.object));
    }
    assert_eq!(plan.applies.len(), 6);
    expect_file!["golden/probe.yaml"].assert_eq(&golden(&plan.creates[0].object));
}

#[test]
fn upgrade_of_the_operator_replaces_no_pod_of_a_server() {
    let of_an_earlier_release = |file: &str| live(&file.replace("image: worker", "image: worker:0"));
    let rows = [
        (
            "first edition",
            include_str!("golden/first-edition/features-fs.yaml"),
            include_str!("golden/first-edition/features-redis.yaml"),
        ),
        (
            "newest",
            include_str!("golden/features-fs-deployment.yaml"),
            include_str!("golden/features-redis-statefulset.yaml"),
        ),
    ];
    for (edition, api, redis) in rows {
        let (api, redis) = (of_an_earlier_release(api), of_an_earlier_release(redis));
        let plan = plan_of(starting_features(), Some(api.clone()), Some(redis.clone()));
        for (kind, present) in [("Deployment", api), ("StatefulSet", redis)] {
            let applied = plan.applies.iter().find(|apply| apply.kind.kind == kind).unwrap();
            assert_eq!(
                applied.object["spec"]["template"], present.body["spec"]["template"],
                "{kind}, {edition}"
            );
        }
    }
}

#[test]
fn size_of_the_api_is_left_to_others_when_the_spec_has_none() {
    let size = |replicas: Option<i32>| {
        let mut store = starting_features();
        store.spec.api.replicas = replicas;
        api(&plan_of(store, None, None))["spec"]["replicas"].as_i64()
    };
    assert_eq!((size(None), size(Some(0)), size(Some(3))), (None, Some(0), Some(3)));
}

#[test]
fn servers_connect_as_the_spec_says() {
    let existing = json!({"address": "cache:6380", "secretName": "redis", "user": "mlop", "tls": true,
        "cluster": true});
    let object = object("features", &json!({"store": "files", "redis": {"existing": existing}}));
    assert_eq!(
        (online_store::redis(&object).user.as_deref(), online_store::redis(&object).tls),
        (Some("mlop"), true)
    );
    assert!(online_store::redis(&object).cluster);
    let plan = plan_of(object, None, None);
    let arguments = api(&plan)["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    for argument in ["--user=mlop", "--tls", "/ca.crt", "/password", "--cluster"] {
        assert!(arguments.contains(argument), "{arguments}");
    }
}
