//! The list of all kinds, for code that does the same for each of them.

use crate::{
    contract::condition_type::{READY, SUCCEEDED},
    dataset::{Dataset, DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureSnapshot, FeatureStore, FeatureView},
    profile::PodProfile,
    queue::TrainingQueue,
    registry::{Model, ModelVersion, TrackingServer},
    status::Conditioned,
    training::{TrainingJob, TrainingRun},
};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    CustomResourceExt, Resource,
    core::{
        ClusterResourceScope,
        object::{HasSpec, HasStatus},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{any::TypeId, fmt::Debug};

/// A kind of mlop.
pub trait Kind:
    Resource<DynamicType = ()>
    + CustomResourceExt
    + HasSpec
    + HasStatus<Status: Conditioned>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Who writes its objects.
    const CLASS: Class = <Self::Status as Conditioned>::CLASS;

    /// Conditions in the status; none while there is no status.
    fn conditions(&self) -> &[Condition] {
        self.status().map_or(&[], Conditioned::conditions)
    }
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()>
        + CustomResourceExt
        + HasSpec
        + HasStatus<Status: Conditioned>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// Who writes the objects of a kind, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Platform teams: how the pods of a namespace are made, and how much they may take.
    Policy,
    /// Users: how something outside the cluster is reached.
    Connection,
    /// Users: a result that they want.
    Intent,
    /// Operators: one piece of work for an intent.
    Run,
}

/// Code that is generic over the kinds.
pub trait Visitor {
    fn visit<K: Kind>(&mut self);
}

/// Visits every kind: policies, connections and intents stage by stage, then the runs. This is the only list of them.
pub fn for_each(visitor: &mut impl Visitor) {
    visitor.visit::<PodProfile>();
    visitor.visit::<TrainingQueue>();
    visitor.visit::<ObjectStore>();
    visitor.visit::<Dataset>();
    visitor.visit::<FeatureStore>();
    visitor.visit::<FeatureView>();
    visitor.visit::<TrainingJob>();
    visitor.visit::<TrackingServer>();
    visitor.visit::<Model>();
    visitor.visit::<ModelDeployment>();
    visitor.visit::<DatasetVersion>();
    visitor.visit::<FeatureSnapshot>();
    visitor.visit::<TrainingRun>();
    visitor.visit::<ModelVersion>();
}

/// The custom resource definitions of all kinds as they are installed: the derived ones, completed.
pub fn all() -> Vec<CustomResourceDefinition> {
    struct Definitions(Vec<CustomResourceDefinition>);
    impl Visitor for Definitions {
        fn visit<K: Kind>(&mut self) {
            let condition = if K::CLASS == Class::Run { SUCCEEDED } else { READY };
            self.0.push(completed(K::crd(), condition));
        }
    }
    let mut definitions = Definitions(Vec::new());
    for_each(&mut definitions);
    definitions.0
}

/// Names and classes of all kinds.
pub fn names() -> Vec<(String, Class)> {
    struct Names(Vec<(String, Class)>);
    impl Visitor for Names {
        fn visit<K: Kind>(&mut self) {
            self.0.push((K::kind(&()).into_owned(), K::CLASS));
        }
    }
    let mut names = Names(Vec::new());
    for_each(&mut names);
    names.0
}

/// Whether objects of `kind` belong to no namespace.
pub fn is_cluster_scoped(kind: &str) -> bool {
    struct Scoped<'a>(&'a str, bool);
    impl Visitor for Scoped<'_> {
        fn visit<K: Kind>(&mut self) {
            let is_cluster_scoped = TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>();
            self.1 |= K::kind(&()) == self.0 && is_cluster_scoped;
        }
    }
    let mut scoped = Scoped(kind, false);
    for_each(&mut scoped);
    scoped.1
}

/// Name of the resource of `kind` in URLs and RBAC rules.
pub fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

/// Adds the parts of a kind's definition that the derive cannot express. `condition` is the kind's main condition.
fn completed(mut crd: CustomResourceDefinition, condition: &str) -> CustomResourceDefinition {
    for schema in schemas(std::slice::from_mut(&mut crd)) {
        each(schema, &drop_nullable);
        each(schema, &drop_unsigned_format);
        each(schema, &keep_lists_as_written);
        if let Some(status) = schema.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(unseen(condition));
            bound_conditions(status);
        }
    }
    crd
}

/// The schemas of all versions.
fn schemas(definitions: &mut [CustomResourceDefinition]) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let versions = definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions);
    versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

/// A status whose `condition` is Unknown, so that nothing looks done before a controller has seen it. Nobody owns its
/// fields: one that a controller leaves out would stay, so it has only those that every status has.
fn unseen(condition: &str) -> JSON {
    let message = "Waiting for the controller";
    JSON(json!({
        "headline": {"reason": "Pending"},
        "conditions": [{
            "type": condition,
            "status": "Unknown",
            "reason": "Pending",
            "message": message,
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    }))
}

/// The API server drops a null in a field that is not nullable before it looks at defaults and rules. So a null
/// means the same as no field, and `has()` in a rule tells the truth.
fn drop_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
}

/// The API server adds no default to an item of a list: a merge patch compares lists as a whole, so `kubectl apply` and
/// GitOps tools would see a difference in every list with one. Operators apply the same defaults when they read.
fn keep_lists_as_written(schema: &mut JSONSchemaProps) {
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        each(items, &describe_default);
    }
}

/// Moves the default into the description.
fn describe_default(schema: &mut JSONSchemaProps) {
    let Some(JSON(default)) = schema.default.take() else { return };
    let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
    let description = schema.description.take().unwrap_or_default();
    schema.description = Some(format!("{description} Default: {default}."));
}

/// The API server warns about formats that it does not know; the bounds of the field say the same.
fn drop_unsigned_format(schema: &mut JSONSchemaProps) {
    if schema.format.as_ref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
}

/// The bounds of Kubernetes' own conditions, which its Rust type does not carry.
fn bound_conditions(status: &mut JSONSchemaProps) {
    let conditions = status.properties.as_mut().and_then(|properties| properties.get_mut("conditions"));
    let Some(JSONSchemaPropsOrArray::Schema(item)) = conditions.and_then(|list| list.items.as_mut()) else {
        return;
    };
    for (name, field) in item.properties.iter_mut().flatten() {
        match name.as_str() {
            "type" => field.max_length = Some(316),
            "status" => {
                field.enum_ = Some(["True", "False", "Unknown"].map(|status| JSON(json!(status))).into())
            }
            "reason" => {
                field.min_length = Some(1);
                field.max_length = Some(1_024);
                field.pattern = Some("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$".to_owned());
            }
            "message" => field.max_length = Some(32_768),
            _ => {}
        }
    }
}

/// Calls `change` for `schema` and every schema in it.
fn each(schema: &mut JSONSchemaProps, change: &impl Fn(&mut JSONSchemaProps)) {
    change(schema);
    for field in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        each(field, change);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        each(items, change);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        each(values, change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_of_a_list_has_no_default() {
        let mut definitions = all();
        for schema in schemas(&mut definitions) {
            each(schema, &|list| {
                if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut list.items {
                    each(items, &|field| assert_eq!(field.default, None, "{:?}", field.description));
                }
            });
        }
    }

    #[test]
    fn plural_is_that_of_the_definition() {
        for definition in all() {
            assert_eq!(plural(&definition.spec.names.kind), definition.spec.names.plural);
        }
    }
}
