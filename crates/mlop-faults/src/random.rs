//! Plans from seeds: some faults at random points of a random scenario.

use crate::{
    explore::Reference,
    plan::{Injection, Plan},
};

/// Most faults of one plan.
const FAULTS_MAX: usize = 4;

/// The plan of a seed. The same seed and references give the same plan.
pub fn plan(references: &[Reference], seed: u64) -> Plan {
    let mut random = fastrand::Rng::with_seed(seed);
    let reference = &references[random.usize(..references.len())];
    let count = random.usize(1..=FAULTS_MAX);
    let faults = (0..count).map(|_| injection(reference, &mut random)).collect();
    Plan { scenario: reference.scenario, faults }
}

fn injection(reference: &Reference, random: &mut fastrand::Rng) -> Injection {
    let at = reference.points[random.usize(..reference.points.len())].clone();
    let faults = reference.faults_at(&at);
    let fault = faults[random.usize(..faults.len())];
    Injection { at, fault }
}
