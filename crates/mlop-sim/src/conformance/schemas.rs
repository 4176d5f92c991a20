//! Schemas: defaults, pruning, validation and rules.

use kube::{
    api::{Patch, PatchParams, PostParams, ValidationDirective},
    core::Status,
};
use serde_json::{Value, json};

use super::{
    bench::{Bench, Failure, Outcome, causes, refusal},
    check::{Check, ensure, list},
};

pub(super) fn checks() -> Vec<Check> {
    list![
        defaults_fill_missing_fields,
        defaults_replace_null,
        unknown_fields_are_dropped,
        unknown_fields_are_refused_when_strict,
        preserved_fields_are_kept,
        bounds_are_checked,
        types_are_checked,
        required_fields_are_checked,
        sizes_are_checked,
        keys_are_unique,
        refusal_names_the_object,
        status_is_validated,
        rules_are_checked,
        rules_compare_with_the_old_object,
        pods_are_validated,
        pod_specs_are_immutable,
    ]
}

/// The cause for rules that were not evaluated because the object violates its schema.
const RULES_SKIPPED: &str = "<nil> FieldValueInvalid";

impl Bench {
    async fn refused(&self, spec: Value) -> Result<Box<Status>, Failure> {
        let widget = serde_json::from_value(self.widget("refused", spec))?;
        refusal(self.widgets().create(&PostParams::default(), &widget).await, 422, "Invalid")
    }

    async fn expect_causes(&self, spec: Value, wanted: &[&str]) -> Outcome {
        let status = self.refused(spec.clone()).await?;
        ensure!(causes(&status) == wanted, "{spec} has the causes {:?}: {}", causes(&status), status.message);
        Ok(())
    }
}

async fn defaults_fill_missing_fields(bench: Bench) -> Outcome {
    let widget = bench.create("a", json!({"nested": {}, "items": [{"name": "x"}]})).await?;
    let wanted = json!({"color": "red", "nested": {"depth": 3}, "items": [{"name": "x", "weight": 1}]});
    ensure!(widget.data["spec"] == wanted, "the spec is {}", widget.data["spec"]);
    Ok(())
}

async fn defaults_replace_null(bench: Bench) -> Outcome {
    let widget = bench.create("a", json!({"color": null, "code": null, "size": 1})).await?;
    ensure!(widget.data["spec"] == json!({"color": "red", "size": 1}), "the spec is {}", widget.data["spec"]);
    Ok(())
}

async fn unknown_fields_are_dropped(bench: Bench) -> Outcome {
    let mut widget = bench.widget("a", json!({"size": 1, "surprise": 1, "nested": {"surprise": 2}}));
    widget["surprise"] = json!(3);
    widget["spec"]["items"] = json!([{"name": "x", "surprise": 4}]);
    let created = bench.post(&widget).await?;
    let text = serde_json::to_string(&created.data)?;
    ensure!(!text.contains("surprise"), "the object is {text}");
    Ok(())
}

async fn unknown_fields_are_refused_when_strict(bench: Bench) -> Outcome {
    bench.create("a", json!({"size": 1})).await?;
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"surprise": 1}}));
    let result = bench.widgets().patch(&bench.name("a"), &params, &patch).await;
    let status = match result {
        Err(kube::Error::Api(status)) => status,
        other => return Err(format!("{other:?}").into()),
    };
    ensure!(status.message.contains("unknown field \"spec.surprise\""), "message {:?}", status.message);
    Ok(())
}

async fn preserved_fields_are_kept(bench: Bench) -> Outcome {
    let free = json!({"any": {"thing": [1, {"nested": true}]}});
    let widget = bench.create("a", json!({"free": free, "port": "http"})).await?;
    ensure!(widget.data["spec"]["free"] == free, "the field is {}", widget.data["spec"]["free"]);
    Ok(())
}

async fn bounds_are_checked(bench: Bench) -> Outcome {
    bench.expect_causes(json!({"size": 0}), &["spec.size FieldValueInvalid"]).await?;
    bench.expect_causes(json!({"size": 11}), &["spec.size FieldValueInvalid"]).await?;
    bench.expect_causes(json!({"code": "ABC"}), &["spec.code FieldValueInvalid"]).await?;
    bench.expect_causes(json!({"code": "a"}), &["spec.code FieldValueInvalid"]).await?;
    bench.expect_causes(json!({"code": "abcdef"}), &[RULES_SKIPPED, "spec.code FieldValueTooLong"]).await?;
    bench.expect_causes(json!({"color": "pink"}), &[RULES_SKIPPED, "spec.color FieldValueNotSupported"]).await
}

async fn types_are_checked(bench: Bench) -> Outcome {
    bench.expect_causes(json!({"size": "1"}), &[RULES_SKIPPED, "spec.size FieldValueTypeInvalid"]).await?;
    bench.expect_causes(json!({"size": 1.5}), &[RULES_SKIPPED, "spec.size FieldValueTypeInvalid"]).await?;
    bench.expect_causes(json!({"tags": "x"}), &[RULES_SKIPPED, "spec.tags FieldValueTypeInvalid"]).await?;
    bench.expect_causes(json!({"nested": []}), &[RULES_SKIPPED, "spec.nested FieldValueTypeInvalid"]).await?;
    bench.expect_causes(json!({"port": true}), &[RULES_SKIPPED, "spec.port FieldValueTypeInvalid"]).await
}

