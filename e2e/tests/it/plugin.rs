//! What `kubectl mlop` shows of a real chain.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kubectl_mlop::{
    bundle,
    cluster::Cluster,
    columns::Column,
    online,
    output::Style,
    plot::{self, Plot},
    predict::Body,
    snapshot::{Object, ObjectId, Snapshot},
    status::{self, Chain, Width},
    trace::{self, Trace},
    why::Explanation,
};
use mlop_e2e::{audit_checks::contains_secret, namespace::TestNamespace};
use serde_json::{Value, json};

/// Checks that the served chain of `points` is shown as ready, is traced to its source without a gap, and answers.
pub(crate) async fn check_served_chain(ns: &TestNamespace) -> Result<()> {
    let cluster = Cluster::new(ns.cluster.client.clone(), &ns.name);
    // Only ages depend on the time.
    let snapshot = cluster.snapshot(Timestamp::UNIX_EPOCH).await?;
    let chain = Chain::of(&snapshot, None);
    let tree = status::tree(&chain, Width::Normal, Style::PLAIN);
    ensure!(chain.is_ready(), "a served chain is not shown as ready:\n{tree}");

    let deployment = ObjectId::new("ModelDeployment", "slope");
    let object = snapshot.get(&deployment).with_context(|| format!("no {deployment} in:\n{tree}"))?;
    let explanation = Explanation::of(&snapshot, object);
    ensure!(explanation.is_ready() && explanation.root.is_none(), "{explanation:?}");

    let trace = Trace::of(&snapshot, object)?;
    let text = trace::tree(&trace, Style::PLAIN);
    ensure!(trace.nodes.iter().all(|node| node.gap.is_none()), "the trace has a gap:\n{text}");
    for id in ["Model/slope", "TrainingJob/fit", "FeatureView/means", "Dataset/points"] {
        let node = trace.nodes.iter().find(|node| node.object.to_string() == id);
        let node = node.with_context(|| format!("no {id} in:\n{text}"))?;
        let wanted = match node.object.kind.as_str() {
            "Dataset" => "listing",
            "FeatureView" => "sql",
            "TrainingJob" => "seed",
            _ => "registered",
        };
        ensure!(node.facts.iter().any(|fact| fact.name == wanted), "{id} has no {wanted} in:\n{text}");
    }
    check_prediction(&cluster, object).await?;
    check_features(&cluster, &snapshot).await?;
    check_bundle(&cluster).await
}

/// The model says 2 x.
async fn check_prediction(cluster: &Cluster, deployment: &Object) -> Result<()> {
    let metadata = cluster.model_metadata(deployment).await?;
    ensure!(metadata.inputs.iter().any(|input| input.name == "x"), "{metadata:?}");
    let rows = Body::read("x,note\n10,a\n20,b\n")?;
    let prediction = cluster.predict(deployment, rows).await?;
    ensure!(prediction.left_out == ["note"], "{prediction:?}");
    let data = prediction.answer.pointer("/outputs/0/data").and_then(Value::as_array);
    let values: Vec<f64> = data.into_iter().flatten().filter_map(Value::as_f64).collect();
    let is_near = matches!(values[..], [a, b] if (a - 20.0).abs() < 1e-6 && (b - 40.0).abs() < 1e-6);
    ensure!(is_near, "{prediction:?}");
    let digits = prediction.answer.get("model_version").and_then(Value::as_str).unwrap_or_default();
    let served = deployment.status.serving.first().context("nothing is served")?;
    ensure!(!digits.is_empty() && served.digest.hex().starts_with(digits), "{prediction:?}");
    Ok(())
}

async fn check_features(cluster: &Cluster, snapshot: &Snapshot) -> Result<()> {
    let view = snapshot.get(&ObjectId::new("FeatureView", "means")).context("no FeatureView/means")?;
    let entities = [Column::parse("line=a,nowhere").map_err(anyhow::Error::msg)?];
    let all = cluster.online_features(snapshot, view, &entities, &[]).await?;
    let table = online::table(&all, view);
    ensure!(table.contains("PRESENT") && table.contains("NOT_FOUND"), "{table}");
    let one = cluster.online_features(snapshot, view, &entities, &["v".to_owned()]).await?;
    let names = serde_json::to_value(&one)?.pointer("/metadata/feature_names").cloned();
    ensure!(names == Some(json!(["line", "v"])), "{one:?}");
    Ok(())
}

async fn check_bundle(cluster: &Cluster) -> Result<()> {
    let material = cluster.material(Timestamp::UNIX_EPOCH).await?;
    // A pod of a check may be gone before its output is read.
    let refused: Vec<_> =
        material.failures.iter().filter(|failure| !failure.starts_with("reading container")).collect();
    ensure!(refused.is_empty(), "{refused:?}");
    let files = bundle::files(&material)?;
    let revealing: Vec<&String> =
        files.iter().filter(|(_, text)| contains_secret(text)).map(|(path, _)| path).collect();
    ensure!(revealing.is_empty(), "files of the bundle reveal a Secret: {revealing:?}");
    for part in ["objects/TrainingJob/fit.yaml", "status.txt", "events.yaml"] {
        ensure!(files.contains_key(part), "no {part} in {:?}", files.keys());
    }
    let has_log = |directory: &str| {
        files
            .iter()
            .any(|(path, text)| path.starts_with(directory) && path.ends_with(".log") && !text.is_empty())
    };
    ensure!(has_log("logs/fit-") && has_log("operators/"), "{:?}", files.keys());
    Ok(())
}

/// Checks that the course of a training can be plotted.
pub(crate) async fn check_plot(ns: &TestNamespace, name: &str) -> Result<()> {
    let cluster = Cluster::new(ns.cluster.client.clone(), &ns.name);
    let plot = Plot::of(&cluster.snapshot(Timestamp::UNIX_EPOCH).await?, name, Some("loss"))?;
    let text = plot::text(&plot);
    ensure!(text.contains("step 40/40") && text.contains('•'), "{text}");
    Ok(())
}
