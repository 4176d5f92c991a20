//! A control plane without nodes: etcd, kube-apiserver and the controllers of a chain, as processes on loopback.
//!
//! There is no scheduler and no kubelet: its users report the statuses of pods.

use anyhow::{Context as _, Result, bail, ensure};
use http::{Request, StatusCode};
use k8s_openapi::{
    api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    client::Body,
};
use mlop_api::{
    kinds,
    operators::{self, Operator},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::{Instant, sleep},
};

/// The program that contains etcd and all parts of Kubernetes.
const KUBE_ALL: &str = "kube-all";
const TOKEN: &str = "admin";
/// The time limit for the start of a program on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The number of lines of a program's log in an error.
const LAST_LINES: usize = 10;
/// The controllers for the objects that operators create.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,job-controller,deployment-controller,replicaset-controller";

const AUDIT_LOG: &str = "audit.log";
/// All writes, and what each status said.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: RequestResponse
  verbs: [create, update, patch]
  resources: [{group: mlop.dev, resources: ["*/status"]}]
- level: Metadata
  verbs: [create, update, patch, delete]
- level: None
"#;

/// All writes, with the bodies of requests and responses.
const BODIES_AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete]
- level: None
"#;
/// All requests, each when it has ended.
const FULL_AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
"#;

/// mlop's kinds. Their schemas are slow to generate.
pub static KINDS: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(kinds::all);

/// A running control plane. Dropping it ends its processes and deletes its data.
pub struct ControlPlane {
    /// A client with all permissions, which can impersonate any user.
    pub client: Client,
    _processes: Vec<Child>,
    directory: TempDir,
}

impl ControlPlane {
    /// Starts all programs, and creates mlop's kinds and the operators' RBAC.
    ///
    /// # Errors
    /// A program is missing or does not start; with its name and the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// The same with an audit log of all writes, and of the statuses of mlop's kinds as they were written.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_audited() -> Result<Self> {
        Self::start_with(AUDIT_POLICY).await
    }

    /// The same with an audit log of all writes and their bodies.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_audited_with_bodies() -> Result<Self> {
        Self::start_with(BODIES_AUDIT_POLICY).await
    }

    /// The same with an audit log of all requests.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_audited_fully() -> Result<Self> {
        Self::start_with(FULL_AUDIT_POLICY).await
    }

    /// An empty audit policy means none.
    async fn start_with(audit_policy: &str) -> Result<Self> {
        let program = on_the_path(KUBE_ALL)?;
        let directory = tempfile::tempdir()?;
        let [etcd, peers, api] = free_ports().await?;
        let at = |name: &str| directory.path().join(name);
        let start = |name: &str, flags: &str| part(&program, directory.path(), name, flags);

        write_keys(directory.path()).await?;
        let mut store = start("etcd", &flags::etcd(&at("etcd"), etcd, peers))?;
        let client = client(api)?;
        let mut server_flags = flags::api_server(directory.path(), etcd, api);
        if !audit_policy.is_empty() {
            fs::write(at("audit.yaml"), audit_policy)?;
            server_flags.push_str(&flags::audit(&at("audit.yaml"), &at(AUDIT_LOG)));
        }
        let mut server = start("kube-apiserver", &server_flags)?;
        until_ready(&client, &mut [("etcd", &mut store), ("kube-apiserver", &mut server)], directory.path())
            .await?;
        create_kinds(&client).await?;
        grant_permissions(&client).await?;
        // The garbage collector checks for new kinds only every half minute, so it starts after their creation.
        let address = format!("https://127.0.0.1:{api}");
        fs::write(at("admin.conf"), kubeconfig(&address, TOKEN))?;
        for operator in operators::ALL {
            fs::write(at(&format!("{}.conf", operator.name)), kubeconfig(&address, operator.name))?;
        }
        let controllers = start("kube-controller-manager", &flags::controllers(directory.path()))?;
        Ok(Self { client, _processes: vec![store, server, controllers], directory })
    }

    /// The kubeconfig of a client with all permissions.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("admin.conf")
    }

    /// The kubeconfig of an operator, with the permissions of its chart.
    pub fn kubeconfig_of(&self, operator: &Operator) -> PathBuf {
        self.directory.path().join(format!("{}.conf", operator.name))
    }

    /// The audit log of a server that writes one.
    pub fn audit_log(&self) -> PathBuf {
        self.directory.path().join(AUDIT_LOG)
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The flags of the programs.
mod flags {
    use std::path::Path;

    pub fn etcd(data: &Path, port: u16, peers: u16) -> String {
        format!(
            "--name=etcd --data-dir={} --unsafe-no-fsync --log-level=warn \
             --listen-client-urls=http://127.0.0.1:{port} --advertise-client-urls=http://127.0.0.1:{port} \
             --listen-peer-urls=http://127.0.0.1:{peers} --initial-advertise-peer-urls=http://127.0.0.1:{peers} \
             --initial-cluster=etcd=http://127.0.0.1:{peers}",
            data.display()
        )
    }

    /// Pods never run, so ServiceAccount admission is disabled. Limits on requests are tested elsewhere. No packet is sent to
    /// the advertised address.
    pub fn api_server(directory: &Path, etcd: u16, port: u16) -> String {
        let directory = directory.display();
        format!(
            "--etcd-servers=http://127.0.0.1:{etcd} --bind-address=127.0.0.1 --secure-port={port} \
             --advertise-address=198.18.255.1 --endpoint-reconciler-type=none --cert-dir={directory}/pki \
             --service-cluster-ip-range=198.19.0.0/16 --service-account-issuer=https://127.0.0.1 \
             --service-account-key-file={directory}/accounts.key --service-account-signing-key-file={directory}/accounts.key \
             --token-auth-file={directory}/tokens.csv --authorization-mode=RBAC \
             --disable-admission-plugins=ServiceAccount --enable-priority-and-fairness=false --profiling=false"
        )
    }

    pub fn audit(policy: &Path, log: &Path) -> String {
        format!(
            " --audit-policy-file={} --audit-log-path={} --audit-log-maxsize=10000",
            policy.display(),
            log.display()
        )
    }

    pub fn controllers(directory: &Path) -> String {
        format!(
            "--kubeconfig={}/admin.conf --leader-elect=false --bind-address=127.0.0.1 --secure-port=0 \
             --authentication-skip-lookup --kube-api-qps=300 --kube-api-burst=600 --controllers={}",
            directory.display(),
            super::CONTROLLERS
        )
    }
}

async fn create_kinds(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in KINDS.iter() {
        api.create(&PostParams::default(), crd).await?;
    }
    for crd in KINDS.iter() {
        let path = format!("/apis/{}/v1alpha1/{}?limit=1", crd.spec.group, crd.spec.names.plural);
        let end = Instant::now() + START_LIMIT;
        while status(client, &path).await? != StatusCode::OK {
            ensure!(Instant::now() < end, "{} is not served", crd.name_any());
            sleep(POLL_INTERVAL).await;
        }
    }
    Ok(())
}

/// Grants each operator the permissions of its chart.
async fn grant_permissions(client: &Client) -> Result<()> {
    for operator in operators::ALL {
        let name = operator.name;
        let files = repository().join("charts").join(name).join("files");
        let mut rules = permissions(&files.join("rights.yaml"))?;
        let cluster = files.join("cluster-rights.yaml");
        if cluster.exists() {
            rules.extend(permissions(&cluster)?);
        }
        rules.extend(input_permissions(operator));
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let role = ClusterRole { metadata: metadata.clone(), rules: Some(rules), ..ClusterRole::default() };
        let group = "rbac.authorization.k8s.io".to_owned();
        let binding = ClusterRoleBinding {
            metadata,
            role_ref: RoleRef {
                api_group: Some(group.clone()),
                kind: "ClusterRole".into(),
                name: name.into(),
            },
            subjects: Some(vec![Subject {
                api_group: Some(group),
                kind: "User".into(),
                name: name.into(),
                namespace: None,
            }]),
        };
        Api::all(client.clone()).create(&PostParams::default(), &role).await?;
        Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
    }
    Ok(())
}

/// The permissions in a file of a chart.
fn permissions(file: &Path) -> Result<Vec<PolicyRule>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| file.display().to_string())
}

