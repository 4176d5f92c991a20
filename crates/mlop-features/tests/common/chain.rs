//! The chain from a CSV file to the online API, with the objects that users write.

use super::{
    Scratch,
    redis::TestRedis,
    store,
    view::{self, NAMESPACE},
};
use jiff::Timestamp;
use mlop_api::{
    Digest,
    dataset::{Column, Dataset, DatasetContent},
    features::{FeatureContent, FeatureView},
    result::{Activated, Failure, ResultDocument},
    task::{Input, Online, ScanWork, SnapshotWork, VersionWork, ViewKey},
};
use mlop_artifact::store::ObjectStoreHandle;
use serde::de::DeserializeOwned;
use serde_json::Value;

const MEMORY: u64 = 256 << 20;

/// The object of `kind` and `name` in the YAML `text`.
pub fn object<T: DeserializeOwned>(text: &str, kind: &str, name: &str) -> T {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let found = documents.into_iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    serde_json::from_value(found.unwrap_or_else(|| panic!("no {kind} {name}"))).unwrap()
}

/// A store with the tables of one Dataset.
pub struct Chain {
    pub store: ObjectStoreHandle,
    dataset: Dataset,
}

impl Chain {
    pub fn new(dataset: Dataset) -> Self {
        Self { store: store(), dataset }
    }

    pub fn columns(&mut self) -> &mut Vec<Column> {
        &mut self.dataset.spec.columns
    }

    /// The version of the Dataset while `csv` is all of its source.
    pub async fn version(&self, csv: &[u8]) -> Result<ResultDocument, Failure> {
        let spec = &self.dataset.spec;
        let prefix = spec.source.objects.as_ref().unwrap().prefix.clone();
        let source = ObjectStoreHandle::in_memory("raw");
        source.create(&format!("{prefix}x.csv"), csv.to_vec()).await.unwrap();
        let scan = ScanWork {
            source: source.store().clone(),
            prefix,
            include: Vec::new(),
            output: self.store.store().clone(),
        };
        let listing = mlop_dataset::scan::scan(&source, &self.store, &scan).await?.digest.unwrap();
        let work = VersionWork {
            source: source.store().clone(),
            listing,
            content: DatasetContent::from(spec),
            previous_rows: None,
            output: self.store.store().clone(),
        };
        mlop_dataset::version::version(&source, &self.store, work, now()).await
    }

    /// The snapshot of `view` over the version `table`.
    pub async fn snapshot(&self, view: &FeatureView, table: &Digest) -> Result<ResultDocument, Failure> {
        let work = SnapshotWork {
            inputs: vec![Input {
                name: view.spec.inputs[0].name.clone(),
                digest: table.clone(),
                media_type: mlop_api::MEDIA_TABLE.to_owned(),
                store: self.store.store().clone(),
            }],
            content: FeatureContent::from(&view.spec),
            output: self.store.store().clone(),
            memory_bytes: MEMORY,
            as_of: None,
            online: None,
            active: None,
        };
        let scratch = Scratch::new();
        mlop_features::snapshot::run(&work, &self.store, |_| Ok(self.store.clone()), scratch.path()).await
    }

    /// Makes the snapshot of `view` over `csv` and serves it as `revision`; gives the digest of its table.
    pub async fn serve(&self, redis: &TestRedis, view: &FeatureView, csv: &[u8], revision: i64) -> Digest {
        let table = self.version(csv).await.unwrap().digest.unwrap();
        let table = self.snapshot(view, &table).await.unwrap().digest.unwrap();
        self.activate(redis, &online(view, revision), &table).await;
        table
    }

    /// Serves the table `digest` as `online` says.
    pub async fn activate(&self, redis: &TestRedis, online: &Online, digest: &Digest) -> ResultDocument {
        view::run(redis, &self.store, digest, online).await.unwrap()
    }
}

/// The time of all steps.
pub fn now() -> Timestamp {
    "2026-01-15T00:00:00Z".parse().unwrap()
}

/// `view` as it is served under `revision`, without a data time.
pub fn online(view: &FeatureView, revision: i64) -> Online {
    let (name, spec) = (view.metadata.name.clone().unwrap(), &view.spec);
    Online {
        view: ViewKey { namespace: NAMESPACE.to_owned(), name },
        entities: spec.entities.clone(),
        timestamp: spec.timestamp.clone(),
        ttl_seconds: spec.ttl.map(|ttl| ttl.as_secs()),
        as_of: None,
        redis: view::elsewhere(),
        activation: Activated { revision, parameters: Digest::of_bytes(b"a case") },
    }
}
