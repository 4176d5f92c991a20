//! How soon a stage starts when what it needs is ready, and what its operator writes for it: from the audit log.

use crate::{
    audit::Entry,
    chain::{Need, Stage},
};
use anyhow::{Result, ensure};
use jiff::Timestamp;
use mlop_api::contract::{Upstream, condition_type::READY};
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

/// What any of them may take at most.
pub const LONGEST: Duration = Duration::from_millis(250);

/// From the moment when the last of a stage's needs was ready to the moment when the stage's first pod or Job was there.
#[derive(Clone, Debug)]
pub struct HandOff {
    pub stage: String,
    /// What was ready last.
    pub from: String,
    pub ready: Timestamp,
    pub started: Timestamp,
}

impl HandOff {
    /// None for the head of a chain, and for a stage that the log does not show.
    pub fn of(stage: &Stage, entries: &[Entry]) -> Option<Self> {
        let pods = stage.pods();
        let starts = |entry: &&Entry| {
            let pod = matches!(entry.resource.as_str(), "pods" | "jobs") && entry.name.starts_with(&pods);
            pod && entry.verb == "create"
        };
        // The name of a run is of its inputs alone, a deployment's pods come again and again.
        let after = match stage.run {
            Some(_) => Timestamp::MIN,
            None => ready(stage, entries, Timestamp::MAX)?.0,
        };
        let started = entries.iter().filter(starts).find(|entry| entry.at >= after)?.at;
        let (ready, need) = ready(stage, entries, started)?;
        let from = format!("{} {}", need.kind, need.name);
        Some(Self { stage: format!("{} {}", stage.kind, stage.name), from, ready, started })
    }

    pub fn time(&self) -> Duration {
        since(self.ready, self.started)
    }
}

/// When the last of a stage's needs became ready, at `until` at the latest, and which it was.
fn ready<'a>(stage: &'a Stage, entries: &[Entry], until: Timestamp) -> Option<(Timestamp, &'a Need)> {
    let times = stage.needs.iter().filter_map(|need| Some((became_ready(need, entries, until)?, need)));
    times.max_by_key(|(at, _)| *at)
}

/// When `need` last became usable. That it still is, is no news.
fn became_ready(need: &Need, entries: &[Entry], until: Timestamp) -> Option<Timestamp> {
    let resource = format!("{}s/status", need.kind.to_lowercase());
    let mut since = None;
    for entry in entries.iter().filter(|entry| entry.resource == resource && entry.name == need.name) {
        let usable = entry.status.as_ref().is_some_and(|status| is_usable(status, need));
        if entry.at <= until {
            since = usable.then(|| since.unwrap_or(entry.at));
        }
    }
    since
}

fn is_usable(status: &Upstream, need: &Need) -> bool {
    let published = status.artifact.as_ref().map(|artifact| &artifact.digest);
    let right = need.digest.is_none() || need.digest.as_ref() == published;
    right && status.conditions.iter().any(|c| c.type_ == READY && c.status == "True")
}

/// The middle one, or the mean of the two in the middle, and the longest.
pub fn median_and_longest(hand_offs: &[HandOff]) -> (Duration, Duration) {
    let mut times: Vec<Duration> = hand_offs.iter().map(HandOff::time).collect();
    times.sort();
    let middle = |index: usize| times.get(index).copied().unwrap_or_default();
    let median = (middle(times.len().saturating_sub(1) / 2) + middle(times.len() / 2)) / 2;
    (median, times.last().copied().unwrap_or_default())
}

/// # Errors
/// When a hand-off took longer than it may; with all of them. The median says something only on a machine that does
/// nothing else: the demo shows it.
pub fn check(hand_offs: &[HandOff]) -> Result<()> {
    let (_, longest) = median_and_longest(hand_offs);
    ensure!(
        longest <= LONGEST,
        "a hand-off may take {} ms at most:\n{}",
        LONGEST.as_millis(),
        table(hand_offs)
    );
    Ok(())
}

/// One line for each, then median and longest.
pub fn table(hand_offs: &[HandOff]) -> String {
    let mut text = hand_offs.iter().fold(String::new(), |mut text, hand_off| {
        let HandOff { stage, from, .. } = hand_off;
        writeln!(text, "  {:>9}  {from} -> {stage}", millis(hand_off.time())).ok();
        text
    });
    let (median, longest) = median_and_longest(hand_offs);
    writeln!(text, "  median {}, longest {}", millis(median), millis(longest)).ok();
    text
}

pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Most writes of a stage that ends before its progress is worth one.
const WRITES_MAX: usize = 4;
/// A stage with a version in use reports that it is under way when it has taken this long.
const LASTS: Duration = Duration::from_secs(9);

