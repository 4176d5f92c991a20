//! A namespace of the real API server with its own five operators, and the users of its pipeline.

use crate::{
    kubelet,
    processes::{self, Ended, Launch},
    proxy::{self, Real},
};
use anyhow::{Context as _, Result, bail};
use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use mlop_api::{contract::condition_type, dataset::Dataset, deployment::ModelDeployment, labels};
use mlop_e2e::{
    control_plane::{ControlPlane, KINDS},
    state::Kind as _,
    wait,
};
use mlop_faults::{
    check::end_state::Objects,
    cluster::{ExternalSystems, OPERATORS, work},
    inject::{Command, Connection, Injector},
    plan::{Injection, Point},
    scenario::PIPELINE,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// The time limit of a goal. It includes a fault of 20 s and the backoff after it.
const GOAL_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// One namespace. Dropping it ends the operators and keeps the objects.
pub struct OperatorNamespace {
    client: Client,
    name: String,
    /// The directory of the processes' logs.
    pub logs: PathBuf,
    pub injector: Arc<Injector>,
    outside: Arc<Mutex<ExternalSystems>>,
    ended: Ended,
    tasks: JoinSet<()>,
}

impl OperatorNamespace {
    /// Creates the namespace, and starts the operators in it under faults.
    pub async fn start(
        plane: &ControlPlane,
        programs: &Path,
        namespace: &str,
        faults: Vec<Injection>,
    ) -> Result<Self> {
        let client = plane.client.clone();
        let logs = plane.directory().join(namespace);
        fs::create_dir_all(&logs)?;
        let metadata = ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &object).await?;

        let (commands, orders) = mpsc::unbounded_channel();
        let injector = Injector::new(Real::new(client.clone()), faults, commands);
        let mut namespace = Self {
            client,
            name: namespace.to_owned(),
            logs,
            injector,
            outside: Arc::default(),
            ended: Ended::default(),
            tasks: JoinSet::new(),
        };
        namespace.run_pods();
        namespace.run_operators(programs, orders).await?;
        Ok(namespace)
    }

    fn run_pods(&mut self) {
        let (outside, injector) = (Arc::clone(&self.outside), Arc::clone(&self.injector));
        let script = move |pod: &_| work(pod, &mut lock(&outside), &injector);
        self.tasks.spawn(kubelet::run(self.client.clone(), self.name.clone(), script));
    }

    async fn run_operators(
        &mut self,
        programs: &Path,
        mut orders: mpsc::UnboundedReceiver<Command>,
    ) -> Result<()> {
        let mut kills = BTreeMap::new();
        for operator in OPERATORS {
            let injector = Arc::clone(&self.injector);
            let (operator_name, namespace) = (operator.name.to_owned(), self.name.clone());
            let connection = Connection { operator: operator_name, namespace, injector };
            let port = proxy::serve(connection, &mut self.tasks).await?;
            let launch = Launch::new(operator, programs, &self.logs, &self.name, port)?;
            kills.insert(operator.name, processes::run(launch, &self.ended, &mut self.tasks));
        }
        let (client, namespace) = (self.client.clone(), self.name.clone());
        self.tasks.spawn(async move {
            while let Some(order) = orders.recv().await {
                let victims: Vec<_> = match &order {
                    Command::Crash(by) => kills.get(by.as_str()).into_iter().collect(),
                    Command::AllCrash => kills.values().collect(),
                    Command::Recreate(object) => {
                        // The object can exist already. The check of the end state covers that case.
                        let _ = create(&client, &namespace, object).await;
                        continue;
                    }
                    other => unreachable!("{other:?} is not possible on a real server"),
                };
                for kill in victims {
                    // The receiver is gone if the operator ended by itself, which the verdict reports.
                    let _ = kill.send(());
                }
            }
        });
        Ok(())
    }

    /// Acts as the users until the last goal: a served model of the pipeline, then a second one of new data.
    pub async fn play(&self) -> Result<()> {
        for object in pipeline()? {
            create(&self.client, &self.name, &object).await?;
        }
        self.served("1").await?;
        lock(&self.outside).bucket = "february".to_owned();
        let ask = json!({"metadata": {"annotations": {labels::REFRESH_REQUESTED_AT: "february"}}});
        let datasets: Api<Dataset> = Api::namespaced(self.client.clone(), &self.name);
        datasets.patch("flights", &PatchParams::default(), &Patch::Merge(ask)).await?;
        self.served("2").await
    }

    /// Waits until the last goal is reached, all faults are over, no object is `Reconciling`, and operators have written
    /// nothing for `quiet`.
    ///
    /// # Errors
    /// The time limit has passed; with the condition that does not hold.
    pub async fn settle(&self, quiet: Duration) -> Result<()> {
        loop {
            self.served("2").await?;
            self.reconciled().await?;
            self.quiet(quiet).await?;
            match self.injector.last_fault() {
                // The end of a fault can undo the goal, because users create deleted objects again.
                Some(over) if Instant::now() < over + quiet => sleep_until(over).await,
                _ => return Ok(()),
            }
        }
    }

    async fn served(&self, version: &str) -> Result<()> {
        let is_served = |deployment: &ModelDeployment| {
            let serving = deployment.status.as_ref().and_then(|status| status.serving.first());
            deployment.is_ready()
                && deployment.has_status(condition_type::UP_TO_DATE, "True")
                && serving.is_some_and(|serving| serving.version.as_deref() == Some(version))
        };
        let api = Api::namespaced(self.client.clone(), &self.name);
        let what = format!("serving version {version}");
        wait::until(&api, "delay", &what, GOAL_LIMIT, is_served).await.map(drop)
    }

    /// Waits until no object is `Reconciling`, because a backoff can be longer than the quiet time.
    async fn reconciled(&self) -> Result<()> {
        let end = Instant::now() + GOAL_LIMIT;
        while let Some(name) = self.objects().await?.reconciling() {
            if Instant::now() > end {
                bail!("{name} is still Reconciling after {} s", GOAL_LIMIT.as_secs());
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits until operators have written nothing for `lasting`.
    ///
    /// # Errors
    /// The time limit has passed; with the last write.
    async fn quiet(&self, lasting: Duration) -> Result<()> {
        let end = Instant::now() + GOAL_LIMIT;
        let (mut writes, mut since) = (self.writes(), Instant::now());
        while since.elapsed() < lasting {
            if Instant::now() > end {
                let last = self.injector.points().into_iter().rfind(is_write);
                bail!("still written after {} s: {last:?}", GOAL_LIMIT.as_secs());
            }
            sleep(POLL_INTERVAL).await;
            let now = self.writes();
            if now != writes {
                (writes, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// The number of write requests of operators.
    pub fn writes(&self) -> usize {
        self.injector.points().iter().filter(|point| is_write(point)).count()
    }

    /// The state of the external systems.
    pub fn outside(&self) -> MutexGuard<'_, ExternalSystems> {
        lock(&self.outside)
    }

    /// The operators that ended by themselves, with the reason.
    pub fn ended(&self) -> Vec<String> {
        lock(&self.ended).clone()
    }

    /// The current objects of mlop's kinds in the namespace.
    pub async fn objects(&self) -> Result<Snapshot> {
        let mut lists = BTreeMap::new();
        for crd in KINDS.iter().filter(|crd| crd.spec.scope == "Namespaced") {
            let (group, names) = (&crd.spec.group, &crd.spec.names);
            let path = format!("/apis/{group}/v1alpha1/namespaces/{}/{}", self.name, names.plural);
            let mut list: Value = self.client.request(Request::get(path).body(Vec::new())?).await?;
            let mut items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            // The items of a list omit kind and API version.
            for item in &mut items {
                item["kind"] = names.kind.clone().into();
                item["apiVersion"] = format!("{group}/v1alpha1").into();
            }
            lists.insert(names.kind.clone(), items);
        }
        Ok(Snapshot { lists })
    }
}

pub fn is_write(point: &Point) -> bool {
    matches!(point, Point::Write(_))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The simulator's pipeline, made independent of the namespace and the time.
fn pipeline() -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in PIPELINE.split("\n---\n") {
        let mut object: Value = serde_saphyr::from_str(document).context("pipeline")?;
        match object["kind"].as_str() {
            // The default name contains the namespace.
            Some("Model") => object["spec"]["registeredModel"] = "delay".into(),
            // With this interval no scan is due during a test.
            Some("Dataset") => object["spec"]["refresh"]["interval"] = "8760h".into(),
            _ => {}
        }
        objects.push(object);
    }
    Ok(objects)
}

async fn create(client: &Client, namespace: &str, object: &Value) -> Result<()> {
    let kind = &object["kind"];
    let crd = KINDS.iter().find(|crd| kind == crd.spec.names.kind.as_str());
    let crd = crd.with_context(|| format!("{kind} is not a kind of mlop"))?;
    let (group, plural) = (crd.spec.group.clone(), crd.spec.names.plural.clone());
    let resource = ApiResource {
        api_version: format!("{group}/v1alpha1"),
        kind: crd.spec.names.kind.clone(),
        version: "v1alpha1".to_owned(),
        group,
        plural,
    };
    let meta = &object["metadata"];
    let object = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
        "metadata": {"name": meta["name"], "annotations": meta["annotations"]},
    });
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}

/// The objects of a namespace, by kind.
pub struct Snapshot {
    lists: BTreeMap<String, Vec<Value>>,
}

impl Snapshot {
    /// The kind and name of an object that is `Reconciling`.
    fn reconciling(&self) -> Option<String> {
        let is_reconciling = |it: &Value| it["type"] == condition_type::RECONCILING && it["status"] == "True";
        let of = |item: &&Value| {
            item["status"]["conditions"]
                .as_array()
                .is_some_and(|conditions| conditions.iter().any(is_reconciling))
        };
        let found = self.lists.values().flatten().find(of)?;
        Some(format!("{} {}", found["kind"].as_str()?, found["metadata"]["name"].as_str()?))
    }
}

impl Objects for Snapshot {
    fn list<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K> {
        let items = self.lists.get(K::kind(&()).as_ref()).map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| K::deserialize(item).ok()).collect()
    }
}
