//! The flights pipeline from an empty namespace to predictions, and on to a new model when new data arrives.
//!
//! `cargo xtask demo` shows it to people; an end-to-end test goes the same way.

use crate::{
    audit::AuditLog,
    chain::{self, Pass, Stage},
    flights,
    hand_off::{self, HandOff},
    moments::Moment,
    predict::{self, Request},
    prober::Prober,
    scratch::Scratch,
    state::Kind,
    trace, wait,
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

/// Longest time of one stage on a busy machine: images are local, but Python starts slowly.
const STAGE: Duration = Duration::from_secs(600);
/// What is asked about: a flight on a Friday at 17 o'clock.
const ROUTE: [(&str, &str); 3] = [("origin", "JFK"), ("dest", "LAX"), ("carrier", "AA")];
const FLIGHT: [(&str, f64); 3] = [("distance", 2475.0), ("hour", 17.0), ("weekday", 4.0)];
const FEATURES: [&str; 4] = ["arr_delay_30d", "dep_delay_30d", "late_share_30d", "flights_30d"];

/// What was seen on the way.
pub struct Tour {
    pub moments: Vec<Moment>,
    pub hand_offs: Vec<HandOff>,
}

struct Demo<'a> {
    scratch: &'a Scratch,
    months: PathBuf,
    /// From before there was anything in the namespace.
    audit: Option<AuditLog>,
    tour: Tour,
}

/// Goes the whole way, printing as it goes. The pipeline stays.
///
/// # Errors
/// When something does not come about, or a request fails.
pub async fn run(scratch: &Scratch) -> Result<Tour> {
    let months = flights::prepare().await?;
    let tour = Tour { moments: Vec::new(), hand_offs: Vec::new() };
    let mut demo = Demo { scratch, months, audit: AuditLog::from_now()?, tour };
    let june = demo.first_half().await?;
    demo.july(&june).await?;
    demo.gate().await?;
    if !demo.tour.hand_offs.is_empty() {
        heading("From Ready to the next stage's first pod or Job, from the API server's audit log");
        print!("{}", hand_off::table(&demo.tour.hand_offs));
    }
    Ok(demo.tour)
}

