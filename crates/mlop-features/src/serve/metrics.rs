//! The metrics of the server, for Prometheus.

use super::answer::{Answer, Status};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use std::{fmt, time::Duration};

/// Upper ends of the latency histogram's buckets in seconds.
const SECONDS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

pub struct Metrics {
    registry: Registry,
    requests: Family<[(&'static str, u16); 1], Counter>,
    seconds: Histogram,
    values: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    pub fn new() -> Self {
        let requests = Family::<_, Counter>::default();
        let seconds = Histogram::new(SECONDS);
        let values = Family::<_, Counter>::default();
        for status in Status::ALL {
            // A status that has not occurred is a zero, not a gap.
            values.get_or_create(&[("status", status.as_str())]).inc_by(0);
        }
        let mut registry = Registry::with_prefix("mlop_features");
        registry.register("requests", "Requests for online features by HTTP status", requests.clone());
        registry.register("request_duration_seconds", "Time to answer a request", seconds.clone());
        registry.register("values", "Feature values in answers by their status", values.clone());
        Self { registry, requests, seconds, values }
    }

    pub fn request(&self, code: u16, elapsed: Duration) {
        self.requests.get_or_create(&[("code", code)]).inc();
        self.seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts the features, which follow `entities` entity columns.
    pub fn answer(&self, answer: &Answer, entities: usize) {
        let statuses = answer.results.iter().skip(entities).flat_map(|column| &column.statuses);
        let mut counts = [0; Status::ALL.len()];
        for status in statuses {
            if let Some(count) = counts.get_mut(*status as usize) {
                *count += 1;
            }
        }
        for (status, count) in Status::ALL.iter().zip(counts) {
            self.values.get_or_create(&[("status", status.as_str())]).inc_by(count);
        }
    }

    /// # Errors
    /// Never: writing to a text cannot fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
