//! The namespace of one test or of the demo.

use crate::{audit_checks::contains_secret, cluster::Cluster, s3::Bucket, state::Kind, wait};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use std::{env, time::Duration};

/// The time limit for the deletion of a namespace.
const DELETION_LIMIT: Duration = Duration::from_secs(180);

/// The label with the Pod Security level that a namespace enforces.
pub const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// A temporary namespace, with its own prefix in both buckets.
pub struct TestNamespace {
    pub cluster: Cluster,
    pub name: String,
    pub raw: Bucket,
    pub store: Bucket,
}

impl TestNamespace {
    /// Runs `test` in a new namespace `e2e-<name>`. Afterwards no log, status or Event in it may contain the value of a
    /// Secret. After a failure the state of the namespace is printed. If `MLOP_KEEP` is set, the namespace is kept.
    ///
    /// # Errors
    /// The error of `test` or of the setup.
    pub async fn run(name: &str, test: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let ns = Self::open(&format!("e2e-{name}")).await?;
        let outcome = match test(&ns).await {
            Ok(()) => ns.check_secrets().await,
            failed => failed,
        };
        if outcome.is_err() {
            eprintln!("{}", ns.diagnosis().await);
        }
        if env::var_os("MLOP_KEEP").is_none() {
            ns.namespaces().delete(&ns.name, &DeleteParams::background()).await?;
        }
        outcome
    }

    /// Creates the namespace, and deletes an earlier one with its objects in the buckets.
    ///
    /// # Errors
    /// The cluster does not respond, or the earlier namespace is not deleted in time.
    pub async fn open(namespace: &str) -> Result<Self> {
        let cluster = Cluster::connect().await?;
        let ns = Self {
            name: namespace.to_owned(),
            raw: Bucket::open(&cluster, "raw").await?,
            store: Bucket::open(&cluster, "mlop").await?,
            cluster,
        };
        ns.prepare().await?;
        Ok(ns)
    }

    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client.clone(), &self.name)
    }

    /// Applies manifests with kubectl. `@NAMESPACE@` in them is replaced by the name of this namespace.
    ///
    /// # Errors
    /// kubectl fails.
    pub async fn apply(&self, manifests: &[&str]) -> Result<()> {
        self.kubectl(&["apply", "-f", "-"], &self.fill(manifests)).await.map(drop)
    }

    /// Runs kubectl in this namespace.
    ///
    /// # Errors
    /// kubectl fails.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        self.cluster.kubectl_with(&[&["-n", &self.name], args].concat(), input).await
    }

    /// Joins manifests into one file and replaces `@NAMESPACE@`.
    pub fn fill(&self, manifests: &[&str]) -> String {
        manifests.join("\n---\n").replace("@NAMESPACE@", &self.name)
    }

    /// Changes an object as `kubectl patch --type merge` does.
    ///
    /// # Errors
    /// The API server refuses the patch.
    pub async fn patch<K: Kind>(&self, name: &str, change: &Value) -> Result<K> {
        let patched = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        patched.with_context(|| format!("patching {} {name}", K::kind(&())))
    }

    /// Uploads a source file to the prefix of this namespace's ObjectStore `raw`.
    ///
    /// # Errors
    /// The upload fails.
    pub async fn upload(&self, key: &str, content: &str) -> Result<()> {
        self.raw.put(&format!("{}/{key}", self.name), content.to_owned()).await
    }

    /// Waits until `reached` accepts the object.
    ///
    /// # Errors
    /// `seconds` have passed; with the object's conditions.
    pub async fn until<K: Kind>(
        &self,
        name: &str,
        what: &str,
        seconds: u64,
        reached: impl FnMut(&K) -> bool,
    ) -> Result<K> {
        wait::until(&self.api(), name, what, Duration::from_secs(seconds), reached).await
    }

    async fn prepare(&self) -> Result<()> {
        let namespaces = self.namespaces();
        if namespaces.get_opt(&self.name).await?.is_some() {
            println!("deleting the namespace {} of an earlier run", self.name);
            match namespaces.delete(&self.name, &DeleteParams::background()).await {
                Ok(_) => {}
                // It ends already.
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let name = format!("metadata.name={}", self.name);
        wait::until_gone(
            &namespaces,
            watcher::Config::default().fields(&name),
            "the namespace of an earlier run",
            DELETION_LIMIT,
        )
        .await?;
        for bucket in [&self.raw, &self.store] {
            for key in bucket.keys(&self.name).await? {
                bucket.delete(&key).await?;
            }
        }
        let labels = json!({ENFORCE: "restricted"});
        let namespace = serde_json::from_value(json!({"metadata": {"name": self.name, "labels": labels}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    /// Checks that no object, Event or log contains the value of a Secret.
    async fn check_secrets(&self) -> Result<()> {
        let commands: [&[&str]; 2] = [
            // kubectl cannot print every text of a user as YAML.
            &["get", "mlop-all,pods,jobs,deployments,statefulsets,events", "-o", "json"],
            &["logs", "--selector=mlop.dev/operator", "--all-containers", "--tail=-1", "--ignore-errors"],
        ];
        for args in commands {
            let output = self.kubectl(args, "").await?;
            let revealing: Vec<&str> = output.lines().filter(|line| contains_secret(line)).collect();
            let command = args.join(" ");
            ensure!(revealing.is_empty(), "kubectl {command} reveals a Secret:\n{}", revealing.join("\n"));
        }
        Ok(())
    }

    /// The state of the namespace for the analysis of a failure: objects, pods, Events and the ends of all logs.
    async fn diagnosis(&self) -> String {
        let commands: [&[&str]; 4] = [
            &["get", "mlop-all", "-o", "wide"],
            &["get", "pods,jobs,deployments,statefulsets", "-o", "wide"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &[
                "logs",
                "--selector=mlop.dev/operator",
                "--all-containers",
                "--prefix",
                "--tail=20",
                "--ignore-errors",
            ],
        ];
        let mut diagnosis = String::new();
        for args in commands {
            let output = self.kubectl(args, "").await.unwrap_or_else(|error| format!("{error:#}"));
            diagnosis += &format!("--- kubectl -n {} {}\n{output}\n", self.name, args.join(" "));
        }
        diagnosis
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.cluster.client.clone())
    }
}
