//! The differences between two runs: what determined them, what went in, what came out.

mod render;

pub use render::text;

use crate::{
    snapshot::{Object, ObjectId, Snapshot},
    trace,
    versions::{self, Versions},
};
use anyhow::{Context as _, Result, bail};
use mlop_api::{common::Metric, contract::InputRecord};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Two runs and what differs.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    pub a: ObjectId,
    pub b: ObjectId,
    /// Fields of `spec.content` and the store.
    pub content: Vec<Difference>,
    pub inputs: Vec<Difference>,
    pub metrics: Vec<Difference>,
    pub output: Vec<Difference>,
    /// The runs that made the differing inputs, those of the nearest inputs first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<Upstream>,
}

/// What differs between the makers of an input.
#[derive(Clone, Debug, Serialize)]
pub struct Upstream {
    /// The object that made both.
    pub object: ObjectId,
    /// The names of its two runs; none for one that is no longer kept as an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<String>,
    pub content: Vec<Difference>,
    pub inputs: Vec<Difference>,
    pub output: Vec<Difference>,
}

/// A value that one of the runs has, or that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<String>,
    /// `b - a` of two numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

impl Diff {
    /// # Errors
    /// The runs have different kinds.
    pub fn of(snapshot: &Snapshot, a: &Object, b: &Object) -> Result<Self> {
        if a.id.kind != b.id.kind {
            bail!("{} and {} are runs of different kinds: only runs of one kind can be compared", a.id, b.id);
        }
        Ok(Self {
            a: a.id.clone(),
            b: b.id.clone(),
            content: differences(&content(a), &content(b)),
            inputs: differences(&inputs(a), &inputs(b)),
            metrics: differences(&metrics(a), &metrics(b)).into_iter().map(with_change).collect(),
            output: differences(&output(a), &output(b)),
            upstream: upstream(snapshot, a, b),
        })
    }

    pub fn is_empty(&self) -> bool {
        [&self.content, &self.inputs, &self.metrics, &self.output].iter().all(|list| list.is_empty())
    }
}

/// The differences between the makers of the inputs, and between those of their inputs.
fn upstream(snapshot: &Snapshot, a: &Object, b: &Object) -> Vec<Upstream> {
    let mut found: Vec<Upstream> = Vec::new();
    let mut pairs = vec![(a, b)];
    let mut next = 0;
    while let Some((a, b)) = pairs.get(next).copied() {
        next += 1;
        let others = records(b);
        for of_a in records(a) {
            let is_other = |other: &&InputRecord| other.name == of_a.name && other.digest != of_a.digest;
            let Some(of_b) = others.iter().find(is_other) else { continue };
            let object = ObjectId::new(&of_a.kind, &of_a.object);
            let is_same_object = object == ObjectId::new(&of_b.kind, &of_b.object);
            // A diamond is shown once.
            if !is_same_object || found.iter().any(|known| known.object == object) {
                continue;
            }
            let [run_a, run_b] = [&of_a, of_b].map(|record| trace::maker(snapshot, &object, &record.digest));
            found.push(Upstream::of(object, run_a, run_b));
            pairs.extend(run_a.zip(run_b));
        }
    }
    found
}

impl Upstream {
    fn of(object: ObjectId, a: Option<&Object>, b: Option<&Object>) -> Self {
        let name = |run: Option<&Object>| run.map(|run| run.id.name.clone());
        let compared = |facts: fn(&Object) -> BTreeMap<String, String>| {
            a.zip(b).map(|(a, b)| differences(&facts(a), &facts(b))).unwrap_or_default()
        };
        Self {
            object,
            a: name(a),
            b: name(b),
            content: compared(content),
            inputs: compared(inputs),
            output: compared(output),
        }
    }
}

/// The run that a user means: its name, or the object whose run in use counts.
///
/// # Errors
/// There is no such run.
pub fn run<'a>(snapshot: &'a Snapshot, text: &str) -> Result<&'a Object> {
    let name = text.rsplit('/').next().unwrap_or(text);
    if let Some(run) = snapshot.run(name) {
        return Ok(run);
    }
    if let Some((owner, number)) = text.split_once('@') {
        return version(snapshot, owner, number);
    }
    let object = crate::names::single(snapshot, text, "diff", |object| object.status.artifact.is_some())?;
    let artifact = object
        .status
        .artifact
        .as_ref()
        .with_context(|| format!("{} has published nothing yet", object.id))?;
    snapshot
        .run(&artifact.run)
        .with_context(|| format!("the run {} of {} is no longer kept as an object", artifact.run, object.id))
}

