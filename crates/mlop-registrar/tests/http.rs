//! The line to a real socket: answers as they were recorded from MLflow 3.17, and no answers at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use mlop_api::{Reason, result::Failure};
use mlop_registrar::{alias, mlflow::Mlflow, probe, transport::Http};
use std::time::Duration;
use support::{
    alias_work, register, register_work,
    tls::{self, CA, secret},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A server that gives the answers one after the other, a connection each, and returns the request lines.
async fn serve(answers: Vec<String>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 16 << 10];
            let n = socket.read(&mut request).await.unwrap();
            requests.push(String::from_utf8_lossy(&request[..n]).lines().next().unwrap().to_owned());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (address, requests)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[track_caller]
fn check(failure: &Failure, reason: Reason, retryable: bool, words: &str) {
    assert_eq!((failure.reason, failure.retryable), (reason, retryable), "{}", failure.message);
    assert!(failure.message.contains(words), "{}", failure.message);
}

/// How an activation fails when the server's first answer is `answer`.
async fn refused(answer: String) -> Failure {
    let (address, _requests) = serve(vec![answer]).await;
    let mlflow = Mlflow::new(Http::new(&address, None).unwrap());
    alias::activate(&mlflow, &alias_work("m1", "1", 1)).await.unwrap_err()
}

#[tokio::test]
async fn requests_are_those_of_the_rest_api() {
    let model = |claim: &str, alias: &str| {
        answer(
            "200 OK",
            &format!(
                r#"{{"registered_model": {{"name": "m1", "creation_timestamp": 1795234596403, "latest_versions": [],
                    "tags": [{{"key": "a", "value": "b"}}{claim}], "aliases": [{alias}]}}}}"#
            ),
        )
    };
    let claim = r#", {"key": "mlop.alias.champion.demo.uid.4", "value": "2"}"#;
    let (address, requests) = serve(vec![
        model("", ""),
        answer("200 OK", "{}"),
        model(claim, r#"{"alias": "champion", "version": "1"}"#),
        answer("200 OK", "{}"),
        model(claim, r#"{"alias": "champion", "version": "2"}"#),
    ])
    .await;
    let mlflow = Mlflow::new(Http::new(&format!("{address}/"), None).unwrap());
    alias::activate(&mlflow, &alias_work("m1", "2", 4)).await.unwrap();
    let api = "/api/2.0/mlflow/registered-models";
    assert_eq!(
        requests.await.unwrap(),
        [
            format!("GET {api}/get?name=m1 HTTP/1.1"),
            format!("POST {api}/set-tag HTTP/1.1"),
            format!("GET {api}/get?name=m1 HTTP/1.1"),
            format!("POST {api}/alias HTTP/1.1"),
            format!("GET {api}/get?name=m1 HTTP/1.1"),
        ]
    );
}

#[tokio::test]
async fn redirection_is_reported_and_not_followed() {
    let (elsewhere, mut reached) = serve(vec![answer("200 OK", "{}")]).await;
    let redirection = format!("302 Found\r\nlocation: {elsewhere}/latest/meta-data");
    let words = format!("it redirects to {elsewhere}/latest/meta-data");
    check(&refused(answer(&redirection, "")).await, Reason::TrackingRefused, false, &words);
    let followed = tokio::time::timeout(Duration::from_millis(50), &mut reached).await;
    assert!(followed.is_err(), "{followed:?}");
}

#[tokio::test]
async fn answer_without_an_end_is_given_up() {
    let body = "x".repeat(9 << 20);
    check(
        &refused(answer("200 OK", &body)).await,
        Reason::TrackingUnreachable,
        true,
        "more than 8388608 bytes",
    );
}

#[tokio::test]
async fn error_code_decides_and_not_the_status() {
    let body =
        r#"{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=m1 not found"}"#;
    check(
        &refused(answer("404 NOT FOUND", body)).await,
        Reason::TrackingRefused,
        false,
        "\"m1\" does not exist",
    );
    let body =
        r#"{"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias nope not found."}"#;
    check(
        &refused(answer("400 BAD REQUEST", body)).await,
        Reason::TrackingRefused,
        false,
        "alias nope not found",
    );
    let body = r#"{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is locked"}"#;
    check(&refused(answer("503 X", body)).await, Reason::TrackingUnreachable, true, "database is locked");
}

#[tokio::test]
async fn answers_that_are_not_mlflow_s_are_explained() {
    let host = "Invalid Host header - possible DNS rebinding attack detected";
    check(
        &refused(answer("403 FORBIDDEN", host)).await,
        Reason::TrackingDenied,
        false,
        "--allowed-hosts 127.0.0.1:",
    );
    let page = "<!doctype html> <html lang=en> <title>404 Not Found</title>";
    check(
        &refused(answer("404 NOT FOUND", page)).await,
        Reason::TrackingRefused,
        false,
        "is this an MLflow server",
    );
    check(&refused(answer("200 OK", "OK")).await, Reason::TrackingRefused, false, "check the address");
    check(&refused(answer("502 Bad Gateway", "")).await, Reason::TrackingUnreachable, true, "HTTP 502");
}

#[tokio::test]
async fn probe_succeeds_when_mlflow_answers() {
    use Reason::{TrackingDenied, TrackingRefused};
    let rows = [
        ("404 NOT FOUND", r#"{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}"#, None),
        ("200 OK", r#"{"registered_model": {"name": "mlop.probe"}}"#, None),
        (
            "403 FORBIDDEN",
            "Invalid Host header - possible DNS rebinding",
            Some((TrackingDenied, "--allowed-hosts 127.0.0.1:")),
        ),
        ("401 UNAUTHORIZED", "You are not authenticated.", Some((TrackingDenied, "it wants a login"))),
        ("200 OK", "OK", Some((TrackingRefused, "check the address"))),
        ("404 NOT FOUND", "<!doctype html>", Some((TrackingRefused, "is this an MLflow server"))),
    ];
    for (status, body, refusal) in rows {
        let (address, _requests) = serve(vec![answer(status, body)]).await;
        let outcome = probe::probe(&Mlflow::new(Http::new(&address, None).unwrap())).await;
        match refusal {
            None => drop(outcome.unwrap()),
            Some((reason, words)) => check(&outcome.unwrap_err(), reason, false, words),
        }
    }
}

#[tokio::test]
async fn missing_answer_is_retryable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure =
        register(Http::new(&closed, None).unwrap(), &register_work(&closed, "a")).await.unwrap_err();
    check(&failure, Reason::TrackingUnreachable, true, "Connection refused");
    check(&refused(String::new()).await, Reason::TrackingUnreachable, true, "registered-models/get");
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
    check(&refused(half).await, Reason::TrackingUnreachable, true, "registered-models/get");
}

#[test]
fn addresses_that_cannot_be_used_are_refused() {
    let rows = [
        ("ftp://mlflow", "must begin with http:// or https://"),
        ("mlflow:5000", "must begin with http:// or https://"),
        ("", "is not a URL"),
        ("http://user:secret@mlflow", "into a Secret"),
        ("http://mlflow/?a=b", "must end with its path"),
    ];
    for (address, words) in rows {
        let failure = Http::new(address, None).err().unwrap();
        check(&failure, Reason::InvalidSpec, false, words);
    }
}

#[test]
fn secret_without_usable_keys_is_refused() {
    let rows: [(&[(&str, &str)], &str); 5] = [
        (&[], "neither a key token nor the keys username and password"),
        (&[("username", "u")], "has no key password"),
        (&[("token", "t\n")], "token that ends with a line end"),
        (&[("username", "u"), ("password", " p")], "password that has white space"),
        (&[("ca.crt", "x"), ("token", "t")], "ca.crt without a certificate"),
    ];
    for (keys, words) in rows {
        let failure = Http::new("https://mlflow", Some(secret(keys).path())).err().unwrap();
        check(&failure, Reason::SecretMissing, false, words);
    }
}

#[tokio::test]
async fn requests_carry_the_login_below_the_path() {
    let rows: [(&[(&str, &str)], &str); 3] = [
        (&[("token", "t0ken")], "authorization: Bearer t0ken"),
        (&[("username", "u"), ("password", "p")], "authorization: Basic dTpw"),
        (&[("ca.crt", CA)], "host: 127.0.0.1"),
    ];
    for (keys, header) in rows {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/team/mlflow/", listener.local_addr().unwrap());
        let request = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 16 << 10];
            let n = socket.read(&mut request).await.unwrap();
            socket.write_all(answer("401 X", "no").as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        let mlflow = Mlflow::new(Http::new(&address, Some(secret(keys).path())).unwrap());
        let failure = alias::activate(&mlflow, &alias_work("m1", "1", 1)).await.unwrap_err();
        check(&failure, Reason::TrackingDenied, false, "it wants a login");
        let request = request.await.unwrap();
        assert!(request.starts_with("GET /team/mlflow/api/2.0/mlflow/registered-models/get?"), "{request}");
        assert!(request.contains(header), "{request}");
    }
}

/// A server with the certificate of `tls/`, which gives one answer.
async fn serve_tls(body: &'static str) -> String {
    let acceptor = tls::acceptor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut socket) = acceptor.accept(socket).await else { continue };
            let mut request = vec![0; 16 << 10];
            let _read = socket.read(&mut request).await.unwrap();
            socket.write_all(answer("400 BAD REQUEST", body).as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn https_is_spoken_with_the_authority_of_the_secret() {
    let body = r#"{"error_code": "INVALID_PARAMETER_VALUE", "message": "over TLS"}"#;
    let address = serve_tls(body).await;
    let ask = async |secret: Option<&std::path::Path>| {
        let mlflow = Mlflow::new(Http::new(&address, secret).unwrap());
        alias::activate(&mlflow, &alias_work("m1", "1", 1)).await.unwrap_err()
    };
    let trusted = ask(Some(secret(&[("ca.crt", CA), ("token", "t")]).path())).await;
    check(&trusted, Reason::TrackingRefused, false, "over TLS");
    let words = "add its certificate (PEM) as the key ca.crt to the Secret of spec.existing.secretName";
    check(&ask(None).await, Reason::TrackingUnreachable, true, words);
}
