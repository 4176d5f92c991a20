//! Creating, replacing and patching.

use kube::{
    Api, ResourceExt,
    api::{DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{
    bench::{Bench, Outcome, causes, generation, refusal, version},
    check::{Check, ensure, list},
    widget::{VERSION, widget_type},
};

pub(super) fn checks() -> Vec<Check> {
    list![
        creation_sets_identity_and_version,
        second_creation_is_refused,
        creation_generates_name,
        creation_ignores_status_and_sets_its_default,
        creation_in_missing_namespace_is_refused,
        creation_in_another_namespace_is_refused,
        creation_with_invalid_name_is_refused,
        creation_with_a_long_label_is_refused,
        dry_run_changes_nothing,
        missing_object_is_not_found,
        update_of_an_old_version_conflicts,
        update_without_a_version_is_refused,
        update_of_another_uid_conflicts,
        first_update_stores_default_status,
        identical_update_changes_nothing,
        generation_increases_with_spec_only,
        update_does_not_change_status,
        status_update_changes_status_only,
        merge_patch_sets_and_removes,
        merge_patch_of_an_old_version_conflicts,
        status_merge_patch_changes_status_only,
        json_patch_edits_and_tests,
    ]
}

async fn creation_sets_identity_and_version(bench: Bench) -> Outcome {
    let widget = bench.create("a", json!({"size": 1})).await?;
    let meta = &widget.metadata;
    ensure!(meta.uid.as_ref().is_some_and(|uid| !uid.is_empty()), "no uid");
    ensure!(version(&widget).parse::<u64>().is_ok(), "resource version {:?}", meta.resource_version);
    ensure!(meta.creation_timestamp.is_some(), "no creation timestamp");
    ensure!(meta.generation == Some(1), "generation {:?}", meta.generation);
    ensure!(meta.namespace.as_deref() == Some(&bench.namespace), "namespace {:?}", meta.namespace);
    let read = bench.widgets().get(&bench.name("a")).await?;
    ensure!(read == widget, "a read returns {read:?} after the response {widget:?}");
    Ok(())
}

async fn second_creation_is_refused(bench: Bench) -> Outcome {
    bench.create("a", json!({})).await?;
    let again = serde_json::from_value(bench.widget("a", json!({"size": 2})))?;
    let status = refusal(bench.widgets().create(&PostParams::default(), &again).await, 409, "AlreadyExists")?;
    let message = format!("widgets.conformance.mlop.dev \"{}\" already exists", bench.name("a"));
    ensure!(status.message == message, "message {:?}", status.message);
    let details = status.details.ok_or("no details")?;
    let about = (details.name, details.group, details.kind);
    let wanted = (bench.name("a"), "conformance.mlop.dev".to_string(), "widgets".to_string());
    ensure!(about == wanted, "details of {about:?}");
    Ok(())
}

async fn creation_generates_name(bench: Bench) -> Outcome {
    let prefix = bench.name("");
    let mut widget = bench.widget("", json!({}));
    widget["metadata"] = json!({"generateName": prefix});
    let first = bench.post(&widget).await?.name_any();
    let second = bench.post(&widget).await?.name_any();
    ensure!(first.starts_with(&prefix) && first.len() == prefix.len() + 5, "name {first}");
    ensure!(first != second, "{first} was generated twice");
    Ok(())
}

async fn creation_ignores_status_and_sets_its_default(bench: Bench) -> Outcome {
    let mut widget = bench.widget("a", json!({}));
    widget["status"] = json!({"note": "mine"});
    let created = bench.post(&widget).await?;
    let default = json!({"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending"}]});
    ensure!(created.data["status"] == default, "status {}", created.data["status"]);
    Ok(())
}

async fn creation_in_missing_namespace_is_refused(bench: Bench) -> Outcome {
    let api: Api<DynamicObject> =
        Api::namespaced_with(bench.client.clone(), "conformance-missing", &widget_type());
    let widget = serde_json::from_value(bench.widget("a", json!({})))?;
    let status = refusal(api.create(&PostParams::default(), &widget).await, 404, "NotFound")?;
    ensure!(status.message == "namespaces \"conformance-missing\" not found", "message {:?}", status.message);
    Ok(())
}

async fn creation_in_another_namespace_is_refused(bench: Bench) -> Outcome {
    let mut widget = bench.widget("a", json!({}));
    widget["metadata"]["namespace"] = json!("default");
    let widget = serde_json::from_value(widget)?;
    refusal(bench.widgets().create(&PostParams::default(), &widget).await, 400, "BadRequest")?;
    Ok(())
}

async fn creation_with_invalid_name_is_refused(bench: Bench) -> Outcome {
    let widget = serde_json::from_value(bench.widget("Bad_Name", json!({})))?;
    let status = refusal(bench.widgets().create(&PostParams::default(), &widget).await, 422, "Invalid")?;
    ensure!(causes(&status) == ["metadata.name FieldValueInvalid"], "causes {:?}", causes(&status));
    Ok(())
}

