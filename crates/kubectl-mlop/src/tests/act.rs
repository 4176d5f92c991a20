//! Actions: the patches, the messages, the refusals.

use super::{Case, flights};
use crate::{
    actions::{self, Change},
    dead_letters, diff,
    output::Style,
    snapshot::{ObjectId, Snapshot},
    versions::{self, Versions},
};
use anyhow::Result;
use expect_test::expect_file;
use serde_json::{Value, json};

type Action = fn(&Snapshot, &str) -> Result<Change>;

/// `OBJECT PATCH`, or `refused: MESSAGE`.
fn outcome(change: Result<Change>) -> String {
    match change {
        Ok(Change { object, patch: Some(patch), .. }) => format!("{object} {patch}"),
        Ok(Change { says, .. }) => says.join("; "),
        Err(error) => format!("refused: {error}"),
    }
}

fn pinned() -> Case {
    flights().with("Model/delay", json!({"spec": {"pin": "delay-0616cafcb4b8"}}))
}

/// The training for new data has used up its attempts.
fn dead() -> Case {
    let letter = json!({
        "run": "delay-0123456789ab", "inputDigest": format!("sha256:{}", "ab".repeat(32)), "reason": "UserError",
        "message": "the command ended with status 1: ValueError: bad row", "attempts": 3, "at": "2026-11-29T12:29:00.000000Z",
    });
    let old = json!({
        "run": "delay-fedcba987654", "inputDigest": format!("sha256:{}", "cd".repeat(32)), "reason": "OutOfMemory",
        "message": "container user used more memory than its limit", "attempts": 1, "at": "2026-11-29T11:29:00.000000Z",
    });
    let failed = json!({"status": {"output": null, "attempts": 3, "conditions": [
        {"type": "Succeeded", "status": "False", "reason": "UserError", "message": "m", "lastTransitionTime": super::TROUBLE}]}});
    flights()
        .another_run("TrainingRun/delay-541303624bf0", "delay-0123456789ab", failed)
        .with("TrainingJob/delay", json!({"status": {"deadLetters": [letter, old]}}))
        .fails("TrainingJob/delay", "UserError", "the command ended with status 1: ValueError: bad row")
}

/// A run of the Model works.
fn active() -> Case {
    let run = json!({"status": {"output": null, "attempts": 0, "headline": null, "conditions": []}});
    flights().another_run("ModelVersion/delay-ab74683ded53", "delay-0123456789ab", run)
}

