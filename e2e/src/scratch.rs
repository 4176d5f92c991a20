//! A namespace for one test, or for the demo.

use crate::{cluster::Cluster, conduct::gives_away, s3::Bucket, state::Kind, wait};
use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use std::{env, time::Duration};

/// Longest time until a namespace is gone.
const GONE: Duration = Duration::from_secs(180);

/// A namespace of its own, with folders of its own in both buckets.
pub struct Scratch {
    pub cluster: Cluster,
    pub namespace: String,
    pub raw: Bucket,
    pub store: Bucket,
}

impl Scratch {
    /// Runs `test` in a new namespace `e2e-<name>`, after which no log, status or Event there may hold the value of a
    /// Secret. If it fails, what is in the namespace is printed first. With `MLOP_KEEP` set the namespace stays.
    ///
    /// # Errors
    /// What `test` returned, or what kept it from starting.
    pub async fn run(name: &str, test: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let scratch = Self::open(&format!("e2e-{name}")).await?;
        let outcome = match test(&scratch).await {
            Ok(()) => scratch.keeps_its_secrets().await,
            failed => failed,
        };
        if outcome.is_err() {
            eprintln!("{}", scratch.picture().await);
        }
        if env::var_os("MLOP_KEEP").is_none() {
            scratch.namespaces().delete(&scratch.namespace, &DeleteParams::background()).await?;
        }
        outcome
    }

    /// The namespace, new and empty, and its folders, empty too.
    ///
    /// # Errors
    /// When no cluster answers, or what was there does not go away.
    pub async fn open(namespace: &str) -> Result<Self> {
        let cluster = Cluster::connect().await?;
        let scratch = Self {
            namespace: namespace.to_owned(),
            raw: Bucket::open(&cluster, "raw").await?,
            store: Bucket::open(&cluster, "mlop").await?,
            cluster,
        };
        scratch.prepare().await?;
        Ok(scratch)
    }

    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.cluster.client.clone(), &self.namespace)
    }

    /// Applies manifests as a user does; `@NAMESPACE@` in them is this namespace.
    ///
    /// # Errors
    /// As kubectl says.
    pub async fn apply(&self, manifests: &[&str]) -> Result<()> {
        self.kubectl(&["apply", "-f", "-"], &self.filled(manifests)).await.map(drop)
    }

    /// Runs kubectl in this namespace.
    ///
    /// # Errors
    /// As kubectl says.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        self.cluster.kubectl_with(&[&["-n", &self.namespace], args].concat(), input).await
    }

    /// Manifests in one file, with `@NAMESPACE@` filled in.
    pub fn filled(&self, manifests: &[&str]) -> String {
        manifests.join("\n---\n").replace("@NAMESPACE@", &self.namespace)
    }

    /// Changes an object as `kubectl patch --type merge` does.
    ///
    /// # Errors
    /// As the API server says.
    pub async fn patch<K: Kind>(&self, name: &str, change: &Value) -> Result<K> {
        let patched = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        patched.with_context(|| format!("patching {} {name}", K::kind(&())))
    }

    /// Puts a source file where this namespace's ObjectStore `raw` finds it.
    ///
    /// # Errors
    /// As the store says.
    pub async fn arrive(&self, key: &str, content: &str) -> Result<()> {
        self.raw.put(&format!("{}/{key}", self.namespace), content.to_owned()).await
    }

    /// Waits until the object is as `reached` wants it.
    ///
    /// # Errors
    /// After `seconds`, with the object's state.
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
        if namespaces.get_opt(&self.namespace).await?.is_some() {
            println!("removing the namespace {} of an earlier run", self.namespace);
            namespaces.delete(&self.namespace, &DeleteParams::background()).await?;
        }
        let name = format!("metadata.name={}", self.namespace);
        wait::gone(
            &namespaces,
            watcher::Config::default().fields(&name),
            "the namespace of an earlier run",
            GONE,
        )
        .await?;
        for bucket in [&self.raw, &self.store] {
            for key in bucket.keys(&self.namespace).await? {
                bucket.delete(&key).await?;
            }
        }
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace =
            serde_json::from_value(json!({"metadata": {"name": self.namespace, "labels": labels}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    async fn keeps_its_secrets(&self) -> Result<()> {
        let looks: [&[&str]; 2] = [
            &["get", "mlop-all,pods,jobs,deployments,statefulsets,events", "-o", "yaml"],
            &["logs", "--selector=mlop.dev/operator", "--all-containers", "--tail=-1", "--ignore-errors"],
        ];
        for args in looks {
            let seen = self.kubectl(args, "").await?;
            let given_away: Vec<&str> = seen.lines().filter(|line| gives_away(line)).collect();
            let command = args.join(" ");
            ensure!(given_away.is_empty(), "kubectl {command} shows a Secret:\n{}", given_away.join("\n"));
        }
        Ok(())
    }

    /// What a person would look at first: objects, pods, events and the last lines of every log.
    async fn picture(&self) -> String {
        let looks: [&[&str]; 4] = [
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
        let mut picture = String::new();
        for args in looks {
            let seen = self.kubectl(args, "").await.unwrap_or_else(|error| format!("{error:#}"));
            picture += &format!("--- kubectl -n {} {}\n{seen}\n", self.namespace, args.join(" "));
        }
        picture
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.cluster.client.clone())
    }
}
