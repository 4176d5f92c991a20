//! The types read all objects that the schemas accept, and keep every field.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

mod common;

use kube::Resource;
use mlop_api::kinds::{self, Kind, Visitor};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn reread<K: Resource + Serialize + DeserializeOwned>(object: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<K>(object.clone())?)
}

/// `object` as its type sees it.
fn typed(object: &Value) -> Value {
    struct Typed<'a>(&'a Value, Option<Value>);
    impl Visitor for Typed<'_> {
        fn visit<K: Kind>(&mut self) {
            if self.0["kind"] == *K::kind(&()) {
                self.1 = Some(reread::<K>(self.0).unwrap_or_else(|e| panic!("{}: {e}", K::kind(&()))));
            }
        }
    }
    let mut typed = Typed(object, None);
    kinds::for_each(&mut typed);
    typed.1.unwrap_or_else(|| panic!("no type for {}", object["kind"]))
}

/// Where `whole` lacks or changes something of `part`; it may have more (defaults).
fn lost(path: &str, part: &Value, whole: &Value, found: &mut Vec<String>) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (name, value) in part {
                lost(&format!("{path}.{name}"), value, whole.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            for (index, (part, whole)) in part.iter().zip(whole).enumerate() {
                lost(&format!("{path}[{index}]"), part, whole, found);
            }
        }
        (part, whole) if part == whole => {}
        // An amount without quotes becomes the text that it stands for.
        (Value::Number(part), Value::String(whole)) if part.to_string() == *whole => {}
        // A field at its default is left out.
        (Value::Array(part), Value::Null) if part.is_empty() => {}
        (Value::Bool(false), Value::Null) => {}
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn example_keeps_every_field_when_it_is_read() {
    for object in
        common::accepted().into_iter().chain(common::published().into_iter().map(|(_, object)| object))
    {
        let mut found = Vec::new();
        lost("", &object, &typed(&object), &mut found);
        assert_eq!(found, Vec::<String>::new(), "{} {}", object["kind"], object["metadata"]["name"]);
    }
}

/// The defaults of the types are those of the schemas: an operator decides the same about an object from the API
/// server and about one that a test reads from a file.
#[test]
fn types_and_schemas_have_the_same_defaults() {
    for object in common::accepted() {
        let crd = common::definition(&object).unwrap();
        let schema = serde_json::to_value(common::schema(crd)).unwrap();
        let defaulted = kube::core::cel::apply_defaults(&schema, &object);
        let mut found = Vec::new();
        lost("", &defaulted["spec"], &typed(&object)["spec"], &mut found);
        assert_eq!(found, Vec::<String>::new(), "{}", object["kind"]);
    }
}
