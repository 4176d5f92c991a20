//! Situations of a queue, and what holds in all of them.
//!
//! In a row, `a/small:1@3` is the run `small` of namespace `a`, which asks for one unit since second 3; `!5` after it is
//! its priority.

use super::*;
use proptest::prelude::*;

const NOW: i64 = 1_000_000;

fn time(second: i64) -> Time {
    Timestamp::from_second(NOW + second).unwrap().into()
}

/// A waiting run as it is written in a row.
fn run(text: &str) -> Waiting<'_> {
    let (text, priority) = text.split_once('!').unwrap_or((text, "0"));
    let (text, since) = text.split_once('@').unwrap();
    let (id, amounts) = text.split_once(':').unwrap();
    Waiting {
        id: id.split_once('/').unwrap(),
        priority: priority.parse().unwrap(),
        since: time(since.parse().unwrap()),
        amounts: amounts.split('+').map(|amount| amount.parse().unwrap()).collect(),
    }
}

/// A situation at [`NOW`]: the quota, the amounts of admitted runs, and the waiting runs.
fn situation<'a>(quota: &[i128], held: &[(&'a str, i128)], waiting: &'a str) -> Situation<'a> {
    let rest = vec![0; quota.len() - 1];
    Situation {
        quota: quota.to_vec(),
        held: held.iter().map(|(namespace, amount)| (*namespace, [&[*amount], &*rest].concat())).collect(),
        waiting: waiting.split_whitespace().map(run).collect(),
        places: 100,
        head: None,
        now: time(0).get(),
    }
}

/// The admitted runs, then those that wait, in their order.
fn words(decision: &Decision<'_>) -> String {
    let names = |runs: &[Waiting<'_>]| runs.iter().map(|run| run.id.1).collect::<Vec<_>>().join(" ");
    format!("{} | {}", names(&decision.admitted), names(&decision.waiting)).trim().to_owned()
}

#[test]
fn queue_admits_in_a_fair_order() {
    let rows: [(&str, Situation<'_>, &str); 13] = [
        ("nobody waits", situation(&[4], &[], ""), "|"),
        ("room for all", situation(&[4], &[], "a/x:2@1 a/y:2@2"), "x y |"),
        ("the older one first", situation(&[2], &[], "a/x:2@2 a/y:2@1"), "y | x"),
        ("the higher priority before the older one", situation(&[2], &[], "a/x:2@2!1 a/y:2@1"), "x | y"),
        (
            "the namespace that has less before the higher priority",
            situation(&[4], &[("a", 2)], "a/x:2@1!9 b/y:2@2"),
            "y | x",
        ),
        (
            "what is promised counts for the share",
            situation(&[3], &[], "a/x1:1@1 a/x2:1@2 a/x3:1@3 b/y1:1@4"),
            "x1 y1 x2 | x3",
        ),
        ("all or nothing", situation(&[4], &[("b", 2)], "a/x:3@1"), "| x"),
        ("what is free is used", situation(&[4], &[("b", 2)], "a/x:3@1 a/y:2@2"), "y | x"),
        (
            "the resource of which a namespace has most counts",
            situation(&[10, 10], &[], "a/x1:1+5@1 a/x2:1+1@2 b/y1:3+1@3 b/y2:1+1@4"),
            "x1 y1 y2 x2 |",
        ),
        ("each resource limits", situation(&[10, 4], &[], "a/x:1+3@1 a/y:1+3@2 a/z:1+1@3"), "x z | y"),
        ("nothing is asked of a full resource", situation(&[4, 0], &[("b", 4)], "a/x:0+0@1"), "x |"),
        ("a lowered quota admits nothing", situation(&[2], &[("b", 4)], "a/x:1@1"), "| x"),
        ("few places", Situation { places: 1, ..situation(&[4], &[], "a/x:1@1 a/y:1@2") }, "x | y"),
    ];
    for (name, situation, want) in rows {
        assert_eq!(words(&decide(situation)), want, "{name}");
    }
}

#[test]
fn run_at_the_head_is_not_overtaken_for_ever() {
    let waiting = "a/large:3@-900 a/small:1@-100";
    let since = |seconds: i64| Some((("a", "large"), time(-seconds)));
    let rows = [
        ("it has just come to the head", 2, since(0), "small | large", since(0)),
        ("it has waited there for a while", 2, since(599), "small | large", since(599)),
        ("it has waited there for long", 2, since(600), "| large small", since(600)),
        ("it has room at last", 1, since(600), "large | small", Some((("a", "small"), time(0)))),
        ("the one at the head has left", 2, Some((("a", "gone"), time(-600))), "small | large", since(0)),
    ];
    for (name, held, head, want, next) in rows {
        let decision = decide(Situation { head, ..situation(&[4], &[("b", held)], waiting) });
        assert_eq!((words(&decision).as_str(), decision.head), (want, next), "{name}");
    }
}

/// A waiting run by numbers.
type Numbers = (usize, i32, i64, i128, i128);
const NAMESPACES: [&str; 3] = ["a", "b", "c"];

fn numbers() -> impl Strategy<Value = Vec<Numbers>> {
    prop::collection::vec((0..3_usize, -1..=1_i32, -20..0_i64, 0..=4_i128, 0..=3_i128), 0..12)
}

/// The situation of these runs, which have the names of `names`.
fn situated<'a>(runs: &[Numbers], names: &'a [String], held: i128, waited: Option<i64>) -> Situation<'a> {
    let waiting = runs.iter().zip(names).map(|((namespace, priority, since, cpu, gpu), name)| Waiting {
        id: (NAMESPACES[*namespace], name),
        priority: *priority,
        since: time(*since),
        amounts: vec![*cpu, *gpu],
    });
    let waiting: Vec<_> = waiting.collect();
    let head = waiting.first().zip(waited).map(|(run, seconds)| (run.id, time(-seconds)));
    let held = vec![("a", vec![held, 0])];
    Situation { quota: vec![6, 4], held, waiting, places: 8, head, now: time(0).get() }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number:02}")).collect()
}

