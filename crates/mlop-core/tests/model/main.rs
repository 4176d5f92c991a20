//! Model check of the chain: every interleaving of a few users' actions, failures and controllers over four stages
//! whose caches lag behind, with the real gate, decisions and signal.
//!
//! The API server, `execute` and the controllers of runs are modelled. The real ones are tested on `mlop-sim`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod chain;
mod cluster;
mod oracle;
mod reconcile;
mod shared;
mod stage;

use chain::{Chain, Decide, Event, Start, faithful};
use mlop_api::common::Consistency;
use mlop_core::intent::Observed;
use oracle::{Rule, condition};
use stage::{Shape, Stage};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::sync::Arc;

const GATE: &str = "R6: work starts only on inputs that are right for their spec";
const CONVERGENCE: &str = "R7: a diamond never mixes versions of its source";
const ONE: &str = "R13: one run at a time";
const NEW: &str = "R19: only a new input digest starts a run";
const EQUAL: &str = "R20: an equal output is no new revision";
const REVISION: &str = "revisions grow by one with each new digest";
const KEPT: &str = "R9: an artifact stays until the next one";
const SUSPENDED: &str = "R24: a suspended intent starts nothing";
const RETENTION: &str = "R26: the run in use or pinned is kept";
const READY: &str = "Ready is True only for the artifact of its generation";
const NOW: &str = "observedGeneration and Ready together describe the present spec";
const REST: &str = "a chain at rest is up to date or reports why not";
const DIVERGES: &str = "inputs diverge on the way";

fn properties() -> Vec<Property<Chain>> {
    vec![
        Property::<Chain>::always(GATE, |_, s| s.broken != Some(Rule::Gate)),
        Property::<Chain>::always(CONVERGENCE, |_, s| s.broken != Some(Rule::Convergence)),
        Property::<Chain>::always(ONE, |_, s| s.broken != Some(Rule::OneAtATime)),
        Property::<Chain>::always(NEW, |_, s| s.broken != Some(Rule::OnlyNewDigests)),
        Property::<Chain>::always(EQUAL, |_, s| s.broken != Some(Rule::EqualOutputStops)),
        Property::<Chain>::always(REVISION, |_, s| s.broken != Some(Rule::RevisionGrows)),
        Property::<Chain>::always(KEPT, |_, s| s.broken != Some(Rule::NothingIsLost)),
        Property::<Chain>::always(SUSPENDED, |_, s| s.broken != Some(Rule::Suspended)),
        Property::<Chain>::always(RETENTION, |_, s| s.broken != Some(Rule::Retention)),
        Property::<Chain>::always(READY, |_, s| s.stages.iter().all(oracle::ready_is_right)),
        Property::<Chain>::always(NOW, |_, s| s.stages.iter().all(oracle::ready_is_of_now)),
        Property::<Chain>::always(REST, Chain::converges),
        // Where nothing can diverge, the property says nothing.
        Property::<Chain>::sometimes(DIVERGES, |m, s| {
            let third = s.stages[2].live.as_ref().and_then(|view| view.status.as_ref());
            let up_to_date = third.and_then(|status| condition(&status.conditions, "UpToDate"));
            up_to_date.is_some_and(|condition| condition.reason == "InputsDiverged")
                || !m.kinds.contains(&Event::NewData)
        }),
    ]
}

/// Searches a scope to its end. A minimum number of states keeps the scope from becoming empty unnoticed.
fn check(chain: Chain, states_min: usize) {
    let scope = format!("{:?} {:?}, {} of {:?}", chain.shape, chain.start, chain.events, chain.kinds);
    let checker = chain.checker().spawn_bfs().join();
    let (model, states) = (checker.model(), checker.unique_state_count());
    println!("{scope}: {states} states, depth {}, {} decisions", checker.max_depth(), model.decisions());
    let failures = checker.discoveries().into_iter().filter(|(name, _)| *name != DIVERGES);
    let reported: Vec<String> = failures
        .map(|(name, path)| {
            let wrong = model.settle(path.last_state()).err().unwrap_or_default();
            format!("{name} {wrong}\nafter {:?}", path.into_actions())
        })
        .collect();
    assert!(reported.is_empty(), "{scope}: {}", reported.join("\n"));
    assert!(checker.discovery(DIVERGES).is_some(), "{scope}: nothing diverges");
    assert!(states >= states_min, "{scope}: only {states} states were reached");
}