async fn creation_with_a_long_label_is_refused(bench: Bench) -> Outcome {
    let mut widget = bench.widget("a", json!({}));
    widget["metadata"]["labels"] = json!({"long": "x".repeat(64)});
    let widget = serde_json::from_value(widget)?;
    let status = refusal(bench.widgets().create(&PostParams::default(), &widget).await, 422, "Invalid")?;
    ensure!(causes(&status) == ["metadata.labels FieldValueInvalid"], "causes {:?}", causes(&status));
    Ok(())
}

async fn dry_run_changes_nothing(bench: Bench) -> Outcome {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let widget = serde_json::from_value(bench.widget("a", json!({"size": 2})))?;
    let created = bench.widgets().create(&dry, &widget).await?;
    ensure!(created.data["spec"]["color"] == "red", "the response lacks defaults");
    ensure!(bench.widgets().get_opt(&bench.name("a")).await?.is_none(), "the object was created");
    let before = bench.create("a", json!({"size": 2})).await?;
    let patch = Patch::Merge(json!({"spec": {"size": 3}}));
    let patched = bench.widgets().patch(&bench.name("a"), &PatchParams::default().dry_run(), &patch).await?;
    ensure!(patched.data["spec"]["size"] == 3, "the response lacks the change");
    ensure!(bench.widgets().get(&bench.name("a")).await? == before, "the object was changed");
    Ok(())
}

async fn missing_object_is_not_found(bench: Bench) -> Outcome {
    let name = bench.name("a");
    let status = refusal(bench.widgets().get(&name).await, 404, "NotFound")?;
    let message = format!("widgets.conformance.mlop.dev \"{name}\" not found");
    ensure!(status.message == message, "message {:?}", status.message);
    let patch = Patch::Merge(json!({"spec": {"size": 1}}));
    refusal(bench.widgets().patch(&name, &PatchParams::default(), &patch).await, 404, "NotFound")?;
    let status = Patch::Apply(json!({"apiVersion": VERSION, "kind": "Widget", "status": {"note": "x"}}));
    refusal(bench.widgets().patch_status(&name, &PatchParams::apply("a"), &status).await, 404, "NotFound")?;
    Ok(())
}

async fn update_of_an_old_version_conflicts(bench: Bench) -> Outcome {
    let old = bench.create("a", json!({"size": 1})).await?;
    let mut new = old.clone();
    new.data["spec"]["size"] = json!(2);
    let new = bench.widgets().replace(&bench.name("a"), &PostParams::default(), &new).await?;
    ensure!(
        version(&new).parse::<u64>()? > version(&old).parse::<u64>()?,
        "the resource version does not increase"
    );
    let late = bench.widgets().replace(&bench.name("a"), &PostParams::default(), &old).await;
    let status = refusal(late, 409, "Conflict")?;
    let message = format!(
        "Operation cannot be fulfilled on widgets.conformance.mlop.dev \"{}\": the object has been modified; please \
         apply your changes to the latest version and try again",
        bench.name("a")
    );
    ensure!(status.message == message, "message {:?}", status.message);
    Ok(())
}

async fn update_without_a_version_is_refused(bench: Bench) -> Outcome {
    let mut widget = bench.create("a", json!({"size": 1})).await?;
    widget.metadata.resource_version = None;
    let result = bench.widgets().replace(&bench.name("a"), &PostParams::default(), &widget).await;
    let status = refusal(result, 422, "Invalid")?;
    ensure!(
        causes(&status) == ["metadata.resourceVersion FieldValueInvalid"],
        "causes {:?}",
        causes(&status)
    );
    Ok(())
}

async fn update_of_another_uid_conflicts(bench: Bench) -> Outcome {
    let mut widget = bench.create("a", json!({"size": 1})).await?;
    widget.metadata.uid = Some("00000000-0000-0000-0000-000000000000".into());
    let result = bench.widgets().replace(&bench.name("a"), &PostParams::default(), &widget).await;
    refusal(result, 409, "Conflict")?;
    Ok(())
}

/// A default status is not stored at creation, but with the first write afterwards.
async fn first_update_stores_default_status(bench: Bench) -> Outcome {
    let widget = bench.create("a", json!({"size": 1})).await?;
    let updated = bench.widgets().replace(&bench.name("a"), &PostParams::default(), &widget).await?;
    ensure!(version(&updated) != version(&widget), "the version stays {}", version(&widget));
    ensure!(updated.data == widget.data, "the object became {}", updated.data);
    ensure!(generation(&updated) == 1, "the generation is {}", generation(&updated));
    Ok(())
}

async fn identical_update_changes_nothing(bench: Bench) -> Outcome {
    bench.create("a", json!({"size": 1})).await?;
    let (api, name) = (bench.widgets(), bench.name("a"));
    let resize = Patch::Merge(json!({"spec": {"size": 2}}));
    let widget = api.patch(&name, &PatchParams::default(), &resize).await?;
    let updated = api.replace(&name, &PostParams::default(), &widget).await?;
    ensure!(
        version(&updated) == version(&widget),
        "version {} became {}",
        version(&widget),
        version(&updated)
    );
    let patched = api.patch(&name, &PatchParams::default(), &resize).await?;
    ensure!(
        version(&patched) == version(&widget),
        "a patch changed the version to {} from {}",
        version(&patched),
        version(&widget)
    );
    Ok(())
}

