//! The flights pipeline from an empty namespace to predictions, and on to a new model when new data arrives.
//!
//! `cargo xtask demo` starts it in a cluster that has the operators.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
    runtime::watcher,
};
use mlop_api::{
    Digest, Reason,
    contract::condition::READY,
    dataset::Dataset,
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    registry::Model,
    training::TrainingJob,
};
use mlop_e2e::{
    audit::AuditLog,
    chain::{Follower, Stage},
    cluster::Cluster,
    flights,
    predict::{self, Request},
    prober::Prober,
    s3::Bucket,
    state::Kind as _,
    trace, wait,
};
use serde_json::json;
use std::time::Duration;

const NAMESPACE: &str = "flights";
/// Longest time of one stage on a busy machine: images are local, but Python starts slowly.
const STAGE: Duration = Duration::from_secs(600);
/// What is asked about: a flight on a Friday at 17 o'clock.
const ROUTE: [(&str, &str); 3] = [("origin", "JFK"), ("dest", "LAX"), ("carrier", "AA")];
const FLIGHT: [(&str, f64); 3] = [("distance", 2475.0), ("hour", 17.0), ("weekday", 4.0)];
const FEATURES: [&str; 4] = ["arr_delay_30d", "dep_delay_30d", "late_share_30d", "flights_30d"];

#[tokio::main]
async fn main() -> Result<()> {
    let demo = Demo::start().await?;
    let june = demo.first_half().await?;
    demo.july(&june).await?;
    demo.gate().await?;
    println!("{NEXT}");
    Ok(())
}

