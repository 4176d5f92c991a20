//! Tables of the gate, lineage and causes.

use super::{graph::holds, *};
use crate::{
    resource::Unavailable,
    testing::{dataset, descendant, failed, input, missing, outdated, ready, time, version},
};
use mlop_api::{Digest, Reason, common::Consistency};
use serde_json::{Value, json};
use std::sync::Arc;

type Edit<'a> = &'a dyn Fn(&mut Value);

/// A ready Dataset after an edit of its JSON.
fn edited(edit: impl Fn(&mut Value)) -> InputState {
    let mut object = dataset("flights", 1, -100, json!([]), Value::Null);
    edit(&mut object);
    input("flights", Some(object))
}

#[test]
fn gate_opens_for_the_artifact_of_the_present_generation() {
    let unknown = InputState { kind: None, ..ready("flights") };
    let unavailable = |why| InputState { unavailable: Some(why), ..missing("flights") };
    let known = InputState { unavailable: Some(Unavailable::Forbidden), ..ready("flights") };
    let rows = [
        ("ready", ready("flights"), None),
        ("newer data has failed", outdated("flights"), None),
        ("missing", missing("flights"), Some(Reason::WaitingForInputs)),
        ("failed", failed("flights"), Some(Reason::UpstreamFailed)),
        ("of a kind that is not watched", unknown, Some(Reason::InputKindUnknown)),
        ("of a kind that is not served", unavailable(Unavailable::NotServed), Some(Reason::InputKindUnknown)),
        (
            "of a kind that may not be read",
            unavailable(Unavailable::Forbidden),
            Some(Reason::InputKindUnknown),
        ),
        ("known from the time before reading was forbidden", known, None),
        (
            "with a status of another shape",
            edited(|object| object["status"]["artifact"]["run"] = json!(7)),
            Some(Reason::WaitingForInputs),
        ),
        (
            "being deleted",
            edited(|object| object["metadata"]["deletionTimestamp"] = json!(time(1))),
            Some(Reason::WaitingForInputs),
        ),
        (
            "edited, and not observed yet",
            edited(|object| object["metadata"]["generation"] = json!(2)),
            Some(Reason::WaitingForInputs),
        ),
        (
            "ready at an earlier generation",
            edited(|object| object["status"]["conditions"][0]["observedGeneration"] = json!(0)),
            Some(Reason::WaitingForInputs),
        ),
        (
            "not ready",
            edited(|object| object["status"]["conditions"][0]["status"] = json!("Unknown")),
            Some(Reason::WaitingForInputs),
        ),
        (
            "with an artifact of an earlier generation",
            edited(|object| object["status"]["artifact"]["generation"] = json!(0)),
            Some(Reason::WaitingForInputs),
        ),
        (
            "with an artifact that is valid for no generation",
            edited(|object| object["status"]["artifact"]["generation"] = Value::Null),
            Some(Reason::WaitingForInputs),
        ),
        (
            "without an artifact",
            edited(|object| object["status"]["artifact"] = Value::Null),
            Some(Reason::WaitingForInputs),
        ),
    ];
    for (state, input, want) in rows {
        assert_eq!(gate(&input).err().map(|input| input.blocked.reason), want, "{state}");
    }
}

#[test]
fn unreadable_input_is_reported_with_its_field() {
    let input = edited(|object| object["status"]["artifact"]["run"] = json!(7));
    assert_eq!(
        gate(&input).unwrap_err().blocked.message,
        "Dataset flights does not follow the contract between stages: \
         status.artifact.run: invalid type: integer `7`, expected a string"
    );
}

#[test]
fn gate_passes_on_the_failure_upstream() {
    let path = "Dataset flights: SchemaMismatch: no column x";
    let usable = gate(&outdated("flights")).unwrap();
    assert_eq!(usable.upstream.map(|upstream| upstream.path).as_deref(), Some(path));
    let blocked = gate(&failed("flights")).unwrap_err();
    assert_eq!(blocked.blocked.message, path);
}

#[test]
fn path_leads_from_here_to_the_cause() {
    let upstream = gate(&failed("flights")).unwrap_err().upstream.unwrap();
    let cause = upstream.cause.clone();
    assert_eq!(
        path("FeatureView delays", &cause, Some(&upstream)),
        "FeatureView delays <- Dataset flights: SchemaMismatch: no column x"
    );
    assert_eq!(path("Dataset flights", &cause, None), "Dataset flights: SchemaMismatch: no column x");
    assert_eq!(
        path("Model m", &cause, None),
        "Model m <- Dataset flights: SchemaMismatch: no column x",
        "without the path between them"
    );
}

