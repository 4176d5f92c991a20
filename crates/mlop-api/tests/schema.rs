//! What holds for the schema of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test may panic"
)]

mod common;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Calls `check` for each field of each kind with its path.
fn each_field(check: &mut impl FnMut(&str, &JSONSchemaProps)) {
    for crd in common::KINDS.iter() {
        walk(&crd.spec.names.kind, common::schema(crd), check);
    }
}

fn walk(path: &str, schema: &JSONSchemaProps, check: &mut impl FnMut(&str, &JSONSchemaProps)) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        check(&path, field);
        walk(&path, field, check);
        let (items, values) = inner(field);
        for (mark, inner) in
            items.map(|items| ("[]", items)).into_iter().chain(values.map(|values| (".*", values)))
        {
            let path = format!("{path}{mark}");
            check(&path, inner);
            walk(&path, inner, check);
        }
    }
}

fn inner(field: &JSONSchemaProps) -> (Option<&JSONSchemaProps>, Option<&JSONSchemaProps>) {
    let items = match &field.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(&**items),
        _ => None,
    };
    let values = match &field.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(&**values),
        _ => None,
    };
    (items, values)
}

#[test]
fn fields_are_described() {
    let mut missing = Vec::new();
    each_field(&mut |path, field| {
        let part_of_parent = path.ends_with("[]") || path.ends_with(".*");
        if !part_of_parent && field.description.as_ref().is_none_or(|text| text.trim().len() < 8) {
            missing.push(path.to_owned());
        }
    });
    assert_eq!(missing, Vec::<String>::new());
}

/// The fields of a PodProfile that Kubernetes checks when a pod is created. The size of an object bounds them.
fn is_part_of_a_pod(path: &str) -> bool {
    let Some(field) = path.strip_prefix("PodProfile.spec.").and_then(|path| path.split_once('.')) else {
        return false;
    };
    let volumes = [
        "configMap",
        "secret",
        "projected",
        "downwardAPI",
        "persistentVolumeClaim",
        "emptyDir",
        "csi",
        "ephemeral",
    ];
    let is_volume = || field.1.strip_prefix("volumes[].").is_some_and(|source| volumes.contains(&source));
    matches!(field.1, "affinity" | "topologySpreadConstraints[]" | "container.env[].valueFrom") || is_volume()
}

#[test]
fn everything_is_bounded() {
    let mut unbounded = Vec::new();
    each_field(&mut |path, field| {
        if is_part_of_a_pod(path) {
            assert_eq!(field.x_kubernetes_preserve_unknown_fields, Some(true), "{path}");
            return;
        }
        let (items, values) = inner(field);
        let bounded = match field.type_.as_deref() {
            // A date-time's form bounds it.
            Some("string") => field.max_length.is_some() || field.enum_.is_some() || field.format.is_some(),
            Some("array") => field.max_items.is_some() && items.is_some(),
            Some("object") if values.is_some() => field.max_properties.is_some(),
            Some("object") => field.properties.is_some(),
            Some("integer" | "boolean") => true,
            None if field.x_kubernetes_int_or_string == Some(true) => {
                field.max_length.is_some() && field.minimum.is_some()
            }
            // No fractions: they are decimal texts.
            _ => false,
        };
        if !bounded || field.x_kubernetes_preserve_unknown_fields.is_some() {
            unbounded.push(path.to_owned());
        }
    });
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn field_is_not_nullable_and_has_a_known_format() {
    each_field(&mut |path, field| {
        assert_eq!(field.nullable, None, "{path}");
        let known =
            field.format.as_deref().is_none_or(|format| matches!(format, "int32" | "int64" | "date-time"));
        assert!(known, "{path}: the API server warns about the format {:?}", field.format);
    });
}

#[test]
fn named_lists_merge_by_name_and_sets_have_no_duplicates() {
    let mut keyed = Vec::new();
    each_field(&mut |path, field| {
        let (Some(items), _) = inner(field) else { return };
        let named = items.properties.as_ref().is_some_and(|fields| fields.contains_key("name"));
        let kind = field.x_kubernetes_list_type.as_deref();
        if path.contains(".spec.")
            && !path.contains(".content.")
            && !path.contains(".lineage.")
            && !path.contains(".metrics")
            && !path.contains(".container.")
            && named
        {
            keyed.push(path.to_owned());
            assert_eq!(
                (kind, field.x_kubernetes_list_map_keys.as_deref()),
                (Some("map"), Some(&["name".to_owned()][..])),
                "{path}"
            );
        }
    });
    assert!(keyed.len() >= 5, "{keyed:?}");
}

#[test]
fn names_columns_and_categories_follow_one_form() {
    for crd in common::KINDS.iter() {
        let names = &crd.spec.names;
        let kind = &names.kind;
        let categories = names.categories.clone().unwrap_or_default();
        let is_run = common::schema(crd).properties.as_ref().unwrap()["spec"]
            .properties
            .as_ref()
            .unwrap()
            .contains_key("lineage");
        // Who may read a namespace only could not list a category with a kind without namespaces.
        let is_listed = crd.spec.scope == "Namespaced";
        assert_eq!(
            categories.contains(&"mlop".to_owned()),
            is_listed && !is_run,
            "{kind}: `kubectl get mlop` shows intents"
        );
        assert_eq!(categories.contains(&"mlop-all".to_owned()), is_listed, "{kind}");
        assert_eq!(names.short_names.as_ref().map(Vec::len), Some(1), "{kind}");
        let version = &crd.spec.versions[0];
        assert!(version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()), "{kind}");
        let columns: Vec<_> = version
            .additional_printer_columns
            .iter()
            .flatten()
            .filter(|column| column.priority.unwrap_or(0) == 0)
            .map(|column| column.name.as_str())
            .collect();
        let without_inputs = ["PodProfile", "TrainingQueue", "ObjectStore", "FeatureStore", "TrackingServer"];
        let follows_inputs = !without_inputs.contains(&kind.as_str());
        let first: &[&str] = match (is_run, follows_inputs) {
            (true, _) => &["Succeeded"],
            (false, true) => &["Ready", "UpToDate"],
            (false, false) => &["Ready"],
        };
        // Only trainings report progress.
        let progress: &[&str] = if kind == "TrainingRun" { &["Step", "Loss", "ETA"] } else { &[] };
        let wanted = [first, &["Reason"], progress, &["Summary", "Age", "Message"]].concat();
        assert_eq!(columns, wanted, "{kind}");
    }
}

#[test]
fn unseen_object_is_unknown() {
    for crd in common::KINDS.iter() {
        let status = &common::schema(crd).properties.as_ref().unwrap()["status"];
        let condition = &status.default.as_ref().unwrap().0["conditions"][0];
        assert_eq!(condition["status"], "Unknown", "{}", crd.spec.names.kind);
    }
}

#[test]
fn partial_object_has_the_defaults_of_the_whole_one() {
    let mut differing = Vec::new();
    each_field(&mut |path, field| {
        let Some(whole) = field.default.as_ref().and_then(|default| default.0.as_object()) else { return };
        // The default of a status is that of an object that nobody has seen.
        for (name, value) in whole.iter().filter(|_| !path.ends_with(".status")) {
            let nested = field.properties.iter().flatten().find(|(nested, _)| *nested == name);
            let default = nested.and_then(|(_, nested)| nested.default.as_ref()).map(|default| &default.0);
            if default != Some(value) {
                differing.push(format!("{path}.{name}: {default:?}, and {value} in the default of {path}"));
            }
        }
    });
    assert_eq!(differing, Vec::<String>::new());
}
