//! `Dataset`: an intent whose only input is what a scan of its source saw.

use crate::scan;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use mlop_api::{
    Reason,
    common::{Flow, NamedInput},
    contract::condition_type,
    dataset::{Dataset, DatasetContent, DatasetVersion, DatasetVersionSpec, LISTING, ObjectStore},
    run::{Execution, Lineage},
    status::IntentStatus,
};
use mlop_core::{
    Blocked, Cache, Plan, condition,
    inputs::ReadyInput,
    intent::{Identity, Intent, Observed},
};
use std::{collections::BTreeMap, sync::Arc};

/// The ObjectStores of the namespace by name.
pub type Stores = BTreeMap<String, Arc<ObjectStore>>;

pub struct DatasetIntent {
    pub stores: Arc<Cache<ObjectStore>>,
}

impl Intent for DatasetIntent {
    type Resource = Dataset;
    type Run = DatasetVersion;
    type Related = Stores;

    fn observe(&self, object: &Dataset) -> Stores {
        let stores = self.stores.select(&object.namespace().unwrap_or_default(), |_| true);
        stores.into_iter().map(|store| (store.name_any(), store)).collect()
    }

    fn flow(object: &Dataset) -> &dyn Flow {
        &object.spec
    }

    fn inputs(_: &Dataset) -> Vec<NamedInput> {
        Vec::new()
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity<DatasetContent>, Blocked> {
        let spec = &observed.object.spec;
        for name in [Some(&spec.store), spec.source.objects.as_ref().map(|objects| &objects.store)]
            .into_iter()
            .flatten()
        {
            usable_store(&observed.related, name)?;
        }
        let listing = scan::newest(observed).ok_or_else(|| scan::hold(observed))?;
        Ok(Identity {
            content: DatasetContent::from(spec),
            store: Some(spec.store.clone()),
            digests: vec![(LISTING.to_owned(), listing)],
            since: scan::newest_at(observed),
        })
    }

    fn execution(object: &Dataset) -> Execution {
        let spec = &object.spec;
        Execution {
            resources: spec.resources.clone(),
            retry: spec.retry.clone(),
            deadline: Some(spec.deadline),
            ..Execution::default()
        }
    }

    fn run(
        observed: &Observed<Self>,
        meta: ObjectMeta,
        identity: &Identity<DatasetContent>,
        lineage: Lineage,
        execution: Execution,
        _: &[ReadyInput],
    ) -> DatasetVersion {
        let spec = DatasetVersionSpec {
            content: identity.content.clone(),
            listing: scan::newest(observed).unwrap_or_else(|| lineage.input_digest.clone()),
            lineage,
            objects: observed.object.spec.source.objects.clone(),
            store: observed.object.spec.store.clone(),
            previous_rows: rows_in_use(&observed.object),
            execution,
        };
        DatasetVersion { metadata: meta, spec, status: None }
    }

    fn amend(observed: &Observed<Self>, plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        scan::add(observed, plan, now)
    }
}

/// Whether `dataset` reads or writes `store`.
pub fn uses_store(dataset: &Dataset, store: &ObjectStore) -> bool {
    let source = dataset.spec.source.objects.as_ref().map(|objects| &objects.store);
    [Some(&dataset.spec.store), source].into_iter().flatten().any(|name| *name == store.name_any())
}

/// Rows of the version that is in use.
fn rows_in_use(dataset: &Dataset) -> Option<i64> {
    let status = dataset.status.as_ref().filter(|status| status.artifact.is_some())?;
    status.metrics.iter().find(|metric| metric.name == "rows").map(|metric| metric.number() as i64)
}

/// An ObjectStore that is not known to be broken.
pub fn usable_store<'a>(stores: &'a Stores, name: &str) -> Result<&'a ObjectStore, Blocked> {
    let hold = |message| Blocked { reason: Reason::ConnectionNotReady, message, stalled: false };
    let store = stores.get(name).ok_or_else(|| hold(format!("ObjectStore {name} does not exist")))?;
    let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match condition::get(conditions, condition_type::READY) {
        Some(c) if c.status == "False" => {
            Err(hold(format!("ObjectStore {name} is not ready: {}: {}", c.reason, c.message)))
        }
        _ => Ok(store),
    }
}
