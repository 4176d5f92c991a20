//! `Dataset`: an intent whose only input is the listing that a scan of its source made.

use crate::{dataset_scan::Scans, freshness, object_store::Stores};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use mlop_api::{
    common::{Flow, NamedInput},
    dataset::{Dataset, DatasetContent, DatasetVersion, DatasetVersionSpec, LISTING, ObjectStore},
    run::{Execution, Lineage},
    status::IntentStatus,
};
use mlop_core::{
    Blocked, Cache, Plan,
    inputs::ReadyInput,
    intent::{Identity, Intent, Observed},
};
use std::sync::Arc;

pub struct DatasetIntent {
    pub stores: Arc<Cache<ObjectStore>>,
}

impl Intent for DatasetIntent {
    type Resource = Dataset;
    type Run = DatasetVersion;
    type Related = Stores;

    fn observe(&self, object: &Dataset, _: &[Arc<DatasetVersion>]) -> Stores {
        self.stores.named(&object.namespace().unwrap_or_default(), store_names(object))
    }

    fn flow(object: &Dataset) -> &dyn Flow {
        &object.spec
    }

    fn inputs(_: &Dataset) -> Vec<NamedInput> {
        Vec::new()
    }

    fn identity(observed: &Observed<Self>) -> Result<Identity<DatasetContent>, Blocked> {
        let spec = &observed.object.spec;
        let scans = scans(observed);
        let listing = scans.newest().ok_or_else(|| scans.hold())?;
        Ok(Identity {
            content: DatasetContent::from(spec),
            store: Some(spec.store.clone()),
            digests: vec![(LISTING.to_owned(), listing)],
            since: scans.newest_at(),
        })
    }

    fn execution(object: &Dataset) -> Execution {
        Execution::of(&object.spec.resources, &object.spec.retry, Some(object.spec.deadline))
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
            listing: scans(observed).newest().unwrap_or_else(|| lineage.input_digest.clone()),
            lineage,
            objects: observed.object.spec.source.objects.clone(),
            store: observed.object.spec.store.clone(),
            previous_rows: rows_in_use(&observed.object),
            execution,
        };
        DatasetVersion { metadata: meta, spec, status: None }
    }

    fn amend(observed: &Observed<Self>, plan: Plan<IntentStatus>, now: Timestamp) -> Plan<IntentStatus> {
        scans(observed).add(freshness::judge(&observed.object, plan, now), now)
    }
}

fn scans(observed: &Observed<DatasetIntent>) -> Scans<'_> {
    Scans {
        dataset: &observed.object,
        pods: &observed.pods,
        stores: &observed.related,
        profile: &observed.profile,
        operator: &observed.operator,
        worker_image: &observed.worker_image,
    }
}

/// Names of the ObjectStores that `dataset` reads and writes.
pub fn store_names(dataset: &Dataset) -> impl Iterator<Item = &str> {
    let source = dataset.spec.source.objects.as_ref().map(|objects| objects.store.as_str());
    [dataset.spec.store.as_str()].into_iter().chain(source)
}

/// Rows of the version that is in use.
fn rows_in_use(dataset: &Dataset) -> Option<i64> {
    let status = dataset.status.as_ref().filter(|status| status.artifact.is_some())?;
    status.metrics.iter().find(|metric| metric.name == "rows").map(|metric| metric.number() as i64)
}
