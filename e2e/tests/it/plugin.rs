//! What `kubectl mlop` shows of a real chain.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kubectl_mlop::{
    cluster::Cluster,
    output::Style,
    snapshot::ObjectId,
    status::{self, Chain, Width},
    trace::{self, Trace},
    why::Explanation,
};
use mlop_e2e::namespace::TestNamespace;

/// Checks that the served chain of `points` is shown as ready, and is traced to its source without a gap.
pub(crate) async fn check_served_chain(ns: &TestNamespace) -> Result<()> {
    // Only ages depend on the time.
    let snapshot = Cluster::new(ns.cluster.client.clone(), &ns.name).snapshot(Timestamp::UNIX_EPOCH).await?;
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
    Ok(())
}
