//! Situations as `kubectl mlop why` explains them.

use super::{Case, flights};
use crate::{
    output::Style,
    snapshot::{ObjectId, Snapshot},
    why::{Explanation, Retry, Step, Summary, summary_text, text},
};
use expect_test::expect_file;
use serde_json::json;

fn explanation(snapshot: &Snapshot, id: &str) -> Explanation {
    let (kind, name) = id.split_once('/').unwrap();
    Explanation::of(snapshot, snapshot.get(&ObjectId::new(kind, name)).unwrap())
}

/// Rows: a situation in words, the golden file, its objects, the object that is asked about.
fn situations() -> Vec<(&'static str, &'static str, Case, &'static str)> {
    let deployment = "ModelDeployment/delay";
    let memory = "container user used more memory than its limit; raise spec.resources.memory";
    let denied = "access denied: credentials are missing or invalid";
    let diverged = "flights and route_delays come from different versions of Dataset flights";
    vec![
        ("everything is ready", "ready", flights(), deployment),
        (
            "a file lacks a column, asked at the end of the chain",
            "schema",
            flights().fails("Dataset/flights", "SchemaMismatch", "flights/2013-08.csv.gz lacks the column dep_delay"),
            deployment,
        ),
        ("a training needs more memory", "memory", out_of_memory(memory), deployment),
        (
            "a gate refuses the newest model, asked at the Model",
            "gate",
            flights().fails("Model/delay", "GateFailed", "delay-0123456789ab: gate quality: auc is 0.6314, want at least 0.65"),
            "Model/delay",
        ),
        (
            "the keys of a bucket are refused",
            "store",
            flights()
                .with("ObjectStore/raw", json!({"status": {"headline": {"reason": "StoreDenied", "message": denied}}}))
                .condition("ObjectStore/raw", "Ready", "False", "StoreDenied", denied)
                .with("Dataset/flights", json!({"status": {"cause":
                    {"kind": "ObjectStore", "name": "raw", "reason": "StoreDenied", "message": denied}}})),
            "Dataset/flights",
        ),
        ("the first scan is under way, asked at the end", "first", first(), deployment),
        (
            "a training waits for both inputs",
            "diverged",
            flights()
                .with("FeatureView/route-delays", json!({"spec": {"suspend": true}, "status": {"headline": {"reason": "Suspended", "message": "new inputs wait because spec.suspend is true"}}}))
                .condition("FeatureView/route-delays", "UpToDate", "False", "Suspended", "new inputs wait because spec.suspend is true")
                .with("TrainingJob/delay", json!({"status": {"headline": {"reason": "InputsDiverged", "message": diverged}}}))
                .condition("TrainingJob/delay", "InputsReady", "Unknown", "InputsDiverged", diverged)
                .condition("TrainingJob/delay", "UpToDate", "False", "InputsDiverged", diverged),
            "TrainingJob/delay",
        ),
        ("an input does not exist", "missing", missing(), "FeatureView/route-delays"),
        (
            "an input's name is misspelt",
            "misspelt",
            misspelt(),
            "TrainingJob/delay",
        ),
        ("the Secret of a connection is missing, and the probe is repeated", "secret", secret(), "ObjectStore/raw"),
        ("the same, asked at an object that uses it", "secret-downstream", secret(), "Dataset/flights"),
        (
            "the probe of a connection runs again",
            "secret-running",
            secret()
                .condition("ObjectStore/raw", "Stalled", "False", "SecretMissing", "")
                .condition("ObjectStore/raw", "Reconciling", "True", "SecretMissing", "the attempt before failed: x; attempt 4 is running"),
            "ObjectStore/raw",
        ),
        ("a first snapshot waits for a node, asked at the end", "unschedulable", unschedulable(), deployment),
        ("new data waits for a node", "room", flights().queued("FeatureView/route-delays"), deployment),
        ("one input waits for a node, another needs a person", "two", two(), "TrainingJob/delay"),
        ("everything is in use, and a training works on newer data", "upstream", training(), deployment),
        (
            "the same, and the Model is pinned",
            "pinned",
            training().condition("Model/delay", "UpToDate", "True", "Pinned", "spec.pin names the run in use"),
            deployment,
        ),
        (
            "the operator has not looked at an edit",
            "unseen",
            flights().with("Model/delay", json!({"metadata": {"generation": 9}})),
            "Model/delay",
        ),
    ]
}

