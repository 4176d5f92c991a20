//! Logs: one JSON object a line, or text for people who read along.
//!
//! Lines about an object have the keys `kind`, `namespace` and `name`; about a run also `run`, `attempt` and `trace_id`.
//! They come from the span around a reconcile, so that no event repeats them.

use json_subscriber::fmt::Layer;
use tracing::{Span, Subscriber, field::Empty};
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// An object with stable keys.
    Json,
    /// Time, level, keys of the object, and message.
    Text,
}

/// Starts logging to standard error. `filter` is a level or a list such as `info,mlop_core=debug`.
///
/// # Errors
/// When `filter` is not readable or logging has been started before.
pub(crate) fn init(filter: &str, format: Format) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter)?;
    let text =
        || tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let lines = match format {
        Format::Json => lines(std::io::stderr).boxed(),
        Format::Text => text().boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(())
}

/// Keys of the lines about an object besides its kind, namespace and name.
#[derive(Default)]
pub struct LogKeys {
    pub run: Option<String>,
    /// Number of the attempt that is active or comes next.
    pub attempt: Option<u32>,
    pub trace_id: Option<String>,
}

/// The span whose fields are the keys of all lines about an object. It has the highest level, so that no filter drops it.
pub(crate) fn span(kind: &str, namespace: &str, name: &str, keys: LogKeys) -> Span {
    let LogKeys { run, attempt, trace_id } = keys;
    let span = tracing::error_span!("reconcile", kind, namespace, name = Empty, run, attempt, trace_id);
    // The layer has given the key `name` to the name of the span.
    span.record("name", name);
    span
}

/// Writes each event with the fields of its spans beside its own.
fn lines<S, W>(writer: W) -> Layer<S, W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    json_subscriber::layer()
        .with_writer(writer)
        .with_target(false)
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .flatten_span_list_on_top_level(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn line_has_the_keys_of_its_span_on_top() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber =
            tracing_subscriber::registry().with(EnvFilter::new("warn")).with(lines(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let keys = LogKeys { run: Some("delay-1".to_owned()), attempt: Some(2), trace_id: None };
            let span = span("TrainingRun", "ns", "delay-1", keys);
            let _entered = span.entered();
            tracing::info!("below the level");
            tracing::warn!(failures = 3, "reconcile failed; retrying");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let mut line: Value = serde_json::from_str(&text).unwrap();
        assert!(line["timestamp"].take().is_string());
        let want = json!({
            "timestamp": null, "level": "WARN", "message": "reconcile failed; retrying", "failures": 3,
            "kind": "TrainingRun", "namespace": "ns", "name": "delay-1", "run": "delay-1", "attempt": 2,
        });
        assert_eq!(line, want);
        assert_eq!(text.matches("\"name\"").count(), 1, "no key is there twice: {text}");
    }
}
