//! Real servers next to a cluster: what the operators export is scraped, alerted on, traced and searched.
//!
//! They are processes of this machine, and end with the [`Observatory`]. Prometheus loads the rules of the chart
//! `mlop-monitoring` and sends alerts to Alertmanager, kube-state-metrics has the chart's configuration, Jaeger takes the
//! operators' spans, and VictoriaLogs takes the logs of all pods of mlop through Loki's push API.
//!
//! Pitfall: Prometheus and the spans need a network in which this machine and the pods reach each other. Only the local
//! cluster has that.

mod alertmanager;
pub mod dashboards;
pub mod drills;
mod logs;
mod prometheus;
mod rules;
mod targets;

pub use rules::Durations;

use crate::{cluster::Cluster, server::Server};
use alertmanager::Alertmanager;
use anyhow::{Context as _, Result, ensure};
use prometheus::Prometheus;
use serde_json::{Value, json};
use std::{env, fmt, fs, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::{process::Command, sync::Mutex, task::JoinSet};

/// Addresses of this machine, with the servers' usual ports.
const PROMETHEUS: &str = "127.0.0.1:9090";
const ALERTMANAGER: &str = "127.0.0.1:9093";
const STATE_METRICS: &str = "127.0.0.1:9180";
const JAEGER: &str = "127.0.0.1:16686";
const VICTORIA_LOGS: &str = "127.0.0.1:9428";

/// The file of servers that are scraped and are not pods.
const FURTHER_TARGETS: &str = "further-targets.json";

/// The time between two scrapes, and between two evaluations of the rules.
const INTERVAL: Duration = Duration::from_secs(5);

const STATE_METRICS_CONFIGURATION: &str =
    include_str!("../../../charts/mlop-monitoring/files/custom-resource-state.yaml");

/// The running servers. Dropping it kills them and deletes their data.
pub struct Observatory {
    pub prometheus: Prometheus,
    pub alertmanager: Alertmanager,
    /// None while a fault is made.
    jaeger: Mutex<Option<Server>>,
    /// Address at which Jaeger takes spans.
    spans: String,
    // Ends before the directory.
    _servers: Vec<Server>,
    _tasks: JoinSet<()>,
    directory: TempDir,
}

impl Observatory {
    /// Starts all servers, and waits until each answers. Spans are taken at the address `spans`, `host:port`.
    ///
    /// # Errors
    /// The cluster is not made of processes of this machine, or a server does not start, with the end of its log.
    pub async fn start(cluster: &Cluster, spans: &str, durations: Durations) -> Result<Self> {
        ensure!(
            env::var("MLOP_CLUSTER").is_ok_and(|provider| provider == "local"),
            "Prometheus runs on this machine and reaches pods only in a local cluster: use --provider local"
        );
        let directory = tempfile::tempdir().context("no directory for the servers' data")?;
        let path = directory.path();
        let targets = path.join("targets.json");
        targets::write(&targets, &json!([]))?;
        targets::write(&path.join(FURTHER_TARGETS), &json!([]))?;
        fs::write(path.join("rules.json"), rules::with(durations)?.to_string())?;
        fs::write(path.join("prometheus.json"), prometheus_configuration(&targets).to_string())?;
        fs::write(path.join("alertmanager.json"), alertmanager_configuration().to_string())?;
        fs::write(path.join("state-metrics.yaml"), STATE_METRICS_CONFIGURATION)?;

        let mut tasks = JoinSet::new();
        tasks.spawn(targets::follow(cluster.client.clone(), targets));
        let mut servers = vec![
            Server::start(&state_metrics(path), STATE_METRICS, "/healthz", path)?,
            Server::start(&alertmanager_command(path), ALERTMANAGER, "/-/ready", path)?,
            Server::start(&prometheus_command(path), PROMETHEUS, "/-/ready", path)?,
            Server::start(&victoria_logs(path), VICTORIA_LOGS, "/health", path)?,
        ];
        let mut jaeger = Server::start(&jaeger(spans), JAEGER, "/", path)?;
        for server in servers.iter_mut().chain([&mut jaeger]) {
            server.ready().await?;
        }
        let push = format!("http://{VICTORIA_LOGS}/insert/loki/api/v1/push?_msg_field=message");
        tasks.spawn(logs::follow(cluster.client.clone(), push));
        Ok(Self {
            prometheus: Prometheus::new(PROMETHEUS),
            alertmanager: Alertmanager::new(ALERTMANAGER),
            jaeger: Mutex::new(Some(jaeger)),
            spans: spans.to_owned(),
            _servers: servers,
            _tasks: tasks,
            directory,
        })
    }

    /// Stops Jaeger, so that operators lose their spans.
    async fn stop_jaeger(&self) {
        let Some(server) = self.jaeger.lock().await.take() else { return };
        server.stop().await;
    }

    /// Starts Jaeger again, without the spans from before.
    async fn start_jaeger(&self) -> Result<()> {
        let mut server = Server::start(&jaeger(&self.spans), JAEGER, "/", self.directory.path())?;
        server.ready().await?;
        *self.jaeger.lock().await = Some(server);
        Ok(())
    }

    /// Scrapes servers that are not pods: each with its job, namespace and address.
    fn scrape_also(&self, servers: &[(&str, &str, &str)]) -> Result<()> {
        let groups: Vec<_> = servers
            .iter()
            .map(|(job, namespace, address)| json!({"targets": [address], "labels": {"job": job, "namespace": namespace}}))
            .collect();
        targets::write(&self.directory.path().join(FURTHER_TARGETS), &json!(groups))
    }

    /// How much Jaeger has of the service, and the log store of `namespace`.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn counts(&self, service: &str, namespace: &str) -> Result<Counts> {
        let http = reqwest::Client::new();
        let traces = [("service", service), ("lookback", "6h"), ("limit", "1000")];
        let traces = http.get(format!("http://{JAEGER}/api/traces")).query(&traces).send().await?;
        let traces: Value = traces.error_for_status()?.json().await?;
        let traces: Vec<&Value> =
            traces.pointer("/data").and_then(Value::as_array).into_iter().flatten().collect();
        let spans = traces.iter().filter_map(|trace| trace.get("spans")?.as_array()).map(Vec::len).sum();
        let query = [("query", format!("{{namespace=\"{namespace}\"}} | stats count() lines"))];
        let lines =
            http.get(format!("http://{VICTORIA_LOGS}/select/logsql/query")).query(&query).send().await?;
        let lines: Value = lines.error_for_status()?.json().await?;
        let lines = lines.get("lines").and_then(Value::as_str).and_then(|number| number.parse().ok());
        Ok(Counts {
            service: service.to_owned(),
            traces: traces.len(),
            spans,
            lines: lines.unwrap_or_default(),
        })
    }
}

