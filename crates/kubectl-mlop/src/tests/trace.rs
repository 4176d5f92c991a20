//! Traces of the recorded chain, whole and with gaps.

use super::{Case, flights};
use crate::{
    output::{Style, json},
    trace::{Trace, dot, mermaid, start, tree},
};
use expect_test::expect_file;
use serde_json::json;

fn trace(case: &Case, name: &str) -> Trace {
    let snapshot = case.snapshot();
    Trace::of(&snapshot, start(&snapshot, name).unwrap()).unwrap()
}

#[test]
fn served_model_is_traced_to_its_sources() {
    let trace = trace(&flights(), "delay");
    expect_file!["golden/trace.txt"].assert_eq(&tree(&trace, Style::PLAIN));
    expect_file!["golden/trace.json"].assert_eq(&json(&trace).unwrap());
    expect_file!["golden/trace.dot"].assert_eq(&dot(&trace));
    expect_file!["golden/trace.mermaid"].assert_eq(&mermaid(&trace));
}

#[test]
fn pruned_run_is_a_gap_behind_which_ancestors_are_known() {
    let run = flights().run_of("TrainingJob/delay");
    let case = flights().without(&format!("TrainingRun/{run}"));
    expect_file!["golden/trace-gap.txt"].assert_eq(&tree(&trace(&case, "delay"), Style::PLAIN));
}

#[test]
fn earlier_version_is_traced_to_its_own_inputs() {
    let trace = trace(&flights(), "mver/delay-0616cafcb4b8");
    let rows: Vec<_> = trace
        .nodes
        .iter()
        .filter_map(|node| Some((node.object.to_string(), node.run.clone()?.name)))
        .collect();
    let want = [
        ("Model/delay", "delay-0616cafcb4b8"),
        ("TrainingJob/delay", "delay-0b622fe92bb8"),
        ("Dataset/flights", "flights-2e4c900ff0e5"),
        ("FeatureView/route-delays", "route-delays-d56137bb5d95"),
    ];
    assert_eq!(rows, want.map(|(object, run)| (object.to_owned(), run.to_owned())));
}

#[test]
fn digest_finds_the_last_object_that_has_it() {
    let snapshot = flights().snapshot();
    let first =
        |digest: &str| Trace::of_digest(&snapshot, digest).map(|trace| trace.nodes[0].object.to_string());
    let rows = [
        ("sha256:27f1e790b9649fb8e3cba551ab17d4e80e8a0b8e30b9a9da04554c78883d43e0", "ModelDeployment/delay"),
        ("27f1e790", "ModelDeployment/delay"),
        ("486f03c7d72d", "FeatureView/route-delays"),
        ("45b73ece7ded", "Dataset/flights"),
        ("5913d68c5a2a", "Model/delay"),
    ];
    for (digest, want) in rows {
        assert_eq!(first(digest).unwrap(), want, "{digest}");
    }
    for (digest, says) in [
        ("27f1", "is not a digest"),
        ("model!", "is not a digest"),
        ("000000000000", "no object in namespace flights"),
    ] {
        let error = first(digest).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn object_without_an_artifact_says_where_to_look() {
    let snapshot = flights().unpublished("Dataset/flights", "Scanning", "scanning").snapshot();
    let error = Trace::of(&snapshot, start(&snapshot, "dset/flights").unwrap()).unwrap_err().to_string();
    assert_eq!(error, "Dataset/flights has published nothing yet; `kubectl mlop why dset/flights` says why");
}

#[test]
fn quotes_in_facts_leave_graphs_readable() {
    let case = flights().with("ModelDeployment/delay", json!({"status": {"url": "http://\"x\""}}));
    let trace = trace(&case, "delay");
    assert!(dot(&trace).contains(r#"http://\"x\""#));
    assert!(mermaid(&trace).contains("http://#quot;x#quot;"));
}
