//! Decisions on registered models. One row is a situation, and the summary of its plan.

use crate::{
    alias,
    model_intent::{ModelIntent, Related},
    model_version::{Connections, ModelVersionRun},
    tracking_server::{self, TrackingServerReconciler},
};
use expect_test::expect_file;
use mlop_api::{
    Reason,
    common::Metric,
    labels,
    registry::{Gate, Model, ModelVersion, TrackingServer},
    result::{Failure, Registered, ResultDocument},
    status::ConnectionStatus,
};
use mlop_core::{
    Plan, Reconciler as _,
    children::profile::Profile,
    condition,
    inputs::InputState,
    resource::{ChildObject, PodView},
    testing::{
        IntentCase, NOW, RunCase, Situation, at, check, connected, created, dead, golden, live, missing,
        object, of_kind, ready, running, store, succeeded, terminated, version,
    },
};
use serde_json::{Value, json};
use std::sync::Arc;

const ADDRESS: &str = "http://mlflow-mlflow.default.svc:5000";

/// A TrackingServer that is ready, and one that is not.
fn server() -> TrackingServer {
    connected(starting_server(), ADDRESS)
}

fn starting_server() -> TrackingServer {
    object("mlflow", &json!({"managed": {"image": "mlflow:1"}}))
}

/// `state` as the TrainingJob `delay`.
fn training(state: InputState) -> InputState {
    let mut state = of_kind(state, "TrainingJob");
    state.from.name = "delay".to_owned();
    state
}

fn spec() -> Value {
    json!({"from": {"kind": "TrainingJob", "name": "delay"}, "trackingServer": "mlflow"})
}

/// The Model `delay` of a TrainingJob that is ready.
fn model() -> IntentCase<ModelIntent> {
    let related = Related {
        server: Some(Arc::new(server())),
        stores: [("files".to_owned(), Arc::new(store("files")))].into(),
        holder: None,
    };
    IntentCase::new("delay", &spec(), related).observes(training(ready("model")))
}

/// Another Model has the alias.
fn with_holder(mut case: IntentCase<ModelIntent>) -> IntentCase<ModelIntent> {
    case.related.holder = Some("first".into());
    case
}

fn gated(min: &str) -> IntentCase<ModelIntent> {
    let gate = Gate { name: "quality".into(), metric: "auc".into(), min: Some(min.into()), max: None };
    model().with(|spec| spec.gates = vec![gate.clone()])
}

fn with_server(mut case: IntentCase<ModelIntent>, server: Option<TrackingServer>) -> IntentCase<ModelIntent> {
    case.related.server = server.map(Arc::new);
    case
}

/// The version is registered with an AUC of 0.7; its pod has not moved the alias.
fn registered(run: &mut ModelVersion) {
    succeeded(run);
    let output = run.status.as_mut().unwrap().output.as_mut().unwrap();
    output.metrics = vec![Metric::new("auc", 0.7)];
    output.registered = Some(Registered {
        registry: "mlflow".into(),
        name: "default.delay".into(),
        version: "1".into(),
        reference: "models:/default.delay/1".into(),
        alias: None,
    });
}

/// As [`registered`], and the alias is moved.
fn champion(run: &mut ModelVersion) {
    registered(run);
    let revision = run.metadata.labels.as_ref().unwrap()[mlop_api::labels::REVISION].parse().unwrap();
    let alias = alias::alias(&model().object, &server(), ADDRESS, revision);
    run.status.as_mut().unwrap().output.as_mut().unwrap().activated = Some(alias.activation);
}

/// The check has succeeded, and has put this right.
fn checked(repaired: Option<&str>) -> impl Fn(&mut PodView) {
    let registered = Registered {
        registry: "mlflow".into(),
        name: "default.delay".into(),
        version: if repaired.is_some() { "7" } else { "1" }.into(),
        reference: String::new(),
        alias: None,
    };
    let repaired = repaired.map(str::to_owned);
    let result = ResultDocument { registered: Some(registered), repaired, ..ResultDocument::default() };
    move |pod| pod.status = terminated(&result, NOW + 600)
}

fn check_failed(reason: Reason, retryable: bool) -> impl Fn(&mut PodView) {
    let failure = Failure { retryable, ..Failure::terminal(reason, "words") };
    move |pod| pod.status = terminated(&ResultDocument::failed(failure.clone()), NOW + 600)
}

fn alias_moved(pod: &mut PodView) {
    pod.status = terminated(&ResultDocument::default(), NOW);
}

