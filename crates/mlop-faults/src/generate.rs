//! Random custom resources: drawn from the schema of their kind, or a valid one with a few fields changed.
//!
//! [`check`] sends them through admission to the running operators. None may make a pass panic, and every status that
//! is written must be one that the API server takes.

use crate::world::{NS, World};
use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use mlop_api::{dataset, deployment, features, kinds, labels, registry, training};
use mlop_sim::Sim;
use regex_syntax::hir::{Hir, HirKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, marker::PhantomData, time::Duration};

const PIPELINE: &str = include_str!("pipeline.yaml");
/// Objects that share a world.
const BATCH: usize = 250;
/// Virtual time for which the operators look at them: scans, attempts and their delays have their turn.
const WATCHED: Duration = Duration::from_secs(60);

/// What came of a number of random objects.
#[derive(Debug, Default)]
pub struct Report {
    pub generated: usize,
    /// Objects that admission let through.
    pub admitted: usize,
    /// Panics, statuses that were refused, objects that were admitted and cannot be read.
    pub problems: Vec<String>,
}

/// Makes `count` objects of `kind`, and judges what the operators do with those that are admitted.
///
/// # Errors
/// When `kind` is none of the kinds that users write.
pub fn check(kind: &str, count: usize, seed: u64) -> Result<Report> {
    let Some(ops) = KINDS.iter().find(|ops| ops.kind == kind) else {
        bail!("{kind} is no kind that users write: want one of {}", names().collect::<Vec<_>>().join(", "));
    };
    let generator = Generator::new(kind)?;
    let mut rng = Rng::with_seed(seed);
    let mut report = Report::default();
    while report.generated < count {
        let objects: Vec<Value> =
            (0..BATCH.min(count - report.generated)).map(|nth| generator.object(&mut rng, nth)).collect();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(batch(ops, &objects, &mut report));
    }
    Ok(report)
}

/// The kinds that users write.
pub fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|ops| ops.kind)
}

async fn batch(ops: &Kind, objects: &[Value], report: &mut Report) {
    let world = World::start();
    world.apply(PIPELINE);
    tokio::time::sleep(Duration::from_secs(5)).await;
    for object in objects {
        report.generated += 1;
        if (ops.create)(&world.sim, object).is_err() {
            continue;
        }
        report.admitted += 1;
        if !(ops.reads)(&world.sim, object["metadata"]["name"].as_str().unwrap_or_default()) {
            report.problems.push(format!("admitted, but it does not fit the type: {object}"));
        }
    }
    tokio::time::sleep(WATCHED).await;
    report.problems.extend(KINDS.iter().flat_map(|ops| (ops.panicked)(&world.sim)));
    report.problems.extend(world.ended().into_iter().map(|ended| format!("an operator ended: {ended}")));
    // 404 and 409: the object went or changed meanwhile.
    let refused = world.sim.writes().into_iter().filter(|write| {
        write.subresource == "status" && write.code >= 400 && ![404, 409].contains(&write.code)
    });
    report.problems.extend(refused.map(|write| {
        let object = objects.iter().find(|object| object["metadata"]["name"] == write.name.as_str());
        format!(
            "{} for the status of {} {}: {}",
            write.code,
            write.resource,
            write.name,
            object.unwrap_or(&Value::Null)
        )
    }));
}

/// An object as its user sends it, whether it fits the Rust type or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Raw<K> {
    metadata: ObjectMeta,
    #[serde(flatten)]
    body: Map<String, Value>,
    #[serde(skip)]
    kind: PhantomData<K>,
}

impl<K: Resource<DynamicType = ()>> Resource for Raw<K> {
    type DynamicType = ();
    type Scope = K::Scope;
    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What can be done with the objects of a kind that is known by its name.
struct Kind {
    kind: &'static str,
    create: fn(&Sim, &Value) -> Result<(), String>,
    /// Whether the object is there and fits its Rust type.
    reads: fn(&Sim, &str) -> bool,
    panicked: fn(&Sim) -> Vec<String>,
}

macro_rules! kinds {
    ($($module:ident::$kind:ident),+ $(,)?) => {
        const KINDS: &[Kind] = &[$(Kind {
            kind: stringify!($kind),
            create: create::<$module::$kind>,
            reads: |sim, name| sim.get::<$module::$kind>(NS, name).is_some(),
            panicked: panicked::<$module::$kind>,
        }),+];
    };
}
kinds!(
    dataset::ObjectStore,
    dataset::Dataset,
    features::FeatureStore,
    features::FeatureView,
    training::TrainingJob,
    registry::TrackingServer,
    registry::Model,
    deployment::ModelDeployment,
);

fn create<K>(sim: &Sim, object: &Value) -> Result<(), String>
where
    K: Resource<DynamicType = ()>,
{
    let object: Raw<K> = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    sim.create(&object).map(drop).map_err(|status| status.message)
}

fn panicked<K>(sim: &Sim) -> Vec<String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let objects = sim.list::<Raw<K>>().into_iter();
    let told = objects.filter_map(|object| {
        let conditions = object.body.get("status")?.get("conditions")?.as_array()?.clone();
        let condition = conditions.into_iter().find(|condition| condition["reason"] == "Panicked")?;
        Some(format!("{}: {}: {}", K::kind(&()), condition["message"], json!(object)))
    });
    told.collect()
}