/// What has arrived from the operators and the pods.
pub struct Counts {
    service: String,
    traces: usize,
    spans: usize,
    lines: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, traces, spans, lines } = self;
        write!(
            f,
            "{traces} traces with spans of {service} ({spans} spans in all), {lines} lines of the runs' logs"
        )
    }
}

/// What the servers have, with the requests to try, for people.
pub fn guide(namespace: &str) -> String {
    format!(
        "\
Prometheus     http://{PROMETHEUS}
  what leads           curl -s 'http://{PROMETHEUS}/api/v1/query?query=mlop_leading'
  what is scraped      curl -s 'http://{PROMETHEUS}/api/v1/targets'
  the chart's alerts   curl -s 'http://{PROMETHEUS}/api/v1/rules'
Alertmanager   http://{ALERTMANAGER}
  alerts that fire     curl -s 'http://{ALERTMANAGER}/api/v2/alerts'
Jaeger         http://{JAEGER}
  traces of a stage    curl -s 'http://{JAEGER}/api/traces?service=mlop-training&lookback=1h'
VictoriaLogs   http://{VICTORIA_LOGS}/select/vmui
  logs of the runs     curl -s 'http://{VICTORIA_LOGS}/select/logsql/query' -d 'query={{namespace=\"{namespace}\"}}'
  of the operators     curl -s 'http://{VICTORIA_LOGS}/select/logsql/query' -d 'query={{namespace=\"mlop-system\"}} level:WARN'
  of a trace           curl -s 'http://{VICTORIA_LOGS}/select/logsql/query' -d 'query=trace_id:=\"<id>\"'
"
    )
}

