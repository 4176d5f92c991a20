//! Attempts whose preflight has failed: their cost, and the nodes that the next ones avoid.

use super::{Case, run, success, user_error};
use crate::{
    condition,
    run::preflight::Avoiding,
    testing::{self, ForecastRunSpec, NOW, Situation, at, check},
};
use k8s_openapi::api::core::v1::PodSpec;
use mlop_api::{
    Reason,
    contract::condition_type,
    preflight::{AVOIDED_MAX, AvoidedNode, Check},
    result::{Failure, ResultDocument},
};
use serde_json::{Value, json};

impl Case<false> {
    /// The preflight of the next attempt fails on `node`, `seconds` after [`NOW`].
    fn unfit(self, check: Check, node: &str, seconds: i64) -> Self {
        let mut case = self.at(seconds).reconciled();
        case.pods.last_mut().unwrap().spec.node_name = Some(node.to_owned());
        let failure = Failure::preflight(check, "not fit");
        case.pod(testing::terminated(&ResultDocument::failed(failure), NOW + seconds)).reconciled()
    }

    /// No node has room for the newest pod.
    fn unschedulable(self) -> Self {
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."});
        self.pod(serde_json::from_value(json!({"phase": "Pending", "conditions": [condition]})).unwrap())
    }

    /// The nodes that the newest pod must avoid, and those that it avoids if it can.
    fn avoids(&self) -> (Vec<String>, Vec<String>) {
        let observed = self.observed();
        let (nodes, now) = (&observed.object.status.as_ref().unwrap().avoided_nodes, at(self.now));
        let mut spec = PodSpec::default();
        Avoiding { nodes, now }.apply(&mut spec);
        let affinity = json!(spec.affinity)["nodeAffinity"].clone();
        let names =
            |terms: &Value| terms.as_array().into_iter().flatten().map(json_names).collect::<Vec<_>>();
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        let preferred = affinity["preferredDuringSchedulingIgnoredDuringExecution"].as_array();
        let preferred: Vec<_> =
            preferred.into_iter().flatten().map(|term| term["preference"].clone()).collect();
        (names(required).concat(), names(&json!(preferred)).concat())
    }
}

fn json_names(term: &Value) -> Vec<String> {
    let fields = term["matchFields"].as_array().into_iter().flatten();
    fields
        .map(|field| {
            assert_eq!((&field["key"], &field["operator"]), (&json!("metadata.name"), &json!("NotIn")));
            assert_eq!(field["values"].as_array().map(Vec::len), Some(1), "the API server takes one value");
            field["values"][0].as_str().unwrap().to_owned()
        })
        .collect()
}

fn cost(case: &Case<false>) -> u32 {
    let status = case.status();
    status.attempts - status.budget_start
}

#[test]
fn failed_preflight_costs_nothing_a_few_times() {
    let gpu = |times: i64| (1..=times).fold(run(), |case, time| case.unfit(Check::Gpu, "a", 700 * time));
    let store = |times: i64| (1..=times).fold(run(), |case, time| case.unfit(Check::Store, "a", 700 * time));
    let rows = [
        ("a GPU, three times", gpu(3), 0, true),
        ("a GPU, once more", gpu(4), 1, true),
        ("until the budget is used up", gpu(6), 3, false),
        ("a store that does not answer", store(9), 0, true),
        (
            "an attempt that got further in between",
            gpu(3).failed(user_error(), 2_800).unfit(Check::Disk, "a", 3_500),
            1,
            true,
        ),
        (
            "a worker that names no check",
            run().failed(Failure::transient(Reason::PreflightFailed, "x"), 9),
            1,
            true,
        ),
    ];
    for (situation, case, want, goes_on) in rows {
        assert_eq!(cost(&case), want, "{situation}");
        let status = case.status();
        let is_open = !condition::is_false(&status.conditions, condition_type::SUCCEEDED);
        assert_eq!(is_open, goes_on, "{situation}");
    }
    let status = gpu(6).status();
    let succeeded = condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap();
    assert_eq!(succeeded.reason, "PreflightFailed");
    assert!(succeeded.message.ends_with("node a: not fit"), "{}", succeeded.message);
}