/// The run of an object with this name, or with this version number in the registry.
fn version<'a>(snapshot: &'a Snapshot, owner: &str, wanted: &str) -> Result<&'a Object> {
    for object in crate::names::candidates(snapshot, owner)? {
        let Some(owner) = versions::owner(snapshot, object) else { continue };
        let versions = Versions::of(snapshot, owner);
        let is_wanted = |it: &&versions::Version| it.run == wanted || it.number.as_deref() == Some(wanted);
        let found = versions.versions.iter().find(is_wanted);
        if let Some(run) = found.and_then(|version| snapshot.run(&version.run)) {
            return Ok(run);
        }
    }
    bail!("{owner} has no version or run {wanted}; `kubectl mlop versions {owner}` lists them")
}

fn content(run: &Object) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    flatten("", run.spec.get("content").unwrap_or(&Value::Null), &mut fields);
    for name in ["store", "listing"] {
        fields.extend(run.text(name).map(|value| (name.to_owned(), value.to_owned())));
    }
    fields
}

/// The leaves of a value by their paths. An item of a list with a name has it in its path.
fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(map) => map.iter().for_each(|(name, value)| flatten(&below(name), value, fields)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Value::as_str).map(str::to_owned);
                let name = name.unwrap_or_else(|| index.to_string());
                flatten(&format!("{path}[{name}]"), item, fields);
            }
        }
        Value::String(text) => drop(fields.insert(path.to_owned(), text.clone())),
        other => drop(fields.insert(path.to_owned(), other.to_string())),
    }
}

fn inputs(run: &Object) -> BTreeMap<String, String> {
    let described = |record: &InputRecord| format!("{}/{} {}", record.kind, record.object, record.digest);
    records(run).into_iter().map(|record| (record.name.clone(), described(&record))).collect()
}

fn records(run: &Object) -> Vec<InputRecord> {
    let inputs = run.lineage().map(|lineage| lineage.inputs).unwrap_or_default();
    inputs.into_iter().map(|input| input.record).collect()
}

fn metrics(run: &Object) -> BTreeMap<String, String> {
    let metrics = run.status.output.iter().flat_map(|output| &output.metrics);
    metrics.map(|metric| (metric.name.clone(), metric.value.clone())).collect()
}

fn output(run: &Object) -> BTreeMap<String, String> {
    let Some(output) = &run.status.output else {
        let reason = run.status.headline.as_ref().map(|headline| headline.reason.clone());
        return BTreeMap::from([("state".to_owned(), reason.unwrap_or_else(|| "Pending".to_owned()))]);
    };
    let schema = output.schema_digest.as_ref().map(|digest| ("schema".to_owned(), digest.to_string()));
    let summary = output.summary.as_ref().map(|summary| ("result".to_owned(), summary.clone()));
    let digest = ("digest".to_owned(), output.digest.to_string());
    [digest].into_iter().chain(schema).chain(summary).collect()
}

fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<Difference> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differing = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    differing
        .map(|name| Difference {
            name: name.clone(),
            a: a.get(name).cloned(),
            b: b.get(name).cloned(),
            change: None,
        })
        .collect()
}

fn with_change(difference: Difference) -> Difference {
    let number = |value: &Option<String>| {
        let value = Metric { name: String::new(), value: value.clone()? }.number();
        value.is_finite().then_some(value)
    };
    let change = number(&difference.a).zip(number(&difference.b)).map(|(a, b)| {
        let digits = [&difference.a, &difference.b].into_iter().flatten().map(|text| decimals(text)).max();
        format!("{:+.*}", digits.unwrap_or_default(), b - a)
    });
    Difference { change, ..difference }
}

fn decimals(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, rest)| rest.chars().take_while(char::is_ascii_digit).count())
}
