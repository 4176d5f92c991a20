//! The S3 of the test cluster, accessed from this machine.

use crate::cluster::Cluster;
use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _, aws::AmazonS3, aws::AmazonS3Builder, path::Path};

/// The namespace of the test cluster's store.
const NAMESPACE: &str = "storage";
const SERVICE: &str = "minio";
const ACCESS_KEY: &str = "mlop-test";
const SECRET_KEY: &str = "mlop-test-secret";

/// One bucket.
pub struct Bucket {
    client: AmazonS3,
}

impl Bucket {
    /// The bucket `raw` or `mlop` of the test cluster.
    ///
    /// # Errors
    /// The cluster has no S3.
    pub async fn open(cluster: &Cluster, name: &str) -> Result<Self> {
        let endpoint = cluster.url(NAMESPACE, SERVICE, None).await?;
        let client = AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_bucket_name(name)
            .with_region("us-east-1")
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .build()?;
        Ok(Self { client })
    }

    /// Creates or replaces an object.
    ///
    /// # Errors
    /// The store refuses the request.
    pub async fn put(&self, key: &str, content: impl Into<object_store::PutPayload>) -> Result<()> {
        self.client.put(&Path::from(key), content.into()).await.with_context(|| format!("writing {key}"))?;
        Ok(())
    }

    /// Reads an object.
    ///
    /// # Errors
    /// The store refuses the request, or the object does not exist.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let found = self.client.get(&Path::from(key)).await.with_context(|| format!("reading {key}"))?;
        Ok(found.bytes().await?.to_vec())
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// The store refuses the request.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.client.delete(&Path::from(key)).await.with_context(|| format!("deleting {key}"))
    }

    /// The keys below a prefix.
    ///
    /// # Errors
    /// The store refuses the request.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.client.list(Some(&Path::from(prefix))).map_ok(|object| object.location.to_string());
        listed.try_collect().await.with_context(|| format!("listing {prefix}"))
    }
}
