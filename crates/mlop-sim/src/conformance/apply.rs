//! Server-side apply: ownership, conflicts, removal and lists.

use kube::{
    api::{DynamicObject, Patch, PatchParams},
    core::Status,
};
use serde_json::{Value, json};

use super::{
    bench::{Bench, Failure, Outcome, causes, generation, refusal, version},
    check::{Check, ensure, list},
    widget::VERSION,
};

pub(super) fn checks() -> Vec<Check> {
    list![
        apply_creates_with_ownership,
        identical_apply_changes_nothing,
        apply_conflicts_with_another_manager,
        apply_of_equal_value_shares_ownership,
        forced_apply_takes_ownership,
        apply_removes_fields_omitted_from_intent,
        apply_keeps_fields_of_other_managers,
        apply_keeps_fields_it_never_owned,
        apply_merges_lists_by_key,
        apply_merges_sets,
        apply_replaces_atomic_lists,
        apply_conflicts_with_an_update,
        apply_of_another_uid_is_refused,
        apply_with_a_uid_creates_nothing,
        apply_of_an_old_version_conflicts,
        status_apply_is_owned_separately,
        status_apply_replaces_its_default,
        apply_of_an_unknown_field_is_refused,
        apply_without_a_manager_is_refused,
        update_takes_ownership,
        apply_to_a_built_in_type,
    ]
}

impl Bench {
    async fn apply(&self, manager: &str, spec: Value) -> kube::Result<DynamicObject> {
        self.apply_with(&PatchParams::apply(manager), &self.widget("a", spec)).await
    }

    async fn force(&self, manager: &str, spec: Value) -> kube::Result<DynamicObject> {
        self.apply_with(&PatchParams::apply(manager).force(), &self.widget("a", spec)).await
    }

    async fn apply_with(&self, params: &PatchParams, widget: &Value) -> kube::Result<DynamicObject> {
        self.widgets().patch(&self.name("a"), params, &Patch::Apply(widget)).await
    }

    async fn apply_status(&self, manager: &str, status: Value) -> kube::Result<DynamicObject> {
        let widget = json!({"apiVersion": VERSION, "kind": "Widget", "status": status});
        self.widgets()
            .patch_status(&self.name("a"), &PatchParams::apply(manager), &Patch::Apply(&widget))
            .await
    }
}

/// The `fieldsV1` of a manager's `managedFields` entry.
fn owned(object: &DynamicObject, manager: &str, operation: &str) -> Value {
    let entries = object.metadata.managed_fields.iter().flatten();
    let mut own = entries.filter(|entry| {
        entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some(operation)
    });
    own.next().and_then(|entry| entry.fields_v1.as_ref()).map_or(Value::Null, |fields| fields.0.clone())
}

fn conflict(result: kube::Result<DynamicObject>, message: &str) -> Result<Box<Status>, Failure> {
    let status = refusal(result, 409, "Conflict")?;
    ensure!(status.message == message, "message {:?} instead of {message:?}", status.message);
    Ok(status)
}

async fn apply_creates_with_ownership(bench: Bench) -> Outcome {
    let spec = json!({"size": 1, "items": [{"name": "x", "value": "1"}], "tags": ["t"], "steps": ["s"],
        "options": {"o": "1"}, "nested": {}});
    let widget = bench.apply("me", spec).await?;
    ensure!(generation(&widget) == 1, "generation {}", generation(&widget));
    ensure!(widget.data["spec"]["color"] == "red", "no defaults: {}", widget.data["spec"]);
    let wanted = json!({"f:spec": {"f:size": {}, "f:items": {"k:{\"name\":\"x\"}": {".": {}, "f:name": {}, "f:value": {}}},
        "f:tags": {"v:\"t\"": {}}, "f:steps": {}, "f:options": {"f:o": {}}, "f:nested": {}}});
    ensure!(owned(&widget, "me", "Apply") == wanted, "owns {}", owned(&widget, "me", "Apply"));
    Ok(())
}

async fn identical_apply_changes_nothing(bench: Bench) -> Outcome {
    let spec = json!({"size": 1, "items": [{"name": "x"}], "tags": ["t"]});
    bench.apply("me", spec.clone()).await?;
    let second = bench.apply("me", spec.clone()).await?;
    let third = bench.apply("me", spec).await?;
    ensure!(second == third, "{second:?} became {third:?}");
    Ok(())
}