#[test]
fn chain_holds_its_rules_from_creation() {
    let chain = Chain::new(Shape::Diamond, Start::Fresh, 1, &[Event::Edit]);
    check(Chain { targets: &[0], ..chain }, 5_000);
}

#[test]
fn chain_holds_its_rules_from_creation_with_failures() {
    let chain = Chain::new(Shape::Nested, Start::Fresh, 1, &[Event::Failure]);
    check(chain, 2_000);
}

#[test]
fn chain_follows_new_data_and_edits() {
    let chain = Chain::new(Shape::Diamond, Start::Settled, 2, &[Event::NewData, Event::Edit]);
    check(Chain { targets: &[0], ..chain }, 50_000);
}

#[test]
fn chain_follows_edits_of_every_stage() {
    check(Chain::new(Shape::Nested, Start::Settled, 1, &[Event::Edit]), 700);
}

#[test]
fn chain_follows_new_data_and_pins() {
    let chain = Chain::new(Shape::Diamond, Start::Updated, 2, &[Event::NewData, Event::Pin]);
    check(Chain { targets: &[0, 1], ..chain }, 20_000);
}

#[test]
fn chain_follows_pins_of_every_stage() {
    check(Chain::new(Shape::Nested, Start::Updated, 2, &[Event::Pin]), 10_000);
}

#[test]
fn chain_recovers_from_failures_of_every_stage() {
    let kinds = &[Event::NewData, Event::Failure, Event::BrokenData];
    check(Chain::new(Shape::Nested, Start::Settled, 2, kinds), 15_000);
}

#[test]
fn chain_recovers_from_failures_by_retries() {
    let chain = Chain::new(Shape::Diamond, Start::HeldUp, 2, &[Event::Failure]);
    check(Chain { targets: &[0, 1], ..chain }, 2_500);
}

#[test]
fn chain_follows_new_data_while_a_run_is_held_up() {
    let chain = Chain::new(Shape::Diamond, Start::HeldUp, 1, &[Event::NewData]);
    check(Chain { targets: &[0], ..chain }, 5_000);
}

#[test]
fn chain_follows_edits_while_a_run_is_held_up() {
    let chain = Chain::new(Shape::Diamond, Start::HeldUp, 1, &[Event::Edit]);
    check(Chain { targets: &[0], ..chain }, 5_000);
}

#[test]
fn chain_survives_reconciles_without_their_deletions() {
    check(Chain::new(Shape::Diamond, Start::Updated, 1, &[Event::NewData]), 200);
}

#[test]
fn chain_survives_deletions_and_recreations() {
    let chain = Chain::new(Shape::Nested, Start::Settled, 1, &[Event::Recreate, Event::Edit]);
    check(Chain { targets: &[0, 1], ..chain }, 2_000);
}

#[test]
fn suspended_stages_start_nothing() {
    let chain = Chain::new(Shape::Nested, Start::Settled, 2, &[Event::NewData, Event::Suspend]);
    check(Chain { targets: &[0, 2], ..chain }, 15_000);
}

/// Decisions that are wrong in one way break the rule about it.
fn bites(decide: Decide, checks: bool, kinds: &'static [Event], rule: &str) {
    let chain = Chain { decide, checks, ..Chain::new(Shape::Diamond, Start::Settled, 2, kinds) };
    let checker = chain.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken: Vec<_> = checker.discoveries().into_keys().filter(|name| *name != DIVERGES).collect();
    assert!(broken.contains(&rule), "found {broken:?}");
}

