//! The calls of MLflow's REST API that the registrar uses, and what their errors mean.
//!
//! MLflow leaves empty lists out of its answers, and its HTTP statuses are no guide: "exists already" and "unknown
//! alias" are both 400. So errors are told apart by `error_code` alone.

use crate::transport::{Method, Request, Response, Transport, Unanswered};
use mlop_api::{Reason, result::Failure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Longest quotation of MLflow's error text in characters.
const QUOTE_CHARS_MAX: usize = 500;
/// Runs or versions with one tag that are looked at; more than one is rare.
const SEARCH_MAX: u32 = 100;

/// A tracking server.
pub struct Mlflow<T> {
    transport: T,
}

/// A tag or a parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

impl Pair {
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

/// An experiment.
#[derive(Clone, Debug, Deserialize)]
pub struct Experiment {
    pub experiment_id: String,
    pub lifecycle_stage: String,
}

/// A run without its metrics, parameters and tags.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    pub run_id: String,
    pub status: String,
    /// Milliseconds since 1970.
    pub start_time: i64,
    pub lifecycle_stage: String,
}

/// A version of a registered model.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    /// A number, as a string.
    pub version: String,
    #[serde(default)]
    pub run_id: String,
    #[serde(default)]
    pub tags: Vec<Pair>,
}

impl Version {
    /// The version as a number; 0 for what MLflow never gives.
    pub fn number(&self) -> u64 {
        self.version.parse().unwrap_or_default()
    }
}

/// A registered model.
#[derive(Clone, Debug, Deserialize)]
pub struct RegisteredModel {
    #[serde(default)]
    pub tags: Vec<Pair>,
    #[serde(default)]
    pub aliases: Vec<Alias>,
}

/// A name for one version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Alias {
    pub alias: String,
    pub version: String,
}

/// A metric's value at one time.
#[derive(Clone, Debug, Serialize)]
pub struct MetricPoint {
    pub key: String,
    /// A number, or the text NaN, Infinity or -Infinity.
    pub value: Value,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub step: i64,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{call}: {source}")]
    Unanswered { call: String, source: Unanswered },
    #[error("{call}: {code}: {message}")]
    Refused { call: String, status: u16, code: String, message: String },
}

impl Error {
    /// Whether MLflow answered with this `error_code`.
    pub fn is(&self, error_code: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == error_code)
    }

    /// Whether the login is refused: it is missing, wrong, or allows too little.
    fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403, .. })
    }

    fn transient(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            Self::Refused { status, code, .. } => {
                matches!(status, 408 | 429 | 500..)
                    || matches!(
                        code.as_str(),
                        CONFLICT | "TEMPORARILY_UNAVAILABLE" | "REQUEST_LIMIT_EXCEEDED"
                    )
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.transient() {
            Self::transient(
                Reason::TrackingUnreachable,
                format!("the tracking server does not answer: {error}"),
            )
        } else {
            let reason = if error.is_denied() { Reason::TrackingDenied } else { Reason::TrackingRefused };
            Self::terminal(reason, format!("the tracking server refuses: {error}"))
        }
    }
}

/// MLflow's `error_code` for what does not exist.
pub const MISSING: &str = "RESOURCE_DOES_NOT_EXIST";
/// MLflow's `error_code` for what exists already.
pub const EXISTS: &str = "RESOURCE_ALREADY_EXISTS";
/// MLflow's `error_code` for what its database refused, because somebody else wrote the same rows at the same time.
pub const CONFLICT: &str = "BAD_REQUEST";

impl<T: Transport> Mlflow<T> {
    pub fn new(transport: T) -> Self {
        Self { transport }
    }