async fn apply_conflicts_with_another_manager(bench: Bench) -> Outcome {
    bench.apply("one", json!({"size": 1, "code": "abc"})).await?;
    let message = "Apply failed with 1 conflict: conflict with \"one\": .spec.size";
    let status = conflict(bench.apply("two", json!({"size": 2})).await, message)?;
    ensure!(causes(&status) == [".spec.size FieldManagerConflict"], "causes {:?}", causes(&status));
    let message = "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.code\n- .spec.size";
    conflict(bench.apply("two", json!({"size": 2, "code": "abcd"})).await, message)?;
    Ok(())
}

async fn apply_of_equal_value_shares_ownership(bench: Bench) -> Outcome {
    let one = bench.apply("one", json!({"size": 1})).await?;
    let both = bench.apply("two", json!({"size": 1})).await?;
    ensure!(version(&one) != version(&both), "the new owner did not change the resource version");
    ensure!(generation(&both) == 1, "generation {}", generation(&both));
    let wanted = json!({"f:spec": {"f:size": {}}});
    ensure!(owned(&both, "one", "Apply") == wanted, "one owns {}", owned(&both, "one", "Apply"));
    ensure!(owned(&both, "two", "Apply") == wanted, "two owns {}", owned(&both, "two", "Apply"));
    Ok(())
}

async fn forced_apply_takes_ownership(bench: Bench) -> Outcome {
    bench.apply("one", json!({"size": 1, "code": "abc"})).await?;
    let taken = bench.force("two", json!({"size": 2})).await?;
    ensure!(taken.data["spec"]["size"] == 2, "the spec is {}", taken.data["spec"]);
    let left = owned(&taken, "one", "Apply");
    ensure!(left == json!({"f:spec": {"f:code": {}}}), "the other manager still owns {left}");
    Ok(())
}

async fn apply_removes_fields_omitted_from_intent(bench: Bench) -> Outcome {
    bench
        .apply("me", json!({"size": 1, "code": "abc", "options": {"o": "1"}, "nested": {"label": "l"}}))
        .await?;
    let less = bench.apply("me", json!({"size": 1})).await?;
    let wanted = json!({"size": 1, "color": "red"});
    ensure!(less.data["spec"] == wanted, "the spec is {}", less.data["spec"]);
    ensure!(generation(&less) == 2, "generation {}", generation(&less));
    Ok(())
}

async fn apply_keeps_fields_of_other_managers(bench: Bench) -> Outcome {
    bench.apply("one", json!({"size": 1, "nested": {"label": "l"}})).await?;
    bench.apply("two", json!({"size": 1, "nested": {"depth": 5}})).await?;
    let left = bench.apply("one", json!({"code": "abc"})).await?;
    let wanted = json!({"size": 1, "color": "red", "code": "abc", "nested": {"depth": 5}});
    ensure!(left.data["spec"] == wanted, "the spec is {}", left.data["spec"]);
    Ok(())
}

async fn apply_keeps_fields_it_never_owned(bench: Bench) -> Outcome {
    bench.apply("me", json!({"nested": {"label": "l"}, "items": [{"name": "x", "value": "1"}]})).await?;
    let patch = Patch::Merge(
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"size": 7, "nested": {"depth": 9}}}),
    );
    bench.widgets().patch(&bench.name("a"), &PatchParams::default(), &patch).await?;
    let left = bench.apply("me", json!({"code": "abc"})).await?;
    let wanted = json!({"size": 7, "color": "red", "code": "abc", "nested": {"depth": 9}});
    ensure!(left.data["spec"] == wanted, "the spec is {}", left.data["spec"]);
    ensure!(left.metadata.labels.is_some_and(|labels| labels.len() == 1), "the label was removed");
    Ok(())
}