const NEXT: &str = "
It stays up. Things to try (first: eval \"$(cargo xtask cluster env)\"):
  kubectl -n flights get mlop                          what there is, and whether it is ready
  kubectl -n flights get mlop-all,pods                 with every run and its pods
  kubectl -n flights describe mdep delay               why, when something is not
  kubectl explain trainingjob.spec                     the reference
  kubectl -n flights patch dset flights --type merge -p '{\"spec\":{\"pin\":\"<name of a DatasetVersion>\"}}'
                                                       back to an earlier version: features, model and alias follow
  cargo xtask cluster down                             the end";

struct Demo {
    cluster: Cluster,
    raw: Bucket,
    months: std::path::PathBuf,
    audit: Option<AuditLog>,
}

impl Demo {
    async fn start() -> Result<Self> {
        let cluster = Cluster::connect().await?;
        let months = flights::prepare().await?;
        let raw = Bucket::open(&cluster, "raw").await?;
        let demo = Self { cluster, raw, months, audit: AuditLog::from_now()? };
        demo.clear().await?;
        Ok(demo)
    }

    /// January to June: everything from nothing. Returns what the Dataset published.
    async fn first_half(&self) -> Result<Digest> {
        heading("January to June are in the bucket; now the pipeline (e2e/pipelines/flights.yaml)");
        flights::arrive(1..=6, &self.months, &self.raw).await?;
        self.cluster.kubectl_with(&["-n", NAMESPACE, "apply", "-f", "-"], flights::PIPELINE).await?;
        self.moment("just applied").await?;
        let stages = self.follow(None).await?;
        self.moment("serving").await?;
        self.predict().await?;
        heading("Where that came from");
        println!("{}", trace::trace(&self.cluster, NAMESPACE, "delay").await?);
        Ok(stages.into_iter().next().context("a chain without stages")?.digest)
    }

    /// July: new data, no command.
    async fn july(&self, june: &Digest) -> Result<()> {
        let deployment: ModelDeployment = self.api().get("delay").await?;
        heading("July arrives; nobody does anything, and requests go on");
        let mut prober = Prober::start(self.infer_url(&deployment).await?, self.request().await?)?;
        flights::arrive(7..=7, &self.months, &self.raw).await?;
        self.follow(Some(june)).await?;
        prober.answers(2, STAGE).await?;
        let report = prober.stop().await?;
        println!("\nmeanwhile: {report}");
        report.check()?;
        self.moment("after July").await?;
        self.predict().await
    }

    /// A gate that no model passes: the one in use goes on.
    async fn gate(&self) -> Result<()> {
        heading("A gate that no model passes, for a moment");
        self.gate_at("0.99").await?;
        let failed = |model: &Model| model.says(READY, Reason::GateFailed);
        wait::until(&self.api::<Model>(), "delay", "failing its gate", STAGE, failed).await?;
        let tells = |deployment: &ModelDeployment| deployment.cause().is_some();
        let deployment = wait::until(&self.api(), "delay", "telling the cause", STAGE, tells).await?;
        self.moment("failing gate").await?;
        println!("{}", deployment.describe());
        self.predict().await?;
        self.gate_at("0.65").await?;
        wait::until(&self.api::<Model>(), "delay", "Ready again", STAGE, |model| model.ready()).await?;
        Ok(())
    }

    async fn gate_at(&self, min: &str) -> Result<()> {
        let gates =
            json!({"spec": {"gates": [{"name": "quality", "metric": "auc", "min": min}]}}).to_string();
        self.cluster
            .kubectl(&["-n", NAMESPACE, "patch", "model", "delay", "--type=merge", "-p", &gates])
            .await?;
        Ok(())
    }

    /// Prints each stage as it gets something new; the head of the chain had published `before`.
    async fn follow(&self, before: Option<&Digest>) -> Result<Vec<Stage>> {
        let follower = Follower { audit: self.audit.as_ref(), namespace: NAMESPACE, limit: STAGE };
        if before.is_none() {
            let begun = |dataset: &Dataset| {
                dataset.says(READY, Reason::Scanning) || dataset.says(READY, Reason::Running)
            };
            wait::until(&self.api(), "flights", "being ingested", STAGE, begun).await?;
            self.moment("ingesting").await?;
        }
        follower.header();
        let data = follower.head(&self.api::<Dataset>(), "flights", before).await?;
        let features = follower.after(&self.api::<FeatureView>(), "route-delays", &data).await?;
        if before.is_none() {
            self.moment("training").await?;
            follower.header();
        }
        let trained = follower.after(&self.api::<TrainingJob>(), "delay", &features).await?;
        let model = follower.after(&self.api::<Model>(), "delay", &trained).await?;
        let serving = follower.serving(&self.api(), "delay", &model).await?;
        let stages = vec![data, features, trained, model, serving];
        self.writes(&stages)?;
        Ok(stages)
    }

    /// What the operators wrote for each stage, from the API server's audit log.
    fn writes(&self, stages: &[Stage]) -> Result<()> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let writes = audit.writes(NAMESPACE)?;
        println!("\nwrites of the operators, Events aside:");
        for stage in stages {
            let counts = stage.writes(&writes);
            let words: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
            println!("  {:<16} {}", stage.kind, words.join(", "));
        }
        Ok(())
    }

    async fn predict(&self) -> Result<()> {
        heading("A flight from JFK to LAX with AA, on a Friday at 17 o'clock");
        let deployment: ModelDeployment = self.api().get("delay").await?;
        let url = self.infer_url(&deployment).await?;
        let answer = predict::infer(&reqwest::Client::new(), &url, &self.request().await?).await?;
        let late = answer.get(1).context("the model gave no probability")?;
        println!("arrives more than 15 minutes late with probability {late:.3}");
        Ok(())
    }

    /// The request about our flight, with its features from the online API.
    async fn request(&self) -> Result<Request> {
        let store: FeatureStore = self.api().get("features").await?;
        let address =
            store.status.and_then(|status| status.address).context("the online API has no address")?;
        let names = FEATURES.map(|name| format!("route-delays:{name}"));
        let found = predict::features(&self.cluster.outside(&address).await?, &names, &ROUTE).await?;
        let online = FEATURES.iter().map(|name| {
            let feature = found.get(*name).with_context(|| format!("the online API has no {name}"))?;
            println!("  {name} = {} ({})", feature.value, feature.status);
            Ok((*name, feature.value.as_f64().with_context(|| format!("{name} is no number"))?))
        });
        Ok(Request::new(online.chain(FLIGHT.map(Ok)).collect::<Result<Vec<_>>>()?))
    }

    async fn infer_url(&self, deployment: &ModelDeployment) -> Result<String> {
        let url = deployment.status.as_ref().and_then(|status| status.url.as_deref());
        let url = url.context("the deployment has no URL")?;
        self.cluster.outside(url).await
    }

    /// `kubectl get mlop` as a user sees it now.
    async fn moment(&self, name: &str) -> Result<()> {
        println!("\n$ kubectl -n {NAMESPACE} get mlop    # {name}");
        println!("{}", self.cluster.kubectl(&["-n", NAMESPACE, "get", "mlop"]).await?);
        Ok(())
    }

    /// An empty namespace, and no flights in the bucket.
    async fn clear(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        if namespaces.get_opt(NAMESPACE).await?.is_some() {
            println!("removing the namespace of an earlier demo");
            namespaces.delete(NAMESPACE, &DeleteParams::background()).await?;
        }
        let name = watcher::Config::default().fields(&format!("metadata.name={NAMESPACE}"));
        wait::gone(&namespaces, name, "the earlier demo", STAGE).await?;
        for key in self.raw.keys(flights::FOLDER).await? {
            self.raw.delete(&key).await?;
        }
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE, "labels": labels}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    fn api<K: mlop_e2e::state::Kind>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }
}

fn heading(text: &str) {
    println!("\n=== {text}");
}
