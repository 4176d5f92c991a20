//! Which of the waiting runs a queue admits, and the order of the others.
//!
//! Namespaces come in the order of their shares: the next run is one of the namespace that has, and has been promised, the
//! least of the resource that it has most of. Among namespaces of equal shares, and within one, the higher priority comes
//! first, then the older request.
//!
//! A run is admitted if there is room for all of its pods. Runs behind one without room may be admitted before it, so that
//! free quota is used. This ends when the run at the head has waited there for [`PATIENCE`]: then nothing behind the first
//! run without room is admitted until the head is. Quota that becomes free meanwhile is left for it.

use jiff::{SignedDuration, Timestamp};
use mlop_api::Time;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// How long runs may be admitted before the one at the head.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// Precision of a share.
const WHOLE: i128 = 1_000_000_000;

/// Amounts of the resources of the queue, in their order, in billionths.
pub type Amounts = Vec<i128>;

/// Namespace and name of a run.
pub type Id<'a> = (&'a str, &'a str);

/// A run that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    pub id: Id<'a>,
    pub priority: i32,
    /// When it entered the queue.
    pub since: Time,
    /// What all of its pods ask for.
    pub amounts: Amounts,
}

/// What a decision depends on.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    pub quota: Amounts,
    /// What each admitted run holds, with its namespace.
    pub held: Vec<(&'a str, Amounts)>,
    pub waiting: Vec<Waiting<'a>>,
    /// How many runs may be admitted at once.
    pub places: usize,
    /// The run that waited at the head, and since when.
    pub head: Option<(Id<'a>, Time)>,
    pub now: Timestamp,
}

/// What the queue does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    pub admitted: Vec<Waiting<'a>>,
    /// The others, in their order.
    pub waiting: Vec<Waiting<'a>>,
    /// The run that waits at the head, and since when.
    pub head: Option<(Id<'a>, Time)>,
}

/// Decides. The order of the lists in `situation` has no influence.
pub fn decide(situation: Situation<'_>) -> Decision<'_> {
    let Situation { quota, held, waiting, places, head, now } = situation;
    let mut free = quota.clone();
    held.iter().for_each(|(_, amounts)| take(&mut free, amounts));
    let head = head.filter(|(id, _)| waiting.iter().any(|run| run.id == *id));
    let is_over = |since: &Time| since.get().checked_add(PATIENCE).is_ok_and(|end| end <= now);
    let has_no_patience = head.as_ref().is_some_and(|(_, since)| is_over(since));
    let (mut admitted, mut left): (Vec<Waiting<'_>>, Vec<Waiting<'_>>) = Default::default();
    for run in ordered(&quota, &held, waiting) {
        let is_closed = has_no_patience && !left.is_empty();
        if !is_closed && admitted.len() < places && fits(&run.amounts, &free) {
            take(&mut free, &run.amounts);
            admitted.push(run);
        } else {
            left.push(run);
        }
    }
    let still = head.filter(|(id, _)| left.iter().any(|run| run.id == *id));
    let head = still.or_else(|| left.first().map(|run| (run.id, now.into())));
    Decision { admitted, waiting: left, head }
}

/// Whether `amounts` are within `free`.
pub fn fits(amounts: &[i128], free: &[i128]) -> bool {
    amounts.iter().zip(free).all(|(asked, free)| *asked == 0 || asked <= free)
}

fn take(free: &mut [i128], amounts: &[i128]) {
    for (free, asked) in free.iter_mut().zip(amounts) {
        *free = free.saturating_sub(*asked);
    }
}

/// The place of a namespace among the others, by its next run.
type Place<'a> = (i128, Reverse<i32>, Time, &'a str);

/// A namespace in the order: its waiting runs, the next one last, and the amounts that it holds or that are due to it.
#[derive(Default)]
struct Line<'a> {
    runs: Vec<Waiting<'a>>,
    amounts: Amounts,
}

impl<'a> Line<'a> {
    fn place(&self, quota: &[i128], namespace: &'a str) -> Option<Place<'a>> {
        let next = self.runs.last()?;
        Some((share(&self.amounts, quota), Reverse(next.priority), next.since, namespace))
    }
}

/// The waiting runs in their order. Each counts for the share of its namespace as if it were admitted.
fn ordered<'a>(quota: &[i128], held: &[(&'a str, Amounts)], waiting: Vec<Waiting<'a>>) -> Vec<Waiting<'a>> {
    let mut lines: BTreeMap<&str, Line<'a>> = BTreeMap::new();
    for run in waiting {
        lines.entry(run.id.0).or_default().runs.push(run);
    }
    for line in lines.values_mut() {
        line.amounts = vec![0; quota.len()];
        line.runs.sort_unstable_by(|a, b| order(b).cmp(&order(a)));
    }
    for (namespace, amounts) in held {
        if let Some(line) = lines.get_mut(namespace) {
            promise(&mut line.amounts, amounts);
        }
    }
    let mut places: BTreeSet<Place<'a>> =
        lines.iter().filter_map(|(namespace, line)| line.place(quota, namespace)).collect();
    let mut all = Vec::new();
    while let Some((.., namespace)) = places.pop_first() {
        let Some(line) = lines.get_mut(namespace) else { continue };
        let Some(run) = line.runs.pop() else { continue };
        promise(&mut line.amounts, &run.amounts);
        places.extend(line.place(quota, namespace));
        all.push(run);
    }
    all
}

/// The order of runs within a namespace.
fn order<'a>(run: &Waiting<'a>) -> (Reverse<i32>, Time, &'a str) {
    (Reverse(run.priority), run.since, run.id.1)
}

fn promise(sum: &mut [i128], more: &[i128]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.saturating_add(*more);
    }
}

/// The share of the resource that `amounts` have most of.
fn share(amounts: &[i128], quota: &[i128]) -> i128 {
    let shares = amounts.iter().zip(quota).map(|(amount, quota)| match quota {
        0 => {
            if *amount > 0 {
                i128::MAX
            } else {
                0
            }
        }
        quota => amount.saturating_mul(WHOLE) / quota,
    });
    shares.max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
