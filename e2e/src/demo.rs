//! The flights pipeline from an empty namespace to predictions, and to a new model when new data arrives.
//!
//! `cargo xtask demo` runs it for users, and an end-to-end test runs it too.

use crate::{
    audit::AuditLog,
    chain::{self, ChainTracker},
    flights,
    golden::Capture,
    latency::{self, HandOff},
    lineage,
    namespace::TestNamespace,
    predict::{self, Request},
    prober::Prober,
    stage::Stage,
    state::Kind,
    wait,
};
use anyhow::{Context as _, Result};
use kube::runtime::watcher;
use mlop_api::{
    Digest, Reason,
    contract::condition_type::READY,
    dataset::{Dataset, DatasetVersion, ObjectStore},
    deployment::ModelDeployment,
    features::{FeatureStore, FeatureView},
    registry::{Model, TrackingServer},
    training::TrainingJob,
};
use serde_json::json;
use std::{path::PathBuf, time::Duration};

/// The time limit of one stage on a busy machine, where Python starts slowly.
const STAGE: Duration = Duration::from_secs(600);
/// The flight of the predictions, on a Friday at 17 o'clock.
const ROUTE: [(&str, &str); 3] = [("origin", "JFK"), ("dest", "LAX"), ("carrier", "AA")];
const FLIGHT: [(&str, f64); 3] = [("distance", 2475.0), ("hour", 17.0), ("weekday", 4.0)];
const FEATURES: [&str; 4] = ["arr_delay_30d", "dep_delay_30d", "late_share_30d", "flights_30d"];

/// The record of a demo.
pub struct Record {
    /// The output of `kubectl get mlop` at six times.
    pub captures: Vec<Capture>,
    pub hand_offs: Vec<HandOff>,
}

struct Demo<'a> {
    ns: &'a TestNamespace,
    months: PathBuf,
    /// The log from before the creation of any object in the namespace.
    audit: Option<AuditLog>,
    record: Record,
}

/// Runs the demo and prints its progress. The pipeline remains.
///
/// # Errors
/// A stage does not reach its state in time, or a request fails.
pub async fn run(ns: &TestNamespace) -> Result<Record> {
    let months = flights::prepare().await?;
    let record = Record { captures: Vec::new(), hand_offs: Vec::new() };
    let mut demo = Demo { ns, months, audit: AuditLog::from_now()?, record };
    let june = demo.first_half().await?;
    demo.july(&june).await?;
    demo.gate().await?;
    if !demo.record.hand_offs.is_empty() {
        heading("Latency from Ready to the next stage's first pod or Job, from the API server's audit log");
        print!("{}", latency::table(&demo.record.hand_offs));
    }
    Ok(demo.record)
}