#[test]
fn action_is_one_merge_patch_of_the_meant_object() {
    let at = r#"2026-11-29T12:40:00Z"#;
    let suspend: Action = |snapshot, name| actions::suspend(snapshot, name, true);
    let resume: Action = |snapshot, name| actions::suspend(snapshot, name, false);
    let suspended = flights().with("Model/delay", json!({"spec": {"suspend": true}}));
    let annotated = |id: &str, name: &str| {
        format!(r#"{id} {{"metadata":{{"annotations":{{"mlop.dev/{name}":"{at}"}}}}}}"#)
    };
    let rows: Vec<(&str, Case, Action, &str, String)> = vec![
        ("rollback of what is served", flights(), actions::rollback, "delay",
            r#"Model/delay {"spec":{"pin":"delay-0616cafcb4b8"}}"#.into()),
        ("rollback of a Dataset", flights(), actions::rollback, "dset/flights",
            r#"Dataset/flights {"spec":{"pin":"flights-2e4c900ff0e5"}}"#.into()),
        ("unpin finds the pinned one", pinned(), actions::unpin, "delay", r#"Model/delay {"spec":{"pin":null}}"#.into()),
        ("unpin of what is not pinned", flights(), actions::unpin, "model/delay", "Model/delay is not pinned: nothing to do".into()),
        ("retry finds the failed one", dead(), actions::retry, "delay", annotated("TrainingJob/delay", "retry-requested-at")),
        ("retry of a connection", flights(), actions::retry, "raw", annotated("ObjectStore/raw", "retry-requested-at")),
        ("cancel finds the active one", active(), actions::cancel, "delay", annotated("Model/delay", "cancel-requested-at")),
        ("cancel without a run", flights(), actions::cancel, "model/delay", "refused: Model/delay has no active run: there is nothing to cancel".into()),
        ("refresh of a Dataset", flights(), actions::refresh, "flights", annotated("Dataset/flights", "refresh-requested-at")),
        ("refresh of a view", flights(), actions::refresh, "route-delays",
            "refused: FeatureView/route-delays has no source to look at; it follows its inputs by itself".into()),
        ("run", flights(), actions::run, "tjob/delay", annotated("TrainingJob/delay", "run-requested-at")),
        ("run of a deployment", flights(), actions::run, "mdep/delay",
            "refused: ModelDeployment/delay has no runs; intents such as a TrainingJob have".into()),
        ("suspend of an unclear name", flights(), suspend, "delay",
            "refused: delay may be ModelDeployment/delay or Model/delay or TrainingJob/delay: add the kind, as in `kubectl mlop suspend mdep/delay`".into()),
        ("suspend", flights(), suspend, "tjob/delay", r#"TrainingJob/delay {"spec":{"suspend":true}}"#.into()),
        ("resume finds the suspended one", suspended, resume, "delay", r#"Model/delay {"spec":{"suspend":false}}"#.into()),
        ("resume of what runs", flights(), resume, "model/delay", "Model/delay is not suspended: nothing to do".into()),
        ("a name with a mistake", flights(), actions::unpin, "dely",
            "refused: there is no object \"dely\" in namespace flights; similar: ModelDeployment/delay, Model/delay, TrainingJob/delay".into()),
        ("an unknown kind", flights(), actions::unpin, "pod/delay", "refused: \"pod\" is not a kind of mlop; there are PodProfile (pprofile), \
            TrainingQueue (tqueue), ObjectStore (ostore), Dataset (dset), FeatureStore (fstore), FeatureView (fview), TrainingJob (tjob), TrackingServer (tracking), \
            Model (model), ModelDeployment (mdep), DatasetVersion (dver), FeatureSnapshot (fsnap), TrainingRun (trun), ModelVersion (mver)".into()),
        ("an empty namespace", Case::empty(), actions::unpin, "delay", "refused: there is no object \"delay\" in namespace flights, which has no \
            objects of mlop; `kubectl mlop status -A` shows all namespaces, -n chooses one".into()),
    ];
    for (situation, case, action, name, want) in rows {
        assert_eq!(outcome(action(&case.snapshot(), name)), want, "{situation}");
    }
}

#[test]
fn pin_takes_a_run_or_a_version_that_succeeded() {
    let pin = |case: Case, name: &str, run: &str| outcome(actions::pin(&case.snapshot(), name, run));
    let model = |run: &str| format!(r#"Model/delay {{"spec":{{"pin":"{run}"}}}}"#);
    let usable =
        "Model/delay can be pinned to delay-ab74683ded53 (version 2), delay-0616cafcb4b8 (version 1)";
    let rows = [
        (pin(flights(), "model/delay", "delay-0616cafcb4b8"), model("delay-0616cafcb4b8")),
        (pin(flights(), "delay", "1"), model("delay-0616cafcb4b8")),
        (pin(flights(), "delay", "version 1"), model("delay-0616cafcb4b8")),
        (pin(flights(), "mdep/delay", "1"), model("delay-0616cafcb4b8")),
        (
            pin(flights(), "delay", "delay-0b622fe92bb8"),
            r#"TrainingJob/delay {"spec":{"pin":"delay-0b622fe92bb8"}}"#.to_owned(),
        ),
        (pin(pinned(), "delay", "1"), "Model/delay is pinned to delay-0616cafcb4b8 already".to_owned()),
        (pin(flights(), "model/delay", "7"), format!("refused: model/delay has no run \"7\"; {usable}")),
        (
            pin(active(), "model/delay", "delay-0123456789ab"),
            format!("refused: delay-0123456789ab has not succeeded (Pending); {usable}"),
        ),
    ];
    for (found, want) in rows {
        assert_eq!(found, want);
    }
}

#[test]
fn refused_version_is_not_pinned_and_not_rolled_back_to() {
    let refused = json!({"status": {"conditions": [
        {"type": "Succeeded", "status": "True", "reason": "Succeeded", "message": "m", "lastTransitionTime": super::TROUBLE},
        {"type": "Accepted", "status": "False", "reason": "GateFailed", "message": "m", "lastTransitionTime": super::TROUBLE}]}});
    let snapshot = flights().with("ModelVersion/delay-0616cafcb4b8", refused).snapshot();
    for found in [actions::pin(&snapshot, "delay", "1"), actions::rollback(&snapshot, "delay")] {
        let text = outcome(found);
        assert!(text.starts_with("refused: "), "{text}");
    }
}

#[test]
fn action_says_what_happens_next() {
    let say = |change: Result<Change>| change.unwrap().says.join("\n") + "\n";
    let texts = [
        say(actions::rollback(&flights().snapshot(), "delay")),
        say(actions::retry(&dead().snapshot(), "delay")),
        say(actions::cancel(&active().snapshot(), "delay")),
        say(actions::suspend(&flights().snapshot(), "tjob/delay", true)),
    ];
    expect_file!["golden/actions.txt"].assert_eq(&texts.join("\n"));
}

#[test]
fn dead_letters_are_listed_and_the_present_ones_replayed() {
    let snapshot = dead().snapshot();
    expect_file!["golden/dead-letters.txt"]
        .assert_eq(&dead_letters::table(&dead_letters::of(&snapshot), snapshot.now));
    let replayed: Vec<_> = dead_letters::replay(&snapshot)
        .unwrap()
        .into_iter()
        .map(|change| change.object.to_string())
        .collect();
    assert_eq!(replayed, ["TrainingJob/delay"]);
    assert_eq!(dead_letters::replay(&flights().snapshot()).unwrap(), []);
}

#[test]
fn versions_mark_the_one_in_use() {
    let snapshot = pinned().snapshot();
    let model = snapshot.get(&ObjectId::new("Model", "delay")).unwrap();
    expect_file!["golden/versions.txt"]
        .assert_eq(&versions::table(&Versions::of(&snapshot, model), Style::PLAIN));
}

#[test]
fn differences_of_runs_are_those_of_content_inputs_and_metrics() {
    let code = |text: &str| json!({"spec": {"content": {"code": {"train.py": text}, "seed": 43}}});
    let case = flights().with("TrainingRun/delay-541303624bf0", code("import json\nprint(1)\n"));
    let snapshot = case
        .with(
            "TrainingRun/delay-0b622fe92bb8",
            json!({"spec": {"content": {"code": {"train.py": "import json\nprint(2)\n"}}}}),
        )
        .snapshot();
    let of = |name: &str| diff::run(&snapshot, name).unwrap();
    let found = diff::Diff::of(&snapshot, of("delay-0b622fe92bb8"), of("tjob/delay")).unwrap();
    expect_file!["golden/diff.txt"].assert_eq(&diff::text(&found, Style::PLAIN));
    let models = diff::Diff::of(&snapshot, of("model/delay@1"), of("model/delay@2")).unwrap();
    expect_file!["golden/diff-model.txt"].assert_eq(&diff::text(&models, Style::PLAIN));
    let same = diff::Diff::of(&snapshot, of("model/delay@1"), of("model/delay@delay-0616cafcb4b8")).unwrap();
    assert!(same.is_empty());
    let kinds = diff::Diff::of(&snapshot, of("model/delay"), of("tjob/delay")).unwrap_err().to_string();
    assert!(kinds.contains("different kinds"), "{kinds}");
}

#[test]
fn maker_of_an_input_that_is_gone_is_named() {
    let snapshot = flights().without("TrainingRun/delay-0b622fe92bb8").snapshot();
    let of = |name: &str| diff::run(&snapshot, name).unwrap();
    let models = diff::Diff::of(&snapshot, of("model/delay@1"), of("model/delay@2")).unwrap();
    let text = diff::text(&models, Style::PLAIN);
    assert!(
        text.contains("TrainingJob/delay (a run that is gone) -> delay-541303624bf0\n  cannot be"),
        "{text}"
    );
}

#[test]
fn unreadable_status_does_not_hide_the_others() {
    let snapshot = flights().with("Model/delay", json!({"status": {"attempts": "many"}})).snapshot();
    let model = snapshot.get(&ObjectId::new("Model", "delay")).unwrap();
    assert!(model.unreadable.as_ref().is_some_and(|error| error.contains("many")), "{:?}", model.unreadable);
    let none: Option<&Value> = None;
    assert_eq!(none, model.spec.get("pin"));
}
