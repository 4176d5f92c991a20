//! A version in MLflow, exactly once.

use crate::{
    mlflow::{CONFLICT, EXISTS, Error, MISSING, MetricPoint, Mlflow, Pair, Run, Version},
    names, tags,
    transport::Transport,
};
use mlop_api::{
    Digest,
    common::Metric,
    result::{Failure, Registered, ResultDocument},
    task::{Provenance, RegisterWork, Subject},
};
use mlop_artifact::manifest::TreeSummary;
use serde_json::{Value, json};

/// Most parameters of one request.
const PARAMS_MAX: usize = 100;
/// Most metrics of one request.
const METRICS_MAX: usize = 1_000;
/// Most metrics whose own names are kept in tags.
const RENAMED_MAX: usize = 50;
/// Names that the summary lists one by one.
const NAMED_MAX: usize = 3;
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
    tree: &TreeSummary,
    now: impl Fn() -> i64,
) -> Result<ResultDocument, Failure> {
    let metrics = if tree.metrics.is_empty() { &work.metrics } else { &tree.metrics };
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    let metrics: Vec<(String, &Metric)> = names::keys(&names).into_iter().zip(metrics).collect();
    let registration = Registration {
        mlflow,
        subject,
        work,
        source: source(&work.source_uri, tree.mlflow_model.as_deref()),
        mark: mark(work),
        tags: describe(subject, work, &tree.provenance, &metrics),
        metrics: &metrics,
        params: params(&tree.provenance),
    };
    let version = registration.version(&now).await?;
    let is_logged = match registration.log(&version, &tree.provenance, &now).await {
        // Another attempt logs the same at this moment. The next request finds equal values, which do not conflict.
        Err(error) if error.is(CONFLICT) => registration.log(&version, &tree.provenance, &now).await?,
        other => other?,
    };
    let mut document = ResultDocument {
        digest: Some(work.model.digest.clone()),
        metrics: wanted_first(&work.gates, &metrics),
        summary: Some(summary(&version, is_logged, &metrics, &registration.params)),
        registered: Some(registered(work, version)),
        ..ResultDocument::default()
    };
    document.metrics.truncate(document.fitting_metrics());
    Ok(document)
}

/// The version that counts, if MLflow has it.
///
/// # Errors
/// When the server does not answer or refuses the search.
pub async fn find<T: Transport>(mlflow: &Mlflow<T>, work: &RegisterWork) -> Result<Option<Version>, Failure> {
    let found = mlflow.versions_tagged(&work.registered_model, &mark(work)).await?;
    Ok(found.into_iter().next())
}

/// How MLflow knows `version`.
pub fn registered(work: &RegisterWork, version: Version) -> Registered {
    Registered {
        registry: work.registry.clone(),
        name: work.registered_model.clone(),
        reference: format!("models:/{}/{}", work.registered_model, version.version),
        version: version.version,
        alias: None,
    }
}

fn mark(work: &RegisterWork) -> Pair {
    Pair::new(tags::INPUT_DIGEST, work.input_digest.as_str())
}

/// Where plain MLflow clients find the model: the directory with the file MLmodel, or the tree's root.
fn source(root: &str, model: Option<&str>) -> String {
    match model {
        Some(directory) if !directory.is_empty() => format!("{}/{directory}", root.trim_end_matches('/')),
        _ => root.to_owned(),
    }
}

/// The metrics in the order in which a status has room for them: those that gates ask for come first.
fn wanted_first(gates: &[String], metrics: &[(String, &Metric)]) -> Vec<Metric> {
    let is_wanted = |metric: &&Metric| gates.contains(&metric.name);
    let all = || metrics.iter().map(|(_, metric)| *metric);
    all().filter(is_wanted).chain(all().filter(|metric| !is_wanted(metric))).cloned().collect()
}

/// For example `version 3; in MLflow "MAP@k" is MAP_k_1a2b3c4d; cut: note`.
fn summary(version: &Version, is_logged: bool, metrics: &[(String, &Metric)], params: &[Param]) -> String {
    let mut parts = vec![format!("version {}", version.version)];
    if !is_logged {
        parts.push(format!("its run {} was deleted in MLflow for good", version.run_id));
    }
    let renamed = renamed(metrics).map(|(key, name)| format!("{name:?} is {key}"));
    parts.extend(listed("in MLflow ", renamed.collect()));
    let cut = params.iter().filter(|param| param.is_cut).map(|param| param.pair.key.clone());
    parts.extend(listed("cut: ", cut.collect()));
    parts.join("; ")
}

fn listed(before: &str, names: Vec<String>) -> Option<String> {
    let more = match names.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<String> = names.into_iter().take(NAMED_MAX).collect();
    (!named.is_empty()).then(|| format!("{before}{}{more}", named.join(", ")))
}