#[test]
fn next_attempts_avoid_the_node_for_a_while() {
    let once = |check| run().unfit(check, "a", 0);
    let twice = || once(Check::Disk).unfit(Check::Gpu, "b", 60);
    let retry = |spec: &mut ForecastRunSpec| spec.execution.retry_requested_at = Some("1".into());
    let done = || {
        let case = once(Check::Gpu).at(9).reconciled();
        case.pod(testing::terminated(&success(), NOW + 9)).reconciled()
    };
    let rows = [
        ("a GPU", once(Check::Gpu).at(599), "a", ""),
        ("after ten minutes", once(Check::Gpu).at(600), "", ""),
        ("a disk, then a GPU of another node", twice().at(70), "b a", ""),
        ("the first of them counts again", twice().at(610), "b", ""),
        ("a store", once(Check::Store).at(9), "", "a"),
        ("a store, then a GPU of the node", once(Check::Store).unfit(Check::Gpu, "a", 60).at(70), "a", ""),
        ("the work fails on another node", once(Check::Gpu).failed(user_error(), 60).at(70), "a", ""),
        ("a retry is requested", once(Check::Gpu).edited(retry).at(9).reconciled(), "", ""),
        ("it has succeeded", done(), "", ""),
    ];
    for (situation, case, required, preferred) in rows {
        let (strict, soft) = case.avoids();
        assert_eq!(
            (strict.join(" ").as_str(), soft.join(" ").as_str()),
            (required, preferred),
            "{situation}"
        );
    }
    let many = (0..12).fold(run(), |case, node| case.unfit(Check::Store, &format!("n{node}"), 30 * node));
    let avoided = many.status().avoided_nodes;
    assert_eq!((avoided.len(), avoided[0].name.as_str()), (AVOIDED_MAX, "n11"));
}

#[test]
fn node_counts_again_for_a_pod_that_finds_no_other() {
    let waits = || run().unfit(Check::Gpu, "a", 0).at(3).reconciled().unschedulable();
    let retry = |spec: &mut ForecastRunSpec| spec.execution.retry_requested_at = Some("1".into());
    check(vec![
        ("no other node", waits(), "Unknown/Unschedulable 1 attempts requeue 597"),
        (
            "ten minutes are over",
            waits().reconciled().at(600),
            "quiet delete delay-1-2 then Unknown/Running 1 attempts create Pod delay-1-2",
        ),
        (
            "a retry is requested",
            waits().reconciled().edited(retry).at(60),
            "quiet delete delay-1-2 then Unknown/Running 1 attempts create Pod delay-1-2",
        ),
    ]);
    let status = waits().reconciled().status();
    let succeeded = condition::get(&status.conditions, condition_type::SUCCEEDED).unwrap();
    for words in [
        "1 node(s) didn't match Pod's node affinity/selector",
        "attempt 1 failed: PreflightFailed: node a: not fit",
        "; avoided until 1970-01-12T13:56:40Z: a",
    ] {
        assert!(succeeded.message.contains(words), "{words}: {}", succeeded.message);
    }
}

#[test]
fn attempt_goes_on_when_its_store_becomes_ready() {
    let away = (1..=6).fold(run(), |case, attempt| case.unfit(Check::Store, "a", 100 * attempt));
    let again = "Unknown/Running 6 attempts create Pod delay-1-7 delete delay-1-6";
    check(vec![
        ("nothing has changed", away.clone().at(601), "quiet requeue 35"),
        ("the ObjectStore is ready again", away.store_denies(601).store_heals(603).at(603), again),
    ]);
}

#[test]
fn affinity_of_a_profile_stays() {
    let term = |key: &str| json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    let required = json!({"nodeSelectorTerms": [term("gpu"), term("big")]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
    let mut spec: PodSpec = serde_json::from_value(json!({"containers": [], "affinity": affinity})).unwrap();
    let node = |name: &str, check| AvoidedNode { name: name.to_owned(), check, at: at(NOW).into() };
    let nodes = [node("a", Check::Gpu), node("b", Check::Store)];
    Avoiding { nodes: &nodes, now: at(NOW) }.apply(&mut spec);
    let affinity = json!(spec.affinity)["nodeAffinity"].clone();
    let terms = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    for (index, key) in ["gpu", "big"].into_iter().enumerate() {
        assert_eq!(terms[index]["matchExpressions"][0]["key"], key);
        assert_eq!(json_names(&terms[index]), ["a"]);
    }
    let preferred = &affinity["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(
        (json_names(&preferred["preference"]).join(" ").as_str(), &preferred["weight"]),
        ("b", &json!(100))
    );
}
