//! Reads: selectors, pages, resource versions, and metadata alone.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, VersionMatch},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::json;

use super::{
    bench::{Bench, Failure, Outcome, refusal, version},
    check::{Check, ensure, list},
    widget::GROUP,
};

pub(super) fn checks() -> Vec<Check> {
    list![
        lists_select_by_label,
        lists_select_by_name,
        lists_refuse_unknown_field_labels,
        pages_show_one_resource_version,
        lists_at_a_version_show_that_version,
        lists_of_a_future_version_are_refused,
        lists_have_a_version,
        metadata_is_returned_alone_on_request,
        unknown_types_are_not_found,
    ]
}

impl Bench {
    /// Creates widgets with the label `check`, and the label `is` with their suffix.
    async fn labelled(&self, suffixes: &[&str]) -> Outcome {
        for suffix in suffixes {
            let mut widget = self.widget(suffix, json!({"size": 1}));
            widget["metadata"]["labels"] = json!({"check": self.label(), "is": suffix});
            self.post(&widget).await?;
        }
        Ok(())
    }

    /// A label value of this check. Its name can be longer than a label value.
    fn label(&self) -> String {
        self.check.chars().take(60).collect()
    }

    /// The suffixes of the widgets that a selector matches.
    async fn found(&self, params: ListParams) -> Result<Vec<String>, Failure> {
        let list = self.widgets().list(&params).await?;
        let is = |widget: &kube::api::DynamicObject| widget.labels().get("is").cloned().unwrap_or_default();
        Ok(list.items.iter().map(is).collect())
    }
}

async fn lists_select_by_label(bench: Bench) -> Outcome {
    bench.labelled(&["a", "b", "c"]).await?;
    let check = bench.label();
    for (selector, wanted) in [
        (format!("check={check}"), vec!["a", "b", "c"]),
        (format!("check={check},is=b"), vec!["b"]),
        (format!("check={check},is!=b"), vec!["a", "c"]),
        (format!("check=={check},is in (a, c)"), vec!["a", "c"]),
        (format!("check={check},is notin (a,c)"), vec!["b"]),
        (format!("check={check},is"), vec!["a", "b", "c"]),
        (format!("check={check},!is"), vec![]),
        (format!("check={check},!other"), vec!["a", "b", "c"]),
    ] {
        let found = bench.found(ListParams::default().labels(&selector)).await?;
        ensure!(found == wanted, "{selector} matches {found:?}");
    }
    Ok(())
}

async fn lists_select_by_name(bench: Bench) -> Outcome {
    bench.labelled(&["a", "b"]).await?;
    let found =
        bench.found(ListParams::default().fields(&format!("metadata.name={}", bench.name("b")))).await?;
    ensure!(found == ["b"], "the selector matches {found:?}");
    Ok(())
}

async fn lists_refuse_unknown_field_labels(bench: Bench) -> Outcome {
    let result = bench.widgets().list(&ListParams::default().fields("spec.size=1")).await;
    refusal(result, 400, "BadRequest")?;
    Ok(())
}

async fn pages_show_one_resource_version(bench: Bench) -> Outcome {
    bench.labelled(&["a", "b", "d", "e"]).await?;
    let params = ListParams::default().labels(&format!("check={}", bench.label()));
    let first = bench.widgets().list(&params.clone().limit(2)).await?;
    ensure!(first.items.len() == 2, "the first page has {}", first.items.len());
    let token =
        first.metadata.continue_.clone().filter(|token| !token.is_empty()).ok_or("no continue token")?;
    bench.labelled(&["c", "f"]).await?;
    bench.widgets().delete(&bench.name("e"), &DeleteParams::default()).await?;
    let rest = bench.widgets().list(&params.limit(9).continue_token(&token)).await?;
    let names: BTreeSet<String> = first.items.iter().chain(&rest.items).map(ResourceExt::name_any).collect();
    let wanted: BTreeSet<String> = ["a", "b", "d", "e"].map(|suffix| bench.name(suffix)).into();
    ensure!(names == wanted, "the pages have {names:?}");
    ensure!(
        first.metadata.resource_version == rest.metadata.resource_version,
        "the pages have different versions"
    );
    Ok(())
}

async fn lists_at_a_version_show_that_version(bench: Bench) -> Outcome {
    bench.labelled(&["a"]).await?;
    let params = ListParams::default().labels(&format!("check={}", bench.label()));
    let then = bench.widgets().list(&params).await?.metadata.resource_version.unwrap_or_default();
    bench.labelled(&["b"]).await?;
    let exact = params.clone().at(&then).matching(VersionMatch::Exact);
    let found = bench.found(exact).await?;
    ensure!(found == ["a"], "the earlier list has {found:?}");
    let found = bench.found(params.at(&then).matching(VersionMatch::NotOlderThan)).await?;
    ensure!(found == ["a", "b"], "the current list has {found:?}");
    Ok(())
}

async fn lists_of_a_future_version_are_refused(bench: Bench) -> Outcome {
    let params = ListParams::default().at("9000000000").matching(VersionMatch::NotOlderThan);
    let status = refusal(bench.widgets().list(&params).await, 504, "Timeout")?;
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    let reasons: Vec<_> = causes.iter().map(|cause| cause.reason.as_str()).collect();
    ensure!(reasons == ["ResourceVersionTooLarge"], "causes {reasons:?}");
    Ok(())
}

async fn lists_have_a_version(bench: Bench) -> Outcome {
    let widget = bench.create("a", json!({})).await?;
    let list = bench.widgets().list(&ListParams::default()).await?;
    let listed: u64 = list.metadata.resource_version.unwrap_or_default().parse()?;
    ensure!(listed >= version(&widget).parse()?, "the list has version {listed}");
    Ok(())
}

async fn metadata_is_returned_alone_on_request(bench: Bench) -> Outcome {
    bench.labelled(&["a"]).await?;
    let one = bench.widgets().get_metadata(&bench.name("a")).await?;
    ensure!(one.metadata.name == Some(bench.name("a")), "the name is {:?}", one.metadata.name);
    let types = one.types.ok_or("no type")?;
    ensure!(types.kind == "PartialObjectMetadata", "the kind is {}", types.kind);
    let params = ListParams::default().labels(&format!("check={}", bench.label()));
    let list = bench.widgets().list_metadata(&params).await?;
    ensure!(list.items.len() == 1, "the list has {}", list.items.len());
    Ok(())
}

async fn unknown_types_are_not_found(bench: Bench) -> Outcome {
    let gadgets = |group: &str| -> Api<DynamicObject> {
        let gadget = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", "Gadget"));
        Api::namespaced_with(bench.client.clone(), &bench.namespace, &gadget)
    };
    // For an unknown custom type the server responds with plain text instead of a `Status`.
    let custom = gadgets(GROUP).list(&ListParams::default()).await;
    let status = refusal(custom, 404, "Failed to parse error data")?;
    ensure!(status.message == "404 page not found", "message {:?}", status.message);
    let built_in = gadgets("").list(&ListParams::default()).await;
    let status = refusal(built_in, 404, "NotFound")?;
    let wanted = "the server could not find the requested resource";
    ensure!(status.message == wanted, "message {:?}", status.message);
    Ok(())
}
