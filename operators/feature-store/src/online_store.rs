//! The Redis of a FeatureStore, as pods of mlop reach it, and the online form of a FeatureView in it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt;
use mlop_api::{
    Digest,
    features::{FeatureContent, FeatureSnapshot, FeatureStore, FeatureView},
    labels,
    result::Activated,
    task::{Online, Redis, ViewKey},
};
use mlop_core::children::container;
use serde_json::json;

/// Port of Redis.
pub const PORT: i32 = 6379;

/// Name of the Redis of a FeatureStore: its StatefulSet, Service and NetworkPolicy.
pub fn redis_name(name: &str) -> String {
    format!("{name}-redis")
}

/// The online store of `feature_store` as a pod reaches it.
pub fn redis(feature_store: &FeatureStore) -> Redis {
    let connection = &feature_store.spec.redis;
    let address = match &connection.existing {
        Some(existing) => existing.address.clone(),
        None => format!(
            "{}.{}.svc:{PORT}",
            redis_name(&feature_store.name_any()),
            feature_store.namespace().unwrap_or_default()
        ),
    };
    let existing = connection.existing.as_ref();
    Redis {
        address,
        password: redis_secret(feature_store).is_some(),
        user: existing.and_then(|existing| existing.user.clone()),
        tls: existing.is_some_and(|existing| existing.tls),
        cluster: existing.is_some_and(|existing| existing.cluster),
    }
}

/// Name of the Secret with the online store's password.
pub fn redis_secret(feature_store: &FeatureStore) -> Option<&str> {
    let connection = &feature_store.spec.redis;
    let managed = connection.managed.as_ref().map(|managed| managed.secret_name.as_str());
    managed.or_else(|| connection.existing.as_ref().and_then(|existing| existing.secret_name.as_deref()))
}

/// Mounts the password of the online store into a container of mlop.
pub fn with_password(container: &mut Container, secret: Option<&str>) {
    if secret.is_some() {
        container.volume_mounts.get_or_insert_default().push(container::mount("redis", labels::REDIS_DIR));
    }
}

/// The online form of `snapshot` of `view` under `revision`. Its data time is its creation.
///
/// Its parameters hold the uid of the FeatureStore and the mark of its data: a store that was created again, or that came
/// back without its data, is empty.
pub fn online(
    view: &FeatureView,
    feature_store: &FeatureStore,
    snapshot: &FeatureSnapshot,
    revision: i64,
) -> Online {
    let (FeatureContent { sql: _, entities, timestamp }, ttl) = (&snapshot.spec.content, view.spec.ttl);
    let redis = redis(feature_store);
    let mut parameters = json!({
        "entities": entities,
        "timestamp": timestamp,
        "ttl": ttl,
        "redis": redis.address,
        "featureStore": feature_store.uid(),
    });
    let mark = feature_store.status.as_ref().and_then(|status| status.mark.as_ref());
    if let (Some(mark), Some(fields)) = (mark, parameters.as_object_mut()) {
        fields.insert("mark".to_owned(), json!(mark));
    }
    Online {
        view: view_key(view),
        entities: entities.clone(),
        timestamp: timestamp.clone(),
        ttl_seconds: ttl.map(|span| span.as_secs()),
        as_of: data_time(snapshot),
        redis,
        activation: Activated { revision, parameters: Digest::of_bytes(parameters.to_string().as_bytes()) },
    }
}

/// The time after which rows of `snapshot` are in the future.
pub fn data_time(snapshot: &FeatureSnapshot) -> Option<Timestamp> {
    snapshot.metadata.creation_timestamp.as_ref().map(|at| at.0)
}

/// The FeatureStores that `view` may be online in, as its status says.
pub fn online_in(view: &FeatureView) -> &[String] {
    view.status.as_ref().map(|status| status.online_in.as_slice()).unwrap_or_default()
}

/// The key of `view` in the online store.
pub fn view_key(view: &FeatureView) -> ViewKey {
    ViewKey { namespace: view.namespace().unwrap_or_default(), name: view.name_any() }
}
