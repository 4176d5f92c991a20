//! A router on the loopback interface, between real clients and real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail like tests"
)]

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc, future::join_all};
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use mlop_api::{
    Digest,
    routes::{Backend, Canary, Routes},
    task::{AnalyzeWork, MEASURED},
};
use mlop_router::{analyze::analyze, counts::Counts, serve};
use std::{convert::Infallible, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

type Body = BoxBody<Bytes, Infallible>;

fn text(words: &str) -> Body {
    Full::new(Bytes::from(words.to_owned())).boxed()
}

/// A server that says its name. Some paths make it behave in other ways.
async fn answer(name: &'static str, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    match request.uri().path() {
        path @ ("/fail" | "/refuse") => {
            let mut response = Response::new(text(name));
            let is_fault = path == "/fail";
            *response.status_mut() =
                if is_fault { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::UNPROCESSABLE_ENTITY };
            Ok(response)
        }
        "/break" => Err(std::io::Error::other("the server dies")),
        // Each chunk is sent back before the next one comes.
        "/echo" => {
            let (sender, chunks) = mpsc::unbounded();
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    if sender.unbounded_send(Ok(frame)).is_err() {
                        return;
                    }
                }
            });
            Ok(Response::new(BodyExt::boxed(StreamBody::new(chunks))))
        }
        _ => Ok(Response::new(text(name))),
    }
}

/// Starts a server that says `name`.
async fn server(name: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let service = service_fn(|request| answer(name, request));
                let http = hyper::server::conn::http1::Builder::new();
                // A broken connection is one of the cases.
                let _ended = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, task)
}

/// An address that nobody listens on.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

struct TestRouter {
    users: SocketAddr,
    watchers: SocketAddr,
    file: PathBuf,
    _directory: tempfile::TempDir,
    stop: Arc<Notify>,
    task: JoinHandle<()>,
    client: Client<HttpConnector, Body>,
}

fn routes(stable: SocketAddr, canary: Option<(SocketAddr, u8)>) -> String {
    let backend = |address: SocketAddr, version: &str| Backend {
        address: address.to_string(),
        version: version.to_owned(),
    };
    let canary = canary.map(|(address, weight)| Canary { backend: backend(address, "new"), weight });
    serde_json::to_string(&Routes { stable: backend(stable, "old"), canary }).unwrap()
}