    /// The experiment called `name`, also when it is deleted.
    pub async fn experiment(&self, name: &str) -> Result<Option<Experiment>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            experiment: Experiment,
        }
        let found = self.get::<Answer>("experiments/get-by-name", &[("experiment_name", name)]).await;
        Ok(existing(found)?.map(|answer| answer.experiment))
    }

    pub async fn create_experiment(&self, name: &str) -> Result<(), Error> {
        self.done(Method::Post, "experiments/create", json!({"name": name})).await
    }

    pub async fn restore_experiment(&self, id: &str) -> Result<(), Error> {
        self.done(Method::Post, "experiments/restore", json!({"experiment_id": id})).await
    }

    /// Active runs of the experiment that have the tag.
    pub async fn runs_tagged(&self, experiment: &str, tag: &Pair) -> Result<Vec<Run>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            runs: Vec<RunAnswer>,
        }
        let body = json!({
            "experiment_ids": [experiment],
            "filter": tag_filter(tag),
            "run_view_type": "ACTIVE_ONLY",
            "max_results": SEARCH_MAX,
        });
        let answer: Answer = self.post("runs/search", body).await?;
        Ok(answer.runs.into_iter().map(|run| run.info).collect())
    }

    pub async fn create_run(
        &self,
        experiment: &str,
        name: &str,
        start_time: i64,
        tags: &[Pair],
    ) -> Result<Run, Error> {
        let body =
            json!({"experiment_id": experiment, "run_name": name, "start_time": start_time, "tags": tags});
        Ok(self.post::<RunEnvelope>("runs/create", body).await?.run.info)
    }

    pub async fn run(&self, id: &str) -> Result<Run, Error> {
        Ok(self.get::<RunEnvelope>("runs/get", &[("run_id", id)]).await?.run.info)
    }

    pub async fn restore_run(&self, id: &str) -> Result<(), Error> {
        self.done(Method::Post, "runs/restore", json!({"run_id": id})).await
    }

    pub async fn delete_run(&self, id: &str) -> Result<(), Error> {
        self.done(Method::Post, "runs/delete", json!({"run_id": id})).await
    }

    /// Logs at most 1,000 metrics and 100 parameters.
    pub async fn log_batch(&self, run: &str, metrics: &[MetricPoint], params: &[Pair]) -> Result<(), Error> {
        let body = json!({"run_id": run, "metrics": metrics, "params": params});
        self.done(Method::Post, "runs/log-batch", body).await
    }

    /// Logs datasets in MLflow's own form.
    pub async fn log_inputs(&self, run: &str, datasets: &[Value]) -> Result<(), Error> {
        self.done(Method::Post, "runs/log-inputs", json!({"run_id": run, "datasets": datasets})).await
    }

    pub async fn finish_run(&self, run: &str, end_time: i64) -> Result<(), Error> {
        let body = json!({"run_id": run, "status": "FINISHED", "end_time": end_time});
        self.done(Method::Post, "runs/update", body).await
    }

    pub async fn registered_model(&self, name: &str) -> Result<Option<RegisteredModel>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            registered_model: RegisteredModel,
        }
        let found = self.get::<Answer>("registered-models/get", &[("name", name)]).await;
        Ok(existing(found)?.map(|answer| answer.registered_model))
    }

    pub async fn create_registered_model(&self, name: &str) -> Result<(), Error> {
        self.done(Method::Post, "registered-models/create", json!({"name": name})).await
    }

    pub async fn tag_registered_model(&self, name: &str, tag: &Pair) -> Result<(), Error> {
        let body = json!({"name": name, "key": tag.key, "value": tag.value});
        self.done(Method::Post, "registered-models/set-tag", body).await
    }

    pub async fn untag_registered_model(&self, name: &str, key: &str) -> Result<(), Error> {
        self.done(Method::Delete, "registered-models/delete-tag", json!({"name": name, "key": key})).await
    }

    pub async fn set_alias(&self, name: &str, alias: &str, version: &str) -> Result<(), Error> {
        let body = json!({"name": name, "alias": alias, "version": version});
        self.done(Method::Post, "registered-models/alias", body).await
    }

    pub async fn delete_alias(&self, name: &str, alias: &str) -> Result<(), Error> {
        self.done(Method::Delete, "registered-models/alias", json!({"name": name, "alias": alias})).await
    }

    pub async fn version(&self, name: &str, version: &str) -> Result<Option<Version>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            model_version: Version,
        }
        let query = [("name", name), ("version", version)];
        let found = self.get::<Answer>("model-versions/get", &query).await;
        Ok(existing(found)?.map(|answer| answer.model_version))
    }

    /// Versions of the model that have the tag, lowest first.
    pub async fn versions_tagged(&self, model: &str, tag: &Pair) -> Result<Vec<Version>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            model_versions: Vec<Version>,
        }
        let filter = format!("name = '{model}' and {}", tag_filter(tag));
        let max = SEARCH_MAX.to_string();
        let query = [("filter", filter.as_str()), ("max_results", &max)];
        let answer: Answer = self.get("model-versions/search", &query).await?;
        let mut versions = answer.model_versions;
        versions.sort_by_key(Version::number);
        Ok(versions)
    }

    pub async fn create_version(
        &self,
        model: &str,
        source: &str,
        run: &str,
        tags: &[Pair],
    ) -> Result<(), Error> {
        let body = json!({"name": model, "source": source, "run_id": run, "tags": tags});
        self.done(Method::Post, "model-versions/create", body).await
    }

    pub async fn delete_version(&self, model: &str, version: &str) -> Result<(), Error> {
        self.done(Method::Delete, "model-versions/delete", json!({"name": model, "version": version})).await
    }

    async fn get<A: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &[(&'static str, &str)],
    ) -> Result<A, Error> {
        let query = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.call(Request { method: Method::Get, path, query, body: None }).await
    }

    async fn post<A: DeserializeOwned>(&self, path: &'static str, body: Value) -> Result<A, Error> {
        self.call(Request { method: Method::Post, path, query: Vec::new(), body: Some(body) }).await
    }

    /// A call whose answer tells nothing new.
    async fn done(&self, method: Method, path: &'static str, body: Value) -> Result<(), Error> {
        let _answer: Value = self.call(Request { method, path, query: Vec::new(), body: Some(body) }).await?;
        Ok(())
    }

    async fn call<A: DeserializeOwned>(&self, request: Request) -> Result<A, Error> {
        let call = request.path.to_owned();
        match self.transport.send(&request).await {
            Err(source) => Err(Error::Unanswered { call, source }),
            Ok(answer) => {
                let status = answer.status;
                tracing::debug!(call, status, "answered");
                read(&answer, self.transport.host()).map_err(|(code, message)| Error::Refused {
                    call,
                    status,
                    code,
                    message,
                })
            }
        }
    }
}

