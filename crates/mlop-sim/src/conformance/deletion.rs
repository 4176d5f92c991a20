//! Deletion: preconditions, finalizers, owners, namespaces.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use super::{
    bench::{Bench, Failure, Outcome, causes, generation, refusal, version},
    check::{Check, ensure, list},
    widget::{VERSION, widget_type},
};

pub(super) fn checks() -> Vec<Check> {
    list![
        deletion_returns_details_of_the_object,
        deletion_checks_its_preconditions,
        recreation_gives_a_new_uid,
        finalizers_hold_a_deletion,
        finalizers_cannot_be_added_in_deletion,
        deletion_collects_dependents,
        deletion_keeps_dependents_with_another_owner,
        dependent_of_absent_owner_is_deleted,
        foreground_deletion_waits_for_dependents,
        orphaning_deletion_keeps_dependents,
        unscheduled_pod_is_deleted_at_once,
        terminating_namespace_refuses_creations,
    ]
}

impl Bench {
    /// A ConfigMap with owner references.
    async fn dependent(&self, suffix: &str, owners: &[Value]) -> Result<ConfigMap, Failure> {
        let object = json!({"metadata": {"name": self.name(suffix), "ownerReferences": owners}});
        Ok(self.config_maps().create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// Waits until the garbage collector knows all existing ConfigMaps, by creating one that it must delete.
    async fn until_collector_knows_all(&self, owner: &DynamicObject) -> Outcome {
        self.dependent("stale", &[absent(owner)]).await?;
        self.until_dependent_is_gone("stale").await
    }

    async fn until_dependent_is_gone(&self, suffix: &str) -> Outcome {
        let name = self.name(suffix);
        self.until(|bench| {
            let name = name.clone();
            async move { Ok(bench.config_maps().get_opt(&name).await?.is_none().then_some(())) }
        })
        .await
    }

    async fn set_finalizers(&self, suffix: &str, finalizers: Value) -> kube::Result<DynamicObject> {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        self.widgets().patch(&self.name(suffix), &PatchParams::default(), &patch).await
    }
}

fn reference(owner: &DynamicObject) -> Value {
    json!({"apiVersion": VERSION, "kind": "Widget", "name": owner.name_any(), "uid": owner.uid()})
}

/// A reference to an owner of this name that does not exist.
fn absent(owner: &DynamicObject) -> Value {
    let mut reference = reference(owner);
    reference["uid"] = json!("00000000-0000-0000-0000-000000000000");
    reference
}

async fn deletion_returns_details_of_the_object(bench: Bench) -> Outcome {
    let widget = bench.create("a", json!({})).await?;
    let answer = bench.widgets().delete(&bench.name("a"), &DeleteParams::default()).await?;
    let status = answer.right().ok_or("an object instead of a status")?;
    let details = status.details.ok_or("no details")?;
    ensure!(Some(details.uid) == widget.uid() && details.kind == "widgets", "details of {}", details.kind);
    refusal(bench.widgets().delete(&bench.name("a"), &DeleteParams::default()).await, 404, "NotFound")?;
    Ok(())
}

async fn deletion_checks_its_preconditions(bench: Bench) -> Outcome {
    let old = bench.create("a", json!({"size": 1})).await?;
    let (api, name) = (bench.widgets(), bench.name("a"));
    let new = api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 2}}))).await?;
    let delete = |uid: Option<String>, resource_version: Option<String>| {
        DeleteParams::default().preconditions(Preconditions { uid, resource_version })
    };
    let other = "00000000-0000-0000-0000-000000000000".to_string();
    refusal(api.delete(&name, &delete(Some(other), None)).await, 409, "Conflict")?;
    refusal(api.delete(&name, &delete(None, Some(version(&old)))).await, 409, "Conflict")?;
    api.delete(&name, &delete(new.uid(), Some(version(&new)))).await?;
    ensure!(api.get_opt(&name).await?.is_none(), "the object still exists");
    Ok(())
}

