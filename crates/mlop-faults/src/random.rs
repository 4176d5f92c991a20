//! Plans from seeds: some faults at random points of a random scenario with random users, or two crashes.

use crate::{
    baseline::Baseline,
    cluster::Credentials,
    plan::{Action, Fault, Injection, Operation, Plan, Point, Scenario},
    scenario::{CHANGES, RESTLESS},
};

/// Most faults of one plan.
const FAULTS_MAX: usize = 4;
/// Most operations of users in one plan.
const OPERATIONS_MAX: usize = 12;

/// Milliseconds after which single actions begin.
const FIRST: [u64; 2] = [12_000, 120_000];

/// One of this many seeds stands for two crashes.
const CRASHES_EVERY: u64 = 3;

/// The plan of a seed. The same seed and baselines give the same plan.
pub fn plan(baselines: &[Baseline], seed: u64) -> Plan {
    if seed.is_multiple_of(CRASHES_EVERY)
        && let Some(plan) = crashes(&baselines[0], seed / CRASHES_EVERY)
    {
        return plan;
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let baseline = &baselines[random.usize(..baselines.len())];
    let users = match baseline.scenario {
        Scenario::Restless => (0..random.usize(1..=OPERATIONS_MAX)).map(|_| operation(&mut random)).collect(),
        _ => Vec::new(),
    };
    let count = random.usize(1..=FAULTS_MAX);
    let faults = (0..count).map(|_| injection(baseline, &mut random)).collect();
    Plan { scenario: baseline.scenario, users, faults }
}

fn operation(random: &mut fastrand::Rng) -> Operation {
    let at = random.u64(..RESTLESS.as_secs() * 1_000);
    let secrets: Vec<&str> = Credentials::names().collect();
    Operation { at, does: Action::random(random, &CHANGES, &secrets) }
}

fn injection(baseline: &Baseline, random: &mut fastrand::Rng) -> Injection {
    let at = baseline.points[random.usize(..baseline.points.len())].clone();
    let faults = baseline.faults_at(&at);
    let fault = faults[random.usize(..faults.len())];
    Injection { at, fault }
}

/// Plans with one action of users each: while the pipeline is built for the first time, and when it is at rest. New data
/// follows before the users apply the pipeline again.
pub fn single_actions() -> Vec<Plan> {
    let minute = RESTLESS.as_secs() * 1_000;
    let secrets: Vec<&str> = Credentials::names().collect();
    let plans = Action::each(&CHANGES, &secrets).into_iter().flat_map(|action| {
        FIRST.map(|at| Plan {
            scenario: Scenario::Restless,
            users: vec![
                Operation { at, does: action.clone() },
                Operation { at: at + minute, does: Action::Data(1) },
                Operation { at: at + 2 * minute, does: Action::Data(2) },
            ],
            faults: Vec::new(),
        })
    });
    plans.collect()
}

/// The `index`-th pair of writes after which their operator crashes. After the last pair: the pairs before which it does.
fn crashes(baseline: &Baseline, index: u64) -> Option<Plan> {
    // No decision depends on an Event.
    let counts = |point: &&Point| matches!(point, Point::Write(write) if write.kind != "events");
    let writes: Vec<&Point> = baseline.points.iter().filter(counts).collect();
    let pairs = writes
        .iter()
        .enumerate()
        .flat_map(|(i, first)| writes[i + 1..].iter().map(move |second| [first, second]));
    let all = writes.len() * writes.len().saturating_sub(1) / 2;
    let index = usize::try_from(index).ok()?;
    let fault = if index < all { Fault::CrashAfter } else { Fault::CrashBefore };
    let pair = pairs.cycle().nth(index)?;
    let faults = pair.map(|point| Injection { at: (*point).clone(), fault });
    Some(Plan { scenario: baseline.scenario, users: Vec::new(), faults: faults.into() })
}
