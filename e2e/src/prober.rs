//! Requests all the time, to see whether one fails.

use crate::predict::{self, Request};
use anyhow::{Context as _, Result, ensure};
use std::{fmt, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// Time between two requests.
const EVERY: Duration = Duration::from_millis(50);
/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// Failures that are kept in words.
const EXAMPLES: usize = 5;

/// Sends requests until it is told to stop.
pub struct Prober {
    stop: oneshot::Sender<()>,
    /// How many different answers there were.
    answers: watch::Receiver<usize>,
    task: JoinHandle<Report>,
}

/// How the requests went.
#[derive(Debug, Default)]
pub struct Report {
    pub sent: usize,
    pub failed: usize,
    /// The first failures.
    pub examples: Vec<String>,
    pub slowest: Duration,
    /// The different answers, in the order in which they first came.
    pub answers: Vec<Vec<f64>>,
}

impl Prober {
    /// Starts to send `request` to `url`, in turn over a kept connection and over a new one: a server that goes away
    /// must drain the first and stop getting the second.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn start(url: String, request: Request) -> Result<Self> {
        let kept = reqwest::Client::builder().timeout(LIMIT).build()?;
        let fresh = reqwest::Client::builder().timeout(LIMIT).pool_max_idle_per_host(0).build()?;
        let (stop, mut stopped) = oneshot::channel();
        let (count, answers) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut report = Report::default();
            for client in [&kept, &fresh].into_iter().cycle() {
                tokio::select! {
                    _ = &mut stopped => break,
                    _ = ticks.tick() => report.probe(client, &url, &request).await,
                }
                count.send_replace(report.answers.len());
            }
            report
        });
        Ok(Self { stop, answers, task })
    }

    /// Waits until there were `wanted` different answers.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn answers(&mut self, wanted: usize, limit: Duration) -> Result<()> {
        let seen = timeout(limit, self.answers.wait_for(|count| *count >= wanted)).await;
        seen.with_context(|| format!("no {wanted} different answers within {} s", limit.as_secs()))??;
        Ok(())
    }

    /// Ends it and tells how the requests went.
    ///
    /// # Errors
    /// When the prober itself failed.
    pub async fn stop(self) -> Result<Report> {
        // The receiver is gone only if the task has ended, and then joining it tells why.
        self.stop.send(()).ok();
        Ok(self.task.await?)
    }
}

impl Report {
    async fn probe(&mut self, client: &reqwest::Client, url: &str, request: &Request) {
        let start = Instant::now();
        let answer = predict::infer(client, url, request).await;
        self.sent += 1;
        self.slowest = self.slowest.max(start.elapsed());
        match answer {
            Ok(answer) if !self.answers.contains(&answer) => self.answers.push(answer),
            Ok(_) => {}
            Err(error) => {
                self.failed += 1;
                if self.examples.len() < EXAMPLES {
                    self.examples.push(format!("request {}: {error:#}", self.sent));
                }
            }
        }
    }

    /// # Errors
    /// When a request failed, or none was sent.
    pub fn check(&self) -> Result<()> {
        ensure!(self.sent > 0 && self.failed == 0, "{self}");
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed, slowest {} ms", self.sent, self.failed, self.slowest.as_millis())?;
        self.examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}