async fn recreation_gives_a_new_uid(bench: Bench) -> Outcome {
    let old = bench.create("a", json!({})).await?;
    bench.widgets().delete(&bench.name("a"), &DeleteParams::default()).await?;
    let new = bench.create("a", json!({})).await?;
    ensure!(old.uid() != new.uid(), "the uid is the same");
    ensure!(generation(&new) == 1, "generation {}", generation(&new));
    Ok(())
}

async fn finalizers_hold_a_deletion(bench: Bench) -> Outcome {
    bench.create("a", json!({"size": 1})).await?;
    let (api, name) = (bench.widgets(), bench.name("a"));
    let held = bench.set_finalizers("a", json!(["mlop.dev/hold"])).await?;
    let answer =
        api.delete(&name, &DeleteParams::default()).await?.left().ok_or("a status instead of an object")?;
    ensure!(answer.metadata.deletion_timestamp.is_some(), "no deletion timestamp");
    ensure!(answer.metadata.deletion_grace_period_seconds == Some(0), "a grace period");
    ensure!(generation(&answer) == generation(&held) + 1, "generation {}", generation(&answer));
    let again =
        api.delete(&name, &DeleteParams::default()).await?.left().ok_or("a status instead of an object")?;
    ensure!(version(&again) == version(&answer), "a second deletion changed the object");
    let unmarked = Patch::Merge(json!({"metadata": {"deletionTimestamp": null}, "spec": {"size": 2}}));
    let edited = api.patch(&name, &PatchParams::default(), &unmarked).await?;
    ensure!(edited.metadata.deletion_timestamp.is_some(), "the deletion was undone");
    bench.set_finalizers("a", json!(null)).await?;
    ensure!(api.get_opt(&name).await?.is_none(), "the object still exists");
    Ok(())
}

async fn finalizers_cannot_be_added_in_deletion(bench: Bench) -> Outcome {
    bench.create("a", json!({})).await?;
    bench.set_finalizers("a", json!(["mlop.dev/hold"])).await?;
    bench.widgets().delete(&bench.name("a"), &DeleteParams::default()).await?;
    let result = bench.set_finalizers("a", json!(["mlop.dev/hold", "mlop.dev/late"])).await;
    let status = refusal(result, 422, "Invalid")?;
    ensure!(causes(&status) == ["metadata.finalizers FieldValueForbidden"], "causes {:?}", causes(&status));
    bench.set_finalizers("a", json!([])).await?;
    ensure!(bench.widgets().get_opt(&bench.name("a")).await?.is_none(), "the object still exists");
    Ok(())
}

async fn deletion_collects_dependents(bench: Bench) -> Outcome {
    let owner = bench.create("owner", json!({})).await?;
    bench.dependent("dependent", &[reference(&owner)]).await?;
    bench.widgets().delete(&bench.name("owner"), &DeleteParams::default()).await?;
    bench.until_dependent_is_gone("dependent").await
}

async fn deletion_keeps_dependents_with_another_owner(bench: Bench) -> Outcome {
    let (one, two) = (bench.create("one", json!({})).await?, bench.create("two", json!({})).await?);
    bench.dependent("dependent", &[reference(&one), reference(&two)]).await?;
    bench.widgets().delete(&bench.name("one"), &DeleteParams::default()).await?;
    let name = bench.name("dependent");
    let left = bench
        .until(|bench| {
            let name = name.clone();
            async move {
                let object = bench.config_maps().get(&name).await?;
                Ok((object.owner_references().len() == 1).then_some(object))
            }
        })
        .await?;
    ensure!(left.owner_references().first().map(|owner| &owner.name) == Some(&two.name_any()), "wrong owner");
    Ok(())
}

async fn dependent_of_absent_owner_is_deleted(bench: Bench) -> Outcome {
    let owner = bench.create("owner", json!({})).await?;
    bench.dependent("dependent", &[absent(&owner)]).await?;
    bench.until_dependent_is_gone("dependent").await
}

