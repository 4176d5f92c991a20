//! The reference: one page per kind from its schema, and the reasons.
use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use mlop_api::Reason;

use super::files::{Files, MARK};
use crate::paths;

const DIRECTORY: &str = "docs/reference";
/// Where people explain the kinds.
const GUIDE: &str = "docs/kinds";
/// Statuses that several kinds have: one of these kinds, file and title of the page for all of them.
const SHARED: [(&str, &str, &str); 3] = [
    ("Dataset", "status-of-intents.md", "Status of intents"),
    ("DatasetVersion", "status-of-runs.md", "Status of runs"),
    ("ObjectStore", "status-of-connections.md", "Status of connections"),
];

pub fn files(kinds: &[CustomResourceDefinition]) -> Result<Files> {
    let mut files = Files::new();
    let mut index = page("Reference", "Everything below is generated from the types in `crates/mlop-api`.");
    let shared = shared(kinds)?;
    for kind in kinds {
        let names = &kind.spec.names;
        let file = format!("{}.md", names.kind.to_lowercase());
        let schema = schema(kind)?;
        writeln!(index, "- [{}]({file}): {}", names.kind, description(schema))?;
        files.insert(format!("{DIRECTORY}/{file}").into(), kind_page(kind, schema, &shared)?);
    }
    for (table, (file, title)) in &shared {
        writeln!(index, "- [{title}]({file})")?;
        files.insert(
            format!("{DIRECTORY}/{file}").into(),
            format!("{}{table}", page(title, "Fields that these kinds have in common.")),
        );
    }
    index.push_str("- [Reasons](reasons.md): why a condition is as it is.\n");
    files.insert(format!("{DIRECTORY}/README.md").into(), index);
    files.insert(format!("{DIRECTORY}/reasons.md").into(), reasons()?);
    Ok(files)
}

fn page(title: &str, text: &str) -> String {
    format!("<!-- {MARK} -->\n# {title}\n\n{text}\n\n")
}

fn schema(kind: &CustomResourceDefinition) -> Result<&JSONSchemaProps> {
    let version = kind.spec.versions.first();
    let schema = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    schema.with_context(|| format!("{} has no schema", kind.spec.names.kind))
}

/// The tables of the statuses that several kinds have, with file and title of their pages.
fn shared(kinds: &[CustomResourceDefinition]) -> Result<BTreeMap<String, (&'static str, &'static str)>> {
    let mut shared = BTreeMap::new();
    for (name, file, title) in SHARED {
        let kind = kinds.iter().find(|kind| kind.spec.names.kind == name);
        let kind = kind.with_context(|| format!("there is no kind {name}"))?;
        if let Some(status) = part(schema(kind)?, "status") {
            shared.insert(table("status", status)?, (file, title));
        }
    }
    Ok(shared)
}

fn part<'a>(schema: &'a JSONSchemaProps, name: &str) -> Option<&'a JSONSchemaProps> {
    schema.properties.as_ref()?.get(name)
}

fn table(name: &str, schema: &JSONSchemaProps) -> Result<String> {
    let mut text = "| field | type | default | allowed | meaning |\n|---|---|---|---|---|\n".to_owned();
    rows(&mut text, name, schema)?;
    Ok(text)
}

fn kind_page(
    kind: &CustomResourceDefinition,
    schema: &JSONSchemaProps,
    shared: &BTreeMap<String, (&str, &str)>,
) -> Result<String> {
    let names = &kind.spec.names;
    let mut text = page(&names.kind, &description(schema));
    let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>();
    writeln!(
        text,
        "`apiVersion: {}/{}`, short name {}.",
        mlop_api::GROUP,
        mlop_api::VERSION,
        short.join(", ")
    )?;
    let guide = format!("{}.md", names.kind.to_lowercase());
    if paths::repository().join(GUIDE).join(&guide).exists() {
        writeln!(text, "\n[Example, use and debugging](../kinds/{guide}).")?;
    }
    for name in ["spec", "status"] {
        let Some(schema) = part(schema, name) else { continue };
        let table = table(name, schema)?;
        match shared.get(&table) {
            Some((file, title)) => writeln!(text, "\n## {name}\n\nSee [{}]({file}).", title.to_lowercase())?,
            None => write!(text, "\n## {name}\n\n{table}")?,
        }
    }
    let mut rules = Vec::new();
    collect_rules(&mut rules, "", schema);
    if !rules.is_empty() {
        writeln!(text, "\n## Rules\n")?;
        for (path, message) in rules {
            let place = if path.is_empty() { String::new() } else { format!("`{path}`: ") };
            writeln!(text, "- {place}{message}")?;
        }
    }
    Ok(text)
}