/// What the operators wrote for a stage until it was ready. Events are left out.
#[derive(Debug)]
pub struct Writes {
    stage: String,
    /// Writes that come with each look at the source, whether there is something new or not.
    looking: usize,
    /// All others.
    making: usize,
    took: Duration,
    /// When each came, and what a status says that it did not say before.
    lines: String,
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, looking, making, lines, .. } = self;
        match looking {
            0 => writeln!(f, "{stage}: {making} writes")?,
            looking => writeln!(f, "{stage}: {making} writes, and {looking} to look at the source")?,
        }
        f.write_str(lines)
    }
}

impl Writes {
    /// # Errors
    /// When there were more than it takes.
    pub fn check(&self) -> Result<()> {
        let enough = self.making <= WRITES_MAX || self.took >= LASTS;
        ensure!(enough, "{WRITES_MAX} writes are enough for a stage:\n{self}");
        Ok(())
    }
}

/// The operators' writes for a stage, from when its needs were ready or, if that is later, from `begin`.
pub fn writes(stage: &Stage, entries: &[Entry], begin: Timestamp) -> Writes {
    let until = became_ready(&stage.done(), entries, Timestamp::MAX).unwrap_or(Timestamp::MAX);
    let from = ready(stage, entries, until).map_or(begin, |(at, _)| at.max(begin));
    let its: Vec<_> = entries.iter().filter(|entry| stage.concerns(entry) && entry.at <= until).collect();
    // The head of a chain needs nothing: its time begins with its first write.
    let first = its.iter().find(|entry| entry.at > from && stage.needs.is_empty());
    let zero = first.map_or(from, |entry| entry.at);
    let mut said: BTreeMap<&str, &Upstream> = BTreeMap::new();
    let (mut lines, mut looking, mut making, mut last) = (String::new(), 0, 0, zero);
    for entry in its {
        let status = entry.status.as_ref().filter(|_| entry.resource.ends_with("/status"));
        let before = status.and_then(|status| said.insert(&entry.name, status));
        if entry.at <= from {
            continue;
        }
        *(if stage.looks(entry) { &mut looking } else { &mut making }) += 1;
        last = entry.at;
        let after = millis(since(zero, entry.at));
        let news = status.map_or_else(String::new, |status| news(status, before));
        let Entry { verb, resource, name, .. } = entry;
        writeln!(lines, "  {after:>11}  {verb:<6} {resource:<23} {name:<30} {news}").ok();
    }
    Writes {
        stage: format!("{} {}", stage.kind, stage.name),
        looking,
        making,
        took: since(zero, last),
        lines,
    }
}

fn since(begin: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(begin)).unwrap_or_default()
}

/// What a status says that it did not say before.
fn news(status: &Upstream, before: Option<&Upstream>) -> String {
    let old = before.map_or(&[][..], |before| &before.conditions);
    let told = |c: &&_| !old.iter().any(|o| same(o, c));
    let mut news: Vec<String> = status
        .conditions
        .iter()
        .filter(told)
        .map(|c| {
            if c.reason == c.type_ {
                format!("{}={}", c.type_, c.status)
            } else {
                format!("{}={} {}", c.type_, c.status, c.reason)
            }
        })
        .collect();
    let digest = |status: &Upstream| status.artifact.as_ref().map(|artifact| artifact.digest.clone());
    let published = digest(status);
    if published != before.and_then(digest) {
        news.extend(published.map(|digest| format!("artifact {}", digest.short(12))));
    }
    if news.is_empty() { "other fields".to_owned() } else { news.join(", ") }
}

type Condition = k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