async fn foreground_deletion_waits_for_dependents(bench: Bench) -> Outcome {
    let owner = bench.create("owner", json!({})).await?;
    let mut blocking = reference(&owner);
    blocking["blockOwnerDeletion"] = json!(true);
    bench.dependent("dependent", &[blocking]).await?;
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["mlop.dev/hold"]}}));
    bench.config_maps().patch(&bench.name("dependent"), &PatchParams::default(), &hold).await?;
    bench.until_collector_knows_all(&owner).await?;
    let deletion = bench.widgets().delete(&bench.name("owner"), &DeleteParams::foreground()).await?;
    let marked = deletion.left().ok_or("a status instead of an object")?;
    ensure!(marked.finalizers() == ["foregroundDeletion"], "finalizers {:?}", marked.finalizers());
    let name = bench.name("dependent");
    bench
        .until(|bench| {
            let name = name.clone();
            async move { Ok(bench.config_maps().get(&name).await?.metadata.deletion_timestamp) }
        })
        .await?;
    ensure!(
        bench.widgets().get_opt(&bench.name("owner")).await?.is_some(),
        "the owner was removed before its dependent"
    );
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    bench.config_maps().patch(&bench.name("dependent"), &PatchParams::default(), &release).await?;
    bench.until_gone("owner").await
}

async fn orphaning_deletion_keeps_dependents(bench: Bench) -> Outcome {
    let owner = bench.create("owner", json!({})).await?;
    bench.dependent("dependent", &[reference(&owner)]).await?;
    bench.until_collector_knows_all(&owner).await?;
    bench.widgets().delete(&bench.name("owner"), &DeleteParams::orphan()).await?;
    bench.until_gone("owner").await?;
    let left = bench.config_maps().get(&bench.name("dependent")).await?;
    ensure!(left.owner_references().is_empty(), "owners {:?}", left.owner_references());
    Ok(())
}

async fn unscheduled_pod_is_deleted_at_once(bench: Bench) -> Outcome {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": bench.name("a")}, "spec": {
        "nodeSelector": {"conformance.mlop.dev/none": "true"}, "containers": [{"name": "main", "image": "a:1"}]}}))?;
    let created = bench.pods().create(&PostParams::default(), &pod).await?;
    let phase = created.status.and_then(|status| status.phase).unwrap_or_default();
    ensure!(phase == "Pending", "phase {phase}");
    bench.pods().delete(&bench.name("a"), &DeleteParams::default()).await?;
    ensure!(bench.pods().get_opt(&bench.name("a")).await?.is_none(), "the object still exists");
    Ok(())
}

async fn terminating_namespace_refuses_creations(bench: Bench) -> Outcome {
    let name = format!("{}-ending", bench.namespace);
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    namespaces.create(&PostParams::default(), &namespace).await?;
    let widgets: Api<DynamicObject> = Api::namespaced_with(bench.client.clone(), &name, &widget_type());
    let mut held = bench.widget("held", json!({}));
    held["metadata"]["finalizers"] = json!(["mlop.dev/hold"]);
    widgets.create(&PostParams::default(), &serde_json::from_value(held)?).await?;
    namespaces.delete(&name, &DeleteParams::default()).await?;
    let late = serde_json::from_value(bench.widget("late", json!({})))?;
    let status = refusal(widgets.create(&PostParams::default(), &late).await, 403, "Forbidden")?;
    ensure!(causes(&status) == ["metadata.namespace NamespaceTerminating"], "causes {:?}", causes(&status));
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    widgets.patch(&bench.name("held"), &PatchParams::default(), &release).await?;
    let namespace = name.clone();
    bench
        .until(|bench| {
            let (namespaces, name) = (Api::<Namespace>::all(bench.client), namespace.clone());
            async move { Ok(namespaces.get_opt(&name).await?.is_none().then_some(())) }
        })
        .await
}