impl TestRouter {
    async fn start(routes: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("routes.json");
        fs::write(&file, routes).unwrap();
        let [users, watchers] = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let stop = Arc::new(Notify::new());
        let addresses = [users.local_addr().unwrap(), watchers.local_addr().unwrap()];
        let (told, path) = (Arc::clone(&stop), file.clone());
        let task = tokio::spawn(async move {
            let drain = Duration::from_millis(500);
            serve::run_on(users, watchers, path, drain, async move { told.notified().await }).await;
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        let router = Self {
            users: addresses[0],
            watchers: addresses[1],
            file,
            _directory: directory,
            stop,
            task,
            client,
        };
        router.until("/health answers", async || router.watch("/health").await.0 == 200).await;
        router
    }

    async fn until(&self, goal: &str, holds: impl AsyncFn() -> bool) {
        let reached = timeout(Duration::from_secs(10), async {
            while !holds().await {
                sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(reached.await.is_ok(), "not within 10 s: {goal}");
    }

    async fn send(&self, address: SocketAddr, path: &str, body: Body) -> (u16, String) {
        let request = Request::post(format!("http://{address}{path}")).body(body).unwrap();
        match self.client.request(request).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                (status, String::from_utf8(body.to_vec()).unwrap())
            }
            Err(error) => (0, format!("{error:?}")),
        }
    }

    async fn user(&self, path: &str) -> (u16, String) {
        self.send(self.users, path, text("question")).await
    }

    async fn watch(&self, path: &str) -> (u16, String) {
        self.send(self.watchers, path, text("")).await
    }

    /// Requests and errors of a version.
    async fn counts(&self, version: &str) -> (f64, f64) {
        let counts = Counts::parse(&self.watch("/metrics").await.1, version);
        (counts.requests, counts.errors)
    }
}

type Chunk = Result<Frame<Bytes>, Infallible>;

/// A request whose chunks the server sends back while it lasts.
struct Echo {
    sender: mpsc::UnboundedSender<Chunk>,
    body: BodyDataStream<Incoming>,
}

impl Echo {
    /// Sends a first chunk, and waits until it has come back: the request is under way.
    async fn open(router: &TestRouter) -> Self {
        let (sender, chunks) = mpsc::unbounded::<Chunk>();
        sender.unbounded_send(Ok(Frame::data(Bytes::from("first")))).unwrap();
        let request = Request::post(format!("http://{}/echo", router.users))
            .body(BodyExt::boxed(StreamBody::new(chunks)))
            .unwrap();
        let response = timeout(Duration::from_secs(10), router.client.request(request)).await;
        let mut echo = Self { sender, body: response.unwrap().unwrap().into_body().into_data_stream() };
        assert_eq!(echo.next().await.unwrap(), "first", "before the request has ended");
        echo
    }

    async fn say(&mut self, words: &'static str) {
        self.sender.unbounded_send(Ok(Frame::data(Bytes::from(words)))).unwrap();
        assert_eq!(self.next().await.unwrap(), words);
    }

    async fn end(mut self) {
        self.sender.close_channel();
        assert_eq!(self.next().await, None);
    }

    async fn next(&mut self) -> Option<Bytes> {
        timeout(Duration::from_secs(10), self.body.next()).await.unwrap().map(Result::unwrap)
    }
}

#[tokio::test]
async fn requests_are_shared_out_exactly() {
    let ((old, _a), (new, _b)) = (server("old").await, server("new").await);
    let router = TestRouter::start(&routes(old, Some((new, 10)))).await;
    let all = join_all((0..200).map(|_| router.user("/v2/models/m/infer"))).await;
    assert!(all.iter().all(|(status, _)| *status == 200), "{all:?}");
    let canary = all.iter().filter(|(_, body)| body == "new").count();
    assert!((18..=22).contains(&canary), "{canary} of 200");
    let (canary, total) = (f64::from(u32::try_from(canary).unwrap()), 200.0);
    router
        .until("all are counted", async || {
            router.counts("old").await.0 + router.counts("new").await.0 == total
        })
        .await;
    assert_eq!(router.counts("new").await, (canary, 0.0));
}

#[tokio::test]
async fn bodies_are_streamed_both_ways() {
    let (old, _a) = server("old").await;
    let router = TestRouter::start(&routes(old, None)).await;
    let mut echo = Echo::open(&router).await;
    echo.say("one").await;
    echo.say("two").await;
    echo.end().await;
}

#[tokio::test]
async fn errors_are_passed_on_and_counted() {
    let ((old, _a), (new, _b)) = (server("old").await, server("new").await);
    let router = TestRouter::start(&routes(old, Some((new, 100)))).await;
    assert_eq!(router.user("/fail").await, (500, "new".to_owned()));
    assert_eq!(router.user("/break").await.0, 502, "what was sent is not sent again");
    assert_eq!(router.user("/").await, (200, "new".to_owned()));
    router.until("all are counted", async || router.counts("new").await == (3.0, 2.0)).await;
    assert_eq!(router.counts("old").await, (0.0, 0.0));
}

#[tokio::test]
async fn version_that_cannot_be_reached_costs_no_request() {
    let (old, _a) = server("old").await;
    let router = TestRouter::start(&routes(old, Some((nobody().await, 50)))).await;
    let all = join_all((0..40).map(|_| router.user("/"))).await;
    assert!(all.iter().all(|answer| *answer == (200, "old".to_owned())), "{all:?}");
    let (requests, errors) = router.counts("new").await;
    assert!((18.0..=22.0).contains(&requests) && requests == errors, "{errors} of {requests}");
}

#[tokio::test]
async fn stable_version_is_never_replaced_by_the_new_one() {
    let (new, _b) = server("new").await;
    let router = TestRouter::start(&routes(nobody().await, Some((new, 0)))).await;
    assert_eq!(router.user("/").await.0, 502);
    router.until("it is counted", async || router.counts("old").await == (2.0, 2.0)).await;
}

#[tokio::test]
async fn routes_are_followed_and_kept_when_unreadable() {
    let ((old, _a), (new, _b)) = (server("old").await, server("new").await);
    let router = TestRouter::start(&routes(old, None)).await;
    assert_eq!(router.user("/").await.1, "old");
    fs::write(&router.file, routes(old, Some((new, 100)))).unwrap();
    router.until("requests go to the new version", async || router.user("/").await.1 == "new").await;
    fs::write(&router.file, "{").unwrap();
    // Longer than the time between two looks at the file.
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(router.user("/").await.1, "new", "the last readable routes stay");
    fs::remove_file(&router.file).unwrap();
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!((router.user("/").await.1.as_str(), router.watch("/health").await.0), ("new", 200));
}

#[tokio::test]
async fn router_answers_while_it_drains() {
    let (old, _a) = server("old").await;
    let router = TestRouter::start(&routes(old, None)).await;
    let mut under_way = Echo::open(&router).await;
    router.stop.notify_one();
    router.until("it is not ready", async || router.watch("/health").await.0 == 503).await;
    assert_eq!(router.user("/").await.0, 200, "a request in the drain is answered");
    under_way.say("more").await;
    under_way.end().await;
    timeout(Duration::from_secs(10), router.task).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn interval_is_measured_from_the_metrics_of_routers() {
    let ((old, _a), (new, _b)) = (server("old").await, server("new").await);
    let router = TestRouter::start(&routes(old, Some((new, 50)))).await;
    join_all((0..10).map(|_| router.user("/"))).await;
    let work = AnalyzeWork {
        routers: router.watchers.to_string(),
        model: Digest::of_bytes(b"model"),
        canary: "new".to_owned(),
        stable: "old".to_owned(),
        seconds: 2,
    };
    let load = async {
        sleep(Duration::from_millis(500)).await;
        join_all((0..100).map(|_| router.user("/fail"))).await;
        join_all((0..40).map(|_| router.user("/refuse"))).await
    };
    let (result, _) = tokio::join!(analyze(&work), load);
    let metric = |name: &str| result.metrics.iter().find(|metric| metric.name == name).unwrap().number();
    let [requests, errors, _, stable, refused, stable_refused] = MEASURED.map(metric);
    assert!(
        requests == errors + refused && requests + stable == 140.0 && (requests - stable).abs() <= 6.0,
        "{:?}",
        result.summary
    );
    assert!(
        refused + stable_refused == 40.0 && (refused - stable_refused).abs() <= 6.0,
        "{:?}",
        result.summary
    );
    assert!((0.0..1.0).contains(&metric("p99")), "{}", metric("p99"));
    let nobody = AnalyzeWork { routers: nobody().await.to_string(), seconds: 0, ..work };
    assert!(analyze(&nobody).await.metrics.is_empty(), "no router, no numbers");
}
