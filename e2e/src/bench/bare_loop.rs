//! The baseline of the hand-off: clients that create one object when a watch shows another, and decide nothing.
//!
//! For each chain it repeats the requests of a finished one with copies of its objects. The stand-in for the workers goes
//! on, so that pods end as they did.

use super::{
    chains::resource,
    hand_off::{EDGES, Edge},
};
use anyhow::{Context as _, Result};
use futures::{StreamExt as _, stream::SelectAll};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::timeout};

/// Marks the objects of the loop, and says which edge they belong to.
const LABEL: &str = "bench.mlop.dev/edge";
/// The summary in a status that the loop has written.
const MARK: &str = "bare loop";
/// The time limit for all chains.
const LIMIT: Duration = Duration::from_secs(600);

/// What an edge creates.
struct Template {
    run: Option<DynamicObject>,
    child: DynamicObject,
}

/// Repeats the hand-offs of all chains at once.
///
/// # Errors
/// A request fails, or the time limit has passed.
pub(super) async fn run(client: &Client, namespaces: &[String]) -> Result<()> {
    let first = namespaces.first().context("no chain")?;
    let mut templates = Vec::new();
    for (number, edge) in EDGES.iter().enumerate() {
        templates.push(template(client, first, edge, number).await?);
    }
    let templates = Arc::new(templates);
    let mut kinds: BTreeSet<&str> = EDGES.iter().map(|edge| edge.from).collect();
    kinds.extend(EDGES.iter().filter_map(|edge| edge.run));
    kinds.insert("pods");
    let watches = kinds.into_iter().map(|plural| {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(plural));
        let objects = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
        objects.map(move |object| (plural, object)).boxed()
    });
    let mut events: SelectAll<_> = watches.collect();
    let (mut seen, mut ended, mut requests) = (BTreeSet::new(), 0, JoinSet::new());
    let [head, ..] = &EDGES;
    for namespace in namespaces {
        requests.spawn(mark(client.clone(), head.from, namespace.clone(), head.name.to_owned()));
    }
    let all = async {
        while ended < namespaces.len() {
            tokio::select! {
                Some(done) = requests.join_next() => done??,
                Some((plural, object)) = events.next() => {
                    // The watch restarts after an error.
                    let Ok(object) = object else { continue };
                    let Some(step) = step(plural, &object) else { continue };
                    let namespace = object.namespace().unwrap_or_default();
                    if !seen.insert((namespace.clone(), step)) {
                        continue;
                    }
                    if step == Step::Ended(EDGES.len() - 1) {
                        ended += 1;
                    }
                    requests.spawn(follow(client.clone(), Arc::clone(&templates), namespace, step));
                }
            }
        }
        while let Some(done) = requests.join_next().await {
            done??;
        }
        Ok(())
    };
    timeout(LIMIT, all).await.context("the bare loop takes too long")?
}

/// What a watch has shown, with the number of the edge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// A stage has ended.
    Ended(usize),
    /// A run exists.
    Run(usize),
    /// The pod of a run has succeeded.
    Succeeded(usize),
}

/// The step that an object shows; `None` for those of the measured chain.
fn step(plural: &str, object: &DynamicObject) -> Option<Step> {
    let status = object.data.get("status");
    let field = |name: &str| status.and_then(|status| status.get(name)).and_then(Value::as_str);
    if let Some(number) = EDGES.iter().position(|edge| edge.from == plural) {
        return (field("summary") == Some(MARK)).then_some(Step::Ended(number));
    }
    let number = object.labels().get(LABEL)?.parse().ok()?;
    match plural {
        "pods" => (field("phase") == Some("Succeeded")).then_some(Step::Succeeded(number)),
        _ => Some(Step::Run(number)),
    }
}

/// Sends the requests that follow a step.
async fn follow(client: Client, templates: Arc<Vec<Template>>, namespace: String, step: Step) -> Result<()> {
    let (Step::Ended(number) | Step::Run(number) | Step::Succeeded(number)) = step;
    let (edge, template) = (EDGES.get(number).context("no edge")?, templates.get(number).context("no edge")?);
    let create = async |plural: &str, object: &DynamicObject| {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource(plural));
        api.create(&PostParams::default(), object)
            .await
            .with_context(|| format!("{plural} in {namespace}"))?;
        anyhow::Ok(())
    };
    match (step, edge.run, &template.run) {
        (Step::Ended(_), Some(plural), Some(run)) => create(plural, run).await,
        (Step::Ended(_), ..) => {
            let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource(edge.child));
            let patch = Patch::Merge(json!({"metadata": {"annotations": {LABEL: number.to_string()}}}));
            api.patch(&template.child.name_any(), &PatchParams::default(), &patch).await?;
            Ok(())
        }
        (Step::Run(_), ..) => create(edge.child, &template.child).await,
        (Step::Succeeded(_), Some(plural), Some(run)) => {
            let next = EDGES.get(number + 1).context("no next stage")?;
            mark(client.clone(), plural, namespace.clone(), run.name_any()).await?;
            mark(client, next.from, namespace, next.name.to_owned()).await
        }
        (Step::Succeeded(_), ..) => Ok(()),
    }
}

/// Writes [`MARK`] into the status of an object.
async fn mark(client: Client, plural: &'static str, namespace: String, name: String) -> Result<()> {
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource(plural));
    let patch = Patch::Merge(json!({"status": {"summary": MARK}}));
    api.patch_status(&name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("{plural} {name}"))?;
    Ok(())
}

/// Copies of what the chain in `namespace` has created at an edge.
async fn template(client: &Client, namespace: &str, edge: &Edge, number: usize) -> Result<Template> {
    let api =
        |plural: &str| Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource(plural));
    let Some(plural) = edge.run else {
        let all = api(edge.child).list(&ListParams::default()).await?;
        let child = all.items.into_iter().next().with_context(|| format!("no {}", edge.child))?;
        return Ok(Template { run: None, child });
    };
    let runs = api(plural).list(&ListParams::default()).await?;
    let run = runs.items.into_iter().next().with_context(|| format!("no {plural}"))?;
    let child = api(edge.child).get(&format!("{}-1", run.name_any())).await?;
    let name = format!("loop-{number}");
    Ok(Template { child: copy(child, &format!("{name}-1"), number), run: Some(copy(run, &name, number)) })
}

/// The object under another name, without what the API server has added and without an owner.
fn copy(object: DynamicObject, name: &str, number: usize) -> DynamicObject {
    let mut labels = object.metadata.labels.clone().unwrap_or_default();
    labels.insert(LABEL.to_owned(), number.to_string());
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        annotations: object.metadata.annotations.clone(),
        ..ObjectMeta::default()
    };
    let mut copy = DynamicObject { types: object.types, metadata, data: object.data };
    if let Some(fields) = copy.data.as_object_mut() {
        fields.remove("status");
    }
    if let Some(spec) = copy.data.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.remove("selector");
    }
    // The pods of a Job.
    if let Some(labels) =
        copy.data.pointer_mut("/spec/template/metadata/labels").and_then(Value::as_object_mut)
    {
        labels.retain(|label, _| !label.contains("controller-uid") && !label.contains("job-name"));
        labels.insert(LABEL.to_owned(), number.to_string().into());
    }
    copy
}
