//! The JSON form of an OTLP export request (`ExportTraceServiceRequest`): ids in hexadecimal digits, 64-bit integers as
//! texts.

use crate::span::Span;
use jiff::Timestamp;
use serde_json::{Value, json};

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u32 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

/// The request that exports `spans` of `service`.
pub(super) fn of(service: &str, spans: &[Span]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            attribute("service.name", &service.into()),
            attribute("service.version", &version.into()),
            attribute("service.namespace", &"mlop".into()),
        ]},
        "scopeSpans": [{
            "scope": {"name": "mlop", "version": version},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(span: &Span) -> Value {
    let status = span.error.as_ref().map(|message| json!({"code": ERROR, "message": message}));
    let attributes: Vec<_> = span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let mut document = json!({
        "traceId": span.trace.as_str(),
        "spanId": span.id.as_str(),
        "name": span.name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.end.max(span.start)),
        "attributes": attributes,
        "status": status.unwrap_or_else(|| json!({})),
    });
    if let (Some(parent), Some(fields)) = (&span.parent, document.as_object_mut()) {
        fields.insert("parentSpanId".to_owned(), parent.as_str().into());
    }
    document
}

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::String(text) => json!({"stringValue": text}),
        other => json!({"stringValue": other.to_string()}),
    };
    json!({"key": key, "value": value})
}

fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().to_string()
}