fn training() -> Case {
    let message = "delay-0123456789ab is running";
    flights()
        .with("TrainingJob/delay", json!({"status": {"headline": {"reason": "Running", "message": message}}}))
        .condition("TrainingJob/delay", "UpToDate", "False", "Running", message)
}

fn out_of_memory(message: &str) -> Case {
    let old = flights().run_of("TrainingJob/delay");
    let failed = json!({"status": {
        "output": null, "attempts": 3, "headline": {"reason": "OutOfMemory", "message": message},
        "conditions": [{"type": "Succeeded", "status": "False", "reason": "OutOfMemory", "message": message,
            "lastTransitionTime": super::TROUBLE}],
    }});
    flights().another_run(&format!("TrainingRun/{old}"), "delay-0123456789ab", failed).fails(
        "TrainingJob/delay",
        "OutOfMemory",
        message,
    )
}

/// Nothing is published yet: the Dataset scans, everything else waits for its input.
fn first() -> Case {
    let mut case =
        flights().unpublished("Dataset/flights", "Scanning", "the scan of the source is under way");
    for (id, input) in [
        ("FeatureView/route-delays", "Dataset flights"),
        ("TrainingJob/delay", "FeatureView route-delays"),
        ("Model/delay", "TrainingJob delay"),
        ("ModelDeployment/delay", "Model delay"),
    ] {
        case = case.unpublished(id, "WaitingForInputs", &format!("{input} is not ready yet"));
    }
    case
}

fn missing() -> Case {
    let message = "Dataset flights does not exist yet";
    let view = "FeatureView/route-delays";
    let cause = json!({"kind": "FeatureView", "name": "route-delays", "reason": "WaitingForInputs", "message": message});
    flights()
        .without("Dataset/flights")
        .unpublished(view, "WaitingForInputs", message)
        .with(view, json!({"status": {"cause": cause}}))
}

fn misspelt() -> Case {
    let job = "TrainingJob/delay";
    let message = "Dataset flihgts does not exist yet";
    flights()
        .with(job, json!({"spec": {"inputs": [{"name": "flights", "from": {"kind": "Dataset", "name": "flihgts"}}]}}))
        .unpublished(job, "WaitingForInputs", message)
        .with(job, json!({"status": {"cause":
            {"kind": "TrainingJob", "name": "delay", "reason": "WaitingForInputs", "message": message}}}))
}

/// The status of a connection between two attempts.
fn secret() -> Case {
    let message = "Secret s3-kyes does not exist";
    let repeated = format!(
        "{message}; it is retried at 2026-11-29T12:41:30Z, or at once by the annotation mlop.dev/retry-requested-at"
    );
    let cause = json!({"kind": "ObjectStore", "name": "raw", "reason": "SecretMissing", "message": message});
    let mut case = flights()
        .with(
            "ObjectStore/raw",
            json!({"status": {"headline": {"reason": "SecretMissing", "message": message}}}),
        )
        .condition("ObjectStore/raw", "Ready", "False", "SecretMissing", message)
        .condition("ObjectStore/raw", "Stalled", "True", "SecretMissing", &repeated)
        .unpublished("Dataset/flights", "ConnectionNotReady", message)
        .with("Dataset/flights", json!({"status": {"cause": cause}}));
    case.transition("ObjectStore/raw", "Stalled", "2026-11-29T12:39:00Z");
    case
}

/// Nothing is published, and the pod of the snapshot waits for a node.
fn unschedulable() -> Case {
    let view = "FeatureView/route-delays";
    let mut case = flights();
    for id in [view, "TrainingJob/delay", "Model/delay", "ModelDeployment/delay"] {
        case = case.unpublished(id, "WaitingForInputs", "m");
    }
    case.unpublished(view, "Unschedulable", super::NO_ROOM).queued(view)
}

/// The Dataset needs a person, the FeatureView waits for a node. Each object downstream names the latter.
fn two() -> Case {
    flights()
        .fails("Dataset/flights", "QuarantineBudgetExceeded", "12 of 100 rows are rejected, more than 10")
        .queued("FeatureView/route-delays")
}