#[test]
fn signal_changes_with_the_facts_that_dependents_decide_on() {
    let signals = |edit: &dyn Fn(&mut Value)| {
        let (before, after) = (ready("flights").object.unwrap(), edited(edit).object.unwrap());
        signal(&before) != signal(&after)
    };
    let rows: [(&str, Edit<'_>, bool); 10] = [
        ("nothing", &|_| {}, false),
        ("a label", &|object| object["metadata"]["labels"] = json!({"a": "b"}), false),
        ("a metric", &|object| object["status"]["metrics"] = json!([{"name": "rows", "value": "1"}]), false),
        ("a message", &|object| object["status"]["conditions"][0]["message"] = json!("m"), false),
        ("a digest", &|object| object["status"]["artifact"]["digest"] = json!(Digest::of_bytes(b"x")), true),
        (
            "a number in the registry",
            &|object| {
                object["status"]["registered"] =
                    json!({"registry": "r", "name": "n", "version": "2", "reference": "n/2"})
            },
            true,
        ),
        ("a condition", &|object| object["status"]["conditions"][0]["status"] = json!("False"), true),
        ("a deletion", &|object| object["metadata"]["deletionTimestamp"] = json!(time(1)), true),
        ("an unreadable status", &|object| object["status"] = json!("done"), true),
        ("the uid", &|object| object["metadata"]["uid"] = json!("another"), true),
    ];
    for (change, edit, want) in rows {
        assert_eq!(signals(edit), want, "{change}");
    }
}

fn usable(states: &[InputState]) -> Vec<ReadyInput> {
    states.iter().map(|state| gate(state).unwrap()).collect()
}

#[test]
fn inputs_converge_on_one_version_of_a_shared_ancestor() {
    let rows = [
        ("no shared ancestor", vec![ready("a"), ready("b")], Consistency::Same, true),
        ("the same version", vec![descendant("a", 1), descendant("b", 1)], Consistency::Same, true),
        ("different versions", vec![descendant("a", 1), descendant("b", 2)], Consistency::Same, false),
        ("any version", vec![descendant("a", 1), descendant("b", 2)], Consistency::Any, true),
        (
            "a root beside its descendant",
            vec![version("root", 1, 0), descendant("b", 1)],
            Consistency::Same,
            false,
        ),
    ];
    for (inputs, states, consistency, want) in rows {
        assert_eq!(converged(&usable(&states), consistency).is_ok(), want, "{inputs}");
    }
}

/// Ancestors as a status lists them: the group, the name, the version and whether it is a root.
fn listed(ancestors: &[(&str, &str, u32, bool)]) -> Value {
    let ancestors = ancestors.iter().map(|(group, name, version, root)| {
        let digest = Digest::of_bytes(format!("{name} {version}").as_bytes());
        json!({"apiGroup": group, "kind": "Dataset", "name": name, "digest": digest, "root": root})
    });
    ancestors.collect()
}

#[test]
fn inputs_converge_on_every_ancestor_in_common() {
    let made = |name: &str, version: u32, ancestors: &[(&str, &str, u32, bool)]| {
        input(name, Some(dataset(name, version, 0, listed(ancestors), Value::Null)))
    };
    let root = ("mlop.dev", "root", 1, true);
    let view = |version: u32| made("view", version, &[root]);
    let of_view = |version: u32| made("model", 1, &[root, ("mlop.dev", "view", version, false)]);
    let many: Vec<_> = (0..100).map(|number| format!("r{number:02}")).collect();
    let of_many = |name: &str, last: u32| {
        let version = |at: usize| if at == 99 { last } else { 1 };
        let all = many.iter().enumerate().map(|(at, root)| ("mlop.dev", root.as_str(), version(at), true));
        made(name, 1, &all.collect::<Vec<_>>())
    };
    let rows = [
        ("a stage and what was made from this version of it", vec![view(2), of_view(2)], true),
        ("a stage and what was made from an earlier version", vec![view(2), of_view(1)], false),
        (
            "two that were made from one stage",
            vec![of_view(1), made("b", 1, &[("mlop.dev", "view", 2, false)])],
            false,
        ),
        (
            "the same name in another group",
            vec![made("a", 1, &[root]), made("b", 1, &[("acme.dev", "root", 2, true)])],
            true,
        ),
        ("a hundred roots", vec![of_many("a", 1), of_many("b", 1)], true),
        ("a hundred roots, of which the last differs", vec![of_many("a", 1), of_many("b", 2)], false),
    ];
    for (inputs, states, want) in rows {
        assert_eq!(converged(&usable(&states), Consistency::Same).is_ok(), want, "{inputs}");
        assert!(converged(&usable(&states), Consistency::Any).is_ok(), "{inputs}");
    }
}

#[test]
fn divergence_names_the_pin_that_causes_it() {
    let using = |name: &str, used: &[&str], spec: Value| {
        let mut object = dataset(name, 1, 0, json!([]), Value::Null);
        object["spec"] = spec;
        object["spec"]["inputs"] = used.iter().map(|used| json!({"from": ready(used).from})).collect();
        (name.to_owned(), input(name, Some(object)).object)
    };
    let pin = || json!({"pin": "x-0"});
    let waiting = "waiting until both have followed";
    let rows = [
        ("nothing is held", vec![], waiting),
        ("the input", vec![using("b", &["root"], pin())], "spec.pin of Dataset b holds it back"),
        (
            "an object between",
            vec![using("b", &["c"], json!({})), using("c", &["root"], json!({"suspend": true}))],
            "spec.suspend of Dataset c holds it back",
        ),
        ("the shared ancestor", vec![using("b", &["root"], json!({})), using("root", &[], pin())], waiting),
        ("a cycle", vec![using("b", &["c"], json!({})), using("c", &["b"], json!({}))], waiting),
    ];
    for (held, objects, want) in rows {
        let lookup = |from: &mlop_api::common::ObjectRef| {
            objects.iter().find(|(name, _)| *name == from.name).and_then(|(_, object)| object.clone())
        };
        let mut states = vec![descendant("a", 1), descendant("b", 2)];
        for state in &mut states {
            state.holds = holds(&state.from, lookup);
        }
        let message = converged(&usable(&states), Consistency::Same).unwrap_err();
        assert!(
            message.starts_with("inputs a and b come from different versions of Dataset root ("),
            "{held}: {message}"
        );
        assert!(message.contains(want), "{held}: {message}");
    }
}

#[test]
fn ancestors_are_the_inputs_and_theirs_with_roots_first() {
    let ancestors = ancestors(&usable(&[descendant("b", 1), ready("a"), descendant("c", 1)]));
    let names: Vec<_> = ancestors.iter().map(|ancestor| (ancestor.name.as_str(), ancestor.root)).collect();
    assert_eq!(names, [("a", true), ("root", true), ("b", false), ("c", false)]);
    assert!(
        ancestors.iter().all(|ancestor| (&*ancestor.api_group, &*ancestor.kind) == ("mlop.dev", "Dataset"))
    );
    let roots: Vec<_> = (0..130).map(|number| format!("r{number:03}")).collect();
    let roots: Vec<_> = roots.iter().map(|root| ("mlop.dev", root.as_str(), 1, true)).collect();
    let descendant = input("d", Some(dataset("d", 1, 0, listed(&roots), Value::Null)));
    let most = super::ancestors(&usable(&[descendant]));
    assert!(most.len() > 32 && most.iter().all(|ancestor| ancestor.root), "roots come before what is cut");
}

#[test]
fn ancestors_tell_when_they_were_published() {
    let direct = usable(&[version("a", 1, -20)]);
    let list = ancestors(&direct);
    let [a] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!(a.produced_at, Some(direct[0].artifact.produced_at));
    assert_eq!(a.input_digest.as_ref(), Some(&direct[0].artifact.input_digest));
    let records = direct.iter().map(|input| &input.input.record);
    assert_eq!(last_published(records.clone(), &list), a.produced_at);
    assert_eq!(last_published(records, &[]), None);

    // A view that was made when the root was published for the first time, beside the root.
    let mut earlier = serde_json::to_value(&list).unwrap();
    earlier[0]["producedAt"] = json!("1970-01-01T00:00:00.000000Z");
    let view = input("view", Some(dataset("view", 1, -10, earlier, Value::Null)));
    let both = ancestors(&usable(&[view, version("a", 1, -20)]));
    let seen: Vec<_> = both.iter().map(|ancestor| (&*ancestor.name, ancestor.produced_at)).collect();
    assert_eq!(seen[0], ("a", a.produced_at), "the last publication counts");
    assert_eq!((seen.len(), seen[1].0, &both[1].input_digest), (2, "view", &None));
}

#[test]
fn ancestors_stay_while_they_are_the_same_artifacts() {
    let known = ancestors(&usable(&[version("a", 1, -20)]));
    let again = usable(&[version("a", 1, -10)]);
    assert_ne!(ancestors(&again), known);
    assert_eq!(renewed_ancestors(&known, &again), known);
    let newer = usable(&[version("a", 2, -10)]);
    assert_eq!(renewed_ancestors(&known, &newer), ancestors(&newer));
}

#[test]
fn newest_input_is_the_last_published() {
    let inputs = usable(&[version("a", 1, -20), version("b", 1, -10)]);
    assert_eq!(newest(&inputs), Some(inputs[1].artifact.produced_at.get()));
    assert_eq!(newest(&[]), None);
}

#[test]
fn cycle_is_found_through_other_objects() {
    let reference = |name: &str| ready(name).from;
    let using = |name: &str, used: &str| {
        let mut object = dataset(name, 1, 0, json!([]), Value::Null);
        object["spec"] = json!({"inputs": [{"from": reference(used)}]});
        input(name, Some(object)).object
    };
    let objects = [("b", using("b", "c")), ("c", using("c", "a")), ("d", using("d", "d"))];
    let lookup = |from: &mlop_api::common::ObjectRef| {
        objects.iter().find(|(name, _)| *name == from.name).and_then(|(_, object)| object.clone())
    };
    let cycle_from = |used: &str| cycle(&reference("a"), &[reference(used)], lookup);
    assert_eq!(
        cycle_from("b").as_deref(),
        Some("Dataset a depends on itself: it uses Dataset b <- Dataset c <- Dataset a")
    );
    assert_eq!(cycle_from("d"), None, "a cycle of others is theirs to report");
    assert_eq!(cycle_from("e"), None);
    let _: Option<Arc<crate::resource::InputObject>> = lookup(&reference("e"));
}
