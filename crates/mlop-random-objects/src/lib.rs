//! Random custom resources: drawn from the schema of their kind, or a valid object with a few fields changed.
//!
//! ```
//! use fastrand::Rng;
//! use mlop_random_objects::Generator;
//! use serde_json::json;
//!
//! let store = json!({"kind": "ObjectStore", "spec": {"endpoint": "http://s3:9000", "bucket": "files"}});
//! let generator = Generator::new(&store)?;
//! let object = generator.object(&mut Rng::with_seed(1), 0);
//! assert_eq!(object, generator.object(&mut Rng::with_seed(1), 0));
//! # Ok::<(), anyhow::Error>(())
//! ```

#![allow(clippy::indexing_slicing, reason = "a test bed fails as tests do")]

mod text;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use mlop_api::{kinds, labels};
use serde_json::{Map, Value, json};

/// Draws objects of one kind: from its schema, or valid ones with a few fields changed.
pub struct Generator {
    kind: String,
    /// The schema of the spec.
    schema: Value,
    /// A spec that is valid.
    example: Value,
}

impl Generator {
    /// A generator of objects like `example`, which is a valid object of its kind.
    ///
    /// # Errors
    /// When the kind of `example` has no definition.
    pub fn new(example: &Value) -> Result<Self> {
        let kind = example["kind"].as_str().unwrap_or_default();
        let crd = kinds::all().into_iter().find(|crd| crd.spec.names.kind == kind);
        let crd = serde_json::to_value(crd.with_context(|| format!("{kind} has no definition"))?)?;
        let schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
        Ok(Self { kind: kind.to_owned(), schema, example: example["spec"].clone() })
    }

    /// The `nth` object, valid or not.
    pub fn object(&self, rng: &mut Rng, nth: usize) -> Value {
        let name = match rng.u8(..100) {
            0..=89 => format!("x{nth}"),
            90..=94 => format!("x{nth:a>39}"),
            95 => "flights".to_owned(),
            _ => text::any(rng, 60),
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
            "metadata": {"name": name, "namespace": "default"},
            "spec": spec,
        });
        if draw.rng.u8(..100) < 10 {
            let names = [
                labels::RETRY_REQUESTED_AT,
                labels::RUN_REQUESTED_AT,
                labels::REFRESH_REQUESTED_AT,
                labels::CANCEL_REQUESTED_AT,
                labels::PROMOTE_REQUESTED_AT,
            ];
            let name = names[draw.rng.usize(..names.len())];
            object["metadata"]["annotations"] = json!({name: text::any(draw.rng, 100)});
        }
        object
    }
}

struct Draw<'a> {
    rng: &'a mut Rng,
    /// Names of the object itself and of the one before it, for references in a circle.
    names: Vec<String>,
}

impl Draw<'_> {
    fn once_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn pick<'v>(&mut self, values: &[&'v str]) -> &'v str {
        values[self.rng.usize(..values.len())]
    }

    /// A value of `field` that mostly fits `schema`.
    fn value(&mut self, schema: &Value, field: &str) -> Value {
        if self.once_in(150) {
            return [json!(null), json!(true), json!(-1), json!("text"), json!([]), json!({})]
                [self.rng.usize(..6)]
            .clone();
        }
        if let Some(allowed) = schema["enum"].as_array() {
            return allowed[self.rng.usize(..allowed.len())].clone();
        }
        let kind = match schema["x-kubernetes-int-or-string"].as_bool() {
            Some(true) => self.pick(&["integer", "string"]),
            _ => schema["type"].as_str().unwrap_or_default(),
        };
        match kind {
            "string" => self.text(schema, field).into(),
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
        let Some(pattern) = schema["pattern"].as_str() else { return text::any(self.rng, max) };
        let Ok(pattern) = regex_syntax::parse(pattern) else { return String::new() };
        // Repetitions do not consider the whole length: a long text is drawn again.
        for longest in [self.rng.u32(1..max.min(60) as u32 + 2), 4, 1, 0] {
            let mut text = String::new();
            text::matching(self.rng, &pattern, longest, &mut text);
            if text.chars().count() <= max {
                return text;
            }
        }
        String::new()
    }

    /// A value of a field that refers to other objects.
    fn known(&mut self, field: &str) -> Option<String> {
        let known = match field {
            "store" => self.pick(&["files", "lake", "models", "unknown"]),
            "featureStore" => self.pick(&["features", "features", "unknown"]),
            "profile" => self.pick(&["quota", "quota", "unknown"]),
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
                let key = text::any(self.rng, 20);
                fields.insert(key, self.value(&schema["additionalProperties"], ""));
            }
        }
        fields.into()
    }

    /// Draws one field of `value` again, at any depth, or leaves it out.
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