fn edited(observed: &mut Observed<Stage>, change: impl FnOnce(&mut mlop_api::features::FeatureView)) {
    change(Arc::make_mut(&mut observed.object));
}

#[test]
fn search_finds_a_diamond_that_does_not_wait() {
    let decide: Decide = |mut observed| {
        edited(&mut observed, |view| view.spec.consistency = Consistency::Any);
        faithful(observed)
    };
    bites(decide, true, &[Event::NewData], CONVERGENCE);
}

#[test]
fn search_finds_a_start_without_preconditions() {
    bites(faithful, false, &[Event::NewData, Event::Edit], GATE);
}

#[test]
fn search_finds_a_second_run() {
    let decide: Decide = |mut observed| {
        observed.runs.retain(|run| oracle::stands(run) == oracle::Stands::Succeeded);
        faithful(observed)
    };
    bites(decide, true, &[Event::NewData], ONE);
}

#[test]
fn search_finds_repeated_work() {
    let decide: Decide = |mut observed| {
        let known = observed.runs.len();
        observed.runs.retain(|run| oracle::stands(run) != oracle::Stands::Succeeded);
        edited(&mut observed, |view| {
            if let Some(artifact) = view.status.as_mut().and_then(|status| status.artifact.as_mut()) {
                artifact.input_digest = mlop_api::Digest::of_bytes(b"forgotten");
            }
        });
        let mut plan = faithful(observed);
        for create in &mut plan.creates {
            let name = create.object["metadata"]["name"].as_str().unwrap_or_default();
            create.object["metadata"]["name"] = format!("{name}-{known}").into();
        }
        plan
    };
    bites(decide, true, &[Event::NewData], NEW);
}

#[test]
fn search_finds_a_revision_that_restarts() {
    let decide: Decide = |mut observed| {
        edited(&mut observed, |view| {
            if let Some(status) = view.status.as_mut() {
                status.artifact = status.artifact.take().filter(|_| view.spec.pin.is_none());
            }
        });
        faithful(observed)
    };
    bites(decide, true, &[Event::NewData, Event::Pin], REVISION);
}

#[test]
fn search_finds_a_start_while_suspended() {
    let decide: Decide = |mut observed| {
        edited(&mut observed, |view| view.spec.suspend = false);
        faithful(observed)
    };
    bites(decide, true, &[Event::NewData, Event::Suspend], SUSPENDED);
}

#[test]
fn search_finds_an_unreported_failure() {
    let decide: Decide = |observed| {
        let mut plan = faithful(observed);
        if let Some(status) = &mut plan.status {
            status.cause = None;
        }
        plan
    };
    bites(decide, true, &[Event::NewData, Event::Failure], REST);
}

/// The runs deleted with `historyLimit: 0` while `annotation` prevents the publication of a successful run.
fn unpublished(annotation: &str) -> Vec<String> {
    let chain = Chain::new(Shape::Diamond, Start::Settled, 0, &[]);
    let mut settled = chain.init_states().remove(0);
    let node = settled.stages.remove(0);
    let mut view = node.live.as_ref().unwrap().json().clone();
    view["spec"]["historyLimit"] = 0.into();
    view["metadata"]["annotations"] = serde_json::json!({annotation: "true"});
    view.as_object_mut().unwrap().remove("status");
    let plan = faithful(stage::observed(&shared::Shared::of(&view), &node.caches, &node.runs));
    assert_eq!((node.runs.len(), plan.creates.len()), (1, 0));
    plan.deletes.into_iter().map(|delete| delete.name).collect()
}

#[test]
fn run_that_waits_for_its_activation_is_kept() {
    assert_eq!(unpublished(stage::WAITS), [""; 0]);
}

#[test]
fn rejected_run_is_not_started_again() {
    assert_eq!(unpublished(stage::REJECTS), [""; 0]);
}
