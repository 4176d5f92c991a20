//! Situations as `kubectl mlop status` shows them.

use super::{Case, flights};
use crate::{
    output::{Style, json},
    snapshot::ObjectId,
    state::State,
    status::{Chain, Width, tree},
};
use expect_test::expect_file;
use serde_json::json;

/// Rows: a situation in words, the golden file, its objects.
fn situations() -> Vec<(&'static str, &'static str, Case)> {
    let missing_column = "flights/2013-08.csv.gz lacks the column dep_delay";
    let gate = "delay-0123456789ab: gate quality: auc is 0.6314, want at least 0.65";
    let view = "FeatureView/route-delays";
    vec![
        ("everything is ready", "ready", flights()),
        (
            "a file lacks a column",
            "schema",
            flights().fails("Dataset/flights", "SchemaMismatch", missing_column),
        ),
        ("a gate refuses the newest model", "gate", flights().fails("Model/delay", "GateFailed", gate)),
        ("the newest training runs for twelve minutes", "training", training()),
        ("the image of a run cannot be pulled", "image", image()),
        ("the bucket refuses the keys", "store", store()),
        (
            "a Model is pinned and a view suspended",
            "wishes",
            flights()
                .with("Model/delay", json!({"spec": {"pin": flights().run_of("Model/delay")}}))
                .condition("Model/delay", "UpToDate", "True", "Pinned", "spec.pin names the run in use")
                .with(view, json!({"spec": {"suspend": true}})),
        ),
        (
            "the spec was edited while the operator is away",
            "unseen",
            flights().with("TrainingJob/delay", json!({"metadata": {"generation": 9}})),
        ),
        ("the Dataset was deleted", "missing", flights().without("Dataset/flights")),
        ("an object was just applied", "new", flights().with(view, json!({"status": null}))),
        ("nothing is there", "empty", Case::empty()),
        ("a model has two deployments, and another Dataset has its own chain", "forest", forest()),
    ]
}

/// The second attempt of the training for new data works.
fn training() -> Case {
    let old = flights().run_of("TrainingJob/delay");
    let message = "delay-0123456789ab is running";
    let run = json!({"status": {
        "output": null, "attempts": 1, "lastCheckpoint": {"sequence": 2, "step": 3},
        "progress": {"attempt": 2, "step": 4, "of": 10, "steps": "4/10", "epoch": 1, "eta": "12m",
            "metrics": [{"name": "loss", "value": "0.41"}], "at": "2026-11-29T12:29:00.000000Z"},
        "headline": {"reason": "Running", "message": "attempt 2 of 3 is running"},
        "conditions": [{"type": "Succeeded", "status": "Unknown", "reason": "Running", "message": "attempt 2 of 3 is running",
            "lastTransitionTime": super::TROUBLE}],
    }});
    flights()
        .another_run(&format!("TrainingRun/{old}"), "delay-0123456789ab", run)
        .with("TrainingJob/delay", json!({"status": {"headline": {"reason": "Running", "message": message}}}))
        .condition("TrainingJob/delay", "UpToDate", "False", "Running", message)
        .condition("TrainingJob/delay", "Reconciling", "True", "Running", message)
}

/// The messages of the object and of its run are cut at the same length.
fn image() -> Case {
    let message = "image mlop.local/trainer:devv of container user: failed to pull and unpack image \
        \"mlop.local/trainer:devv\": failed to resolve reference \"mlop.local/trainer:devv\": failed to do request";
    let cut = |text: &str| format!("{}…", text.chars().take(160).collect::<String>());
    let own = cut(&format!("delay-0123456789ab: {message}"));
    let headline = json!({"reason": "ImagePull", "message": own});
    training()
        .with(
            "TrainingRun/delay-0123456789ab",
            json!({"status": {"headline": {"reason": "ImagePull", "message": cut(message)}}}),
        )
        .with("TrainingJob/delay", json!({"status": {"headline": headline}}))
        .condition("TrainingJob/delay", "UpToDate", "False", "ImagePull", &own)
}

/// A connection that refuses is the cause of everything that needs it.
fn store() -> Case {
    let message = "access denied: credentials are missing or invalid";
    let cause = json!({"kind": "ObjectStore", "name": "raw", "reason": "StoreDenied", "message": message});
    flights()
        .with("ObjectStore/raw", json!({"status": {"headline": {"reason": "StoreDenied", "message": message}}}))
        .condition("ObjectStore/raw", "Ready", "False", "StoreDenied", message)
        .with("Dataset/flights", json!({"status": {"cause": cause, "headline": {"reason": "ConnectionNotReady", "message": message}}}))
        .condition("Dataset/flights", "UpToDate", "Unknown", "ConnectionNotReady", message)
}

fn forest() -> Case {
    let case = flights();
    let mut canary = case.object("ModelDeployment/delay").clone();
    canary["metadata"]["name"] = json!("delay-canary");
    let mut visits = case.object("Dataset/flights").clone();
    visits["metadata"]["name"] = json!("visits");
    let mut training = case.object("TrainingJob/delay").clone();
    training["metadata"]["name"] = json!("visitors");
    training["spec"]["inputs"] = json!([{"name": "visits", "from": {"kind": "Dataset", "name": "visits"}}]);
    case.add(canary).add(visits).add(training)
}