#[derive(Deserialize)]
struct RunEnvelope {
    run: RunAnswer,
}

#[derive(Deserialize)]
struct RunAnswer {
    info: Run,
}

/// The value of a successful answer, or code and message of the error.
fn read<A: DeserializeOwned>(answer: &Response, host: &str) -> Result<A, (String, String)> {
    #[derive(Deserialize)]
    struct Refusal {
        error_code: String,
        #[serde(default)]
        message: String,
    }
    let Response { status, location, body } = answer;
    if *status == 200 {
        return serde_json::from_slice(body).map_err(|error| {
            ("unreadable".to_owned(), format!("the answer is not MLflow's ({error}); check the address"))
        });
    }
    if let Ok(Refusal { error_code, message }) = serde_json::from_slice(body) {
        return Err((error_code, crate::names::cut(&message, QUOTE_CHARS_MAX)));
    }
    let text = crate::names::cut(String::from_utf8_lossy(body).trim(), QUOTE_CHARS_MAX);
    let advice = match (status, location) {
        (300..=399, Some(location)) => {
            format!("; it redirects to {}: use the address that it means", crate::names::cut(location, 200))
        }
        (401, _) => {
            "; it wants a login: give the TrackingServer a Secret with a token, or with username and \
                     password"
                .to_owned()
        }
        _ if text.contains("Invalid Host header") => {
            format!("; start MLflow with --allowed-hosts {host} (the port belongs to the name)")
        }
        _ if text.starts_with('<') => "; is this an MLflow server, and is its path complete?".to_owned(),
        _ => String::new(),
    };
    Err((format!("HTTP {status}"), format!("{text}{advice}")))
}

fn existing<A>(found: Result<A, Error>) -> Result<Option<A>, Error> {
    match found {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is(MISSING) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Values of our tags are digests: nothing in them needs quoting.
fn tag_filter(tag: &Pair) -> String {
    format!("tags.`{}` = '{}'", tag.key, tag.value)
}
