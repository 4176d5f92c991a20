//! Shared by the tests: works, a connection that can be cut, and an MLflow in memory.

#![allow(dead_code, reason = "each test file uses its part")]

mod fake;
pub mod tls;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use fake::{Fake, State};

use mlop_api::{
    Digest, MEDIA_TREE,
    common::Metric,
    contract::Ancestor,
    result::{Activated, Failure, ResultDocument},
    task::{Alias, AliasWork, Input, Provenance, RegisterWork, Store, Subject},
};
use mlop_artifact::manifest::TreeSummary;
use mlop_registrar::{
    mlflow::Mlflow,
    register,
    transport::{Request, Response, Transport, Unanswered},
};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where the line is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The request never reaches the server.
    Request,
    /// The server acts, its answer is lost.
    Answer,
}

/// A line to the server that is cut at one request, for good: as if the pod were killed there.
pub struct Cut<T> {
    pub inner: T,
    pub left: AtomicUsize,
    pub at: At,
}

impl<T> Cut<T> {
    pub fn new(inner: T, after: usize, at: At) -> Self {
        Self { inner, left: AtomicUsize::new(after), at }
    }

    /// A line that is never cut.
    pub fn never(inner: T) -> Self {
        Self::new(inner, usize::MAX, At::Request)
    }

    /// Requests that could still be sent.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }
}

impl<T: Transport> Transport for Cut<T> {
    async fn send(&self, request: &Request) -> Result<Response, Unanswered> {
        let Ok(left) = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
        else {
            return Err(Unanswered("the line is cut".into()));
        };
        if left > 1 {
            return self.inner.send(request).await;
        }
        if self.at == At::Answer {
            self.inner.send(request).await?;
        }
        Err(Unanswered("the line is cut".into()))
    }
}

impl<T: Transport> Transport for &Cut<T> {
    async fn send(&self, request: &Request) -> Result<Response, Unanswered> {
        (**self).send(request).await
    }
}

pub fn deleted_experiment(name: &str) -> fake::Experiment {
    fake::Experiment { name: name.into(), deleted: true, collected: false }
}

pub fn subject() -> Subject {
    Subject {
        kind: "ModelVersion".into(),
        namespace: "demo".into(),
        name: "delay-0123456789ab".into(),
        uid: "uid-1".into(),
        attempt: 1,
    }
}

/// Registration of a model under names that contain `unique`.
pub fn register_work(tracking: &str, unique: &str) -> RegisterWork {
    let store = Store {
        name: "models".into(),
        endpoint: "http://s3".into(),
        region: "us-east-1".into(),
        bucket: "b".into(),
        prefix: String::new(),
        credentials: false,
        ..Store::default()
    };
    let digest = Digest::of_bytes(unique.as_bytes());
    RegisterWork {
        registry: "mlflow".into(),
        tracking: tracking.into(),
        credentials: false,
        source_uri: store.uri(&format!("trees/{}/", digest.hex())),
        model: Input { name: "model".into(), digest, media_type: MEDIA_TREE.into(), store },
        registered_model: format!("model {unique}"),
        experiment: format!("experiment {unique}"),
        metrics: vec![
            Metric::new("auc", 0.71),
            Metric::new("f1@5", 0.5),
            Metric::new("loss", f64::NAN),
            Metric::new("bound", f64::NEG_INFINITY),
        ],
        gates: Vec::new(),
        input_digest: Digest::of_bytes(format!("input {unique}").as_bytes()),
        alias: None,
    }
}

pub fn provenance() -> Provenance {
    Provenance {
        image: "train:1.4".into(),
        seed: 42,
        hyperparameters: [("learning_rate", "0.1"), ("max_iter", "200"), ("note", "")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        inputs: [("features".to_owned(), Digest::of_bytes(b"features"))].into(),
        ancestors: vec![Ancestor {
            api_group: mlop_api::GROUP.into(),
            kind: "Dataset".into(),
            name: "flights".into(),
            digest: Digest::of_bytes(b"flights"),
            root: true,
            input_digest: None,
            produced_at: None,
        }],
        ..Provenance::default()
    }
}

pub async fn register<T: Transport>(line: T, work: &RegisterWork) -> Result<ResultDocument, Failure> {
    register_tree(line, work, &TreeSummary { provenance: provenance(), ..TreeSummary::default() }).await
}

pub async fn register_tree<T: Transport>(
    line: T,
    work: &RegisterWork,
    tree: &TreeSummary,
) -> Result<ResultDocument, Failure> {
    register::register(&Mlflow::new(line), &subject(), work, tree, || 1_795_234_596_176).await
}

pub fn alias_work(model: &str, version: &str, revision: i64) -> AliasWork {
    AliasWork {
        tracking: "http://mlflow".into(),
        credentials: false,
        registered_model: model.into(),
        version: version.into(),
        run: "delay-0123456789ab".into(),
        check: false,
        register: None,
        alias: Alias {
            name: "champion".into(),
            namespace: "demo".into(),
            owner: "uid".into(),
            activation: Activated { revision, parameters: Digest::of_bytes(b"champion") },
        },
    }
}