impl Demo<'_> {
    /// January to June, from an empty namespace. Returns the digest of the Dataset.
    async fn first_half(&mut self) -> Result<Digest> {
        heading("January to June are in the bucket; now the pipeline (e2e/pipelines/flights.yaml)");
        let mut tracker = ChainTracker::start(self.ns, self.audit.as_ref(), STAGE).await?;
        flights::upload(1..=6, &self.months, self.ns).await?;
        let pipeline = flights::pipeline(&self.ns.name);
        self.ns.kubectl(&["apply", "-f", "-"], &pipeline).await?;
        self.until_all_are_reconciled().await?;
        self.capture("just applied").await?;

        wait::until_any(
            &self.api::<DatasetVersion>(),
            watcher::Config::default(),
            "DatasetVersion",
            STAGE,
            |_| true,
        )
        .await?;
        self.capture("ingesting").await?;
        chain::print_header();
        let data = tracker.head(&self.api::<Dataset>(), "flights", None).await?;
        let features = tracker.after(&self.api::<FeatureView>(), "route-delays", &data).await?;

        let has_started = |job: &TrainingJob| job.has_reason(READY, Reason::Running) || job.is_ready();
        wait::until(&self.api(), "delay", "training", STAGE, has_started).await?;
        self.capture("training").await?;
        chain::print_header();
        self.rest(tracker, &features).await?;
        self.capture("serving").await?;
        self.predict().await?;

        heading("The lineage of the served model");
        println!("{}", lineage::verify(&self.ns.cluster, &self.ns.name, "delay").await?);
        Ok(data.digest)
    }

    /// July: new data without any command.
    async fn july(&mut self, june: &Digest) -> Result<()> {
        let deployment: ModelDeployment = self.api().get("delay").await?;
        heading("July arrives. No command is given, and requests continue");
        let mut tracker = ChainTracker::start(self.ns, self.audit.as_ref(), STAGE).await?;
        let mut prober = Prober::start(self.infer_url(&deployment).await?, self.request().await?)?;
        flights::upload(7..=7, &self.months, self.ns).await?;
        chain::print_header();
        let data = tracker.head(&self.api::<Dataset>(), "flights", Some(june)).await?;
        let features = tracker.after(&self.api::<FeatureView>(), "route-delays", &data).await?;
        self.rest(tracker, &features).await?;
        prober.until_answers(2, STAGE).await?;
        let report = prober.stop().await?;
        println!("\nrequests meanwhile: {report}");
        report.check()?;
        self.capture("after July").await?;
        self.predict().await
    }

    /// From the features to the served model, with hand-offs and writes.
    async fn rest(&mut self, mut tracker: ChainTracker, features: &Stage) -> Result<()> {
        let trained = tracker.after(&self.api::<TrainingJob>(), "delay", features).await?;
        let model = tracker.after(&self.api::<Model>(), "delay", &trained).await?;
        tracker.serving(&self.api(), "delay", &model).await?;
        self.record.hand_offs.extend(tracker.hand_offs().await?);
        if self.audit.is_some() {
            println!(
                "\nwrites of the operators without Events, each with its time since the previous stage was ready:"
            );
            tracker.writes().await?.iter().for_each(|writes| print!("{writes}"));
        }
        Ok(())
    }

    /// A gate that no model passes. The model in use continues to serve.
    async fn gate(&mut self) -> Result<()> {
        heading("A gate that no model passes, for a short time");
        self.set_gate("0.99").await?;
        let failed = |model: &Model| model.has_reason(READY, Reason::GateFailed);
        wait::until(&self.api(), "delay", "failing its gate", STAGE, failed).await?;
        let has_cause = |deployment: &ModelDeployment| deployment.cause().is_some();
        let deployment = wait::until(&self.api(), "delay", "reporting the cause", STAGE, has_cause).await?;
        self.capture("failing gate").await?;
        println!("{}", deployment.describe());
        self.predict().await?;
        self.set_gate("0.65").await?;
        wait::until(&self.api::<Model>(), "delay", "Ready again", STAGE, Kind::is_ready).await?;
        Ok(())
    }

    async fn set_gate(&self, min: &str) -> Result<()> {
        let gates = json!({"spec": {"gates": [{"name": "quality", "metric": "auc", "min": min}]}});
        self.ns.patch::<Model>("delay", &gates).await.map(drop)
    }

    async fn predict(&self) -> Result<()> {
        heading("A flight from JFK to LAX with AA, on a Friday at 17 o'clock");
        let deployment: ModelDeployment = self.api().get("delay").await?;
        let url = self.infer_url(&deployment).await?;
        let answer = predict::infer(&reqwest::Client::new(), &url, &self.request().await?).await?;
        let late = answer.get(1).context("the prediction has no probability")?;
        println!("arrives more than 15 minutes late with probability {late:.3}");
        Ok(())
    }

    /// The request for the flight, with its features from the online API.
    async fn request(&self) -> Result<Request> {
        let store: FeatureStore = self.api().get("features").await?;
        let address =
            store.status.and_then(|status| status.address).context("the online API has no address")?;
        let names = FEATURES.map(|name| format!("route-delays:{name}"));
        let base = self.ns.cluster.external_url(&address).await?;
        let found = predict::features(&base, &names, &ROUTE).await?;
        let online = FEATURES.iter().map(|name| {
            let feature = found.get(*name).with_context(|| format!("the online API has no {name}"))?;
            println!("  {name} = {} ({})", feature.value, feature.status);
            Ok((*name, feature.value.as_f64().with_context(|| format!("{name} is not a number"))?))
        });
        Ok(Request::new(online.chain(FLIGHT.map(Ok)).collect::<Result<Vec<_>>>()?))
    }

    async fn infer_url(&self, deployment: &ModelDeployment) -> Result<String> {
        let url = deployment.status.as_ref().and_then(|status| status.url.as_deref());
        self.ns.cluster.external_url(url.context("the deployment has no URL")?).await
    }

    /// Waits until each object has a status other than `Pending`.
    async fn until_all_are_reconciled(&self) -> Result<()> {
        self.until_reconciled::<ObjectStore>(&["raw", "mlop"]).await?;
        self.until_reconciled::<Dataset>(&["flights"]).await?;
        self.until_reconciled::<FeatureStore>(&["features"]).await?;
        self.until_reconciled::<FeatureView>(&["route-delays"]).await?;
        self.until_reconciled::<TrainingJob>(&["delay"]).await?;
        self.until_reconciled::<TrackingServer>(&["mlflow"]).await?;
        self.until_reconciled::<Model>(&["delay"]).await?;
        self.until_reconciled::<ModelDeployment>(&["delay"]).await
    }

    async fn until_reconciled<K: Kind>(&self, names: &[&str]) -> Result<()> {
        let is_reconciled =
            |object: &K| object.current(READY).is_some() && !object.has_reason(READY, Reason::Pending);
        for name in names {
            wait::until(&self.api(), name, "reconciled", STAGE, is_reconciled).await?;
        }
        Ok(())
    }

    /// Captures the current output of `kubectl get mlop`.
    async fn capture(&mut self, name: &'static str) -> Result<()> {
        println!("\n$ kubectl -n {} get mlop    # {name}", self.ns.name);
        let text = self.ns.kubectl(&["get", "mlop"], "").await?;
        println!("{text}");
        self.record.captures.push(Capture { name, text });
        Ok(())
    }

    fn api<K: Kind>(&self) -> kube::Api<K> {
        self.ns.api()
    }
}

fn heading(text: &str) {
    println!("\n=== {text}");
}
