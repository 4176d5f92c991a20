//! A version in MLflow, exactly once.

use crate::{
    mlflow::{CONFLICT, EXISTS, Error, MISSING, MetricPoint, Mlflow, Pair, Run, Version},
    names, tags,
    transport::Transport,
};
use mlop_api::{
    Digest,
    result::{Failure, Registered, ResultDocument},
    task::{Provenance, RegisterWork, Subject},
};
use serde_json::{Value, json};

/// Most parameters of one request.
const PARAMS_MAX: usize = 100;
/// Longest digest of a dataset in MLflow, in characters.
const DATASET_DIGEST_CHARS: usize = 36;

/// Registers the model and returns its version. `now` tells milliseconds since 1970.
///
/// # Errors
/// [`TrackingUnreachable`](mlop_api::Reason::TrackingUnreachable), retryable, when the server does not answer;
/// [`TrackingRefused`](mlop_api::Reason::TrackingRefused) with MLflow's words when it will not.
pub async fn register<T: Transport>(
    mlflow: &Mlflow<T>,
    subject: &Subject,
    work: &RegisterWork,
    provenance: &Provenance,
    now: impl Fn() -> i64,
) -> Result<ResultDocument, Failure> {
    let registration = Registration {
        mlflow,
        subject,
        work,
        mark: Pair::new(tags::INPUT_DIGEST, work.input_digest.as_str()),
        tags: describe(subject, work, provenance),
    };
    let version = registration.version(&now).await?;
    match registration.log(&version, provenance, &now).await {
        // Another attempt logs the same at this moment; what is there already is no conflict the next time.
        Err(error) if error.is(CONFLICT) => registration.log(&version, provenance, &now).await?,
        other => other?,
    }
    Ok(ResultDocument {
        digest: Some(work.model.digest.clone()),
        metrics: work.metrics.clone(),
        summary: Some(format!("version {}", version.version)),
        registered: Some(Registered {
            registry: work.registry.clone(),
            name: work.registered_model.clone(),
            reference: format!("models:/{}/{}", work.registered_model, version.version),
            version: version.version,
        }),
        ..ResultDocument::default()
    })
}

struct Registration<'a, T> {
    mlflow: &'a Mlflow<T>,
    subject: &'a Subject,
    work: &'a RegisterWork,
    /// By this tag our run and version are found.
    mark: Pair,
    tags: Vec<Pair>,
}

