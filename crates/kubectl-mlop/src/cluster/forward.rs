//! HTTP requests to a Service of the cluster, through a port-forward to one of its ready pods.

use super::{Cluster, explained};
use anyhow::{Context as _, Result, anyhow, bail};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{Api, api::ListParams};
use std::{fmt, time::Duration};
use tokio::time::timeout;

/// Longest time to an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest body of an answer in bytes.
const BODY_MAX: usize = 64 << 20;

/// A Service as the URL in a status names it: `http://delay-mdep.flights.svc:8080/v2/models/delay/infer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl {
    pub service: String,
    pub namespace: String,
    pub port: u16,
    /// From the first slash on; `/` at least.
    pub path: String,
}

impl ServiceUrl {
    /// # Errors
    /// It is not the URL of a Service.
    pub fn parse(url: &str) -> Result<Self> {
        let service = || {
            let uri: Uri = url.parse().ok()?;
            let mut host = uri.host()?.split('.');
            let (service, namespace, svc) = (host.next()?, host.next()?, host.next()?);
            let is_plain = uri.scheme_str() == Some("http") && svc == "svc";
            is_plain.then(|| Self {
                service: service.to_owned(),
                namespace: namespace.to_owned(),
                port: uri.port_u16().unwrap_or(80),
                path: uri.path().to_owned(),
            })
        };
        service().with_context(|| format!("{url:?} is not the address of a Service of the cluster"))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Service {}/{}", self.namespace, self.service)
    }
}

/// An HTTP connection to a pod of a Service.
pub struct Forward {
    url: ServiceUrl,
    pod: String,
    requests: SendRequest<Full<Bytes>>,
}

/// A status and a body, whatever they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub body: String,
}

impl Cluster {
    /// Connects to a ready pod of the Service.
    ///
    /// # Errors
    /// No pod is ready, or the user may not forward ports.
    pub async fn forward(&self, url: &ServiceUrl) -> Result<Forward> {
        let (pod, port) = self.ready_pod(url).await?;
        let port = u16::try_from(port).with_context(|| format!("{url} has the port {port}"))?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &url.namespace);
        let forwarded = pods.portforward(&pod, &[port]).await;
        let mut forwarded = forwarded.map_err(|error| refused(error, &pod))?;
        let stream = forwarded.take_stream(port).context("the port-forward has no stream")?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .with_context(|| format!("connecting to port {port} of pod {pod}"))?;
        // A connection that breaks fails the request, which reports it.
        tokio::spawn(connection);
        Ok(Forward { url: url.clone(), pod, requests })
    }

    async fn ready_pod(&self, url: &ServiceUrl) -> Result<(String, i32)> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &url.namespace);
        let what = format!("reading {url}");
        let service = services.get(&url.service).await.map_err(|error| explained(error, &what))?;
        let mut ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default().into_iter();
        let port = ports.find(|port| port.port == i32::from(url.port));
        let port = port.with_context(|| format!("{url} has no port {}", url.port))?;
        let slices = Api::namespaced(self.client.clone(), &url.namespace);
        let pods = ready_pods(&slices, &url.service, port.name.as_deref().unwrap_or_default()).await;
        let pods = pods.map_err(|error| explained(error, &format!("listing the pods of {url}")))?;
        pods.into_iter().next().with_context(|| format!("no pod of {url} is ready"))
    }
}

/// The ready pods of a Service, each with its number of the port. The name of the only port of a Service can be empty.
///
/// # Errors
/// The cluster does not answer, or refuses.
pub async fn ready_pods(
    slices: &Api<EndpointSlice>,
    service: &str,
    port_name: &str,
) -> Result<Vec<(String, i32)>, kube::Error> {
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let mut ready = Vec::new();
    for slice in slices.list(&of_service).await? {
        let mut ports = slice.ports.unwrap_or_default().into_iter();
        let port = ports.find(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|port| port.port) else { continue };
        for endpoint in slice.endpoints.unwrap_or_default() {
            let is_ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            let pod = endpoint.target_ref.and_then(|target| target.name);
            ready.extend(pod.filter(|_| is_ready).map(|pod| (pod, port)));
        }
    }
    Ok(ready)
}

impl Forward {
    /// # Errors
    /// The pod does not answer.
    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, String::new()).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// The pod does not answer.
    pub async fn post(&mut self, path: &str, body: String) -> Result<Answer> {
        self.send(Method::POST, path, body).await
    }

    async fn send(&mut self, method: Method, path: &str, body: String) -> Result<Answer> {
        let what = format!("{method} {path} of pod {}", self.pod);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}.{}", self.url.service, self.url.namespace))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = async {
            // The connection takes a request only after the end of the previous answer has passed through its task.
            self.requests.ready().await?;
            let (head, body) = self.requests.send_request(request).await?.into_parts();
            let body = Limited::new(body, BODY_MAX).collect().await.map_err(|error| anyhow!(error))?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Ok(Answer { status: head.status, body })
        };
        match timeout(PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|error: anyhow::Error| error.context(what)),
            Err(_) => bail!("{what}: no answer within {} seconds", PATIENCE.as_secs()),
        }
    }
}

/// A WebSocket begins with a GET, so both verbs are asked for.
fn refused(error: kube::Error, pod: &str) -> anyhow::Error {
    let what = format!("forwarding a port of pod {pod}");
    match error {
        kube::Error::Api(status) if status.code == 403 => anyhow!(
            "{what}: not allowed: {}; it needs get and create of pods/portforward, which the cluster role edit allows",
            status.message
        ),
        error => explained(error, &what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    /// Answers every request with `ok`.
    async fn serve(mut stream: DuplexStream) {
        let (mut request, mut part) = (Vec::new(), [0; 1024]);
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            request.extend_from_slice(&part[..length]);
            if request.ends_with(b"\r\n\r\n") {
                request.clear();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn request_waits_until_the_connection_takes_it() {
        let (client, server) = duplex(1 << 16);
        tokio::spawn(serve(server));
        let (mut requests, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
        // The connection has no time for the former request before the next one is sent.
        let former = requests.send_request(Request::new(Full::default()));
        tokio::spawn(connection);
        let url = ServiceUrl::parse("http://features-fs.flights.svc:6566").unwrap();
        let mut forward = Forward { url, pod: "features-fs-1".to_owned(), requests };
        let (former, answer) = tokio::join!(former, forward.get("/"));
        assert_eq!(former.unwrap().status(), StatusCode::OK);
        assert_eq!(answer.unwrap().body, "ok");
    }

    #[test]
    fn url_of_a_status_names_a_service() {
        let parse = |url| ServiceUrl::parse(url).ok().map(|url| format!("{url}:{}{}", url.port, url.path));
        let rows = [
            (
                "http://delay-mdep.flights.svc:8080/v2/models/delay/infer",
                Some("Service flights/delay-mdep:8080/v2/models/delay/infer"),
            ),
            ("http://features-fs.flights.svc:6566", Some("Service flights/features-fs:6566/")),
            ("http://a.b.svc.cluster.local", Some("Service b/a:80/")),
            ("https://a.b.svc", None),
            ("http://models.example.com/delay", None),
            ("delay", None),
        ];
        for (url, want) in rows {
            assert_eq!(parse(url).as_deref(), want, "{url}");
        }
    }
}