fn same(a: &Condition, b: &Condition) -> bool {
    (&a.type_, &a.status, &a.reason) == (&b.type_, &b.status, &b.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::line;
    use mlop_api::Digest;
    use serde_json::{Value, json};

    fn digest(number: u8) -> Digest {
        Digest::try_from(format!("sha256:{number:064x}")).unwrap()
    }

    /// The status of a Dataset that has published the digest of this number.
    fn published(number: u8, ready: &str) -> Value {
        let artifact = json!({
            "digest": digest(number), "store": "s", "uri": "s3://b/k", "mediaType": "m", "revision": 1, "generation": 1,
            "inputDigest": digest(number), "run": "flights-0", "producedAt": "2026-11-21T10:00:00Z",
        });
        let condition = json!({
            "type": "Ready", "status": ready, "reason": "Ready", "message": "", "lastTransitionTime": "2026-11-21T10:00:00Z",
        });
        json!({"metadata": {}, "status": {"artifact": artifact, "conditions": [condition]}})
    }

    fn stage(run: Option<&str>, needs: &[(&str, Option<u8>)]) -> Stage {
        let need = |(kind, number): &(&str, Option<u8>)| Need {
            kind: (*kind).to_owned(),
            name: "flights".to_owned(),
            digest: number.map(digest),
        };
        Stage {
            kind: "FeatureView".to_owned(),
            name: "route".to_owned(),
            run: run.map(str::to_owned),
            digest: digest(9),
            summary: String::new(),
            needs: needs.iter().map(need).collect(),
        }
    }

    fn time(stage: &Stage, log: &[Entry]) -> Option<u128> {
        HandOff::of(stage, log).map(|hand_off| hand_off.time().as_millis())
    }

    #[test]
    fn it_is_the_time_from_ready_to_the_first_pod() {
        let log = [
            line(0, "create", "pods", "route-1-1", json!({})),
            line(1000, "patch", "datasets/status", "flights", published(1, "True")),
            line(1020, "create", "pods", "route-2-1", json!({})),
            line(5000, "create", "pods", "route-2-2", json!({})),
        ];
        assert_eq!(time(&stage(Some("route-2"), &[("Dataset", Some(1))]), &log), Some(20));
    }

    #[test]
    fn the_last_of_several_counts_and_saying_it_again_does_not() {
        let log = [
            line(0, "patch", "datasets/status", "flights", published(1, "True")),
            line(100, "patch", "trackingservers/status", "flights", published(1, "True")),
            line(110, "patch", "datasets/status", "flights", published(1, "True")),
            line(130, "create", "jobs", "route-2-1", json!({})),
            line(140, "patch", "datasets/status", "flights", published(2, "True")),
        ];
        let stage = stage(Some("route-2"), &[("Dataset", Some(1)), ("TrackingServer", None)]);
        assert_eq!(time(&stage, &log), Some(30));
    }

    #[test]
    fn a_version_that_came_back_is_ready_anew() {
        let log = [
            line(0, "patch", "datasets/status", "flights", published(1, "True")),
            line(10, "create", "pods", "route-mdep-x", json!({})),
            line(100, "patch", "datasets/status", "flights", published(2, "True")),
            line(110, "create", "pods", "route-mdep-y", json!({})),
            line(200, "patch", "datasets/status", "flights", published(1, "True")),
            line(240, "create", "pods", "route-mdep-z", json!({})),
        ];
        assert_eq!(time(&stage(None, &[("Dataset", Some(1))]), &log), Some(40));
    }

    #[test]
    fn what_is_not_ready_hands_nothing_off() {
        let log = [
            line(0, "patch", "datasets/status", "flights", published(1, "False")),
            line(10, "create", "pods", "route-2-1", json!({})),
        ];
        assert_eq!(time(&stage(Some("route-2"), &[("Dataset", Some(1))]), &log), None);
    }

    #[test]
    fn none_may_take_long() {
        let of = |times: &[i64]| -> Vec<HandOff> {
            let hand_off = |millis: &i64| HandOff {
                stage: "b".to_owned(),
                from: "a".to_owned(),
                ready: Timestamp::UNIX_EPOCH,
                started: Timestamp::from_millisecond(*millis).unwrap(),
            };
            times.iter().map(hand_off).collect()
        };
        assert!(check(&of(&[40, 250, 10, 60])).is_ok());
        assert!(check(&of(&[40, 251, 10, 60])).is_err());
        assert_eq!(median_and_longest(&of(&[30, 10, 20])).0.as_millis(), 20);
    }

    #[test]
    fn each_write_comes_with_what_is_new_in_it() {
        let log = [
            line(0, "patch", "datasets/status", "flights", published(1, "True")),
            line(10, "create", "featuresnapshots", "route-2", json!({})),
            line(15, "create", "events", "route.2", json!({})),
            line(20, "patch", "featureviews/status", "route", published(8, "False")),
            line(30, "patch", "featureviews/status", "route", published(9, "True")),
            line(40, "patch", "featureviews/status", "other", published(9, "True")),
            line(50, "delete", "pods", "route-1-1", json!({})),
        ];
        let text = writes(&stage(Some("route-2"), &[("Dataset", Some(1))]), &log, Timestamp::MIN).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].ends_with("3 writes") && lines[3].contains("Ready=True, artifact"), "{text}");
    }

    #[test]
    fn four_writes_are_enough_unless_it_lasts() {
        let made = |millis: &[i64]| {
            let pods = millis.iter().map(|at| line(*at, "create", "pods", "route-2-1", json!({})));
            let looks = (0..3).map(|at| line(at, "create", "pods", "route-scan-7-ab", json!({})));
            let log: Vec<_> = looks.chain(pods).collect();
            writes(&stage(Some("route-2"), &[]), &log, Timestamp::MIN)
        };
        let writes = made(&[10, 20, 30, 40]);
        assert!(writes.to_string().starts_with("FeatureView route: 4 writes, and 3 to look"), "{writes}");
        assert!(writes.check().is_ok());
        assert!(made(&[10, 20, 30, 40, 50]).check().is_err());
        assert!(made(&[10, 20, 30, 40, 9_500]).check().is_ok());
    }
}
