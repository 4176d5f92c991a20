//! Plans with the same beginning. They are one run until the first of their faults, where the process forks.

use crate::plan::{Fault, Injection, Point};
use fork::{Fork, fork, waitpid};

/// A process that ends with this code has seen a failure after which nothing else is to be judged.
pub const STOP: i32 = 3;

/// The plans that this process carries out. The same faults of each have struck so far.
#[derive(Clone, Default)]
pub struct Branches {
    plans: Vec<Branch>,
    is_fork: bool,
}

/// A plan, and the faults of it whose point has not come.
#[derive(Clone)]
pub struct Branch {
    /// The number of the plan among those of the run.
    pub plan: usize,
    pub pending: Vec<Injection>,
}

impl From<Vec<Injection>> for Branches {
    /// One plan with these faults.
    fn from(faults: Vec<Injection>) -> Self {
        Self::new([faults])
    }
}

impl Branches {
    /// Plans with these faults.
    pub fn new(plans: impl IntoIterator<Item = Vec<Injection>>) -> Self {
        let branch = |(plan, pending)| Branch { plan, pending };
        Self { plans: plans.into_iter().enumerate().map(branch).collect(), is_fork: false }
    }

    pub fn plans(&self) -> &[Branch] {
        &self.plans
    }

    /// Whether this process is a fork of the one that began the run.
    pub fn is_fork(&self) -> bool {
        self.is_fork
    }

    /// Whether a plan has one of these faults.
    pub fn has(&self, faults: &[Fault]) -> bool {
        self.injections().any(|injection| faults.contains(&injection.fault))
    }

    pub fn injections(&self) -> impl Iterator<Item = &Injection> {
        self.plans.iter().flat_map(|branch| &branch.pending)
    }

    /// Takes out the faults that strike at a time.
    pub(super) fn take_timed(&mut self) -> Vec<Injection> {
        let is_timed = |injection: &Injection| matches!(injection.at, Point::Millisecond(_));
        let mut timed = Vec::new();
        for branch in &mut self.plans {
            timed.extend(branch.pending.extract_if(.., |injection| is_timed(injection)));
        }
        timed
    }

    /// The fault that strikes at a point of this process. Plans with another fault there, or with none, go on in the process
    /// that began, after those with the fault have ended.
    pub fn part(&mut self, point: &Point) -> Option<Fault> {
        while let Some(fault) = self.plans.iter().find_map(|branch| branch.fault_at(point)) {
            let (mut struck, others): (Vec<_>, Vec<_>) =
                self.plans.drain(..).partition(|branch| branch.fault_at(point) == Some(fault));
            struck.iter_mut().for_each(|branch| branch.remove(point));
            if others.is_empty() {
                self.plans = struck;
                return Some(fault);
            }
            match fork().expect("the machine has room for another process") {
                Fork::Child => {
                    *self = Self { plans: struck, is_fork: true };
                    return Some(fault);
                }
                Fork::Parent(child) => {
                    self.plans = others;
                    // A process that died in another way leaves its plans without a verdict.
                    if waitpid(child).is_ok_and(|status| status == STOP << 8) {
                        std::process::exit(STOP);
                    }
                }
            }
        }
        None
    }
}

impl Branch {
    fn fault_at(&self, point: &Point) -> Option<Fault> {
        self.pending.iter().find(|injection| injection.at == *point).map(|injection| injection.fault)
    }

    fn remove(&mut self, point: &Point) {
        if let Some(index) = self.pending.iter().position(|injection| injection.at == *point) {
            self.pending.remove(index);
        }
    }
}