async fn apply_merges_lists_by_key(bench: Bench) -> Outcome {
    bench.apply("one", json!({"items": [{"name": "x", "value": "1"}, {"name": "z", "value": "3"}]})).await?;
    let both = bench.apply("two", json!({"items": [{"name": "y", "value": "2"}]})).await?;
    let mut names: Vec<_> =
        both.data["spec"]["items"].as_array().into_iter().flatten().map(|i| i["name"].clone()).collect();
    names.sort_by_key(Value::to_string);
    ensure!(names == [json!("x"), json!("y"), json!("z")], "the items are {}", both.data["spec"]["items"]);
    ensure!(both.data["spec"]["items"][0]["weight"] == 1, "the items lack defaults");
    let less = bench.apply("one", json!({"items": [{"name": "x", "value": "5"}]})).await?;
    let wanted = json!([{"name": "x", "value": "5", "weight": 1}, {"name": "y", "value": "2", "weight": 1}]);
    let mut items: Vec<_> = less.data["spec"]["items"].as_array().cloned().unwrap_or_default();
    items.sort_by_key(|item| item["name"].to_string());
    ensure!(json!(items) == wanted, "the items are {}", json!(items));
    let result = bench.apply("two", json!({"items": [{"name": "y"}, {"name": "x", "value": "9"}]})).await;
    let message = "Apply failed with 1 conflict: conflict with \"one\": .spec.items[name=\"x\"].value";
    conflict(result, message)?;
    Ok(())
}

async fn apply_merges_sets(bench: Bench) -> Outcome {
    bench.apply("one", json!({"tags": ["a", "b"]})).await?;
    let both = bench.apply("two", json!({"tags": ["b", "c"]})).await?;
    ensure!(
        both.data["spec"]["tags"] == json!(["a", "b", "c"]),
        "the tags are {}",
        both.data["spec"]["tags"]
    );
    let less = bench.apply("one", json!({})).await?;
    ensure!(less.data["spec"]["tags"] == json!(["b", "c"]), "the tags are {}", less.data["spec"]["tags"]);
    Ok(())
}

async fn apply_replaces_atomic_lists(bench: Bench) -> Outcome {
    bench.apply("one", json!({"steps": ["a", "b"]})).await?;
    let message = "Apply failed with 1 conflict: conflict with \"one\": .spec.steps";
    conflict(bench.apply("two", json!({"steps": ["c"]})).await, message)?;
    let taken = bench.force("two", json!({"steps": ["c"]})).await?;
    ensure!(taken.data["spec"]["steps"] == json!(["c"]), "the steps are {}", taken.data["spec"]["steps"]);
    Ok(())
}

async fn apply_conflicts_with_an_update(bench: Bench) -> Outcome {
    bench.create("a", json!({})).await?;
    let params = PatchParams { field_manager: Some("updater".into()), ..PatchParams::default() };
    bench.widgets().patch(&bench.name("a"), &params, &Patch::Merge(json!({"spec": {"size": 1}}))).await?;
    let status = refusal(bench.apply("me", json!({"size": 2})).await, 409, "Conflict")?;
    let message = format!("Apply failed with 1 conflict: conflict with \"updater\" using {VERSION}");
    ensure!(status.message.starts_with(&message), "message {:?}", status.message);
    Ok(())
}

