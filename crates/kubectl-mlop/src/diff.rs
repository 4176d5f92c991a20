//! The differences between two runs: what determined them, what went in, what came out.

use crate::{
    output::{Style, Table, with_short_digests},
    snapshot::{Object, ObjectId, Snapshot},
    versions::{self, Versions},
};
use anyhow::{Context as _, Result, bail};
use mlop_api::{
    common::Metric,
    text::{printable, single_line},
};
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
    pub fn of(a: &Object, b: &Object) -> Result<Self> {
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
        })
    }

    pub fn is_empty(&self) -> bool {
        [&self.content, &self.inputs, &self.metrics, &self.output].iter().all(|list| list.is_empty())
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
        return numbered(snapshot, owner, number);
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

/// The run with a version number in the registry.
fn numbered<'a>(snapshot: &'a Snapshot, owner: &str, number: &str) -> Result<&'a Object> {
    for object in crate::names::candidates(snapshot, owner)? {
        let Some(owner) = versions::owner(snapshot, object) else { continue };
        let versions = Versions::of(snapshot, owner);
        let found = versions.versions.iter().find(|version| version.number.as_deref() == Some(number));
        if let Some(run) = found.and_then(|version| snapshot.run(&version.run)) {
            return Ok(run);
        }
    }
    bail!("{owner} has no version {number}; `kubectl mlop versions {owner}` lists them")
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
    let lineage = run.lineage();
    let inputs = lineage.iter().flat_map(|lineage| &lineage.inputs);
    let described = |record: &mlop_api::contract::InputRecord| {
        format!("{}/{} {}", record.kind, record.object, record.digest)
    };
    inputs.map(|input| (input.record.name.clone(), described(&input.record))).collect()
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

/// The differences for a terminal. Long texts are compared line by line.
pub fn text(diff: &Diff, style: Style) -> String {
    let mut text = format!("a: {}\nb: {}\n", diff.a, diff.b);
    if diff.is_empty() {
        return text + "no differences\n";
    }
    for (title, list) in [
        ("content", &diff.content),
        ("inputs", &diff.inputs),
        ("metrics", &diff.metrics),
        ("output", &diff.output),
    ] {
        let (long, short): (Vec<_>, Vec<_>) = list.iter().partition(|difference| is_long(difference));
        if list.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{}\n", style.bold(title)));
        let mut table = Table::default();
        for difference in short {
            let shown = |value: &Option<String>| {
                value.as_ref().map_or_else(|| "-".to_owned(), |it| printable(it).into_owned())
            };
            let change = difference.change.as_ref().map(|change| format!("({change})")).unwrap_or_default();
            let values = format!("{} -> {}", shown(&difference.a), shown(&difference.b));
            let values = with_short_digests(&values);
            table.row(vec![
                format!("  {}", difference.name).into(),
                values.into_owned().into(),
                change.into(),
            ]);
        }
        text.push_str(&table.render());
        for difference in long {
            text.push_str(&format!("  {}\n", difference.name));
            text.push_str(&lines(difference));
        }
    }
    text
}

fn is_long(difference: &Difference) -> bool {
    [&difference.a, &difference.b].into_iter().flatten().any(|value| value.contains('\n'))
}

/// The lines that only one of two texts has.
fn lines(difference: &Difference) -> String {
    let of = |value: &Option<String>| {
        value.as_deref().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (a, b) = (of(&difference.a), of(&difference.b));
    let only = |these: &[String], others: &[String], mark: &str| {
        let lines = these.iter().filter(|line| !others.contains(line));
        lines.map(|line| format!("    {mark} {}\n", printable(&single_line(line)))).collect::<String>()
    };
    only(&a, &b, "-") + &only(&b, &a, "+")
}
