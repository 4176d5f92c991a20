//! Defaults of a kind for fields of a shared struct.
//!
//! `resources: {cpu: 2}` sets only the CPU: the other fields take the values of the kind, not those of the struct. The
//! same default is in the schema, so that the API server and every other reader agree.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::Value;

/// Declares a module with the default of one field: `value`, and `deserialize` and `schema` for objects that give some of
/// its fields.
macro_rules! defaults {
    ($name:ident: $type:ty = $value:expr) => {
        mod $name {
            use super::*;

            pub(super) fn value() -> $type {
                $value
            }
            pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
                source: D,
            ) -> Result<$type, D::Error> {
                crate::defaults::complete(&value(), source)
            }
            pub(super) fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::defaults::schema(&value(), generator)
            }
        }
    };
}
pub(crate) use defaults;

/// Reads an object whose missing fields are those of `default`.
pub(crate) fn complete<'de, T, D>(default: &T, source: D) -> Result<T, D::Error>
where
    T: Serialize + DeserializeOwned,
    D: Deserializer<'de>,
{
    let mut value = serde_json::to_value(default).map_err(D::Error::custom)?;
    match (&mut value, Value::deserialize(source)?) {
        (Value::Object(fields), Value::Object(given)) => fields.extend(given),
        (value, given) => *value = given,
    }
    serde_json::from_value(value).map_err(D::Error::custom)
}

/// The schema of `T` in which the fields have the values of `default` as their defaults.
pub(crate) fn schema<T: Serialize + JsonSchema>(default: &T, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    let defaults = serde_json::to_value(default).unwrap_or_default();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, property) in properties.into_iter().flatten() {
        if let (Some(value), Some(property)) = (defaults.get(name), property.as_object_mut()) {
            property.insert("default".to_owned(), value.clone());
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use crate::{Quantity, deployment::Runtime, registry::ModelSpec, training::TrainingJobSpec};
    use serde_json::json;

    #[test]
    fn missing_fields_have_the_default_of_the_kind() {
        let mut job = json!({"image": "a", "command": ["a"], "store": "a", "resources": {"cpu": "100m"}});
        let read = |job: &serde_json::Value| serde_json::from_value::<TrainingJobSpec>(job.clone());
        let resources = read(&job).unwrap().resources;
        assert_eq!((resources.cpu, resources.memory), (Quantity::milli(100), Quantity::gibi(2)));
        job["resources"] = json!("much");
        assert!(read(&job).is_err(), "a text is not an object");
        let runtime: Runtime =
            serde_json::from_value(json!({"image": "a", "resources": {"gpu": 1}})).unwrap();
        assert_eq!((runtime.resources.memory, runtime.resources.gpu), (Quantity::gibi(1), 1));
        let model = json!({"from": {"kind": "TrainingJob", "name": "a"}, "trackingServer": "a",
            "retry": {"initial": "1s"}});
        let model: ModelSpec = serde_json::from_value(model).unwrap();
        assert_eq!((model.retry.limit, model.retry.initial.as_secs()), (10, 1));
    }
}