async fn required_fields_are_checked(bench: Bench) -> Outcome {
    bench.expect_causes(json!({"part": {}}), &[RULES_SKIPPED, "spec.part.id FieldValueRequired"]).await?;
    bench
        .expect_causes(
            json!({"items": [{"value": "x"}]}),
            &[RULES_SKIPPED, "spec.items[0].name FieldValueRequired"],
        )
        .await
}

async fn sizes_are_checked(bench: Bench) -> Outcome {
    bench
        .expect_causes(
            json!({"steps": ["a", "b", "c", "d"]}),
            &[RULES_SKIPPED, "spec.steps FieldValueTooMany"],
        )
        .await?;
    bench
        .expect_causes(
            json!({"options": {"a": "", "b": "", "c": ""}}),
            &[RULES_SKIPPED, "spec.options FieldValueTooMany"],
        )
        .await
}

async fn keys_are_unique(bench: Bench) -> Outcome {
    let items = json!({"items": [{"name": "x"}, {"name": "x"}]});
    bench.expect_causes(items, &["spec.items[1] FieldValueDuplicate"]).await?;
    bench.expect_causes(json!({"tags": ["x", "x"]}), &["spec.tags[1] FieldValueDuplicate"]).await
}

async fn refusal_names_the_object(bench: Bench) -> Outcome {
    let status = bench.refused(json!({"size": 11})).await?;
    let name = bench.name("refused");
    let message = format!(
        "Widget.conformance.mlop.dev \"{name}\" is invalid: spec.size: Invalid value: 11: spec.size in body should be \
         less than or equal to 10"
    );
    ensure!(status.message == message, "message {:?}", status.message);
    let details = status.details.ok_or("no details")?;
    ensure!(details.kind == "Widget" && details.name == name, "details of {} {}", details.kind, details.name);
    let two = bench.refused(json!({"size": 11, "color": "pink"})).await?;
    ensure!(two.message.contains("is invalid: ["), "message {:?}", two.message);
    Ok(())
}

async fn status_is_validated(bench: Bench) -> Outcome {
    bench.create("a", json!({})).await?;
    let patch = Patch::Merge(json!({"status": {"conditions": [{"type": "Ready"}]}}));
    let result = bench.widgets().patch_status(&bench.name("a"), &PatchParams::default(), &patch).await;
    let status = refusal(result, 422, "Invalid")?;
    let wanted = [RULES_SKIPPED, "status.conditions[0].status FieldValueRequired"];
    ensure!(causes(&status) == wanted, "causes {:?}", causes(&status));
    Ok(())
}

async fn rules_are_checked(bench: Bench) -> Outcome {
    bench.create("a", json!({"low": 1, "high": 2})).await?;
    let status = bench.refused(json!({"low": 2, "high": 1})).await?;
    ensure!(causes(&status) == ["spec FieldValueInvalid"], "causes {:?}", causes(&status));
    ensure!(status.message.ends_with(": low is above high"), "message {:?}", status.message);
    Ok(())
}

async fn rules_compare_with_the_old_object(bench: Bench) -> Outcome {
    bench.create("a", json!({"fixed": "x"})).await?;
    let patch = Patch::Merge(json!({"spec": {"fixed": "y"}}));
    let result = bench.widgets().patch(&bench.name("a"), &PatchParams::default(), &patch).await;
    let status = refusal(result, 422, "Invalid")?;
    ensure!(causes(&status) == ["spec.fixed FieldValueInvalid"], "causes {:?}", causes(&status));
    ensure!(status.message.ends_with(": fixed is immutable"), "message {:?}", status.message);
    Ok(())
}

async fn pods_are_validated(bench: Bench) -> Outcome {
    let pod =
        serde_json::from_value(json!({"metadata": {"name": bench.name("a")}, "spec": {"containers": []}}))?;
    let status = refusal(bench.pods().create(&PostParams::default(), &pod).await, 422, "Invalid")?;
    ensure!(causes(&status) == ["spec.containers FieldValueRequired"], "causes {:?}", causes(&status));
    Ok(())
}

async fn pod_specs_are_immutable(bench: Bench) -> Outcome {
    let pod = serde_json::from_value(json!({"metadata": {"name": bench.name("a")}, "spec": {
        "nodeSelector": {"conformance.mlop.dev/none": "true"},
        "containers": [{"name": "main", "image": "a:1"}]}}))?;
    bench.pods().create(&PostParams::default(), &pod).await?;
    let patch = Patch::Merge(json!({"spec": {"hostname": "other"}}));
    let result = bench.pods().patch(&bench.name("a"), &PatchParams::default(), &patch).await;
    let status = refusal(result, 422, "Invalid")?;
    ensure!(causes(&status) == ["spec FieldValueForbidden"], "causes {:?}", causes(&status));
    Ok(())
}
