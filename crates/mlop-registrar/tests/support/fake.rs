//! An MLflow in memory: the calls that the registrar makes, answering as MLflow 3.17 was recorded to answer.

use mlop_registrar::transport::{Method, Request, Response, Transport, Unanswered};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// A server; clones are lines to the same one.
#[derive(Clone, Default)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    /// Seed of the order in which concurrent requests are carried out; none: at once.
    pub shuffle: Option<Arc<Mutex<u64>>>,
}

#[derive(Default)]
pub struct State {
    pub experiments: Vec<Experiment>,
    pub runs: Vec<Run>,
    pub models: BTreeMap<String, Model>,
    pub requests: usize,
}

#[derive(Default)]
pub struct Experiment {
    pub name: String,
    pub deleted: bool,
    /// `mlflow gc` takes it away in the moment in which it is to be restored.
    pub collected: bool,
}

#[derive(Debug)]
pub struct Run {
    pub tags: Vec<Value>,
    pub start_time: i64,
    pub finished: bool,
    pub deleted: bool,
    pub params: BTreeMap<String, String>,
    /// Key, value, timestamp and step: equal points are kept once.
    pub metrics: Vec<Value>,
    pub datasets: Vec<Value>,
}

#[derive(Default)]
pub struct Model {
    pub tags: BTreeMap<String, String>,
    pub aliases: BTreeMap<String, String>,
    pub versions: BTreeMap<u64, Value>,
    /// Versions ever made: numbers are not given twice.
    pub made: u64,
}

