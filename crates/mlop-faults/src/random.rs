//! Plans from seeds: some faults at random points of a random scenario, and random users; or two crashes.

use crate::{
    explore::Reference,
    plan::{Fault, Injection, Plan, Point},
    scenario::Scenario,
    users::{Act, Deed, RESTLESS},
};

/// Most faults of one plan.
const FAULTS_MAX: usize = 4;
/// Most deeds of users in one plan.
const DEEDS_MAX: usize = 12;

/// One of so many seeds stands for two crashes.
const CRASHES_EVERY: u64 = 3;

/// The plan of a seed. The same seed and references give the same plan.
pub fn plan(references: &[Reference], seed: u64) -> Plan {
    if seed.is_multiple_of(CRASHES_EVERY)
        && let Some(plan) = crashes(&references[0], seed / CRASHES_EVERY)
    {
        return plan;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let reference = &references[random.usize(..references.len())];
    let users = match reference.scenario {
        Scenario::Restless => (0..random.usize(1..=DEEDS_MAX)).map(|_| deed(&mut random)).collect(),
        _ => Vec::new(),
    };
    let count = random.usize(1..=FAULTS_MAX);
    let faults = (0..count).map(|_| injection(reference, &mut random)).collect();
    Plan { scenario: reference.scenario, users, faults }
}

fn deed(random: &mut fastrand::Rng) -> Deed {
    let at = random.u64(..RESTLESS.as_secs() * 1_000);
    Deed { at, does: Act::random(random) }
}

fn injection(reference: &Reference, random: &mut fastrand::Rng) -> Injection {
    let at = reference.points[random.usize(..reference.points.len())].clone();
    let faults = reference.faults_at(&at);
    let fault = faults[random.usize(..faults.len())];
    Injection { at, fault }
}

/// The `index`-th pair of two writes after which their operator crashes; after the last, the pairs before which it does.
fn crashes(reference: &Reference, index: u64) -> Option<Plan> {
    // Nothing is decided by an Event.
    let counts = |point: &&Point| matches!(point, Point::Write(write) if write.kind != "events");
    let writes: Vec<&Point> = reference.points.iter().filter(counts).collect();
    let pairs = writes
        .iter()
        .enumerate()
        .flat_map(|(i, first)| writes[i + 1..].iter().map(move |second| [first, second]));
    let all = writes.len() * writes.len().saturating_sub(1) / 2;
    let index = usize::try_from(index).ok()?;
    let fault = if index < all { Fault::CrashAfter } else { Fault::CrashBefore };
    let pair = pairs.cycle().nth(index)?;
    let faults = pair.map(|point| Injection { at: (*point).clone(), fault });
    Some(Plan { scenario: reference.scenario, users: Vec::new(), faults: faults.into() })
}
