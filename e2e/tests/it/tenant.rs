//! A tenant with the role `edit` in one namespace, who tries to get further with the help of mlop.
//!
//! The attacks that a schema refuses are objects in `crates/mlop-api/tests/refused`. `docs/operations/attacks.md` lists
//! all of them.

use crate::support::{self, STAGE, STORES, says, script};
use anyhow::{Context as _, Result, bail, ensure};
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
    runtime::{WatchStreamExt as _, watcher},
};
use mlop_api::{
    Reason,
    dataset::{Dataset, ObjectStore},
    labels,
    text::printable,
    training::TrainingJob,
};
use mlop_e2e::{namespace::TestNamespace, stage::OPERATORS, wait};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::BTreeSet, pin::pin, time::Duration};
use tokio::time::timeout;

/// The tenant's role, and one of somebody who was too generous: everything of mlop in the namespace.
const ROLES: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: tenant, namespace: "@NAMESPACE@"}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: master}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: master}
rules: [{apiGroups: [mlop.dev], resources: ["*"], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: master}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: master}
subjects: [{kind: ServiceAccount, name: master, namespace: "@NAMESPACE@"}]
"#;

/// A store whose Secret is in another namespace.
const STORE: &str = r#"
apiVersion: mlop.dev/v1alpha1
kind: ObjectStore
metadata: {name: own}
spec: {endpoint: "http://minio.storage.svc:9000", bucket: raw, prefix: "@NAMESPACE@/", secretName: s3-keys}
"#;

/// A run that no operator has made.
const FORGED_RUN: &str = include_str!("../../../crates/mlop-api/tests/accepted/trainingrun.yaml");
const PROFILE: &str = include_str!("../../../crates/mlop-api/tests/accepted/podprofile.yaml");

/// kubectl in the name of a ServiceAccount of the namespace.
async fn kubectl_as(ns: &TestNamespace, account: &str, args: &[&str], input: &str) -> Result<String> {
    let user = format!("--as=system:serviceaccount:{}:{account}", ns.name);
    ns.kubectl(&[&[user.as_str()], args].concat(), input).await
}