fn prometheus_configuration(targets: &Path) -> Value {
    let interval = format!("{}s", INTERVAL.as_secs());
    json!({
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": ["rules.json"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [ALERTMANAGER]}]}]},
        "scrape_configs": [
            {"job_name": "pods", "file_sd_configs": [{"files": [targets, FURTHER_TARGETS], "refresh_interval": interval}]},
            // The namespaces in its series are those of the objects.
            {"job_name": "kube-state-metrics", "honor_labels": true, "static_configs": [{"targets": [STATE_METRICS]}]},
        ],
    })
}

/// It shows alerts and sends nothing.
fn alertmanager_configuration() -> Value {
    json!({
        "route": {"receiver": "none", "group_by": ["alertname", "namespace"], "group_wait": "0s"},
        "receivers": [{"name": "none"}],
    })
}

fn prometheus_command(path: &Path) -> Command {
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", path.join("prometheus.json").display()))
        .arg(format!("--storage.tsdb.path={}", path.join("prometheus").display()))
        .arg(format!("--web.listen-address={PROMETHEUS}"));
    command
}

fn alertmanager_command(path: &Path) -> Command {
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", path.join("alertmanager.json").display()))
        .arg(format!("--storage.path={}", path.join("alertmanager").display()))
        .arg(format!("--web.listen-address={ALERTMANAGER}"))
        .arg("--cluster.listen-address=");
    command
}

fn state_metrics(path: &Path) -> Command {
    let (host, port) = STATE_METRICS.split_once(':').unwrap_or_default();
    let mut command = Command::new("kube-state-metrics");
    command
        .arg(format!("--kubeconfig={}", env::var("KUBECONFIG").unwrap_or_default()))
        .arg("--custom-resource-state-only=true")
        .arg(format!("--custom-resource-state-config-file={}", path.join("state-metrics.yaml").display()))
        .args([format!("--host={host}"), format!("--port={port}")])
        .args([format!("--telemetry-host={host}"), "--telemetry-port=9181".to_owned()]);
    command
}

/// It keeps traces in memory. What mlop does not use listens on loopback.
fn jaeger(spans: &str) -> Command {
    let mut command = Command::new("jaeger");
    command
        .arg(format!("--collector.otlp.http.host-port={spans}"))
        .arg(format!("--query.http-server.host-port={JAEGER}"))
        .args([
            "--collector.otlp.grpc.host-port=127.0.0.1:4317",
            "--query.grpc-server.host-port=127.0.0.1:16685",
        ])
        .args(["--collector.http-server.host-port=127.0.0.1:14268", "--admin.http.host-port=127.0.0.1:14269"])
        .args(["--collector.grpc-server.host-port=127.0.0.1:14250"])
        .env("SPAN_STORAGE_TYPE", "memory");
    command
}

fn victoria_logs(path: &Path) -> Command {
    let mut command = Command::new("victoria-logs");
    command
        .arg(format!("-storageDataPath={}", path.join("logs").display()))
        .arg(format!("-httpListenAddr={VICTORIA_LOGS}"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_scrapes_the_pods_and_the_objects() {
        let configuration = prometheus_configuration(Path::new("/data/targets.json"));
        let jobs = &configuration["scrape_configs"];
        assert_eq!(jobs[0]["file_sd_configs"][0]["files"][0], "/data/targets.json");
        assert_eq!(jobs[1]["honor_labels"], true);
        assert_eq!(
            configuration["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0],
            ALERTMANAGER
        );
    }
}
