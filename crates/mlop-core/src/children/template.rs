//! Pod templates of servers. An upgrade of the operators replaces no pod that serves.
//!
//! A release may make the pods of a server in another way: with newer images of mlop, or with another field. A live
//! template keeps its images of mlop and its [`Edition`] until something else in it changes. Then its pods are replaced
//! anyway, and are of the newest edition.

use super::service::selector;
use crate::{resource::ChildObject, runtime::execute::difference};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use mlop_api::{Digest, labels};
use serde_json::Value;

/// Digits of the digest of a template.
const DIGITS: usize = 16;

/// A way in which releases have made the pods of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    First,
    Second,
}

impl Edition {
    const ALL: [Self; 2] = [Self::First, Self::Second];
    const NEWEST: Self = Self::Second;

    /// The mark of a template of this edition. `digest` is that of its first edition without mlop's own image.
    fn mark(self, digest: &str) -> String {
        match self {
            Self::First => digest.to_owned(),
            Self::Second => format!("{digest}-2"),
        }
    }
}

/// A container of a server that runs an image of mlop.
#[derive(Clone, Copy)]
pub struct OwnContainer<'a> {
    pub name: &'a str,
    /// The image of this release.
    pub image: &'a str,
}

/// The pod template of the server `name`, whose Deployment or StatefulSet is `live`.
///
/// `build` makes its pod in an edition, with the image for the container `own` (empty without one).
pub fn template(
    name: &str,
    live: Option<&ChildObject>,
    own: Option<OwnContainer<'_>>,
    build: impl Fn(Edition, &str) -> Pod,
) -> PodTemplateSpec {
    let make = |edition, image: &str| {
        let Pod { mut metadata, spec, .. } = build(edition, image);
        metadata.labels.get_or_insert_default().extend(selector(name));
        PodTemplateSpec { metadata: Some(metadata), spec }
    };
    let value = |template: &PodTemplateSpec| serde_json::to_value(template).unwrap_or_default();
    let digest = Digest::of(&value(&make(Edition::First, "")));
    let digest = digest.short(DIGITS);
    let newest = own.map_or("", |own| own.image);
    if let Some(live) = live.and_then(of) {
        let image = own.and_then(|own| image_of(live, own.name)).unwrap_or(newest);
        let kept =
            Edition::ALL.into_iter().find(|edition| mark_of(live) == Some(edition.mark(digest).as_str()));
        if let Some(edition) = kept {
            return marked(make(edition, image), edition.mark(digest));
        }
        // The first edition of most servers had no mark.
        let first = make(Edition::First, image);
        if mark_of(live).is_none() && difference::is_same("template", live, &value(&first)) {
            return first;
        }
    }
    marked(make(Edition::NEWEST, newest), Edition::NEWEST.mark(digest))
}

fn marked(mut template: PodTemplateSpec, mark: String) -> PodTemplateSpec {
    let annotations = &mut template.metadata.get_or_insert_default().annotations;
    annotations.get_or_insert_default().insert(labels::TEMPLATE.to_owned(), mark);
    template
}

/// The mark of the live template of `child`. Its pods carry it too. None for a template that was made without.
pub fn mark(child: &ChildObject) -> Option<&str> {
    mark_of(of(child)?)
}

/// The mark of a template that is to be applied.
pub fn mark_of_spec(template: &PodTemplateSpec) -> Option<&str> {
    template.metadata.as_ref()?.annotations.as_ref()?.get(labels::TEMPLATE).map(String::as_str)
}

fn mark_of(template: &Value) -> Option<&str> {
    template.pointer("/metadata/annotations")?.get(labels::TEMPLATE)?.as_str()
}

/// The pod template of a Deployment or StatefulSet.
pub fn of(child: &ChildObject) -> Option<&Value> {
    child.body.get("spec")?.get("template")
}

fn image_of<'a>(template: &'a Value, container: &str) -> Option<&'a str> {
    let lists = ["/spec/initContainers", "/spec/containers"].map(|list| template.pointer(list));
    let mut containers = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
    let own = containers.find(|own| own.get("name").and_then(Value::as_str) == Some(container))?;
    own.get("image")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{
        api::core::v1::{Container, PodSpec},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };
    use serde_json::json;

    /// A server with a user's command. The second edition has a host name.
    fn build(command: &'static str) -> impl Fn(Edition, &str) -> Pod {
        move |edition, image| {
            let container = Container {
                name: "api".to_owned(),
                image: Some(image.to_owned()),
                command: Some(vec![command.to_owned()]),
                ..Default::default()
            };
            let hostname = (edition == Edition::Second).then(|| "api".to_owned());
            let spec = PodSpec { containers: vec![container], hostname, ..Default::default() };
            Pod { metadata: ObjectMeta::default(), spec: Some(spec), status: None }
        }
    }

    fn made(live: Option<&Value>, image: &str, command: &'static str) -> Value {
        let live =
            live.map(|template| serde_json::from_value(json!({"spec": {"template": template}})).unwrap());
        let own = OwnContainer { name: "api", image };
        serde_json::to_value(template("a", live.as_ref(), Some(own), build(command))).unwrap()
    }

    /// The template as an earlier release made it.
    fn first(mark: bool) -> Value {
        let Pod { mut metadata, spec, .. } = build("run")(Edition::First, "api:1");
        metadata.labels = Some(selector("a"));
        let mut template = json!({"metadata": metadata, "spec": spec});
        if mark {
            let newest = made(None, "api:2", "run");
            let digest = mark_of(&newest).unwrap().trim_end_matches("-2");
            template["metadata"]["annotations"] = json!({labels::TEMPLATE: digest});
        }
        // As the API server completes it.
        template["spec"]["dnsPolicy"] = json!("ClusterFirst");
        template
    }

    /// The image, the edition and whether the template has a mark.
    fn words(template: &Value) -> String {
        let edition = if template["spec"]["hostname"].is_null() { 1 } else { 2 };
        let mark = mark_of(template).map_or("", |_| " marked");
        format!("{} edition {edition}{mark}", image_of(template, "api").unwrap())
    }

    #[test]
    fn template_keeps_image_and_edition_until_it_changes() {
        let (unmarked, marked, newest) = (first(false), first(true), made(None, "api:1", "run"));
        let by_hand = |mut template: Value| {
            template["spec"]["containers"][0]["command"] = json!(["sleep"]);
            template
        };
        let rows = [
            ("a new server", None, "run", "api:2 edition 2 marked"),
            ("an upgrade", Some(newest.clone()), "run", "api:1 edition 2 marked"),
            ("an upgrade from the first edition", Some(marked.clone()), "run", "api:1 edition 1 marked"),
            ("one from a template without a mark", Some(unmarked.clone()), "run", "api:1 edition 1"),
            ("an edit", Some(newest.clone()), "walk", "api:2 edition 2 marked"),
            ("an edit of the first edition", Some(marked), "walk", "api:2 edition 2 marked"),
            ("an edit of one without a mark", Some(unmarked.clone()), "walk", "api:2 edition 2 marked"),
            ("a change by hand", Some(by_hand(newest)), "run", "api:1 edition 2 marked"),
            ("a change by hand without a mark", Some(by_hand(unmarked)), "run", "api:2 edition 2 marked"),
        ];
        for (situation, live, command, want) in rows {
            let made = made(live.as_ref(), "api:2", command);
            assert_eq!(words(&made), want, "{situation}");
            assert_eq!(made["spec"]["containers"][0]["command"], json!([command]), "{situation}");
        }
    }
}