/// The ModelVersion `delay-1`, whose version gets the alias.
fn version_run() -> RunCase<ModelVersionRun> {
    let mut run = model().run();
    run.metadata.name = Some("delay-1".into());
    let related = Connections {
        server: Some(Arc::new(server())),
        model: Some(Arc::new(model().object)),
        gates: vec!["auc".into()],
        verdict: None,
    };
    RunCase { related, ..RunCase::of(run) }
}

#[test]
fn version_is_registered_and_named_by_the_alias() {
    check(vec![
        (
            "the training is ready",
            model(),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=Unknown/Running Reconciling create run",
        ),
        (
            "the TrainingJob does not exist",
            model().observes(training(missing("model"))),
            "Ready=Unknown/WaitingForInputs InputsReady=Unknown/WaitingForInputs UpToDate=Unknown/WaitingForInputs",
        ),
        (
            "its pod has registered the version and moved the alias",
            model().its_run(champion),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1 requeue 600",
        ),
        (
            "the alias is not moved: a pod of its own does it",
            model().its_run(registered),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=Unknown/Activating Reconciling \
             create pod 2",
        ),
        (
            "that pod runs",
            model().its_run(registered).reconciled().pods(|pod| pod.status = running()),
            "quiet requeue 3",
        ),
        (
            "that pod has moved the alias",
            model().its_run(registered).reconciled().pods(alias_moved),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 2 requeue 600",
        ),
        (
            "the alias is to move, and the server is not ready",
            with_server(model().its_run(registered), Some(starting_server())),
            "Ready=Unknown/ConnectionNotReady InputsReady=True/InputsReady UpToDate=Unknown/ConnectionNotReady",
        ),
        (
            "the alias is to move, and the server does not exist",
            with_server(model().its_run(registered), None),
            "Ready=Unknown/ConnectionNotReady InputsReady=True/InputsReady UpToDate=Unknown/ConnectionNotReady",
        ),
        (
            "its run is dead",
            model().its_run(dead),
            "Ready=False/UserError InputsReady=True/InputsReady UpToDate=Unknown/UserError Stalled",
        ),
        (
            "a newer training",
            model().its_run(champion).reconciled().observes(training(version("model", 2, 10))).at(11),
            "quiet create run requeue 10",
        ),
        ("the Model is being deleted", model().being_deleted(), "quiet"),
    ]);
}

#[test]
fn gates_decide_which_version_is_used() {
    let used = || gated("0.5").its_run(champion).reconciled();
    let gates = |min: &str| gated(min).object.spec.gates;
    check(vec![
        (
            "good enough",
            gated("0.7").its_run(champion),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1 requeue 600",
        ),
        (
            "not good enough",
            gated("0.8").its_run(registered),
            "Ready=False/GateFailed InputsReady=True/InputsReady UpToDate=Unknown/GateFailed",
        ),
        (
            "a higher gate refuses the version in use",
            used().edited(|spec| spec.gates = gates("0.8")),
            "Ready=False/GateFailed InputsReady=True/InputsReady UpToDate=False/GateFailed requeue 600",
        ),
        (
            "a lower gate accepts a version that was refused: its alias is moved",
            gated("0.8").its_run(registered).reconciled().edited(|spec| spec.gates = gates("0.6")),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=Unknown/Activating Reconciling create pod 2",
        ),
    ]);
}

#[test]
fn edit_registers_again_only_under_another_name() {
    let used = || model().its_run(champion).reconciled();
    check(vec![
        (
            "another alias is moved by a pod of its own",
            used().edited(|spec| spec.alias = "challenger".into()),
            "Ready=Unknown/Activating InputsReady=True/InputsReady UpToDate=False/Activating Reconciling create pod 2",
        ),
        (
            "another registered model",
            used().edited(|spec| spec.registered_model = Some("other".into())),
            "Ready=Unknown/Running InputsReady=True/InputsReady UpToDate=False/Running Reconciling create run requeue 600",
        ),
        (
            "the budget of attempts",
            used().edited(|spec| spec.retry.limit = 9),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate artifact 1 requeue 600",
        ),
    ]);
}

