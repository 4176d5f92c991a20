//! The online API beside Feast's Python server, and beside a client that reads the same rows from Redis itself.

use super::load::{ENTITY, NAMESPACE, VIEW, Wide, feast_command, features, rows};
use crate::{
    bench::{
        lab::Lab,
        redis::{self, Redis, Row},
        server::{Connection, Server},
        times::Times,
    },
    control_plane::free_ports,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Entities and features of each measured request.
const SIZES: [(usize, usize); 6] = [(1, 5), (10, 5), (100, 5), (1, 50), (10, 50), (100, 50)];
/// Most requests of one size to one program.
const REQUESTS: usize = 20_000;
/// Requests before the measurement.
const WARM_UP: usize = 50;
const PATH: &str = "/get-online-features";

/// The answers of one program to requests of one size.
struct Measured {
    times: Times,
    seconds: f64,
    /// CPU seconds of the server; none for a client that reads from Redis itself.
    cpu: Option<f64>,
}

/// Measures each size of request with each program, one connection at a time, and returns the figures.
pub(super) async fn run(lab: &Lab, redis: &Redis, wide: &Wide, limit: Duration) -> Result<Value> {
    let (ours, theirs) = (mlop(lab, redis).await?, feast(lab).await?);
    check_same(&ours, &theirs).await?;
    let rows = rows(redis).await?;
    println!(
        "{:>9} {:>9} {:<14} {:>9} {:>8} {:>8} {:>8} {:>8} {:>11} {:>15}",
        "entities",
        "features",
        "answer by",
        "requests",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "requests/s",
        "for a CPU s"
    );
    let mut figures = Vec::new();
    for (entities, features) in SIZES {
        let size = Size { entities, features, all: wide.entities };
        let plain = plain(redis, &rows, size, limit).await?;
        let ours = size.ask(&ours, limit).await?;
        let theirs = size.ask(&theirs, limit).await?;
        for (program, measured) in [("plain client", &plain), ("mlop", &ours), ("Feast", &theirs)] {
            println!("{entities:>9} {features:>9} {program:<14} {measured}");
        }
        figures.push(json!({
            "entities": entities, "features": features,
            "plain": plain.to_json(), "mlop": ours.to_json(), "feast": theirs.to_json(),
        }));
    }
    Ok(figures.into())
}

async fn mlop(lab: &Lab, redis: &Redis) -> Result<Server> {
    let [port] = free_ports().await?;
    let mut command = lab.program("mlop-features");
    command.args(["serve", "--namespace", NAMESPACE, "--drain-seconds", "0"]).env("RUST_LOG", "warn");
    command.args(["--redis", &redis.address(), "--listen", &format!("127.0.0.1:{port}")]);
    Server::start(command, port, lab.directory("serve")?.join("log")).await
}

async fn feast(lab: &Lab) -> Result<Server> {
    let [port] = free_ports().await?;
    let mut command = feast_command(lab, "serve")?;
    command.arg(port.to_string());
    Server::start(command, port, lab.directory("feast")?.join("log")).await
}

/// Checks that both servers give the same values.
async fn check_same(ours: &Server, theirs: &Server) -> Result<()> {
    let body = Size { entities: 10, features: features().len(), all: 10 }.body(0);
    let mut answers = Vec::new();
    for server in [ours, theirs] {
        let answer = server.connect().await?.post(PATH, &body).await?;
        answers.push(by_name(&serde_json::from_slice(&answer)?)?);
    }
    ensure!(answers.first() == answers.last(), "mlop and Feast give other values: {answers:?}");
    Ok(())
}

/// The values of an answer by the names of their columns, which have no fixed order.
fn by_name(answer: &Value) -> Result<BTreeMap<String, Value>> {
    let names = answer.pointer("/metadata/feature_names").and_then(Value::as_array).context("no names")?;
    let results = answer.get("results").and_then(Value::as_array).context("no results")?;
    let values = results.iter().map(|column| column.get("values").cloned().unwrap_or_default());
    Ok(names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).zip(values).collect())
}

/// Reads the rows of each request from Redis, and does nothing with them.
async fn plain(redis: &Redis, rows: &[Row], size: Size, limit: Duration) -> Result<Measured> {
    let mut client = redis.connect().await?;
    // The time of a row is a field too.
    let fields = size.features + 1;
    let (times, seconds) = repeat(limit, async |round| {
        let wanted: Vec<_> = size.ids(round).filter_map(|id| rows.get(id)).collect();
        redis::read(&mut client, &wanted, fields).await
    })
    .await?;
    Ok(Measured { times, seconds, cpu: None })
}

/// The size of a request.
#[derive(Clone, Copy)]
struct Size {
    entities: usize,
    features: usize,
    /// Entities that exist.
    all: usize,
}

impl Size {
    /// The entities of a request. Other rounds have others.
    fn ids(self, round: usize) -> impl Iterator<Item = usize> {
        (0..self.entities).map(move |place| (round * 7_919 + place * 101) % self.all)
    }

    fn body(self, round: usize) -> String {
        let features: Vec<_> =
            features().into_iter().take(self.features).map(|name| format!("{VIEW}:{name}")).collect();
        json!({"features": features, "entities": {ENTITY: self.ids(round).collect::<Vec<_>>()}}).to_string()
    }

    async fn ask(self, server: &Server, limit: Duration) -> Result<Measured> {
        let bodies: Vec<_> = (0..REQUESTS.min(self.all)).map(|round| self.body(round)).collect();
        let mut connection: Connection = server.connect().await?;
        let before = server.cpu()?;
        let (times, seconds) = repeat(limit, async |round| {
            let body = bodies.get(round % bodies.len()).context("no request")?;
            connection.post(PATH, body).await.map(drop)
        })
        .await?;
        Ok(Measured { times, seconds, cpu: Some(server.cpu()? - before) })
    }
}

/// Sends one request after the other, at most for the time `limit`. Returns their times and the seconds of all.
async fn repeat(limit: Duration, mut ask: impl AsyncFnMut(usize) -> Result<()>) -> Result<(Times, f64)> {
    for round in 0..WARM_UP {
        ask(round).await?;
    }
    let (mut times, begin) = (Vec::new(), Instant::now());
    while times.len() < REQUESTS && begin.elapsed() < limit {
        let sent = Instant::now();
        ask(times.len()).await?;
        times.push(sent.elapsed());
    }
    Ok((times.into_iter().collect(), begin.elapsed().as_secs_f64()))
}

impl Measured {
    fn rate(&self) -> f64 {
        self.times.len() as f64 / self.seconds
    }

    /// Requests in a second of the server's CPU time.
    fn for_a_cpu_second(&self) -> Option<f64> {
        self.cpu.map(|cpu| self.times.len() as f64 / cpu)
    }

    fn to_json(&self) -> Value {
        json!({
            "milliseconds": self.times.to_json(), "perSecond": self.rate(),
            "perCpuSecond": self.for_a_cpu_second(),
        })
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |share| self.times.per_mille(share).as_secs_f64() * 1e3;
        write!(f, "{:>9} {:>8.2} {:>8.2}", self.times.len(), millis(500), millis(990))?;
        write!(f, " {:>8.2} {:>8.2} {:>11.0}", millis(999), millis(1_000), self.rate())?;
        match self.for_a_cpu_second() {
            Some(rate) => write!(f, " {rate:>15.0}"),
            None => write!(f, " {:>15}", "-"),
        }
    }
}
