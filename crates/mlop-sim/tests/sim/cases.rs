//! Objects as people have them, at admission: accepted as they are, stored as they are written.

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use mlop_sim::Sim;
use serde_json::{Value, json};

use crate::refusal;

/// The files, and the pipeline of the demo.
const FILES: [&str; 10] = [
    include_str!("../../../mlop-api/tests/cases/base.yaml"),
    include_str!("../../../mlop-api/tests/cases/datasets.yaml"),
    include_str!("../../../mlop-api/tests/cases/features.yaml"),
    include_str!("../../../mlop-api/tests/cases/outside-mlflow.yaml"),
    include_str!("../../../mlop-api/tests/cases/peek.yaml"),
    include_str!("../../../mlop-api/tests/cases/redis.yaml"),
    include_str!("../../../mlop-api/tests/cases/registry.yaml"),
    include_str!("../../../mlop-api/tests/cases/serving.yaml"),
    include_str!("../../../mlop-api/tests/cases/training.yaml"),
    include_str!("../../../../e2e/pipelines/flights.yaml"),
];

/// A server with the kinds of mlop.
fn server() -> Sim {
    let sim = Sim::new();
    for crd in mlop_api::kinds::all() {
        sim.register_crd(&crd).unwrap();
    }
    sim
}

/// The objects of mlop in the files, in the namespace `default`.
fn objects() -> Vec<DynamicObject> {
    // The files are older than the name of this field.
    let text = |file: &str| file.replace("CASE", "b01").replace("refresh: {every:", "refresh: {interval:");
    let documents = FILES.iter().flat_map(|file| serde_saphyr::from_multiple::<Value>(&text(file)).unwrap());
    let ours = documents.filter(|document| document["apiVersion"] == "mlop.dev/v1alpha1");
    ours.map(|mut document| {
        document["metadata"].as_object_mut().unwrap().remove("namespace");
        serde_json::from_value(document).unwrap()
    })
    .collect()
}

fn kind_of(object: &DynamicObject) -> String {
    object.types.as_ref().unwrap().kind.clone()
}

/// `kubectl apply --server-side`, with unknown fields as errors.
async fn apply(sim: &Sim, object: &DynamicObject) -> kube::Result<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("mlop.dev", "v1alpha1", &kind_of(object)));
    let api: Api<DynamicObject> = Api::namespaced_with(sim.client(), "default", &resource);
    let params = PatchParams::apply("user").force().validation_strict();
    api.patch(&object.name_any(), &params, &Patch::Apply(object)).await
}

/// What a tool that compares files with live objects sees as a difference: a list counts as a whole.
fn drift(wanted: &Value, live: &Value, path: &str) -> Vec<String> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(_)) => wanted
            .iter()
            .flat_map(|(name, wanted)| drift(wanted, &live[name], &format!("{path}.{name}")))
            .collect(),
        _ if wanted == live => Vec::new(),
        _ => vec![format!("{path}: {wanted} is stored as {live}")],
    }
}

#[tokio::test(start_paused = true)]
async fn objects_of_the_cases_are_stored_as_written() {
    let (sim, objects) = (server(), objects());
    assert!(objects.len() > 80, "{}", objects.len());
    let mut wrong = Vec::new();
    for object in &objects {
        let place = format!("{} {}", kind_of(object), object.name_any());
        let stored = match apply(&sim, object).await {
            Ok(stored) => stored,
            Err(error) => {
                wrong.push(format!("{place}: {error}"));
                continue;
            }
        };
        wrong.extend(drift(&object.data["spec"], &stored.data["spec"], &format!("{place} spec")));
        let again = apply(&sim, object).await.unwrap();
        if again.metadata.generation != stored.metadata.generation {
            wrong.push(format!("{place}: a second apply changes it"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn names_have_forty_characters_and_no_more() {
    let (sim, mut kinds) = (server(), Vec::new());
    for mut object in objects() {
        let kind = kind_of(&object);
        if kinds.contains(&kind) {
            continue;
        }
        object.metadata.name = Some("a".repeat(40));
        apply(&sim, &object).await.unwrap();
        object.metadata.name = Some(format!("{}0", object.name_any()));
        let message = refusal(apply(&sim, &object).await).message;
        assert!(message.contains("metadata.name must be 1 to 40 of a-z"), "{kind}: {message}");
        kinds.push(kind);
    }
    assert_eq!(kinds.len(), 8, "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn longest_names_of_inputs_are_accepted() {
    let sim = server();
    let input = |number: usize| {
        let name = format!("{}{number:02}", "i".repeat(38));
        json!({"name": name, "from": {"kind": "Dataset", "name": "b01"}})
    };
    let with = |inputs: Vec<Value>| {
        let mut object = objects().into_iter().find(|object| kind_of(object) == "TrainingJob").unwrap();
        object.data["spec"]["inputs"] = inputs.into();
        object
    };
    apply(&sim, &with((0..16).map(input).collect())).await.unwrap();
    for (inputs, field) in
        [((0..17).map(input).collect(), "spec.inputs"), (vec![input(100)], "inputs[0].name")]
    {
        let message = refusal(apply(&sim, &with(inputs)).await).message;
        assert!(message.contains(field), "{field}: {message}");
    }
}