fn renamed<'a>(metrics: &'a [(String, &Metric)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    metrics.iter().map(|(key, metric)| (key.as_str(), metric.name.as_str())).filter(|(key, name)| key != name)
}

struct Registration<'a, T> {
    mlflow: &'a Mlflow<T>,
    subject: &'a Subject,
    work: &'a RegisterWork,
    source: String,
    /// By this tag our run and version are found.
    mark: Pair,
    tags: Vec<Pair>,
    /// Each with its key in MLflow.
    metrics: &'a [(String, &'a Metric)],
    params: Vec<Param>,
}

/// A parameter as it is logged.
struct Param {
    pair: Pair,
    is_cut: bool,
}

impl<T: Transport> Registration<'_, T> {
    /// The version that counts: the lowest that carries our mark, made if there is none.
    async fn version(&self, now: impl Fn() -> i64) -> Result<Version, Error> {
        self.registered_model().await?;
        let experiment = self.experiment().await?;
        let (model, mut found) = (&self.work.registered_model, self.marked_versions().await?);
        if found.is_empty() {
            let run = self.run(&experiment, now()).await?;
            self.mlflow.create_version(model, &self.source, &run.run_id, &self.tags).await?;
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
                ignoring(MISSING, self.mlflow.delete_run(&run.run_id).await)?;
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
        if experiment.lifecycle_stage != "deleted" {
            return Ok(experiment.experiment_id);
        }
        match self.mlflow.restore_experiment(&experiment.experiment_id).await {
            Err(error) if error.is(MISSING) => {
                // Collected for good meanwhile: its name is free again.
                self.mlflow.create_experiment(name).await?;
                let made = self.mlflow.experiment(name).await?;
                Ok(made.map_or(experiment.experiment_id, |made| made.experiment_id))
            }
            restored => restored.map(|()| experiment.experiment_id),
        }
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

    /// Logs everything to the version's run, unless that was completed before. `false`: the run is gone for good.
    async fn log(
        &self,
        version: &Version,
        provenance: &Provenance,
        now: impl Fn() -> i64,
    ) -> Result<bool, Error> {
        let run = match self.mlflow.run(&version.run_id).await {
            Err(error) if error.is(MISSING) => return Ok(false),
            found => found?,
        };
        if run.lifecycle_stage == "deleted" {
            self.mlflow.restore_run(&run.run_id).await?;
        }
        if run.status == "FINISHED" {
            return Ok(true);
        }
        let id = run.run_id.as_str();
        for metrics in self.points(run.start_time).chunks(METRICS_MAX) {
            self.mlflow.log_batch(id, metrics, &[]).await?;
        }
        let params: Vec<Pair> = self.params.iter().map(|param| param.pair.clone()).collect();
        for params in params.chunks(PARAMS_MAX) {
            self.mlflow.log_batch(id, &[], params).await?;
        }
        let datasets: Vec<Value> =
            provenance.inputs.iter().map(|(name, digest)| dataset(name, digest)).collect();
        if !datasets.is_empty() {
            self.mlflow.log_inputs(id, &datasets).await?;
        }
        self.mlflow.finish_run(id, now()).await?;
        Ok(true)
    }

    /// The metrics at the run's start: a time that is the same in every attempt.
    fn points(&self, timestamp: i64) -> Vec<MetricPoint> {
        let point = |(key, metric): &(String, &Metric)| {
            let number = metric.number();
            let value = if number.is_finite() { json!(number) } else { json!(metric_text(number)) };
            MetricPoint { key: key.clone(), value, timestamp, step: 0 }
        };
        self.metrics.iter().map(point).collect()
    }
}

fn metric_text(number: f64) -> String {
    Metric::new("", number).value
}

/// Tags of run and version.
fn describe(
    subject: &Subject,
    work: &RegisterWork,
    provenance: &Provenance,
    metrics: &[(String, &Metric)],
) -> Vec<Pair> {
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
    described
        .extend(renamed(metrics).take(RENAMED_MAX).map(|(key, name)| Pair::new(tags::metric(key), name)));
    described.retain(|tag| !tag.value.is_empty());
    described
}

/// The hyperparameters and the seed. A hyperparameter called `seed` keeps that name.
fn params(provenance: &Provenance) -> Vec<Param> {
    let mut named: Vec<(&str, String)> =
        provenance.hyperparameters.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let seed = if provenance.hyperparameters.contains_key("seed") { "spec.seed" } else { "seed" };
    named.push((seed, provenance.seed.to_string()));
    named.sort();
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let keys = names::keys(&names);
    let params = keys.into_iter().zip(&named).map(|(key, (_, value))| {
        let cut = names::cut(value, names::PARAM_CHARS_MAX);
        Param { is_cut: cut.len() < value.len(), pair: Pair::new(key, cut) }
    });
    params.collect()
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