/// The permissions for input kinds, which are in the charts' values.
fn input_permissions(operator: &Operator) -> Option<PolicyRule> {
    let inputs = KINDS
        .iter()
        .map(|crd| &crd.spec.names)
        .filter(|names| operator.inputs.contains(&names.kind.as_str()));
    let resources: Vec<_> = inputs.map(|names| names.plural.clone()).collect();
    let verbs = if operator.runs().is_empty() { operators::WATCH } else { operators::READ };
    (!resources.is_empty()).then(|| PolicyRule {
        api_groups: Some(vec![mlop_api::GROUP.to_owned()]),
        resources: Some(resources),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    })
}

/// A kubeconfig for one server.
pub fn kubeconfig(server: &str, token: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    })
    .to_string()
}

/// The directory of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn on_the_path(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file());
    found.with_context(|| format!("`{program}` is not on the PATH: `cargo xtask` provides it"))
}

fn part(program: &Path, directory: &Path, name: &str, flags: &str) -> Result<Child> {
    let log = fs::File::create(log(directory, name))?;
    let mut command = Command::new(program);
    command.arg(name).args(flags.split_whitespace());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start {name}"))
}

fn log(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.log"))
}

/// Writes the tokens of the administrator and of the operators, and the key of ServiceAccount tokens.
async fn write_keys(directory: &Path) -> Result<()> {
    let mut tokens = format!("{TOKEN},admin,admin,\"system:masters\"\n");
    for Operator { name, .. } in operators::ALL {
        tokens.push_str(&format!("{name},{name},{name}\n"));
    }
    fs::write(directory.join("tokens.csv"), tokens)?;
    let mut openssl = Command::new("openssl");
    openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]);
    let made = openssl.arg(directory.join("accounts.key")).status().await;
    let made = made.context("cannot start `openssl`: is it installed and on the PATH?")?;
    ensure!(made.success(), "openssl failed ({made})");
    Ok(())
}

/// Ports of loopback that were free a moment ago.
pub(crate) async fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A client without retries, so that each request of an operator reaches the server exactly once.
fn client(port: u16) -> Result<Client> {
    let mut config = Config::new(format!("https://127.0.0.1:{port}").parse()?);
    config.accept_invalid_certs = true;
    config.auth_info.token = Some(TOKEN.to_owned().into());
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn status(client: &Client, path: &str) -> Result<StatusCode> {
    Ok(client.send(Request::get(path).body(Body::empty())?).await?.status())
}

/// Waits until the server is ready.
async fn until_ready(client: &Client, parts: &mut [(&str, &mut Child)], directory: &Path) -> Result<()> {
    let end = Instant::now() + START_LIMIT;
    while !matches!(status(client, "/readyz").await, Ok(StatusCode::OK)) {
        for (name, child) in parts.iter_mut() {
            if let Some(ended) = child.try_wait()? {
                bail!("{name} ended ({ended}):\n{}", last_lines(&log(directory, name)));
            }
        }
        if Instant::now() > end {
            bail!("the API server is not ready:\n{}", last_lines(&log(directory, "kube-apiserver")));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// The last lines of a log.
pub fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}