#[test]
fn published_version_is_checked() {
    let used = || model().its_run(champion).reconciled();
    let due = || used().at(600);
    let asked = |case: IntentCase<ModelIntent>| case.annotated(labels::RETRY_REQUESTED_AT, "now");
    let suspended = || used().with(|spec| spec.suspend = true).at(600);
    check(vec![
        ("it was activated just now", used(), "quiet requeue 600"),
        ("an interval has passed", due(), "quiet create check requeue 600"),
        ("a retry is requested", asked(used()), "quiet create check requeue 600"),
        ("the Model is suspended", suspended(), "quiet requeue 600"),
        (
            "the server has no address",
            with_server(due(), Some(starting_server())),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/ConnectionNotReady",
        ),
        (
            "another Model has the alias",
            with_holder(due()),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/AliasTaken Stalled",
        ),
        ("all is as it was", due().reconciled().pods(checked(None)), "quiet requeue 600"),
        (
            "the version was registered again",
            due().reconciled().pods(checked(Some("it was gone"))),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=True/UpToDate delete check requeue 600 then quiet \
             create check requeue 600",
        ),
        (
            "a Model elsewhere has claimed the alias",
            due().reconciled().pods(check_failed(Reason::AliasTaken, false)),
            "Ready=True/Ready InputsReady=True/InputsReady UpToDate=False/AliasTaken requeue 600",
        ),
        (
            "MLflow was away",
            due().reconciled().pods(check_failed(Reason::TrackingUnreachable, true)),
            "quiet requeue 60",
        ),
    ]);
}

#[test]
fn check_adopts_the_present_number() {
    let case = model().its_run(champion).reconciled().at(600).reconciled();
    let registered = case.pods(checked(Some("it was gone"))).reconciled().status().registered.unwrap();
    assert_eq!((registered.version.as_str(), registered.alias.as_deref()), ("7", Some("champion")));
}

#[test]
fn second_model_registers_but_takes_no_alias() {
    check(vec![(
        "another Model has the alias",
        with_holder(model().its_run(registered)),
        "Ready=False/AliasTaken InputsReady=True/InputsReady UpToDate=Unknown/AliasTaken Stalled",
    )]);
}

#[test]
fn attempt_waits_for_its_tracking_server() {
    let with_server = |server: Option<TrackingServer>| {
        let mut case = version_run();
        case.related.server = server.map(Arc::new);
        case
    };
    let refused = ResultDocument::failed(Failure::terminal(Reason::TrackingRefused, "no such experiment"));
    check(vec![
        ("nothing holds it up", version_run(), "quiet create Pod delay-1-1"),
        ("the server does not exist", with_server(None), "Unknown/ConnectionNotReady 0 attempts"),
        (
            "the server is not ready",
            with_server(Some(starting_server())),
            "Unknown/ConnectionNotReady 0 attempts",
        ),
        (
            "the ObjectStore does not exist",
            version_run().without_stores(),
            "Unknown/ConnectionNotReady 0 attempts",
        ),
        (
            "MLflow refuses the version",
            version_run().reconciled().pod(terminated(&refused, NOW)),
            "False/TrackingRefused Stalled 1 attempts event TrackingRefused requeue 3600",
        ),
    ]);
}

#[test]
fn attempt_moves_the_alias_only_while_the_model_wants_it() {
    let moves_alias = |case: RunCase<ModelVersionRun>| {
        let plan = case.plan();
        let task = &plan.creates[0].object["metadata"]["annotations"][mlop_api::labels::TASK];
        task.as_str().unwrap().contains("champion")
    };
    let of = |model: Option<Model>| {
        let mut case = version_run();
        case.related.model = model.map(Arc::new);
        case
    };
    assert!(moves_alias(version_run()));
    assert!(!moves_alias(of(None)), "the Model is pinned to another version");
    let edited = model().edited(|spec| spec.registered_model = Some("other".into())).object;
    assert!(!moves_alias(of(Some(edited))), "the Model has another registered model by now");
}

/// The plan for `server` with the probes `pods`.
fn plan_of(server: &TrackingServer, pods: Vec<PodView>, seconds: i64) -> Plan<ConnectionStatus> {
    plan_with(server, None, pods, seconds)
}

/// As [`plan_of`], with the Deployment of MLflow.
fn plan_with(
    server: &TrackingServer,
    deployment: Option<ChildObject>,
    pods: Vec<PodView>,
    seconds: i64,
) -> Plan<ConnectionStatus> {
    let observed = tracking_server::Observed {
        object: Arc::new(server.clone()),
        deployment: deployment.map(Arc::new),
        children: Vec::new(),
        pods: pods.into_iter().map(Arc::new).collect(),
        profile: Profile::default(),
        operator: "mlop-test".into(),
        worker_image: "worker".into(),
    };
    TrackingServerReconciler::plan(&observed, at(NOW + seconds))
}