/// Draws objects of one kind.
struct Generator {
    kind: String,
    /// The schema of the spec.
    schema: Value,
    /// A spec that is valid.
    example: Value,
}

impl Generator {
    fn new(kind: &str) -> Result<Self> {
        let crd = kinds::all().into_iter().find(|crd| crd.spec.names.kind == kind);
        let crd = serde_json::to_value(crd.with_context(|| format!("{kind} has no definition"))?)?;
        let schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
        let documents = PIPELINE.split("\n---\n").map(serde_saphyr::from_str::<Value>);
        let example = documents
            .filter_map(Result::ok)
            .find(|object| object["kind"] == kind)
            .with_context(|| format!("the pipeline has no {kind}"))?;
        Ok(Self { kind: kind.to_owned(), schema, example: example["spec"].clone() })
    }

    fn object(&self, rng: &mut Rng, nth: usize) -> Value {
        let name = match rng.u8(..100) {
            0..=89 => format!("x{nth}"),
            90..=94 => format!("x{nth:a>39}"),
            95 => "flights".to_owned(),
            _ => drawn_text(rng, 60),
        };
        let mut draw = Draw { rng, names: vec![name.clone(), format!("x{}", nth.saturating_sub(1))] };
        let spec = if draw.rng.u8(..100) < 30 {
            draw.value(&self.schema, "spec")
        } else {
            let mut spec = self.example.clone();
            for _ in 0..draw.rng.usize(0..4) {
                draw.change(&self.schema, &mut spec);
            }
            spec
        };
        let mut object = json!({
            "apiVersion": "mlop.dev/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": name, "namespace": NS},
            "spec": spec,
        });
        if draw.rng.u8(..100) < 10 {
            let names = [labels::RETRY_REQUESTED_AT, labels::RUN_REQUESTED_AT, labels::REFRESH_REQUESTED_AT];
            let name = names[draw.rng.usize(..names.len())];
            object["metadata"]["annotations"] = json!({name: drawn_text(draw.rng, 100)});
        }
        object
    }
}

struct Draw<'a> {
    rng: &'a mut Rng,
    /// Names of the object itself and of one before it: what it refers to in a circle.
    names: Vec<String>,
}

