use super::*;
use crate::runtime::tracer::Tracer;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use mlop_api::{
    Digest,
    trace::{SpanId, TraceId},
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};
use tokio::net::TcpListener;

/// What a collector has received: the authorization and the document of each request.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

/// A collector that answers its first requests with `answers`, and all others with 200.
async fn collector(mut answers: Vec<StatusCode>) -> (SocketAddr, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, received) = (listener.local_addr().unwrap(), Received::default());
    let requests = Arc::clone(&received);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            answers.reverse();
            let (requests, answers) = (Arc::clone(&requests), Mutex::new(std::mem::take(&mut answers)));
            let answer = service_fn(move |request: Request<Incoming>| {
                let requests = Arc::clone(&requests);
                let status = answers.lock().unwrap_or_else(PoisonError::into_inner).pop();
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
                    let key = request.headers()["authorization"].to_str().unwrap().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    requests.lock().unwrap().push((key, serde_json::from_slice(&body).unwrap()));
                    let mut answer = Response::new(Full::new(Bytes::from_static(b"{}")));
                    *answer.status_mut() = status.unwrap_or(StatusCode::OK);
                    Ok::<_, Infallible>(answer)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, received)
}

fn destination(address: SocketAddr) -> Destination {
    let headers = "authorization=Bearer x, other = 1";
    Destination::new(&format!("http://{address}/"), headers, "mlop-training").unwrap()
}

fn span(uid: &str) -> Span {
    let trace = TraceId::of_root("ns", "Dataset", "flights", &Digest::of_bytes(b"listing"));
    Span {
        id: SpanId::of_run(uid),
        parent: Some(trace.root_span()),
        trace,
        name: "TrainingRun delay".to_owned(),
        start: Timestamp::from_second(1_700_000_000).unwrap(),
        end: Timestamp::from_millisecond(1_700_000_090_500).unwrap(),
        attributes: vec![("mlop.run", "delay-1".into()), ("mlop.attempts", 2.into())],
        error: Some("UserError".to_owned()),
    }
}

fn count(metrics: &Metrics, label: &SpanLabel) -> u64 {
    metrics.spans.get_or_create(label).get()
}

#[tokio::test]
async fn span_is_exported_once_as_otlp() {
    let (address, received) = collector(Vec::new()).await;
    let ((tracer, spans), metrics) = (Tracer::new(), Arc::<Metrics>::default());
    for uid in ["1", "2", "1"] {
        tracer.record(span(uid), &metrics);
    }
    drop(tracer);
    export(destination(address), spans, Arc::clone(&metrics)).await;
    let received = received.lock().unwrap().clone();
    let [(key, document)] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!(key, "Bearer x");
    assert_eq!(
        document.pointer("/resourceSpans/0/resource/attributes/0").unwrap(),
        &json!({
            "key": "service.name", "value": {"stringValue": "mlop-training"},
        })
    );
    let exported = document.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap();
    assert_eq!(exported.len(), 2);
    let first = span("1");
    assert_eq!(
        exported[0],
        json!({
            "traceId": first.trace.as_str(),
            "spanId": first.id.as_str(),
            "parentSpanId": first.trace.root_span().as_str(),
            "name": "TrainingRun delay",
            "kind": 1,
            "startTimeUnixNano": "1700000000000000000",
            "endTimeUnixNano": "1700000090500000000",
            "attributes": [
                {"key": "mlop.run", "value": {"stringValue": "delay-1"}},
                {"key": "mlop.attempts", "value": {"intValue": "2"}},
            ],
            "status": {"code": 2, "message": "UserError"},
        })
    );
    assert_eq!((count(&metrics, &SpanLabel::EXPORTED), count(&metrics, &SpanLabel::DROPPED)), (2, 0));
}

#[tokio::test]
async fn busy_collector_gets_the_batch_again() {
    let (address, received) = collector(vec![StatusCode::SERVICE_UNAVAILABLE]).await;
    let ((tracer, spans), metrics) = (Tracer::new(), Arc::<Metrics>::default());
    tracer.record(span("1"), &metrics);
    drop(tracer);
    export(destination(address), spans, Arc::clone(&metrics)).await;
    assert_eq!(received.lock().unwrap().len(), 2);
    assert_eq!((count(&metrics, &SpanLabel::EXPORTED), count(&metrics, &SpanLabel::DROPPED)), (1, 0));
}

/// Nothing listens on the port of a listener that is gone. The time is virtual, so that the retries take none.
#[tokio::test(start_paused = true)]
async fn collector_that_is_away_costs_spans_and_blocks_nothing() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ((tracer, spans), metrics) = (Tracer::new(), Arc::<Metrics>::default());
    let recorded: u64 = 2_100;
    (0..recorded).for_each(|uid| tracer.record(span(&uid.to_string()), &metrics));
    assert_eq!(
        count(&metrics, &SpanLabel::DROPPED),
        recorded - 2_048,
        "those that the queue has no room for"
    );
    drop(tracer);
    export(destination(address), spans, Arc::clone(&metrics)).await;
    assert_eq!((count(&metrics, &SpanLabel::EXPORTED), count(&metrics, &SpanLabel::DROPPED)), (0, recorded));
}

#[test]
fn destination_names_what_is_wrong_and_no_key() {
    let rows = [
        ("https://collector:4318", "", "does not begin with http://"),
        ("collector:4318", "", "is not a URL"),
        ("http://", "", "is not a URL"),
        ("http://collector:4318", "secret", "an entry has no ="),
        ("http://collector:4318", "a b=secret", "is not the name of a header"),
        ("http://collector:4318", "a=sec\nret", "the value of a is not readable"),
    ];
    for (endpoint, headers, want) in rows {
        let error = format!("{:#}", Destination::new(endpoint, headers, "x").unwrap_err());
        assert!(error.contains(want) && !error.contains("ret"), "{endpoint} {headers}: {error}");
    }
}
