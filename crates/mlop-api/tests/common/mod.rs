//! The objects that the tests of the kinds share: `accepted/` has one of each kind with as many fields as it has,
//! `refused/` has wrong objects, as merge patches of these.
#![allow(dead_code, reason = "each test uses a part")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use serde::Deserialize;
use serde_json::Value;
use std::{fs, path::Path, sync::LazyLock};

/// An object that must be refused.
pub struct Refused {
    /// Kind and defect.
    pub name: String,
    pub object: Value,
    /// Parts of the message: the field and its allowed values.
    pub says: Vec<String>,
    /// Whether a CEL rule refuses it, with the last of `says` as its message.
    pub rule: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    patch: Value,
    says: Vec<String>,
    #[serde(default)]
    rule: bool,
}

/// All kinds; to derive them takes a while.
pub static KINDS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(mlop_api::kinds::all);

pub fn accepted() -> Vec<Value> {
    KINDS.iter().map(|crd| example(&crd.spec.names.kind)).collect()
}

/// The accepted object of `kind`.
pub fn example(kind: &str) -> Value {
    let file = format!("accepted/{}.yaml", kind.to_lowercase());
    let mut documents = documents(&read(&file));
    assert_eq!(documents.len(), 1, "{file}");
    documents.remove(0)
}

pub fn refused() -> Vec<Refused> {
    let kinds = KINDS.iter().map(|crd| &crd.spec.names.kind);
    let cases = kinds.flat_map(|kind| cases(kind).into_iter().map(move |case| refused_object(kind, case)));
    cases.collect()
}

fn cases(kind: &str) -> Vec<Case> {
    let file = format!("refused/{}.yaml", kind.to_lowercase());
    if !directory().join(&file).exists() {
        return Vec::new();
    }
    serde_saphyr::from_str(&read(&file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn refused_object(kind: &str, case: Case) -> Refused {
    let mut object = example(kind);
    merge(&mut object, &case.patch);
    Refused { name: format!("{kind}: {}", case.case), object, says: case.says, rule: case.rule }
}

/// Applies a merge patch in which `<n characters>` stands for a text of that length, with `wide` of three bytes each.
pub fn merge(object: &mut Value, patch: &Value) {
    json_patch::merge(object, &expanded(patch));
}

fn expanded(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(expanded).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), expanded(value))).collect(),
        Value::String(text) => {
            let length = text.strip_prefix('<').and_then(|rest| rest.strip_suffix(" characters>"));
            let Some(length) = length else { return value.clone() };
            let wide = length.strip_suffix(" wide");
            let character = if wide.is_some() { "日" } else { "x" };
            character.repeat(wide.unwrap_or(length).parse().unwrap()).into()
        }
        _ => value.clone(),
    }
}

/// The documents of a YAML file.
pub fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

pub fn schema(crd: &CustomResourceDefinition) -> &JSONSchemaProps {
    crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()
}

/// The definition of `object`'s kind, if it is one of mlop's.
pub fn definition(object: &Value) -> Option<&'static CustomResourceDefinition> {
    if object["apiVersion"] != format!("{}/{}", mlop_api::GROUP, mlop_api::VERSION) {
        return None;
    }
    let found = KINDS.iter().find(|crd| object["kind"] == crd.spec.names.kind.as_str());
    Some(found.unwrap_or_else(|| panic!("no kind {}", object["kind"])))
}

/// The objects in files that users read: the pipelines, and the YAML blocks of the README and of all documents.
pub fn published() -> Vec<(String, Value)> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts: Vec<(String, String)> = files(&repository.join("e2e/pipelines"), "yaml");
    let documents_of_users =
        [("README.md".to_owned(), fs::read_to_string(repository.join("README.md")).unwrap_or_default())];
    for (file, text) in documents_of_users.into_iter().chain(files(&repository.join("docs"), "md")) {
        let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        texts.extend(blocks.map(|block| (file.clone(), block.to_owned())));
    }
    let objects = texts
        .iter()
        .flat_map(|(file, text)| documents(text).into_iter().map(move |object| (file.clone(), object)));
    objects.filter(|(_, object)| definition(object).is_some()).collect()
}

/// Every file with this extension below `directory`, with its text.
fn files(directory: &Path, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn read(file: &str) -> String {
    fs::read_to_string(directory().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