/// One row per field below `schema`, parents before children, required fields marked.
fn rows(text: &mut String, path: &str, schema: &JSONSchemaProps) -> Result<()> {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let path = format!("{path}.{name}");
        let default = field.default.as_ref().map_or(String::new(), |default| code(&default.0.to_string()));
        let default = if required { "required".to_owned() } else { default };
        let (kind, allowed, meaning) = (type_of(field), allowed(field), description(field));
        writeln!(text, "| `{path}` | {kind} | {default} | {allowed} | {} |", meaning.replace('|', "\\|"))?;
        nested(text, &path, field)?;
    }
    Ok(())
}

fn nested(text: &mut String, path: &str, field: &JSONSchemaProps) -> Result<()> {
    match (items(field), values(field)) {
        (Some(items), _) => rows(text, &format!("{path}[]"), items),
        (_, Some(values)) => rows(text, &format!("{path}.*"), values),
        _ => rows(text, path, field),
    }
}

fn collect_rules(rules: &mut Vec<(String, String)>, path: &str, schema: &JSONSchemaProps) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        rules.push((path.to_owned(), rule.message.clone().unwrap_or_else(|| code(&rule.rule))));
    }
    for (name, field) in schema.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect_rules(rules, &path, field);
        if let Some(items) = items(field) {
            collect_rules(rules, &format!("{path}[]"), items);
        }
        if let Some(values) = values(field) {
            collect_rules(rules, &format!("{path}.*"), values);
        }
    }
}

fn items(field: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match field.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn values(field: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match field.additional_properties.as_ref()? {
        JSONSchemaPropsOrBool::Schema(values) => Some(values),
        JSONSchemaPropsOrBool::Bool(_) => None,
    }
}

fn type_of(field: &JSONSchemaProps) -> String {
    let kind = match field.x_kubernetes_int_or_string {
        Some(true) => "integer or string".to_owned(),
        _ => field.type_.clone().unwrap_or_default(),
    };
    match (items(field), values(field)) {
        (Some(items), _) => format!("list of {}", type_of(items)),
        (_, Some(values)) => format!("map of {}", type_of(values)),
        _ => kind,
    }
}

/// The bounds of the field and, for lists and maps, of their elements.
fn allowed(field: &JSONSchemaProps) -> String {
    let mut parts = Vec::new();
    if let Some(values) = &field.enum_ {
        let values: Vec<_> = values
            .iter()
            .filter(|value| !value.0.is_null())
            .map(|value| code(&value.0.to_string()))
            .collect();
        parts.push(values.join(", "));
    }
    parts.extend(range(field.minimum, field.maximum, ""));
    parts.extend(range(field.min_length, field.max_length, " characters"));
    parts.extend(range(field.min_items, field.max_items, " entries"));
    parts.extend(range(field.min_properties, field.max_properties, " entries"));
    parts.extend(field.pattern.as_ref().map(|pattern| code(pattern)));
    let inner =
        items(field).or_else(|| values(field)).filter(|inner| inner.properties.is_none()).map(allowed);
    parts.extend(inner.filter(|inner| !inner.is_empty()).map(|inner| format!("each: {inner}")));
    parts.join("; ")
}

fn range<T: PartialEq + std::fmt::Display>(min: Option<T>, max: Option<T>, unit: &str) -> Option<String> {
    match (min, max) {
        (Some(min), Some(max)) if min == max => Some(format!("exactly {min}{unit}")),
        (Some(min), Some(max)) => Some(format!("{min} to {max}{unit}")),
        (Some(min), None) => Some(format!("at least {min}{unit}")),
        (None, Some(max)) => Some(format!("at most {max}{unit}")),
        (None, None) => None,
    }
}

fn description(schema: &JSONSchemaProps) -> String {
    schema.description.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `text` as code in a cell of a table.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn reasons() -> Result<String> {
    let mut text = page("Reasons", "Why a condition is as it is; Events and metrics use the same words.");
    text.push_str("| reason | meaning |\n|---|---|\n");
    for (reason, meaning) in Reason::ALL {
        writeln!(
            text,
            "| `{reason}` | {} |",
            meaning.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
        )?;
    }
    Ok(text)
}