#[test]
fn tree_shows_each_situation() {
    for (_, file, case) in situations() {
        let text = tree(&Chain::of(&case.snapshot(), None), Width::Normal, Style::PLAIN);
        expect_file![format!("golden/status-{file}.txt")].assert_eq(&text);
    }
}

#[test]
fn wide_tree_and_document_have_every_fact() {
    let chain = Chain::of(&training().snapshot(), None);
    expect_file!["golden/status-wide.txt"].assert_eq(&tree(&chain, Width::Wide, Style::PLAIN));
    expect_file!["golden/status.json"].assert_eq(&json(&chain).unwrap());
}

#[test]
fn chain_of_a_name_has_what_is_related_to_it() {
    let snapshot = forest().snapshot();
    let names = |kind: &str, name: &str| {
        let chain = Chain::of(&snapshot, Some(&[ObjectId::new(kind, name)]));
        let nodes = chain.nodes.iter().chain(&chain.connections);
        nodes.map(|node| node.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    let rows = [
        ("TrainingJob", "visitors", "Dataset/visits TrainingJob/visitors ObjectStore/mlop ObjectStore/raw"),
        (
            "ModelDeployment",
            "delay-canary",
            "Dataset/flights FeatureView/route-delays TrainingJob/delay Model/delay ModelDeployment/delay-canary \
             ObjectStore/mlop ObjectStore/raw FeatureStore/features TrackingServer/mlflow",
        ),
    ];
    for (kind, name, want) in rows {
        assert_eq!(names(kind, name), want);
    }
}

#[test]
fn dependency_cycle_is_shown_once() {
    let case = flights().with(
        "FeatureView/route-delays",
        json!({"spec": {"inputs": [{"name": "me", "from": {"kind": "FeatureView", "name": "route-delays"}}]}}),
    );
    let text = tree(&Chain::of(&case.snapshot(), None), Width::Normal, Style::PLAIN);
    assert_eq!(text.matches("FeatureView/route-delays  ").count(), 1, "{text}");
}

#[test]
fn state_depends_on_conditions_and_cause() {
    let of = |case: Case, id: &str| {
        let (kind, name) = id.split_once('/').unwrap();
        State::of(case.snapshot().get(&ObjectId::new(kind, name)).unwrap())
    };
    let data = "Dataset/flights";
    let failed = |case: Case| case.fails(data, "SchemaMismatch", "a column is missing");
    let rows = [
        ("ready", flights(), data, State::Ready),
        ("new data failed", failed(flights()), data, State::Blocked),
        ("new data failed upstream", failed(flights()), "Model/delay", State::Blocked),
        ("a first version failed", failed(flights().unpublished(data, "Running", "")), data, State::Failed),
        (
            "a first version runs",
            flights().unpublished(data, "Running", "r is running"),
            data,
            State::Pending,
        ),
        ("a newer version runs", training(), "TrainingJob/delay", State::Behind),
        (
            "an edit failed",
            flights().condition(data, "Ready", "False", "InvalidSpec", "m"),
            data,
            State::Failed,
        ),
        (
            "the pod of new work waits for a node",
            flights().queued("FeatureView/route-delays"),
            "FeatureView/route-delays",
            State::Behind,
        ),
        (
            "nothing is published, and an input waits for a node",
            flights().unpublished("Model/delay", "Pending", "").queued("FeatureView/route-delays"),
            "Model/delay",
            State::Pending,
        ),
        (
            "the same, with the condition False",
            flights().unpublished("Model/delay", "Pending", "").queued("FeatureView/route-delays").condition(
                "Model/delay",
                "Ready",
                "False",
                "UpstreamFailed",
                "m",
            ),
            "Model/delay",
            State::Pending,
        ),
        (
            "its pods wait for a node",
            flights().condition("Model/delay", "Ready", "False", "Unschedulable", "m"),
            "Model/delay",
            State::Pending,
        ),
        (
            "an input of it is on its way",
            flights().condition(data, "UpToDate", "Unknown", "WaitingForInputs", "m"),
            data,
            State::Behind,
        ),
        (
            "nobody can tell",
            flights().condition(data, "UpToDate", "Unknown", "ScanFailing", "m"),
            data,
            State::Blocked,
        ),
        ("a connection", flights(), "ObjectStore/raw", State::Ready),
        ("a refused connection", store(), "ObjectStore/raw", State::Failed),
        (
            "an edit is not seen",
            flights().with(data, json!({"metadata": {"generation": 9}})),
            data,
            State::Pending,
        ),
        ("no status", flights().with(data, json!({"status": null})), data, State::Pending),
    ];
    for (situation, case, id, want) in rows {
        assert_eq!(of(case, id), want, "{situation}");
    }
}

#[test]
fn colours_surround_words_without_moving_columns() {
    let chain = Chain::of(&flights().snapshot(), None);
    let painted = tree(&chain, Width::Normal, Style { colors: true });
    assert!(painted.contains("\u{1b}[32m✓ ready\u{1b}[0m"), "{painted}");
    let escape = regex::Regex::new("\u{1b}\\[[0-9]+m").unwrap();
    assert_eq!(escape.replace_all(&painted, ""), tree(&chain, Width::Normal, Style::PLAIN));
}