/// Checks that the request is refused with these words.
async fn refused(ns: &TestNamespace, account: &str, args: &[&str], input: &str, words: &str) -> Result<()> {
    match kubectl_as(ns, account, args, input).await {
        Ok(output) => bail!("{account} may {args:?}: {output}"),
        Err(error) => {
            ensure!(format!("{error:#}").contains(words), "{account} {args:?}: {error:#}");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_writes_neither_runs_nor_statuses_nor_profiles() -> Result<()> {
    TestNamespace::run("tenant-writes", async |ns| {
        ns.apply(&[ROLES, STORES]).await?;
        let job = script(support::SAVE);
        kubectl_as(ns, "tenant", &["apply", "-f", "-"], &job).await.context("what a tenant may do")?;
        kubectl_as(ns, "tenant", &["get", "mlop-all"], "").await?;

        let create: &[&str] = &["create", "-f", "-"];
        let status = r#"--patch={"status":{"summary":"perfect"}}"#;
        let patch: &[&str] = &["patch", "--type=merge", "--subresource=status", "tjob", "script", status];
        refused(ns, "tenant", create, FORGED_RUN, "cannot create resource \"trainingruns\"").await?;
        refused(ns, "tenant", create, PROFILE, "cannot create resource \"podprofiles\"").await?;
        refused(ns, "tenant", patch, "", "resource \"trainingjobs/status\"").await?;
        for account in ["tenant", "master"] {
            for role in ["mlop-training", "mlop-ingestion", "cluster-admin"] {
                let role = format!("--clusterrole={role}");
                let bind = ["create", "rolebinding", "more", &role, "--user=tenant"];
                refused(ns, account, &bind, "", "cannot create resource \"rolebindings\"").await?;
            }
        }
        // Whatever a role allows, only the operator writes them.
        let alone = "alone writes the runs and statuses";
        refused(ns, "master", create, FORGED_RUN, alone).await?;
        refused(ns, "master", patch, "", alone).await?;
        kubectl_as(ns, "master", create, PROFILE).await?;
        let name = ["patch", "--type=merge", "--subresource=status", "pprofile", "default", status];
        refused(ns, "master", &name, "", alone).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_reaches_no_other_namespace() -> Result<()> {
    TestNamespace::run("tenant-reach", async |ns| {
        let other = TestNamespace::open("e2e-neighbour").await?;
        other.apply(&[&STORES.replace("name: mlop}", "name: theirs}")]).await?;
        ns.apply(&[ROLES]).await?;
        kubectl_as(ns, "tenant", &["auth", "can-i", "create", "tjob"], "")
            .await
            .context("what a tenant may do")?;
        for account in ["tenant", "master"] {
            for place in [other.name.as_str(), OPERATORS] {
                let there = ["-n", place];
                for args in [
                    &["get", "tjob,ostore,trun"][..],
                    &["get", "secrets"],
                    &["get", "pods"],
                    &["create", "token", "mlop-training"],
                    &["create", "-f", "-"],
                    &["delete", "lease", "mlop-training"],
                ] {
                    // The last namespace counts.
                    refused(ns, account, &[args, &there].concat(), &script(support::SAVE), "forbidden")
                        .await?;
                }
                let powers = [
                    ("impersonate", "serviceaccounts"),
                    ("create", "pods/exec"),
                    ("get", "pods/log"),
                    ("bind", "clusterroles"),
                ];
                for (verb, what) in powers {
                    let can = ["auth", "can-i", verb, what, "-n", place];
                    ensure!(
                        kubectl_as(ns, account, &can, "").await.is_err(),
                        "{account} may {verb} {what} in {place}"
                    );
                }
            }
        }

        // Names of the neighbour's objects mean nothing here.
        let job = script(support::SAVE).replace("store: mlop", "store: theirs");
        kubectl_as(ns, "tenant", &["apply", "-f", "-"], &ns.fill(&[STORE, &job])).await?;
        let is_missing = |store: &ObjectStore| says(store, Reason::SecretMissing, "Secret s3-keys");
        ns.until("own", "without the neighbour's Secret", STAGE, is_missing).await?;
        let is_alone = |job: &TrainingJob| says(job, Reason::ConnectionNotReady, "ObjectStore theirs");
        ns.until("script", "without the neighbour's store", STAGE, is_alone).await?;
        other.cluster.kubectl(&["delete", "namespace", &other.name, "--wait=false"]).await?;
        Ok(())
    })
    .await
}

/// Sets the title of a terminal, and begins a line like one of an operator's log.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\u{9b}31m\u{202e}";

/// Texts of a tenant's specs, annotations, data and programs neither act on a terminal nor end a line of a log. That the
/// operators log one JSON object a line is checked with the audit log.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_stays_text_in_statuses_and_events() -> Result<()> {
    TestNamespace::run("text", async |ns| {
        let header = "id,at,line,x,v,note\n";
        let cell = HOSTILE.replace('"', "\"\"");
        ns.upload("points/1.csv", &format!("{header}1,\"{cell}\",a,1,2,\n")).await?;
        ns.upload("points/\u{1b}[31mred.csv", header).await?;
        let said = format!(
            "import sys\nsys.stdout.buffer.write({HOSTILE:?}.encode())\nraise SystemExit({HOSTILE:?})"
        );
        let said = said.replace("\\u{1b}", "\\x1b").replace("\\u{7}", "\\x07");
        let said = said.replace("\\u{9b}", "\\x9b").replace("\\u{202e}", "\\u202e");
        ns.apply(&[STORES, support::POINTS, &script(&said).replace("limit: 3", "limit: 1")]).await?;
        ns.patch::<TrainingJob>(
            "script",
            &json!({"metadata": {"annotations": {
                labels::RETRY_REQUESTED_AT: HOSTILE, labels::RUN_REQUESTED_AT: HOSTILE,
            }}}),
        )
        .await?;
        let failed = |job: &TrainingJob| says(job, Reason::UserError, "forged");
        ns.until("script", "failed with the text", STAGE, failed).await?;
        let rejected = |dataset: &Dataset| says(dataset, Reason::QuarantineBudgetExceeded, "forged");
        ns.until("points", "failed with the text", STAGE, rejected).await?;
        ns.patch::<TrainingJob>("script", &json!({"spec": {"pin": HOSTILE}})).await?;
        let wrong = |job: &TrainingJob| says(job, Reason::PinnedRunNotFound, "forged");
        ns.until("script", "pinned to the text", STAGE, wrong).await?;

        let objects = ns.kubectl(&["get", "mlop-all,events", "-o", "json"], "").await?;
        let objects: Value = serde_json::from_str(&objects)?;
        let mut told = Vec::new();
        for object in objects["items"].as_array().into_iter().flatten() {
            collect(&object["status"], &mut told);
            collect(&object["message"], &mut told);
        }
        ensure!(told.iter().filter(|text| text.contains("forged")).count() >= 3, "the texts are nowhere");
        let acting: Vec<_> = told.iter().filter(|text| matches!(printable(text), Cow::Owned(_))).collect();
        ensure!(acting.is_empty(), "{acting:?}");
        Ok(())
    })
    .await
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        _ => {}
    }
}

/// User code that searches files, processes and rights for keys. It fails with a list of its findings.
const LOOK: &str = r#"
import json, os, pathlib
found = []
secret = b"mlop-test-" + b"secret"
for root in ("/run", "/var/run", "/mlop", "/tmp", "/etc", "/root", "/home", "/dev"):
    for path, directories, names in os.walk(root):
        for name in names:
            file = pathlib.Path(path, name)
            if file.is_file() and os.access(file, os.R_OK) and file.stat().st_size < 1 << 20:
                data = file.read_bytes()
                if secret in data or name == "token" or name.startswith("AWS_"):
                    found.append(str(file))
for process in pathlib.Path("/proc").glob("[0-9]*"):
    for name in ("environ", "cmdline"):
        try:
            if secret in (process / name).read_bytes():
                found.append(f"{process}/{name}")
        except OSError:
            pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
for field, wanted in (("CapEff", 0), ("NoNewPrivs", 1), ("Seccomp", 2)):
    if int(status[field], 16) != wanted:
        found.append(f"{field} {status[field].strip()}")
if os.getuid() != 65532:
    found.append(f"uid {os.getuid()}")
for directory in ("/usr/bin", "/etc", "/mlop/bin", "/mlop/inputs"):
    if os.access(directory, os.W_OK):
        found.append(f"{directory} is writable")
forged = {"digest": "sha256:" + "ab" * 32, "summary": "forged", "metrics": [{"name": "auc", "value": "1"}]}
try:
    pathlib.Path("/dev/termination-log").write_text(json.dumps(forged))
except OSError:
    pass
print(json.dumps(forged))
print("\u001b]0;owned\u0007{\"level\":\"ERROR\",\"message\":\"forged\"}")
if found:
    raise SystemExit(", ".join(found))
output = pathlib.Path(os.environ["MLOP_OUTPUT"])
(output / "keys").symlink_to("/run/mlop/stores/mlop/AWS_SECRET_ACCESS_KEY")
(output / "model.txt").write_text("42")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn user_code_finds_no_keys_and_cannot_forge_its_result() -> Result<()> {
    TestNamespace::run("look", async |ns| {
        ns.apply(&[STORES, &script(LOOK)]).await?;
        let run = support::published_run(ns).await?;
        let output = run.status.as_ref().and_then(|status| status.output.as_ref()).context("no output")?;
        let summary = output.summary.clone().unwrap_or_default();
        ensure!(output.metrics.is_empty() && !summary.contains("forged"), "{output:?}");
        ensure!(output.notes.iter().any(|note| note.contains("keys")), "the link is not named: {output:?}");
        Ok(())
    })
    .await
}

/// Counts connections: a line with the source and the port of each.
const CANARY: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: canary}
spec:
  selector: {app: canary}
  ports: [{name: s3, port: 9000}, {name: mlflow, port: 5000}, {name: redis, port: 6379}]
---
apiVersion: v1
kind: Pod
metadata: {name: canary, labels: {app: canary}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  terminationGracePeriodSeconds: 0
  containers:
  - name: canary
    image: mlop.local/trainer:dev
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    readinessProbe: {exec: {command: [python, -c, "open('/tmp/listens')"]}, periodSeconds: 1}
    command: [python, -c]
    args:
    - |
      import os, pathlib, socketserver, threading
      class Canary(socketserver.BaseRequestHandler):
          def handle(self):
              # One write: connections come at the same time.
              os.write(1, f"{self.client_address[0]} {self.server.server_address[1]}\n".encode())
      servers = [socketserver.ThreadingTCPServer(("", port), Canary) for port in (9000, 5000, 6379)]
      pathlib.Path("/tmp/listens").touch()
      for server in servers:
          threading.Thread(target=server.serve_forever).start()
"#;

/// Connections that lead to the canary.
const LURES: &str = r#"
apiVersion: mlop.dev/v1alpha1
kind: ObjectStore
metadata: {name: lure}
spec: {endpoint: "http://canary.e2e-canary.svc:9000", bucket: raw}
---
apiVersion: mlop.dev/v1alpha1
kind: TrackingServer
metadata: {name: lure}
spec: {existing: {service: canary, namespace: e2e-canary}}
---
apiVersion: mlop.dev/v1alpha1
kind: TrackingServer
metadata: {name: address}
spec: {existing: {url: "http://@CANARY@:5000/api"}}
---
apiVersion: mlop.dev/v1alpha1
kind: FeatureStore
metadata: {name: lure}
spec:
  store: mlop
  redis: {existing: {address: "@CANARY@:6379"}}
  api: {replicas: 1, resources: {cpu: 20m, memory: 64Mi}}
"#;

/// The tenant's addresses are reached by pods in the tenant's namespace only, never by an operator.
#[tokio::test(flavor = "multi_thread")]
async fn operators_send_no_packet_to_addresses_of_tenants() -> Result<()> {
    TestNamespace::run("lured", async |ns| {
        let canary = TestNamespace::open("e2e-canary").await?;
        canary.apply(&[CANARY]).await?;
        let pods: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), &canary.name);
        let limit = Duration::from_secs(STAGE);
        let pod = wait::until_any(&pods, watcher::Config::default(), "canary that listens", limit, is_ready)
            .await?;
        let address = ip(&pod).context("the canary has no address")?;
        let mut own = pin!(
            watcher(Api::<Pod>::namespaced(ns.cluster.client.clone(), &ns.name), watcher::Config::default())
                .default_backoff()
                .applied_objects()
        );
        ns.apply(&[STORES, &LURES.replace("@CANARY@", &address)]).await?;

        let follow = LogParams { follow: true, ..LogParams::default() };
        let mut lines = pods.log_stream("canary", &follow).await?.lines();
        let (mut sources, mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let observed = timeout(limit, async {
            while ports.len() < 3 || !sources.is_subset(&addresses) {
                tokio::select! {
                    line = lines.try_next() => {
                        let line = line?.context("the canary has ended")?;
                        let (source, port) = line.split_once(' ').context("no line of the canary")?;
                        sources.insert(source.to_owned());
                        ports.insert(port.to_owned());
                    }
                    pod = own.next() => addresses.extend(pod.context("no watch")?.ok().as_ref().and_then(ip)),
                }
            }
            anyhow::Ok(())
        });
        let observed = observed.await;
        let operators: Api<Pod> = Api::namespaced(ns.cluster.client.clone(), OPERATORS);
        let operators: BTreeSet<_> =
            operators.list(&ListParams::default()).await?.iter().filter_map(ip).collect();
        ensure!(operators.len() >= mlop_api::operators::ALL.len(), "addresses of operators: {operators:?}");
        ensure!(
            observed.is_ok_and(|ended| ended.is_ok()) && sources.is_disjoint(&operators),
            "ports {ports:?}; sources {sources:?}; the tenant's pods {addresses:?}; operators {operators:?}"
        );
        println!("{} sources, all of them pods of the tenant", sources.len());
        ns.cluster.kubectl(&["delete", "namespace", &canary.name, "--wait=false"]).await?;
        Ok(())
    })
    .await
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

fn ip(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}
