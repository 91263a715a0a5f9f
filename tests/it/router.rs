//! The router without a cluster: rows of every status, and an application on loopback that behaves as badly as some do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::Path, routing::get};
use previewd::{
    environment::{Cause, CommitSha, EnvironmentStatus},
    recipe::{Backend, Render},
    store::{EnvironmentChanges, Lease, Made, Record},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    store::given::{record_deployment, render_of},
    support::{Stand, commit},
};

const REPOSITORY: &str = "acme/shop";

/// An API server whose every Service leads to the ready pods at these addresses.
async fn api_server(pods: Vec<SocketAddr>) -> String {
    async fn service(Path((_, name)): Path<(String, String)>) -> Json<Value> {
        Json(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "ports": [{ "name": "http", "port": 80 }] },
        }))
    }
    let slices = pods.into_iter().enumerate().map(|(number, address)| {
        json!({
            "metadata": { "name": format!("app-{number}") }, "addressType": "IPv4",
            "ports": [{ "name": "http", "port": address.port() }],
            "endpoints": [{
                "addresses": [address.ip()], "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": format!("app-{number}") },
            }],
        })
    });
    let slices: Vec<Value> = slices.collect();
    let list =
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": {}, "items": slices });
    let router = Router::new().route("/api/v1/namespaces/{namespace}/services/{name}", get(service)).route(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        get(async move || Json(list.clone())),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A previewd with one environment, and how to change its row.
struct Routed {
    stand: Stand,
    lease: Lease,
    host: String,
    http: reqwest::Client,
}

impl Routed {
    /// An environment that was just opened, in a cluster with these pods.
    async fn start(pods: Vec<SocketAddr>) -> Self {
        let stand = Stand::with_api_server(&api_server(pods).await).await;
        stand.open(REPOSITORY, 7, &commit('a')).await;
        let (lease, environment) = stand.store.claim_due_environment().await.unwrap().expect("it is due");
        let host = format!("{}.preview.example.com", environment.namespace);
        Self { host, stand, lease, http: reqwest::Client::new() }
    }

    /// One that runs `commit('a')`.
    async fn running(pods: Vec<SocketAddr>) -> Self {
        let routed = Self::start(pods).await;
        let backend = Some(Backend { service: "app".to_owned(), port: 80 });
        let render = Render { backend, ..render_of(&["app"]) };
        record_deployment(&routed.stand.store, &routed.lease, commit('a')).await;
        let made = Some(Made { render: &render, key: "key" });
        routed.stand.store.begin_apply(&routed.lease, &commit('a'), &render, made).await.unwrap().unwrap();
        routed.record(EnvironmentStatus::Running, None, Some(&commit('a'))).await;
        routed
    }

    async fn record(&self, status: EnvironmentStatus, cause: Option<&Cause>, serving: Option<&CommitSha>) {
        let environment = Some(EnvironmentChanges::status(status, cause).serving(serving));
        self.stand.store.record(&self.lease, Record { environment, ..Record::default() }).await.unwrap().unwrap();
        // What the router knows of a row is a second old at the most.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }

    async fn ask(&self, method: Method, path: &str) -> Response {
        let url = format!("http://{}{path}", self.stand.address);
        self.http.request(method, url).header("host", &self.host).send().await.unwrap()
    }

    /// The status and the text of a page.
    async fn page(&self) -> (u16, String) {
        let answer = self.ask(Method::GET, "/").await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// An application that does this with each connection.
async fn application<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// Reads a request's headers, as far as it matters here.
async fn read_request(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        read.push(byte[0]);
    }
}

async fn say_hello(mut stream: TcpStream) {
    read_request(&mut stream).await;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let _ = stream.write_all(answer).await;
}

#[tokio::test]
async fn every_status_has_its_page() {
    let routed = Routed::start(Vec::new()).await;
    let refused = Cause::ObjectRefused { kind: "Pod".to_owned(), name: "web".to_owned(), rule: "no".to_owned() };
    for (status, cause, code, text) in [
        (EnvironmentStatus::Pending, None, 503, "This preview is starting"),
        (EnvironmentStatus::Pending, Some(&Cause::AwaitingApproval), 503, "an admin must approve its commit"),
        (EnvironmentStatus::Deploying, None, 503, "This preview is starting"),
        (EnvironmentStatus::Running, None, 502, "This preview does not answer"),
        (EnvironmentStatus::Running, Some(&Cause::Asleep), 503, "This preview sleeps"),
        (EnvironmentStatus::Failed, Some(&refused), 502, "Pod web was refused: no."),
        (EnvironmentStatus::Deleting, None, 410, "This preview is gone"),
        (EnvironmentStatus::Deleted, Some(&Cause::Expired), 410, "Nobody used it for a while"),
    ] {
        routed.record(status, cause, None).await;
        let (found, page) = routed.page().await;
        assert!(found == code && page.contains(text), "{status} {cause:?}: {found} {page}");
    }
}

#[tokio::test]
async fn without_its_database_previewd_says_that_it_cannot_look() {
    let stand = Stand::start().await;
    stand.lose_database();
    let asked =
        reqwest::Client::new().get(format!("http://{}/", stand.address)).header("host", "pr-7.preview.example.com");
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().starts_with("previewd cannot look now: "));
}

#[tokio::test]
async fn nothing_of_the_server_is_under_a_previews_host() {
    let routed = Routed::start(Vec::new()).await;
    for path in ["/mcp", "/metrics", "/healthz", "/.well-known/oauth-protected-resource/mcp"] {
        let answer = routed.ask(Method::GET, path).await;
        assert_eq!(answer.status(), 503, "{path}");
        assert!(answer.text().await.unwrap().starts_with("This preview is starting"), "{path}");
        // The same in a request line that names the host, with the server's own in the header.
        let mut stream = TcpStream::connect(routed.stand.address).await.unwrap();
        let request =
            format!("GET http://{}{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n", routed.host);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{path}: {answer}");
    }
}

/// Requests without a path are answered, and nothing ends by them.
#[tokio::test]
async fn odd_requests_are_answered() {
    let routed = Routed::running(vec![application(say_hello).await]).await;
    for (line, status) in [
        ("OPTIONS * HTTP/1.1", "HTTP/1.1 501"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1", "HTTP/1.1 404"),
        ("GET //double//slash HTTP/1.1", "HTTP/1.1 200"),
        ("GET /?q=%00&x=[]{} HTTP/1.1", "HTTP/1.1 "),
        ("FROB / HTTP/1.1", "HTTP/1.1 200"),
    ] {
        let mut stream = TcpStream::connect(routed.stand.address).await.unwrap();
        let request = format!("{line}\r\nhost: {}\r\nconnection: close\r\n\r\n", routed.host);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(status), "{line}: {answer}");
    }
}

#[tokio::test]
async fn a_pod_that_takes_no_connection_is_passed_over() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let routed = Routed::running(vec![closed, application(say_hello).await, closed]).await;
    for _ in 0..10 {
        assert_eq!(routed.page().await, (200, "hello".to_owned()));
    }
    let unreachable = Routed::running(vec![closed]).await;
    assert_eq!(unreachable.page().await.0, 502);
}

#[tokio::test]
async fn what_only_reads_is_asked_once_more() {
    let count = Arc::new(AtomicUsize::new(0));
    let connections = count.clone();
    // Every other connection ends with the request.
    let address = application(move |mut stream| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        async move {
            if number % 2 == 1 {
                return say_hello(stream).await;
            }
            read_request(&mut stream).await;
        }
    })
    .await;
    let routed = Routed::running(vec![address]).await;
    assert_eq!(routed.page().await, (200, "hello".to_owned()));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    // What changes something may have done so.
    let answer = routed.ask(Method::POST, "/").await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("ended the connection without an answer"));
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn one_environment_has_so_many_requests_at_once() {
    let (release, released) = tokio::sync::watch::channel(false);
    let address = application(move |mut stream| {
        let mut released = released.clone();
        async move {
            read_request(&mut stream).await;
            let _ = released.wait_for(|released| *released).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
        }
    })
    .await;
    let routed = Arc::new(Routed::running(vec![address]).await);
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..160 {
        let routed = routed.clone();
        asked.spawn(async move { routed.ask(Method::GET, "/").await.status().as_u16() });
    }
    for _ in 128..160 {
        assert_eq!(asked.join_next().await.unwrap().unwrap(), 503);
    }
    release.send(true).unwrap();
    while let Some(status) = asked.join_next().await {
        assert_eq!(status.unwrap(), 204);
    }
    assert_eq!(routed.ask(Method::GET, "/").await.status(), 204);
}
