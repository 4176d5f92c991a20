//! An operator's process: flags, logs, leader election, probes, and a graceful end.

use crate::runtime::{
    client,
    context::{Clock, Settings},
    finalizers, health, installation, leader_election,
    logging::{self, Format},
    metrics::Metrics,
    otlp::{self, Destination},
    service_account,
    setup::Setup,
    tracer::Tracer,
};
use anyhow::Context as _;
use clap::Parser;
use mlop_api::operators;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Longest time for the export of the last spans at the end of the process.
const FLUSH: Duration = Duration::from_secs(3);

/// Flags of an operator. Each has an environment variable.
#[derive(Debug, Parser)]
#[command(version, about = "An mlop operator.")]
struct Args {
    /// Namespaces to watch, separated by commas. All if empty.
    #[arg(long, env = "MLOP_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Kinds that may be inputs, as Kind.version.group or Kind.version.group/plural, separated by commas.
    #[arg(long, env = "MLOP_INPUT_KINDS", value_delimiter = ',')]
    input_kinds: Vec<String>,
    /// Image of this operator's worker.
    #[arg(long, env = "MLOP_WORKER_IMAGE", default_value = "")]
    worker_image: String,
    /// Address for /livez, /readyz and /metrics.
    #[arg(long, env = "MLOP_HEALTH_ADDRESS", default_value = "0.0.0.0:8081")]
    health_address: String,
    /// Whether to elect a leader, so that only one of several replicas reconciles.
    #[arg(long, env = "MLOP_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set)]
    leader_elect: bool,
    /// Namespace of the lease.
    #[arg(long, env = "MLOP_LEASE_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Name of this process in the lease: the pod's.
    #[arg(long, env = "MLOP_POD_NAME", default_value = "local")]
    pod_name: String,
    /// Log level (error, warn, info, debug), or a list such as info,mlop_core=debug.
    #[arg(long, env = "MLOP_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// What a line of the log looks like.
    #[arg(long, env = "MLOP_LOG_FORMAT", value_enum, default_value_t = Format::Json)]
    log_format: Format,
    /// Where spans are sent: the base URL of an OpenTelemetry collector that takes OTLP over HTTP, such as
    /// http://collector.observability:4318. Nothing is sent if it is empty.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", default_value = "")]
    otlp_endpoint: String,
    /// Headers of these requests, as key=value,other=value.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", default_value = "", hide_env_values = true)]
    otlp_headers: String,
    /// Name of the service that the spans belong to. The operator's if it is empty.
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "")]
    service_name: String,
    /// Take this operator's finalizers off its objects and end, after its installation has been removed.
    #[arg(long, env = "MLOP_RELEASE_FINALIZERS")]
    release_finalizers: bool,
    /// Wait until this operator's Deployment is ready, it leads, and its kinds are served; then end.
    #[arg(long, env = "MLOP_CHECK_INSTALLATION", conflicts_with = "release_finalizers")]
    check_installation: bool,
}

/// The entry point of an operator: reads flags, connects, elects a leader, answers probes, runs the controllers that
/// `install` sets up, and shuts down on SIGTERM. With `--release-finalizers` it only takes the operator's finalizers off, and
/// with `--check-installation` it only looks at another process of the operator.
///
/// # Errors
/// When it cannot start, or when a reflector or controller ends.
pub async fn main(operator: &str, install: impl FnOnce(&mut Setup)) -> anyhow::Result<()> {
    let args = Args::parse();
    logging::init(&args.log_level, args.log_format)?;
    let destination = args.destination(operator)?;
    let input_kinds = args.input_kinds.iter().filter(|text| !text.is_empty()).map(|text| text.parse());
    let settings = Settings {
        operator: operator.to_owned(),
        namespaces: args.namespaces.into_iter().filter(|ns| !ns.is_empty()).collect(),
        input_kinds: input_kinds.collect::<Result<_, String>>().map_err(anyhow::Error::msg)?,
        worker_image: args.worker_image,
    };
    let config = kube::Config::infer().await.context("no cluster: neither in a pod nor a kubeconfig")?;
    let metrics = Arc::<Metrics>::default();
    let client = client::connect(config, metrics.requests.clone())?;
    if args.release_finalizers {
        let kinds = operators::named(operator).map_or(&[][..], |operator| operator.finalized);
        return finalizers::release(&client, kinds, &settings.namespaces).await;
    }
    if args.check_installation {
        let operator =
            operators::named(operator).with_context(|| format!("there is no operator {operator}"))?;
        return installation::check(&client, operator, &args.lease_namespace).await;
    }
    #[allow(clippy::disallowed_methods, reason = "the one place where an operator reads the clock")]
    let clock: Clock = Arc::new(jiff::Timestamp::now);

    let mut setup =
        Setup::new(client.clone(), settings, Arc::clone(&clock)).with_metrics(Arc::clone(&metrics));
    let mut exporter = None;
    if let Some(destination) = destination {
        let (tracer, spans) = Tracer::new();
        setup = setup.with_tracer(tracer);
        exporter = Some(tokio::spawn(otlp::export(destination, spans, Arc::clone(&metrics))));
    }
    install(&mut setup);
    let relist = setup.relist();
    let (_, health) = health::serve(&args.health_address, metrics, setup.readiness())?;

    let (leading, is_leading) = watch::channel((!args.leader_elect).then(Instant::now));
    let (stop, stopping) = watch::channel(false);
    let election = args.leader_elect.then(|| {
        let candidate = leader_election::Candidate {
            client,
            owner: service_account::owner(&args.lease_namespace),
            namespace: args.lease_namespace,
            name: operator.to_owned(),
            me: args.pod_name,
            clock,
            relist,
        };
        tokio::spawn(leader_election::elect(candidate, leading, stopping))
    });
    let result = tokio::select! {
        ended = setup.run(is_leading) => ended,
        Ok(error) = health => Err(error.context("the health server has ended")),
        signal = terminated() => signal,
    };
    stop.send_replace(true);
    if let Some(election) = election {
        election.await.context("leader election")?;
    }
    if let Some(exporter) = exporter {
        // The last spans are worth a moment, and no more.
        let _is_done = timeout(FLUSH, exporter).await;
    }
    result
}

impl Args {
    /// Where spans are sent; none if no endpoint is set.
    fn destination(&self, operator: &str) -> anyhow::Result<Option<Destination>> {
        if self.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let service = if self.service_name.is_empty() { operator } else { &self.service_name };
        Destination::new(&self.otlp_endpoint, &self.otlp_headers, service).map(Some)
    }
}

async fn terminated() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("received SIGTERM or SIGINT, shutting down");
    Ok(())
}
