//! Plans from seeds: some faults at random points of a random scenario, and random users.

use crate::{
    explore::Reference,
    plan::{Injection, Plan},
    scenario::Scenario,
    users::{Act, Deed, RESTLESS},
};

/// Most faults of one plan.
const FAULTS_MAX: usize = 4;
/// Most deeds of users in one plan.
const DEEDS_MAX: usize = 12;

/// The plan of a seed. The same seed and references give the same plan.
pub fn plan(references: &[Reference], seed: u64) -> Plan {
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
