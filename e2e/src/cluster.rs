//! The cluster under test.

use crate::port_forward::PortForwards;
use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use std::{env, process::Stdio, sync::Arc};
use tokio::{io::AsyncWriteExt, process::Command};

/// A cluster in which the operators are installed.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    forwards: Arc<PortForwards>,
}

impl Cluster {
    /// The cluster of the kubeconfig.
    ///
    /// # Errors
    /// There is no kubeconfig, or its server does not respond.
    pub async fn connect() -> Result<Self> {
        let client = Client::try_default().await.context(
            "no cluster: start one with `cargo xtask cluster up`, then `eval \"$(cargo xtask cluster env)\"`",
        )?;
        client.apiserver_version().await.context("the API server does not respond")?;
        Ok(Self { client, forwards: Arc::default() })
    }

    /// Runs kubectl and returns its standard output.
    ///
    /// # Errors
    /// kubectl fails; with its standard error.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, "").await
    }

    /// Runs kubectl with `input` as its standard input.
    ///
    /// # Errors
    /// kubectl fails; with its standard error.
    pub async fn kubectl_with(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new("kubectl")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl: is it on the PATH? (`eval \"$(cargo xtask cluster env)\"`)")?;
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // kubectl says why it reads no further.
                stdin.write_all(input.as_bytes()).await.ok();
            }
        };
        // A long input has a long output, and kubectl writes one while it reads the other.
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output?;
        if !output.status.success() {
            bail!("kubectl {} failed:\n{}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The URL at which this machine reaches a Service, at `port` or its first port.
    ///
    /// For a cluster of processes on this machine (`MLOP_CLUSTER=local`) it has the cluster IP, otherwise a forwarded
    /// address.
    ///
    /// # Errors
    /// There is no such Service or port.
    pub async fn url(&self, namespace: &str, service: &str, port: Option<i32>) -> Result<String> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let spec = api.get(service).await.with_context(|| format!("Service {namespace}/{service}"))?.spec;
        let spec = spec.context("the Service has no spec")?;
        let mut ports = spec.ports.unwrap_or_default().into_iter();
        let port = ports.find(|entry| port.is_none_or(|port| entry.port == port));
        let port = port.with_context(|| format!("Service {namespace}/{service} has no such port"))?;
        if env::var("MLOP_CLUSTER").is_ok_and(|provider| provider == "local") {
            let ip = spec.cluster_ip.filter(|ip| ip != "None").context("the Service has no cluster IP")?;
            return Ok(format!("http://{ip}:{}", port.port));
        }
        let address = self.forwards.address(&self.client, namespace, service, &port).await?;
        Ok(format!("http://{address}"))
    }

    /// The URL at which this machine reaches an address inside the cluster, `http://<service>.<namespace>.svc...:<port>`.
    ///
    /// # Errors
    /// The address is not that of a Service, or the Service does not exist.
    pub async fn external_url(&self, address: &str) -> Result<String> {
        let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) =
            authority.split_once(':').unwrap_or((authority, if scheme == "https" { "443" } else { "80" }));
        let mut labels = host.split('.');
        let (Some(service), Some(namespace)) = (labels.next(), labels.next()) else {
            bail!("{address} is not the address of a Service");
        };
        let base = self.url(namespace, service, Some(port.parse()?)).await?;
        Ok(if path.is_empty() { base } else { format!("{base}/{path}") })
    }
}