async fn generation_increases_with_spec_only(bench: Bench) -> Outcome {
    bench.create("a", json!({"size": 1})).await?;
    let (api, name, params) = (bench.widgets(), bench.name("a"), PatchParams::default());
    let labels = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}, "generation": 9}}));
    let labelled = api.patch(&name, &params, &labels).await?;
    ensure!(generation(&labelled) == 1, "a label changed the generation to {}", generation(&labelled));
    let resized = api.patch(&name, &params, &Patch::Merge(json!({"spec": {"size": 2}}))).await?;
    ensure!(generation(&resized) == 2, "a new spec changed the generation to {}", generation(&resized));
    Ok(())
}

async fn update_does_not_change_status(bench: Bench) -> Outcome {
    let mut widget = bench.create("a", json!({"size": 1})).await?;
    widget.data["status"] = json!({"note": "mine"});
    widget.data["spec"]["size"] = json!(2);
    let updated = bench.widgets().replace(&bench.name("a"), &PostParams::default(), &widget).await?;
    ensure!(updated.data["spec"]["size"] == 2, "the spec is {}", updated.data["spec"]);
    ensure!(updated.data["status"].get("note").is_none(), "the status is {}", updated.data["status"]);
    Ok(())
}

async fn status_update_changes_status_only(bench: Bench) -> Outcome {
    let mut widget = bench.create("a", json!({"size": 1})).await?;
    widget.data["status"] = json!({"note": "mine", "observedGeneration": 1});
    widget.data["spec"]["size"] = json!(2);
    widget.labels_mut().insert("a".into(), "b".into());
    let updated = bench.widgets().replace_status(&bench.name("a"), &PostParams::default(), &widget).await?;
    ensure!(updated.data["status"]["note"] == "mine", "the status is {}", updated.data["status"]);
    ensure!(updated.data["spec"]["size"] == 1, "the spec is {}", updated.data["spec"]);
    ensure!(updated.labels().is_empty(), "the labels are {:?}", updated.labels());
    ensure!(generation(&updated) == 1, "the generation is {}", generation(&updated));
    let read = bench.widgets().get_status(&bench.name("a")).await?;
    ensure!(read == updated, "the subresource reads {read:?}");
    Ok(())
}

async fn merge_patch_sets_and_removes(bench: Bench) -> Outcome {
    bench.create("a", json!({"size": 1, "code": "abc", "tags": ["x", "y"]})).await?;
    let patch = Patch::Merge(json!({"spec": {"size": 2, "code": null, "tags": ["z"]}}));
    let patched = bench.widgets().patch(&bench.name("a"), &PatchParams::default(), &patch).await?;
    let wanted = json!({"size": 2, "color": "red", "tags": ["z"]});
    ensure!(patched.data["spec"] == wanted, "the spec is {}", patched.data["spec"]);
    Ok(())
}

async fn merge_patch_of_an_old_version_conflicts(bench: Bench) -> Outcome {
    let old = bench.create("a", json!({"size": 1})).await?;
    let patch = json!({"metadata": {"resourceVersion": version(&old)}, "spec": {"size": 2}});
    let (api, name) = (bench.widgets(), bench.name("a"));
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let again = json!({"metadata": {"resourceVersion": version(&old)}, "spec": {"size": 3}});
    refusal(api.patch(&name, &PatchParams::default(), &Patch::Merge(&again)).await, 409, "Conflict")?;
    Ok(())
}

async fn status_merge_patch_changes_status_only(bench: Bench) -> Outcome {
    bench.create("a", json!({"size": 1})).await?;
    let patch = Patch::Merge(json!({"spec": {"size": 2}, "status": {"note": "mine"}}));
    let patched = bench.widgets().patch_status(&bench.name("a"), &PatchParams::default(), &patch).await?;
    ensure!(patched.data["spec"]["size"] == 1, "the spec is {}", patched.data["spec"]);
    ensure!(patched.data["status"]["note"] == "mine", "the status is {}", patched.data["status"]);
    Ok(())
}

async fn json_patch_edits_and_tests(bench: Bench) -> Outcome {
    bench.create("a", json!({"size": 1, "steps": ["a"]})).await?;
    let (api, name, params) = (bench.widgets(), bench.name("a"), PatchParams::default());
    let edit = json!([{"op": "test", "path": "/spec/size", "value": 1}, {"op": "add", "path": "/spec/steps/-", "value": "b"}]);
    let patched = api.patch::<()>(&name, &params, &Patch::Json(serde_json::from_value(edit)?)).await?;
    ensure!(
        patched.data["spec"]["steps"] == json!(["a", "b"]),
        "the steps are {}",
        patched.data["spec"]["steps"]
    );
    let failing = json!([{"op": "test", "path": "/spec/size", "value": 7}]);
    let result = api.patch::<()>(&name, &params, &Patch::Json(serde_json::from_value(failing)?)).await;
    refusal(result, 422, "Invalid")?;
    Ok(())
}