#[test]
fn next_attempt_is_told() {
    let time = "2026-11-29T12:41:30Z";
    let at = Some(Retry::At(time.parse().unwrap()));
    for (message, want) in [
        (format!("m; it is retried at {time}, or at once by the annotation mlop.dev/retry-requested-at"), at),
        (format!("attempt 2 failed: m; the next one starts at {time}"), at),
        (
            format!("delay-0123456789ab: attempt 1 of 3 failed: UserError: m; the next one starts at {time}"),
            at,
        ),
        (
            "attempt 2 is running; those before it failed: StoreUnreachable: m".to_owned(),
            Some(Retry::Running),
        ),
        ("m".to_owned(), None),
    ] {
        let case = flights().fails("Dataset/flights", "ScanFailing", "m");
        let case = case.condition("Dataset/flights", "Stalled", "True", "ScanFailing", &message);
        let found = explanation(&case.snapshot(), "Model/delay");
        assert_eq!(found.root.unwrap().retry, want, "{message}");
        let retried = |it: &Step| it.text.starts_with("then retry") && it.command.is_some();
        assert_eq!(found.next.iter().any(retried), want.is_some(), "{message}");
    }
}

#[test]
fn work_that_is_tried_again_needs_nobody_at_once() {
    let cause =
        json!({"kind": "Dataset", "name": "flights", "reason": "StoreUnreachable", "message": "no answer"});
    for (message, want) in [
        (
            "attempt 1 of 3 failed: StoreUnreachable: no answer; the next one starts at 2026-11-29T12:41:30Z",
            true,
        ),
        ("attempt 2 is running; those before it failed: StoreUnreachable: no answer", true),
        ("no answer", false),
    ] {
        let case = flights()
            .unpublished("Dataset/flights", "StoreUnreachable", "no answer")
            .with("Dataset/flights", json!({"status": {"cause": cause}}))
            .condition("Dataset/flights", "Reconciling", "True", "Retrying", message);
        let sentence = explanation(&case.snapshot(), "Dataset/flights").sentence;
        assert_eq!(
            sentence.ends_with("What failed is tried again by itself."),
            want,
            "{message}: {sentence}"
        );
    }
}

#[test]
fn other_causes_are_named_after_the_first() {
    let case = flights().fails("Dataset/flights", "SchemaMismatch", "m").fails(
        "FeatureView/route-delays",
        "QueryInvalid",
        "m",
    );
    let found = explanation(&case.snapshot(), "Model/delay");
    assert_eq!(found.root.unwrap().object.to_string(), "FeatureView/route-delays");
    let others: Vec<_> = found.others.iter().map(ToString::to_string).collect();
    assert_eq!(others, ["Dataset/flights: SchemaMismatch"]);
}

#[test]
fn summary_groups_objects_by_cause_worst_first() {
    let gate = "delay-0123456789ab: gate quality: auc is 0.6314, want at least 0.65";
    let rows = [
        ("ready", flights(), true),
        ("empty", Case::empty(), true),
        ("wishes", flights().with("Model/delay", json!({"metadata": {"generation": 9}})), false),
        ("several", two().fails("Model/delay", "GateFailed", gate), false),
        ("secret", secret(), false),
    ];
    for (file, case, is_ready) in rows {
        let snapshot = case.snapshot();
        let summary = Summary::of(&snapshot);
        assert_eq!(summary.is_ready(), is_ready, "{file}");
        let text = summary_text(&summary, &snapshot, Style::PLAIN);
        expect_file![format!("golden/why-all-{file}.txt")].assert_eq(&text);
    }
}

#[test]
fn explanation_names_the_root_of_each_situation() {
    for (_, file, case, id) in situations() {
        let snapshot = case.snapshot();
        let text = text(&explanation(&snapshot, id), snapshot.now, Style::PLAIN);
        expect_file![format!("golden/why-{file}.txt")].assert_eq(&text);
    }
}

#[test]
fn path_follows_references_to_the_cause() {
    let case = flights().fails("Dataset/flights", "SchemaMismatch", "a column is missing");
    let path = explanation(&case.snapshot(), "ModelDeployment/delay").path;
    let path: Vec<_> = path.iter().map(ToString::to_string).collect();
    assert_eq!(path, ["ModelDeployment/delay", "Model/delay", "TrainingJob/delay", "Dataset/flights"]);
}

#[test]
fn run_is_explained_by_the_cause_of_its_intent() {
    let case = out_of_memory("too much");
    let cause = case.object("TrainingJob/delay")["status"]["cause"].clone();
    let case = case.with("TrainingRun/delay-0123456789ab", json!({"status": {"cause": cause}}));
    let found = explanation(&case.snapshot(), "TrainingRun/delay-0123456789ab");
    let path: Vec<_> = found.path.iter().map(ToString::to_string).collect();
    assert_eq!(path, ["TrainingRun/delay-0123456789ab", "TrainingJob/delay"]);
    assert_eq!(found.root.unwrap().field.as_deref(), Some("spec.resources.memory"));
}