/// An MLflow that mlop does not run.
fn existing() -> TrackingServer {
    object("mlflow", &json!({"existing": {"service": "mlflow"}}))
}

/// The status of `server`, and the name of the pod that is created, if one is.
fn reported(server: &TrackingServer, pods: Vec<PodView>, seconds: i64) -> (String, Option<String>) {
    let plan = plan_of(server, pods, seconds);
    let status = plan.status.or_else(|| server.status.clone()).unwrap();
    let ready = condition::get(&status.conditions, "Ready").unwrap();
    let created = plan.creates.first().map(|create| create.object["metadata"]["name"].to_string());
    (format!("{}/{}: {}", ready.status, ready.reason, ready.message), created)
}

#[test]
fn existing_server_is_ready_when_it_has_answered() {
    let (status, created) = reported(&existing(), Vec::new(), 0);
    assert!(status.starts_with("Unknown/Probing"), "{status}");
    assert!(created.is_some_and(|name| name.contains("mlflow-probe-")));
    let probe = |result: &ResultDocument| {
        let mut pod = created_at(plan_of(&existing(), Vec::new(), 0).creates[0].object.clone());
        pod.status = terminated(result, NOW);
        vec![pod]
    };
    let (status, _) = reported(&existing(), probe(&ResultDocument::default()), 1);
    assert_eq!(status, "True/Ready: MLflow answers");
    let words = "start MLflow with --allowed-hosts mlflow.default.svc:5000";
    let refused = ResultDocument::failed(Failure::terminal(Reason::TrackingRefused, words));
    let (status, _) = reported(&existing(), probe(&refused), 1);
    assert!(status.starts_with("False/TrackingRefused") && status.contains(words), "{status}");
}

fn created_at(object: Value) -> PodView {
    created(object, at(NOW))
}

#[test]
fn pods_are_those_of_the_golden_files() {
    expect_file!["golden/version.yaml"].assert_eq(&golden(&version_run().plan().creates[0].object));
    let activation = model().its_run(registered).plan();
    expect_file!["golden/alias.yaml"].assert_eq(&golden(&activation.creates[0].object));
    let probe = plan_of(&existing(), Vec::new(), 0);
    expect_file!["golden/probe.yaml"].assert_eq(&golden(&probe.creates[0].object));
}

/// What a plan applies, by its kind.
fn applied(plan: &Plan<ConnectionStatus>, kind: &str) -> Value {
    plan.applies.iter().find(|apply| apply.kind.kind == kind).unwrap().object.clone()
}

#[test]
fn mlflow_is_that_of_the_golden_files() {
    let plan = plan_of(&starting_server(), Vec::new(), 0);
    assert_eq!(plan.applies.len(), 4);
    expect_file!["golden/mlflow.yaml"].assert_eq(&golden(&applied(&plan, "Deployment")));
    expect_file!["golden/mlflow-policy.yaml"].assert_eq(&golden(&applied(&plan, "NetworkPolicy")));
    expect_file!["golden/mlflow-service.yaml"].assert_eq(&golden(&applied(&plan, "Service")));
    expect_file!["golden/mlflow-volume.yaml"].assert_eq(&golden(&applied(&plan, "PersistentVolumeClaim")));
}

#[test]
fn upgrade_of_the_operator_replaces_no_mlflow() {
    for file in [include_str!("golden/first-edition/mlflow.yaml"), include_str!("golden/mlflow.yaml")] {
        let present = live(file);
        let plan = plan_with(&starting_server(), Some(present.clone()), Vec::new(), 0);
        assert_eq!(applied(&plan, "Deployment")["spec"]["template"], present.body["spec"]["template"]);
    }
}

#[test]
fn managed_server_reports_why_its_pod_does_not_start() {
    let deployment = live(include_str!("golden/mlflow.yaml"));
    let mut metadata = deployment.body["spec"]["template"]["metadata"].clone();
    metadata["name"] = json!("mlflow-mlflow-1");
    let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
    let status = json!({"phase": "Pending", "containerStatuses": [{"name": "mlflow", "image": "mlflow:1", "state": waiting}]});
    let pod = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
    let status = plan_with(&starting_server(), Some(deployment), vec![pod], 0).status.unwrap();
    let ready = condition::get(&status.conditions, "Ready").unwrap();
    let words = format!("{}/{}: {}", ready.status, ready.reason, ready.message);
    assert_eq!(words, "False/ImagePull: MLflow: image mlflow:1 of container mlflow: not found");
}