impl Demo<'_> {
    /// January to June: everything from nothing. Returns what the Dataset published.
    async fn first_half(&mut self) -> Result<Digest> {
        heading("January to June are in the bucket; now the pipeline (e2e/pipelines/flights.yaml)");
        let mut pass = Pass::begin(self.scratch, self.audit.as_ref(), STAGE).await?;
        flights::arrive(1..=6, &self.months, self.scratch).await?;
        let pipeline = flights::pipeline(&self.scratch.namespace);
        self.scratch.kubectl(&["apply", "-f", "-"], &pipeline).await?;
        self.everything_was_looked_at().await?;
        self.moment("just applied").await?;

        wait::any(&self.api::<DatasetVersion>(), watcher::Config::default(), "DatasetVersion", STAGE, |_| {
            true
        })
        .await?;
        self.moment("ingesting").await?;
        chain::print_header();
        let data = pass.head(&self.api::<Dataset>(), "flights", None).await?;
        let features = pass.after(&self.api::<FeatureView>(), "route-delays", &data).await?;

        let begun = |job: &TrainingJob| job.says(READY, Reason::Running) || job.ready();
        wait::until(&self.api(), "delay", "training", STAGE, begun).await?;
        self.moment("training").await?;
        chain::print_header();
        self.rest(pass, &features).await?;
        self.moment("serving").await?;
        self.predict().await?;

        heading("Where that came from");
        println!("{}", trace::trace(&self.scratch.cluster, &self.scratch.namespace, "delay").await?);
        Ok(data.digest)
    }

    /// July: new data, no command.
    async fn july(&mut self, june: &Digest) -> Result<()> {
        let deployment: ModelDeployment = self.api().get("delay").await?;
        heading("July arrives; nobody does anything, and requests go on");
        let mut pass = Pass::begin(self.scratch, self.audit.as_ref(), STAGE).await?;
        let mut prober = Prober::start(self.infer_url(&deployment).await?, self.request().await?)?;
        flights::arrive(7..=7, &self.months, self.scratch).await?;
        chain::print_header();
        let data = pass.head(&self.api::<Dataset>(), "flights", Some(june)).await?;
        let features = pass.after(&self.api::<FeatureView>(), "route-delays", &data).await?;
        self.rest(pass, &features).await?;
        prober.answers(2, STAGE).await?;
        let report = prober.stop().await?;
        println!("\nmeanwhile: {report}");
        report.check()?;
        self.moment("after July").await?;
        self.predict().await
    }

    /// From the features on to the served model, and what that took.
    async fn rest(&mut self, mut pass: Pass, features: &Stage) -> Result<()> {
        let trained = pass.after(&self.api::<TrainingJob>(), "delay", features).await?;
        let model = pass.after(&self.api::<Model>(), "delay", &trained).await?;
        pass.serving(&self.api(), "delay", &model).await?;
        self.tour.hand_offs.extend(pass.hand_offs().await?);
        if self.audit.is_some() {
            println!("\nwhat the operators wrote, Events aside, since the stage before was ready:");
            pass.writes().await?.iter().for_each(|writes| print!("{writes}"));
        }
        Ok(())
    }

    /// A gate that no model passes: the one in use goes on.
    async fn gate(&mut self) -> Result<()> {
        heading("A gate that no model passes, for a moment");
        self.gate_at("0.99").await?;
        let failed = |model: &Model| model.says(READY, Reason::GateFailed);
        wait::until(&self.api(), "delay", "failing its gate", STAGE, failed).await?;
        let tells = |deployment: &ModelDeployment| deployment.cause().is_some();
        let deployment = wait::until(&self.api(), "delay", "telling the cause", STAGE, tells).await?;
        self.moment("failing gate").await?;
        println!("{}", deployment.describe());
        self.predict().await?;
        self.gate_at("0.65").await?;
        wait::until(&self.api::<Model>(), "delay", "Ready again", STAGE, Kind::ready).await?;
        Ok(())
    }

    async fn gate_at(&self, min: &str) -> Result<()> {
        let gates = json!({"spec": {"gates": [{"name": "quality", "metric": "auc", "min": min}]}});
        self.scratch.patch::<Model>("delay", &gates).await.map(drop)
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
        let base = self.scratch.cluster.outside(&address).await?;
        let found = predict::features(&base, &names, &ROUTE).await?;
        let online = FEATURES.iter().map(|name| {
            let feature = found.get(*name).with_context(|| format!("the online API has no {name}"))?;
            println!("  {name} = {} ({})", feature.value, feature.status);
            Ok((*name, feature.value.as_f64().with_context(|| format!("{name} is no number"))?))
        });
        Ok(Request::new(online.chain(FLIGHT.map(Ok)).collect::<Result<Vec<_>>>()?))
    }

    async fn infer_url(&self, deployment: &ModelDeployment) -> Result<String> {
        let url = deployment.status.as_ref().and_then(|status| status.url.as_deref());
        self.scratch.cluster.outside(url.context("the deployment has no URL")?).await
    }

    /// Waits until each object has a status that says more than that nobody has looked yet.
    async fn everything_was_looked_at(&self) -> Result<()> {
        self.looked_at::<ObjectStore>(&["raw", "mlop"]).await?;
        self.looked_at::<Dataset>(&["flights"]).await?;
        self.looked_at::<FeatureStore>(&["features"]).await?;
        self.looked_at::<FeatureView>(&["route-delays"]).await?;
        self.looked_at::<TrainingJob>(&["delay"]).await?;
        self.looked_at::<TrackingServer>(&["mlflow"]).await?;
        self.looked_at::<Model>(&["delay"]).await?;
        self.looked_at::<ModelDeployment>(&["delay"]).await
    }

    async fn looked_at<K: Kind>(&self, names: &[&str]) -> Result<()> {
        let seen = |object: &K| object.current(READY).is_some() && !object.says(READY, Reason::Pending);
        for name in names {
            wait::until(&self.api(), name, "looked at", STAGE, seen).await?;
        }
        Ok(())
    }

    /// `kubectl get mlop` as a user sees it now.
    async fn moment(&mut self, name: &'static str) -> Result<()> {
        println!("\n$ kubectl -n {} get mlop    # {name}", self.scratch.namespace);
        let seen = self.scratch.kubectl(&["get", "mlop"], "").await?;
        println!("{seen}");
        self.tour.moments.push(Moment { name, seen });
        Ok(())
    }

    fn api<K: Kind>(&self) -> kube::Api<K> {
        self.scratch.api()
    }
}

fn heading(text: &str) {
    println!("\n=== {text}");
}
