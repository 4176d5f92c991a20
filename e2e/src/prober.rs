//! Continuous requests during a change, to detect failures.

use crate::predict::{self, Request};
use anyhow::{Context as _, Result, ensure};
use std::{fmt, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// The interval between two requests.
const INTERVAL: Duration = Duration::from_millis(50);
/// The timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The number of failures whose messages are kept.
const EXAMPLES: usize = 5;

/// Sends requests until it is stopped.
pub struct Prober {
    stop: oneshot::Sender<()>,
    /// The number of different answers so far.
    answers: watch::Receiver<usize>,
    task: JoinHandle<Report>,
}

/// The result of the requests.
#[derive(Debug, Default)]
pub struct Report {
    pub sent: usize,
    pub failed: usize,
    /// The messages of the first failures.
    pub examples: Vec<String>,
    pub slowest: Duration,
    /// The different answers, in the order of their first occurrence.
    pub answers: Vec<Vec<f64>>,
}

impl Prober {
    /// Starts to send `request` to `url`, alternately over a persistent connection and over a new one. A server that stops
    /// must drain the former and no longer get the latter.
    ///
    /// # Errors
    /// The HTTP client cannot be created.
    pub fn start(url: String, request: Request) -> Result<Self> {
        let persistent = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let fresh = reqwest::Client::builder().timeout(TIMEOUT).pool_max_idle_per_host(0).build()?;
        let (stop, mut stopped) = oneshot::channel();
        let (count, answers) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut ticks = interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut report = Report::default();
            for client in [&persistent, &fresh].into_iter().cycle() {
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
    /// `limit` has passed.
    pub async fn until_answers(&mut self, wanted: usize, limit: Duration) -> Result<()> {
        let seen = timeout(limit, self.answers.wait_for(|count| *count >= wanted)).await;
        seen.with_context(|| format!("no {wanted} different answers within {} s", limit.as_secs()))??;
        Ok(())
    }

    /// Stops the requests and returns their result.
    ///
    /// # Errors
    /// The prober itself failed.
    pub async fn stop(self) -> Result<Report> {
        // The receiver is gone only if the task has ended. Then joining it returns the error.
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

    /// Checks that requests were sent and none failed.
    ///
    /// # Errors
    /// A request failed, or none was sent; with the report.
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