proptest! {
    #[test]
    fn quota_is_kept_and_the_order_of_lists_has_no_influence(
        runs in numbers(),
        held in 0..=7_i128,
        waited in prop::option::of(0..1_200_i64),
        seed in any::<u64>(),
    ) {
        let names = names(runs.len());
        let first = situated(&runs, &names, held, waited);
        let decision = decide(first.clone());
        let sum = |index: usize| decision.admitted.iter().map(|run| run.amounts[index]).sum::<i128>();
        prop_assert!(sum(0) == 0 || held + sum(0) <= 6);
        prop_assert!(sum(1) <= 4);
        prop_assert!(decision.admitted.len() <= first.places);
        prop_assert_eq!(decision.admitted.len() + decision.waiting.len(), runs.len());
        let mut shuffled = first.clone();
        let length = shuffled.waiting.len().max(1);
        shuffled.waiting.rotate_left(usize::try_from(seed).unwrap_or_default() % length);
        shuffled.waiting.reverse();
        prop_assert_eq!(&decide(shuffled), &decision);
        // The first of those that wait has no room, or there is no place left.
        if let Some(run) = decision.waiting.first().filter(|_| decision.admitted.len() < first.places) {
            let free = [6 - held - sum(0), 4 - sum(1)];
            let in_order = fits(&run.amounts, &free);
            prop_assert!(!in_order, "{:?} fits into {:?}", run, free);
        }
    }

    /// A run as large as the whole quota, at the head of a queue to which other namespaces send small runs without end.
    #[test]
    fn largest_run_is_admitted_in_bounded_time(
        lengths in prop::collection::vec(1..=40_i64, 30),
        arrivals in 1..=4_usize,
    ) {
        let (minute, quota) = (60, 6_i128);
        let names: Vec<String> = (0..2_000).map(|number| format!("s{number:04}")).collect();
        let mut next = 0;
        // The runs that work, with the minute of their end.
        let mut working: Vec<(&str, i128, i64)> = vec![("b", 3, 20), ("c", 2, 30)];
        let mut waiting = vec![Waiting { id: ("a", "large"), priority: 0, since: time(0), amounts: vec![quota] }];
        let mut head = None;
        let limit = PATIENCE.as_mins() + 40 + 1;
        for now in 0..=limit {
            working.retain(|(.., end)| *end > now);
            for _ in 0..arrivals {
                let namespace = NAMESPACES[1 + next % 2];
                let since = time(now * minute);
                waiting.push(Waiting { id: (namespace, &names[next]), priority: 0, since, amounts: vec![1] });
                next += 1;
            }
            let held = working.iter().map(|(namespace, amount, _)| (*namespace, vec![*amount])).collect();
            let now_is = time(now * minute).get();
            let situation = Situation {
                quota: vec![quota], held, waiting: waiting.clone(), places: 100, head, now: now_is,
            };
            let decision = decide(situation);
            if decision.admitted.iter().any(|run| run.id.1 == "large") {
                return Ok(());
            }
            for run in &decision.admitted {
                working.push((run.id.0, run.amounts[0], now + lengths[next % lengths.len()]));
            }
            (waiting, head) = (decision.waiting, decision.head);
        }
        prop_assert!(false, "the large run waits for more than {limit} minutes");
    }
}