type Answer = Result<Value, (u16, &'static str, String)>;

impl Transport for Fake {
    async fn send(&self, request: &Request) -> Result<Response, Unanswered> {
        self.wait().await;
        let answer = self.state.lock().unwrap().answer(request);
        self.wait().await;
        let (status, body) = match answer {
            Ok(body) => (200, body),
            Err((status, code, message)) => (status, json!({"error_code": code, "message": message})),
        };
        Ok(Response { status, location: None, body: body.to_string().into_bytes() })
    }
}

impl Fake {
    pub fn shuffled(seed: u64) -> Self {
        Self { shuffle: Some(Arc::new(Mutex::new(seed))), ..Self::default() }
    }

    /// Lets others go first, up to seven times.
    async fn wait(&self) {
        let Some(seed) = &self.shuffle else { return };
        let turns = {
            let mut seed = seed.lock().unwrap();
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) % 8
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    pub fn active_runs(&self) -> usize {
        self.state.lock().unwrap().runs.iter().filter(|run| !run.deleted).count()
    }

    pub fn versions(&self, model: &str) -> Vec<u64> {
        self.state.lock().unwrap().models[model].versions.keys().copied().collect()
    }

    pub fn alias(&self, model: &str, alias: &str) -> Option<String> {
        self.state.lock().unwrap().models[model].aliases.get(alias).cloned()
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        self.requests += 1;
        let body = request.body.clone().unwrap_or_default();
        let query = |name: &str| {
            request
                .query
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.clone())
                .unwrap_or_default()
        };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        match (request.method, request.path) {
            (Method::Get, "experiments/get-by-name") => self.experiment(&query("experiment_name")),
            (Method::Post, "experiments/create") => self.create_experiment(text("name")),
            (Method::Post, "experiments/restore") => {
                let id: usize = text("experiment_id").parse().unwrap();
                if self.experiments[id].collected {
                    self.experiments[id].name.push_str(" (collected)");
                    return Err(missing(format!("No Experiment with id={id} exists")));
                }
                self.experiments[id].deleted = false;
                Ok(json!({}))
            }
            (Method::Post, path) if path.starts_with("runs/") => self.runs(path, &body),
            (Method::Get, "runs/get") => {
                self.run(&query("run_id")).map(|(id, run)| json!({"run": run.json(id)}))
            }
            (Method::Get, "registered-models/get") => self.registered_model(&query("name")),
            (Method::Post, "registered-models/create") => {
                if self.models.contains_key(&text("name")) {
                    return Err((400, "RESOURCE_ALREADY_EXISTS", "Registered Model exists".into()));
                }
                self.models.insert(text("name"), Model::default());
                Ok(json!({}))
            }
            (Method::Post, "registered-models/set-tag") => {
                self.model(&text("name"))?.tags.insert(text("key"), text("value"));
                Ok(json!({}))
            }
            (Method::Delete, "registered-models/delete-tag") => {
                self.model(&text("name"))?.tags.remove(&text("key"));
                Ok(json!({}))
            }
            (Method::Post, "registered-models/alias") => {
                let (version, alias) = (text("version"), text("alias"));
                let model = self.model(&text("name"))?;
                version_of(model, &version)?;
                model.aliases.insert(alias, version);
                Ok(json!({}))
            }
            (Method::Delete, "registered-models/alias") => {
                let removed = self.model(&text("name"))?.aliases.remove(&text("alias"));
                removed.map(|_| json!({})).ok_or_else(|| missing("Registered model alias not found".into()))
            }
            (Method::Get, "model-versions/get") => {
                let (name, version) = (query("name"), query("version"));
                let model = self.model(&name)?;
                let number = version_of(model, &version)?;
                Ok(json!({"model_version": model.versions[&number]}))
            }
            (Method::Get, "model-versions/search") => Ok(self.search_versions(&query("filter"))),
            (Method::Post, "model-versions/create") => {
                let model = self.model(&text("name"))?;
                model.made += 1;
                let mut version = body.clone();
                version["version"] = json!(model.made.to_string());
                model.versions.insert(model.made, version.clone());
                Ok(json!({"model_version": version}))
            }
            (Method::Delete, "model-versions/delete") => {
                let model = self.model(&text("name"))?;
                let version = version_of(model, &text("version"))?;
                model.versions.remove(&version);
                model.aliases.retain(|_, named| *named != version.to_string());
                Ok(json!({}))
            }
            other => panic!("not an endpoint of MLflow that is known here: {other:?}"),
        }
    }

    fn experiment(&self, name: &str) -> Answer {
        let Some(id) = self.experiments.iter().position(|experiment| experiment.name == name) else {
            return Err(missing(format!("Could not find experiment with name '{name}'")));
        };
        let stage = if self.experiments[id].deleted { "deleted" } else { "active" };
        Ok(json!({"experiment": {"experiment_id": id.to_string(), "name": name, "lifecycle_stage": stage}}))
    }

    fn create_experiment(&mut self, name: String) -> Answer {
        if self.experiments.iter().any(|experiment| experiment.name == name) {
            return Err((400, "RESOURCE_ALREADY_EXISTS", format!("Experiment(name={name}) already exists.")));
        }
        self.experiments.push(Experiment { name, ..Experiment::default() });
        Ok(json!({"experiment_id": (self.experiments.len() - 1).to_string()}))
    }

    fn runs(&mut self, path: &str, body: &Value) -> Answer {
        if path == "runs/search" {
            return Ok(self.search_runs(body["filter"].as_str().unwrap()));
        }
        if path == "runs/create" {
            let experiment: usize = body["experiment_id"].as_str().unwrap().parse().unwrap();
            if self.experiments[experiment].deleted {
                return Err((400, "INVALID_PARAMETER_VALUE", "must be in the 'active' state".into()));
            }
            self.runs.push(Run {
                tags: body["tags"].as_array().unwrap().clone(),
                start_time: body["start_time"].as_i64().unwrap(),
                finished: false,
                deleted: false,
                params: BTreeMap::new(),
                metrics: Vec::new(),
                datasets: Vec::new(),
            });
            let id = self.runs.len() - 1;
            return Ok(json!({"run": self.runs[id].json(id)}));
        }
        let id = self.run(body["run_id"].as_str().unwrap())?.0;
        let run = &mut self.runs[id];
        match path {
            "runs/delete" => run.deleted = true,
            "runs/restore" => run.deleted = false,
            _ if run.deleted => {
                return Err((400, "INVALID_PARAMETER_VALUE", "must be in the 'active' state".into()));
            }
            "runs/update" => run.finished = body["status"] == "FINISHED",
            "runs/log-inputs" => keep_once(&mut run.datasets, &body["datasets"]),
            "runs/log-batch" => {
                keep_once(&mut run.metrics, &body["metrics"]);
                for param in body["params"].as_array().unwrap() {
                    let value = param["value"].as_str().unwrap().to_owned();
                    let old = run.params.insert(param["key"].as_str().unwrap().to_owned(), value.clone());
                    if old.is_some_and(|old| old != value) {
                        return Err((
                            400,
                            "INVALID_PARAMETER_VALUE",
                            "Changing param values is not allowed.".into(),
                        ));
                    }
                }
            }
            other => panic!("not an endpoint of MLflow that is known here: {other:?}"),
        }
        Ok(json!({}))
    }

    fn run(&self, id: &str) -> Result<(usize, &Run), (u16, &'static str, String)> {
        let number: usize = id.trim_start_matches("run").parse().unwrap_or(usize::MAX);
        let run = self.runs.get(number).ok_or_else(|| missing(format!("Run with id={id} not found")))?;
        Ok((number, run))
    }

    fn search_runs(&self, filter: &str) -> Value {
        let found = self.runs.iter().enumerate().filter(|(_, run)| !run.deleted && tagged(&run.tags, filter));
        let found: Vec<Value> = found.map(|(id, run)| run.json(id)).collect();
        if found.is_empty() { json!({}) } else { json!({"runs": found}) }
    }

    fn search_versions(&self, filter: &str) -> Value {
        let (name, filter) = filter.strip_prefix("name = '").unwrap().split_once("' and ").unwrap();
        let versions = self.models.get(name).into_iter().flat_map(|model| model.versions.values().rev());
        let found: Vec<&Value> =
            versions.filter(|version| tagged(version["tags"].as_array().unwrap(), filter)).collect();
        if found.is_empty() { json!({}) } else { json!({"model_versions": found}) }
    }

    fn registered_model(&mut self, name: &str) -> Answer {
        let model = self.model(name)?;
        let tags: Vec<Value> =
            model.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let aliases: Vec<Value> = model
            .aliases
            .iter()
            .map(|(alias, version)| json!({"alias": alias, "version": version}))
            .collect();
        Ok(json!({"registered_model": {"name": name, "tags": tags, "aliases": aliases}}))
    }

    fn model(&mut self, name: &str) -> Result<&mut Model, (u16, &'static str, String)> {
        self.models
            .get_mut(name)
            .ok_or_else(|| missing(format!("Registered Model with name={name} not found")))
    }
}

impl Run {
    fn json(&self, id: usize) -> Value {
        json!({"info": {
            "run_id": format!("run{id}"),
            "status": if self.finished { "FINISHED" } else { "RUNNING" },
            "start_time": self.start_time,
            "lifecycle_stage": if self.deleted { "deleted" } else { "active" },
        }})
    }
}

fn missing(message: String) -> (u16, &'static str, String) {
    (404, "RESOURCE_DOES_NOT_EXIST", message)
}

fn version_of(model: &Model, version: &str) -> Result<u64, (u16, &'static str, String)> {
    let number: u64 = version.parse().unwrap();
    let found = model.versions.contains_key(&number);
    found.then_some(number).ok_or_else(|| missing(format!("Model Version (version={version}) not found")))
}

fn tagged(tags: &[Value], filter: &str) -> bool {
    let (key, value) = filter.strip_prefix("tags.`").unwrap().split_once("` = '").unwrap();
    let value = value.strip_suffix('\'').unwrap();
    tags.iter().any(|tag| tag["key"] == key && tag["value"] == value)
}

fn keep_once(kept: &mut Vec<Value>, more: &Value) {
    for item in more.as_array().unwrap() {
        if !kept.contains(item) {
            kept.push(item.clone());
        }
    }
}
