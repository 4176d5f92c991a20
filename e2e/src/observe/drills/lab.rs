//! The place of drills: a namespace, the operators and the servers that observe them.

use super::{Drill, Look, Observatory, roles};
use crate::observe::alertmanager::Alert;
use crate::{cluster::Cluster, namespace::TestNamespace, stage::OPERATORS};
use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use kubectl_mlop::{
    output::Style,
    snapshot::ObjectId,
    why::{self, Explanation},
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};
use tokio::{
    process::Child,
    sync::Mutex,
    time::{Instant, sleep},
};

const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two repetitions.
const AGAIN: Duration = Duration::from_secs(20);
/// Lines of a log that are shown, and characters of each.
const LINES: usize = 3;
const CHARACTERS: usize = 300;

pub struct Lab<'a> {
    pub ns: &'a TestNamespace,
    pub observatory: &'a Observatory,
    /// Roles as they were before a fault.
    roles: Mutex<Vec<Value>>,
    /// Its connections stay open, as those of an application do.
    pub(super) http: reqwest::Client,
    /// The process of the operator that panics.
    pub(super) process: Mutex<Option<Child>>,
}

impl<'a> Lab<'a> {
    pub(super) fn new(ns: &'a TestNamespace, observatory: &'a Observatory) -> Self {
        Self {
            ns,
            observatory,
            roles: Mutex::default(),
            http: reqwest::Client::new(),
            process: Mutex::default(),
        }
    }

    /// Seconds since 1970, by which a further run differs from the one before.
    pub(super) fn time(&self) -> i64 {
        now().as_second()
    }

    fn cluster(&self) -> &Cluster {
        &self.ns.cluster
    }

    /// kubectl in the operators' namespace.
    pub(super) async fn operators(&self, args: &[&str]) -> Result<String> {
        self.cluster().kubectl(&[&["-n", OPERATORS], args].concat()).await
    }

    /// A kubeconfig with the identity of an operator: a policy lets only it write the statuses of its kinds.
    pub(super) async fn kubeconfig_as(&self, operator: &str) -> Result<PathBuf> {
        let text = self.cluster().kubectl(&["config", "view", "--raw", "--flatten", "-o", "json"]).await?;
        let mut config: Value = serde_json::from_str(&text)?;
        let token = self.operators(&["create", "token", operator]).await?;
        let user = config.pointer_mut("/users/0/user").context("the kubeconfig has no user")?;
        *user = json!({"token": token.trim()});
        let file = self.observatory.directory.path().join(format!("{operator}.kubeconfig"));
        fs::write(&file, config.to_string()).with_context(|| file.display().to_string())?;
        Ok(file)
    }

    /// Waits until the pods of an operator are as its Deployment says.
    pub(super) async fn rolled_out(&self, operator: &str) -> Result<()> {
        let deployment = format!("deployment/{operator}");
        self.operators(&["rollout", "status", &deployment, "--timeout=180s"]).await.map(drop)
    }

    /// Takes `verb` on `resource` away from an operator, until `restore_roles`.
    pub(super) async fn forbid(&self, operator: &str, resource: &str, verb: &str) -> Result<()> {
        let name = format!("{operator}.{OPERATORS}");
        let text = self.cluster().kubectl(&["get", "clusterrole", &name, "-o", "json"]).await?;
        let role: Value = serde_json::from_str(&text)?;
        let less = roles::without(role.clone(), resource, verb)
            .with_context(|| format!("ClusterRole {name} does not allow {verb} on {resource}"))?;
        self.roles.lock().await.push(role);
        self.replace(less).await
    }

    pub(super) async fn restore_roles(&self) -> Result<()> {
        for role in self.roles.lock().await.drain(..) {
            self.replace(role).await?;
        }
        Ok(())
    }

    /// Without a precondition on the version: nobody else edits it.
    async fn replace(&self, mut role: Value) -> Result<()> {
        if let Some(metadata) = role.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        self.cluster().kubectl_with(&["replace", "-f", "-"], &role.to_string()).await.map(drop)
    }

    /// Waits until Alertmanager has the alert, and returns its summary.
    pub(super) async fn until_firing(&self, drill: &Drill, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let mut again = Instant::now() + AGAIN;
        while Instant::now() < deadline {
            if let Some(alert) = self.firing(drill).await? {
                return Ok(alert.annotations.get("summary").cloned().unwrap_or_default());
            }
            if Instant::now() >= again {
                (drill.again)(self).await.context("repetition")?;
                again = Instant::now() + AGAIN;
            }
            sleep(POLL_INTERVAL).await;
        }
        bail!(
            "it does not fire within {} s\n{}",
            limit.as_secs(),
            self.look(&drill.look).await.unwrap_or_default()
        )
    }

    /// The alert of the drill, if Alertmanager has it.
    pub(super) async fn firing(&self, drill: &Drill) -> Result<Option<Alert>> {
        let mut alerts = self.observatory.alertmanager.firing(drill.alert).await?.into_iter();
        let is_meant = |alert: &Alert| {
            drill.object.is_empty()
                || alert.labels.get("name").is_some_and(|name| name.starts_with(drill.object))
        };
        Ok(alerts.find(is_meant))
    }

    pub(super) async fn until_quiet(&self, drill: &Drill, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.firing(drill).await?.is_some() {
            if Instant::now() >= deadline {
                bail!("it still fires {} s after the repair", limit.as_secs());
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// What a person sees who follows the runbook.
    pub(super) async fn look(&self, look: &Look) -> Result<String> {
        match look {
            Look::Why(kind, name) => self.why(kind, name).await,
            Look::Kubectl(args, word) => {
                let args: Vec<&str> = args
                    .iter()
                    .map(|arg| if *arg == "@NAMESPACE@" { self.ns.name.as_str() } else { *arg })
                    .collect();
                let output = self.cluster().kubectl(&args).await?;
                let lines: Vec<&str> = output.lines().filter(|line| line.contains(word)).collect();
                let shown = lines.iter().skip(lines.len().saturating_sub(LINES));
                let shown: Vec<String> = shown.map(|line| line.chars().take(CHARACTERS).collect()).collect();
                Ok(format!("$ kubectl {}\n{}", args.join(" "), shown.join("\n")))
            }
        }
    }

    async fn why(&self, kind: &str, name: &str) -> Result<String> {
        let cluster = kubectl_mlop::cluster::Cluster::new(self.cluster().client.clone(), &self.ns.name);
        let now = now();
        let snapshot = cluster.snapshot(now).await?;
        let id = ObjectId::new(kind, name);
        let object = snapshot.get(&id).with_context(|| format!("there is no {id}"))?;
        let text = why::text(&Explanation::of(&snapshot, object), now, Style::PLAIN);
        Ok(format!("$ kubectl mlop -n {} why {id}\n{text}", self.ns.name))
    }
}

#[allow(clippy::disallowed_methods, reason = "ages for people; nothing is decided by them")]
fn now() -> Timestamp {
    Timestamp::now()
}