impl Draw<'_> {
    fn once_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn pick<'v>(&mut self, values: &[&'v str]) -> &'v str {
        values[self.rng.usize(..values.len())]
    }

    /// A value that mostly fits `schema`; `field` is what it is called.
    fn value(&mut self, schema: &Value, field: &str) -> Value {
        if self.once_in(150) {
            return [json!(null), json!(true), json!(-1), json!("text"), json!([]), json!({})]
                [self.rng.usize(..6)]
            .clone();
        }
        if let Some(allowed) = schema["enum"].as_array() {
            return allowed[self.rng.usize(..allowed.len())].clone();
        }
        match schema["type"].as_str().unwrap_or_default() {
            "string" => self.text(schema, field).into(),
            // A run that waits for its activation is not spared by `keep: 0`: it is made and deleted for ever.
            "integer" if field == "keep" => self.integer(schema).max(1).into(),
            "integer" => self.integer(schema).into(),
            "number" => json!(self.rng.f64()),
            "boolean" => self.rng.bool().into(),
            "array" => self.list(schema, field),
            "object" => self.object(schema),
            _ => Value::Null,
        }
    }

    fn integer(&mut self, schema: &Value) -> i64 {
        let bound = |name: &str, without: i64| schema[name].as_f64().map_or(without, |bound| bound as i64);
        let (min, max) = (bound("minimum", i64::from(i32::MIN)), bound("maximum", i64::from(i32::MAX)));
        match self.rng.u8(..20) {
            0 => min,
            1 => max,
            2 => min.saturating_sub(1),
            3 => i64::MAX,
            _ => self.rng.i64(min..=max.min(min.saturating_add(100))),
        }
    }

    fn text(&mut self, schema: &Value, field: &str) -> String {
        let max = schema["maxLength"].as_u64().unwrap_or(300).min(70_000) as usize;
        if let Some(known) = self.known(field).filter(|_| !self.rng.u8(..10).is_multiple_of(3)) {
            return known;
        }
        let Some(pattern) = schema["pattern"].as_str() else { return drawn_text(self.rng, max) };
        let Ok(pattern) = regex_syntax::parse(pattern) else { return String::new() };
        // Repetitions are drawn without regard to the whole length: a long text is drawn again.
        for longest in [self.rng.u32(1..max.min(60) as u32 + 2), 4, 1, 0] {
            let mut text = String::new();
            matching(self.rng, &pattern, longest, &mut text);
            if text.chars().count() <= max {
                return text;
            }
        }
        String::new()
    }

    /// What a field of this name holds in an object that refers to others.
    fn known(&mut self, field: &str) -> Option<String> {
        let known = match field {
            "store" => self.pick(&["files", "files", "unknown"]),
            "featureStore" => self.pick(&["features", "features", "unknown"]),
            "trackingServer" => self.pick(&["mlflow", "mlflow", "unknown"]),
            "kind" => self.pick(&[
                "Dataset",
                "FeatureView",
                "TrainingJob",
                "Model",
                "ModelDeployment",
                "DatasetVersion",
                "Unknown",
            ]),
            "apiGroup" => self.pick(&["mlop.dev", "mlop.dev", "example.com"]),
            "name" if self.once_in(3) => return self.names.get(self.rng.usize(..2)).cloned(),
            "name" => self.pick(&["flights", "routes", "delay", "unknown"]),
            "pin" => self.pick(&["flights-0123456789ab", "unknown"]),
            _ => return None,
        };
        Some(known.to_owned())
    }

    fn list(&mut self, schema: &Value, field: &str) -> Value {
        let bound = |name: &str, without: u64| schema[name].as_u64().unwrap_or(without) as usize;
        let (min, max) = (bound("minItems", 0), bound("maxItems", 8));
        let length = match self.rng.u8(..40) {
            0 => max,
            1 => max + 1,
            2 => 0,
            _ => self.rng.usize(min..=max.min(min + 3)),
        };
        let items = (0..length).map(|_| self.value(&schema["items"], field));
        items.collect::<Vec<_>>().into()
    }

    fn object(&mut self, schema: &Value) -> Value {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let mut fields = Map::new();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let wanted = if required.contains(&json!(name)) { !self.once_in(100) } else { self.rng.bool() };
            if wanted {
                fields.insert(name.clone(), self.value(field, name));
            }
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..self.rng.usize(..4) {
                let key = drawn_text(self.rng, 20);
                fields.insert(key, self.value(&schema["additionalProperties"], ""));
            }
        }
        fields.into()
    }

    /// Draws one field of `value`, at any depth, anew, or leaves it out.
    fn change(&mut self, schema: &Value, value: &mut Value) {
        let properties = schema["properties"].as_object();
        match value {
            Value::Object(fields) if properties.is_some_and(|all| !all.is_empty()) => {
                let all: Vec<&String> = properties.into_iter().flat_map(Map::keys).collect();
                let name = all[self.rng.usize(..all.len())];
                let inner = &schema["properties"][name];
                match fields.get_mut(name) {
                    Some(old) if self.rng.bool() => self.change(inner, old),
                    Some(_) if self.once_in(6) => drop(fields.remove(name)),
                    _ => drop(fields.insert(name.clone(), self.value(inner, name))),
                }
            }
            Value::Array(items) if !items.is_empty() && !self.once_in(4) => {
                let nth = self.rng.usize(..items.len());
                self.change(&schema["items"], &mut items[nth]);
            }
            other => *other = self.value(schema, ""),
        }
    }
}

/// A text that `pattern` matches, unless it looks around; no part of it is repeated more than `longest` times beyond
/// what it must be.
fn matching(rng: &mut Rng, pattern: &Hir, longest: u32, text: &mut String) {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => {
            let ranges: Vec<(u32, u32)> = match class {
                regex_syntax::hir::Class::Unicode(class) => {
                    class.iter().map(|range| (range.start() as u32, range.end() as u32)).collect()
                }
                regex_syntax::hir::Class::Bytes(class) => {
                    class.iter().map(|range| (range.start().into(), range.end().into())).collect()
                }
            };
            let Some((start, end)) = rng.choice(ranges) else { return };
            text.extend(char::from_u32(rng.u32(start..=end)));
        }
        HirKind::Repetition(repetition) => {
            let max = repetition.max.unwrap_or(u32::MAX).min(repetition.min.saturating_add(longest));
            for _ in 0..rng.u32(repetition.min..=max) {
                matching(rng, &repetition.sub, longest, text);
            }
        }
        HirKind::Capture(capture) => matching(rng, &capture.sub, longest, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| matching(rng, part, longest, text)),
        HirKind::Alternation(parts) => {
            if let Some(part) = rng.choice(parts) {
                matching(rng, part, longest, text);
            }
        }
    }
}

/// Any text of at most `max` characters.
fn drawn_text(rng: &mut Rng, max: usize) -> String {
    const SAMPLES: [&str; 14] = [
        "a",
        "name",
        "in/2024/",
        "SELECT * FROM flights",
        "(",
        "[a-z",
        "**/*.csv.gz",
        "../../etc/passwd",
        "grün 日本 🚀",
        "e\u{301}\u{202e}",
        "a\u{0}b",
        "line\nline\r\n",
        "9223372036854775808",
        "NaN",
    ];
    let text: String = match rng.u8(..20) {
        0 => String::new(),
        1 => "x".repeat(max),
        2 => "ü".repeat(max),
        _ => SAMPLES[rng.usize(..SAMPLES.len())].to_owned(),
    };
    text.chars().take(max).collect()
}