impl<T: Transport> Registration<'_, T> {
    /// The version that counts: the lowest that carries our mark, made if there is none.
    async fn version(&self, now: impl Fn() -> i64) -> Result<Version, Error> {
        self.registered_model().await?;
        let experiment = self.experiment().await?;
        let (model, mut found) = (&self.work.registered_model, self.marked_versions().await?);
        if found.is_empty() {
            let run = self.run(&experiment, now()).await?;
            self.mlflow.create_version(model, &self.work.source_uri, &run.run_id, &self.tags).await?;
            found = self.marked_versions().await?;
        }
        let mut found = found.into_iter();
        let Some(winner) = found.next() else {
            return Err(Error::Refused {
                call: "model-versions/search".to_owned(),
                status: 409,
                code: "deleted".to_owned(),
                message: format!(
                    "the version of {model} that was just registered is gone; retry to make another"
                ),
            });
        };
        for duplicate in found {
            tracing::info!(version = duplicate.version, "a second registration lost");
            ignoring(MISSING, self.mlflow.delete_version(model, &duplicate.version).await)?;
        }
        for run in self.mlflow.runs_tagged(&experiment, &self.mark).await? {
            if run.run_id != winner.run_id {
                self.mlflow.delete_run(&run.run_id).await?;
            }
        }
        Ok(winner)
    }

    async fn marked_versions(&self) -> Result<Vec<Version>, Error> {
        self.mlflow.versions_tagged(&self.work.registered_model, &self.mark).await
    }

    async fn registered_model(&self) -> Result<(), Error> {
        let name = &self.work.registered_model;
        if self.mlflow.registered_model(name).await?.is_none() {
            ignoring(EXISTS, self.mlflow.create_registered_model(name).await)?;
        }
        Ok(())
    }

    /// Id of the experiment, made or brought back if need be.
    async fn experiment(&self) -> Result<String, Error> {
        let name = &self.work.experiment;
        let mut found = self.mlflow.experiment(name).await?;
        if found.is_none() {
            ignoring(EXISTS, self.mlflow.create_experiment(name).await)?;
            found = self.mlflow.experiment(name).await?;
        }
        let Some(experiment) = found else {
            return Err(Error::Refused {
                call: "experiments/get-by-name".to_owned(),
                status: 404,
                code: MISSING.to_owned(),
                message: format!("the experiment {name:?} was created and is not there"),
            });
        };
        if experiment.lifecycle_stage == "deleted" {
            self.mlflow.restore_experiment(&experiment.experiment_id).await?;
        }
        Ok(experiment.experiment_id)
    }

    /// The run to create a version with: one of an earlier attempt, or a new one. Which run counts is decided by
    /// the version that wins, since MLflow gives runs no order.
    async fn run(&self, experiment: &str, now: i64) -> Result<Run, Error> {
        let earlier = self.mlflow.runs_tagged(experiment, &self.mark).await?;
        match earlier.into_iter().min_by(|a, b| (a.start_time, &a.run_id).cmp(&(b.start_time, &b.run_id))) {
            Some(run) => Ok(run),
            None => self.mlflow.create_run(experiment, &self.subject.name, now, &self.tags).await,
        }
    }

    /// Logs everything to the version's run, unless that was completed before.
    async fn log(
        &self,
        version: &Version,
        provenance: &Provenance,
        now: impl Fn() -> i64,
    ) -> Result<(), Error> {
        let run = self.mlflow.run(&version.run_id).await?;
        if run.lifecycle_stage == "deleted" {
            self.mlflow.restore_run(&run.run_id).await?;
        }
        if run.status == "FINISHED" {
            return Ok(());
        }
        let (id, metrics) = (run.run_id.as_str(), self.metrics(run.start_time));
        if !metrics.is_empty() {
            self.mlflow.log_batch(id, &metrics, &[]).await?;
        }
        for params in params(provenance).chunks(PARAMS_MAX) {
            self.mlflow.log_batch(id, &[], params).await?;
        }
        let datasets: Vec<Value> =
            provenance.inputs.iter().map(|(name, digest)| dataset(name, digest)).collect();
        if !datasets.is_empty() {
            self.mlflow.log_inputs(id, &datasets).await?;
        }
        self.mlflow.finish_run(id, now()).await
    }

    /// The metrics at the run's start: a time that is the same in every attempt.
    fn metrics(&self, timestamp: i64) -> Vec<MetricPoint> {
        let point = |metric: &mlop_api::common::Metric| {
            let number = metric.number();
            let value = if number.is_finite() { json!(number) } else { json!(metric_text(number)) };
            MetricPoint { key: names::key(&metric.name), value, timestamp, step: 0 }
        };
        self.work.metrics.iter().map(point).collect()
    }
}

fn metric_text(number: f64) -> String {
    mlop_api::common::Metric::new("", number).value
}

/// Tags of run and version.
fn describe(subject: &Subject, work: &RegisterWork, provenance: &Provenance) -> Vec<Pair> {
    let mut described = vec![
        Pair::new(tags::INPUT_DIGEST, work.input_digest.as_str()),
        Pair::new(tags::DIGEST, work.model.digest.as_str()),
        Pair::new(tags::SEED, provenance.seed.to_string()),
        Pair::new(tags::IMAGE, names::cut(&provenance.image, names::TAG_CHARS_MAX)),
        Pair::new(tags::NAMESPACE, &subject.namespace),
        Pair::new(tags::NAME, &subject.name),
    ];
    described
        .extend(provenance.inputs.iter().map(|(name, digest)| Pair::new(tags::input(name), digest.as_str())));
    described.extend(
        provenance
            .ancestors
            .iter()
            .filter(|ancestor| ancestor.root)
            .map(|root| Pair::new(tags::root(&root.kind, &root.name), root.digest.as_str())),
    );
    described.retain(|tag| !tag.value.is_empty());
    described
}

fn params(provenance: &Provenance) -> Vec<Pair> {
    let mut params: Vec<Pair> = provenance
        .hyperparameters
        .iter()
        .map(|(name, value)| Pair::new(names::key(name), names::cut(value, names::PARAM_CHARS_MAX)))
        .collect();
    params.push(Pair::new("seed", provenance.seed.to_string()));
    params.sort();
    params.dedup_by(|a, b| a.key == b.key);
    params
}

/// An input of the training as MLflow shows it.
fn dataset(name: &str, digest: &Digest) -> Value {
    json!({
        "tags": [{"key": "mlflow.data.context", "value": "training"}],
        "dataset": {
            "name": name,
            "digest": digest.short(DATASET_DIGEST_CHARS),
            "source_type": "mlop",
            "source": json!({"digest": digest}).to_string(),
        },
    })
}

/// `outcome`, where the error `code` means that somebody else did the same before.
fn ignoring(code: &str, outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(error) if error.is(code) => Ok(()),
        other => other,
    }
}