async fn apply_of_another_uid_is_refused(bench: Bench) -> Outcome {
    bench.apply("me", json!({"size": 1})).await?;
    let mut widget = bench.widget("a", json!({"size": 2}));
    widget["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    let status = refusal(bench.apply_with(&PatchParams::apply("me"), &widget).await, 422, "Invalid")?;
    ensure!(
        causes(&status).contains(&"metadata.uid FieldValueInvalid".into()),
        "causes {:?}",
        causes(&status)
    );
    Ok(())
}

async fn apply_with_a_uid_creates_nothing(bench: Bench) -> Outcome {
    let mut widget = bench.widget("a", json!({"size": 2}));
    widget["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
    refusal(bench.apply_with(&PatchParams::apply("me"), &widget).await, 409, "Conflict")?;
    Ok(())
}

async fn apply_of_an_old_version_conflicts(bench: Bench) -> Outcome {
    let old = bench.apply("me", json!({"size": 1})).await?;
    bench.apply("me", json!({"size": 2})).await?;
    let mut widget = bench.widget("a", json!({"size": 3}));
    widget["metadata"]["resourceVersion"] = json!(version(&old));
    refusal(bench.apply_with(&PatchParams::apply("me"), &widget).await, 409, "Conflict")?;
    Ok(())
}

async fn status_apply_is_owned_separately(bench: Bench) -> Outcome {
    bench.apply("me", json!({"size": 1})).await?;
    let widget = bench.apply_status("me", json!({"note": "n", "observedGeneration": 1})).await?;
    ensure!(generation(&widget) == 1, "generation {}", generation(&widget));
    let entries = widget.metadata.managed_fields.iter().flatten();
    let subresources: Vec<_> = entries.map(|entry| entry.subresource.clone().unwrap_or_default()).collect();
    ensure!(subresources.len() == 2 && subresources.contains(&"status".into()), "entries {subresources:?}");
    let spec = bench.apply("me", json!({"size": 2})).await?;
    ensure!(spec.data["status"]["note"] == "n", "the status is {}", spec.data["status"]);
    let less = bench.apply_status("me", json!({"observedGeneration": 1})).await?;
    ensure!(less.data["status"].get("note").is_none(), "the status is {}", less.data["status"]);
    Ok(())
}

async fn status_apply_replaces_its_default(bench: Bench) -> Outcome {
    bench.apply("me", json!({"size": 1})).await?;
    let conditions = json!([{"type": "Ready", "status": "True"}, {"type": "Done", "status": "False"}]);
    let widget = bench.apply_status("me", json!({"conditions": conditions})).await?;
    let ready = json!({"type": "Ready", "status": "True", "reason": "Pending"});
    let done = json!({"type": "Done", "status": "False"});
    let wanted = json!([ready, done]);
    ensure!(
        widget.data["status"]["conditions"] == wanted,
        "conditions {}",
        widget.data["status"]["conditions"]
    );
    let without = bench.apply_status("me", json!({"note": "n"})).await?;
    ensure!(without.data["status"] == json!({"note": "n"}), "the status is {}", without.data["status"]);
    Ok(())
}

async fn apply_of_an_unknown_field_is_refused(bench: Bench) -> Outcome {
    let result = bench.apply("me", json!({"size": 1, "surprise": true})).await;
    let status = refusal(result, 500, "")?;
    let message = ".spec.surprise: field not declared in schema";
    ensure!(status.message.ends_with(message), "message {:?}", status.message);
    ensure!(bench.widgets().get_opt(&bench.name("a")).await?.is_none(), "the object was created");
    Ok(())
}

async fn apply_without_a_manager_is_refused(bench: Bench) -> Outcome {
    let path = format!("/apis/{VERSION}/namespaces/{}/widgets/{}", bench.namespace, bench.name("a"));
    let request = http::Request::patch(path)
        .header("content-type", "application/apply-patch+yaml")
        .body(serde_json::to_vec(&bench.widget("a", json!({})))?)?;
    let result: kube::Result<DynamicObject> = bench.client.request(request).await;
    refusal(result, 422, "Invalid")?;
    Ok(())
}

async fn update_takes_ownership(bench: Bench) -> Outcome {
    bench.apply("me", json!({"size": 1, "code": "abc"})).await?;
    let params = PatchParams { field_manager: Some("updater".into()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"size": 2}}));
    let widget = bench.widgets().patch(&bench.name("a"), &params, &patch).await?;
    let mine = owned(&widget, "me", "Apply");
    ensure!(mine == json!({"f:spec": {"f:code": {}}}), "the applier still owns {mine}");
    let theirs = owned(&widget, "updater", "Update");
    ensure!(theirs == json!({"f:spec": {"f:size": {}}}), "the updater owns {theirs}");
    Ok(())
}

async fn apply_to_a_built_in_type(bench: Bench) -> Outcome {
    let name = bench.name("a");
    let pod = |image: &str, env: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "nodeSelector": {"conformance.mlop.dev/none": "true"},
            "containers": [{"name": "main", "image": image, "env": env, "ports": [{"containerPort": 80}]}]}})
    };
    let env = json!([{"name": "A", "value": "1"}]);
    let api = bench.pods();
    api.patch(&name, &PatchParams::apply("one"), &Patch::Apply(pod("a:1", env.clone()))).await?;
    let result = api.patch(&name, &PatchParams::apply("two"), &Patch::Apply(pod("a:2", env.clone()))).await;
    let status = refusal(result, 409, "Conflict")?;
    let wanted = [".spec.containers[name=\"main\"].image FieldManagerConflict"];
    ensure!(causes(&status) == wanted, "causes {:?}", causes(&status));
    let again = api.patch(&name, &PatchParams::apply("one"), &Patch::Apply(pod("a:1", env))).await?;
    let ports =
        again.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| c.ports.iter().flatten()).count();
    ensure!(ports == 1, "there are {ports} ports");
    Ok(())
}
