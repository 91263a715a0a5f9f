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
    identity::Role,
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
        Self::on(Stand::with_api_server(&api_server(pods).await).await).await
    }

    async fn on(stand: Stand) -> Self {
        stand.open(REPOSITORY, 7, &commit('a')).await;
        let (lease, environment) = stand.store.claim_due_environment().await.unwrap().expect("it is due");
        let host = format!("{}.preview.example.com", environment.namespace);
        Self { host, stand, lease, http: xtask::web::plain_client() }
    }

    /// One that runs `commit('a')`.
    async fn running(pods: Vec<SocketAddr>) -> Self {
        Self::start(pods).await.run().await
    }

    /// The same where visitors sign in.
    async fn running_behind_a_door(pods: Vec<SocketAddr>) -> Self {
        Self::on(Stand::with_door(&api_server(pods).await).await).await.run().await
    }

    async fn run(self) -> Self {
        let routed = self;
        let backend = Some(Backend { service: "app".to_owned(), port: 80 });
        let render = Render { backend, ..render_of(&["app"]) };
        record_deployment(&routed.stand.store, &routed.lease, commit('a')).await;
        let made = Some(Made { render: &render, key: "key", remakes: false });
        routed.stand.store.begin_apply(&routed.lease, &commit('a'), &render, made, false).await.unwrap().unwrap();
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
        xtask::web::plain_client().get(format!("http://{}/", stand.address)).header("host", "pr-7.preview.example.com");
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

/// A browser at both hosts, which follows nothing by itself.
struct Visitor<'a> {
    routed: &'a Routed,
    http: reqwest::Client,
}

const HTML: &str = "text/html,*/*;q=0.8";

impl Visitor<'_> {
    async fn at_preview(&self, path: &str, cookie: &str) -> Response {
        let url = format!("http://{}{path}", self.routed.stand.address);
        let request = self.http.get(url).header("host", &self.routed.host).header("accept", HTML);
        request.header("cookie", cookie).send().await.unwrap()
    }

    async fn at_server(&self, path_and_query: &str, cookie: &str) -> Response {
        let url = format!("http://{}{path_and_query}", self.routed.stand.address);
        self.http.get(url).header("accept", HTML).header("cookie", cookie).send().await.unwrap()
    }

    async fn sign_in(&self, token: &str, origin: &str) -> Response {
        let namespace = self.routed.host.split('.').next().unwrap();
        let url = format!("http://{}/login", self.routed.stand.address);
        let form = format!("token={token}&preview={namespace}&path=%2Fcart%3Fitem%3D1");
        let request =
            self.http.post(url).header("origin", origin).header("content-type", "application/x-www-form-urlencoded");
        request.body(form).send().await.unwrap()
    }
}

fn location(answer: &Response) -> String {
    answer.headers()["location"].to_str().unwrap().to_owned()
}

/// `name=value` of the cookie that an answer sets.
fn cookie(answer: &Response) -> String {
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-previewd-"), "{cookie}");
    for word in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

fn path_of(address: &str) -> &str {
    &address[address.find("://").unwrap() + 3..][address.split("://").nth(1).unwrap().find('/').unwrap()..]
}

#[tokio::test]
async fn visitors_sign_in_and_take_a_code_to_the_preview() {
    let routed = Routed::running_behind_a_door(vec![application(say_hello).await]).await;
    let http = xtask::web::client().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let visitor = Visitor { routed: &routed, http };
    let own = format!("http://{}", routed.stand.address);

    // A browser is led to the login, everything else is told.
    let sent = visitor.at_preview("/cart?item=1", "").await;
    let namespace = routed.host.split('.').next().unwrap().to_owned();
    assert_eq!(sent.status(), 303);
    assert_eq!(location(&sent), format!("{own}/login?preview={namespace}&path=%2Fcart%3Fitem%3D1"));
    assert_eq!(routed.ask(Method::GET, "/").await.status(), 401);
    assert_eq!(routed.ask(Method::POST, "/").await.status(), 401);
    let form = visitor.at_server(path_of(&location(&sent)), "").await;
    assert_eq!(form.status(), 200);
    let page = form.text().await.unwrap();
    assert!(page.contains("name=\"token\"") && page.contains("value=\"/cart?item=1\""), "{page}");

    // Whom the repository is not for sees no preview of it.
    let stranger = routed.stand.token(Role::Admin, &["site"]).await;
    let session = cookie(&visitor.sign_in(&stranger, &own).await);
    let refused = visitor.at_server(&format!("/login?preview={namespace}"), &session).await;
    assert_eq!(refused.status(), 404);

    let token = routed.stand.token(Role::Viewer, &["shop"]).await;
    assert_eq!(visitor.sign_in(&token, "https://evil.example.com").await.status(), 403, "another site's form");
    assert_eq!(visitor.sign_in("pvd_nonsense", &own).await.status(), 401);
    let signed_in = visitor.sign_in(&token, &own).await;
    assert_eq!(signed_in.status(), 303);
    let session = cookie(&signed_in);
    let to_preview = visitor.at_server(&location(&signed_in), &session).await;
    let address = location(&to_preview);
    assert!(address.starts_with(&format!("https://{}/.previewd/enter?code=", routed.host)), "{address}");

    let entered = visitor.at_preview(path_of(&address), "").await;
    assert_eq!((entered.status().as_u16(), location(&entered).as_str()), (303, "/cart?item=1"));
    let preview = cookie(&entered);
    let seen = visitor.at_preview("/cart?item=1", &preview).await;
    assert_eq!((seen.status().as_u16(), seen.text().await.unwrap().as_str()), (200, "hello"));

    // A code is good once, and neither session is the other's.
    let again = visitor.at_preview(path_of(&address), "").await;
    assert!(location(&again).starts_with(&format!("{own}/login?")), "{}", location(&again));
    assert_eq!(visitor.at_preview("/", &session.replace("session", "preview")).await.status(), 303);
    let swapped = preview.replace("-preview=", "-session=");
    assert_eq!(visitor.at_server(&format!("/login?preview={namespace}"), &swapped).await.status(), 200, "the form");

    // The environment's pass gets the status alone; nobody else is taken for it.
    let lease = &routed.lease;
    let probe = |method, token: &str| {
        let request = visitor.http.request(method, format!("{own}/")).header("host", &routed.host);
        request.header("user-agent", "previewd").header("previewd-probe", token).send()
    };
    let probed = probe(Method::GET, lease.token()).await.unwrap();
    assert_eq!((probed.status().as_u16(), probed.text().await.unwrap().as_str()), (200, ""));
    assert_eq!(probe(Method::POST, lease.token()).await.unwrap().status(), 401);
    assert_eq!(probe(Method::GET, "nonsense").await.unwrap().status(), 401);
    routed.stand.store.release(lease, None, 0, true).await.unwrap();
    assert_eq!(probe(Method::GET, lease.token()).await.unwrap().status(), 401, "its pass is over");

    // Signing out ends it everywhere, as revoking the token does.
    let request = visitor.http.post(format!("{own}/logout")).header("origin", &own).header("cookie", &session);
    assert_eq!(request.send().await.unwrap().status(), 303);
    assert_eq!(visitor.at_preview("/", &preview).await.status(), 303);
    let session = cookie(&visitor.sign_in(&token, &own).await);
    routed.stand.revoke_all().await;
    let revoked = visitor.at_server(&format!("/login?preview={namespace}"), &session).await;
    assert!(revoked.text().await.unwrap().contains("name=\"token\""), "the form again");
}

#[tokio::test]
async fn whoever_guesses_tokens_waits() {
    let stand = Stand::start().await;
    let http = xtask::web::plain_client();
    let own = format!("http://{}", stand.address);
    let try_one = async || {
        let request = http.post(format!("{own}/login")).header("origin", &own);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body("token=pvd_wrong");
        request.send().await.unwrap().status().as_u16()
    };
    for _ in 0..30 {
        assert_eq!(try_one().await, 401);
    }
    assert_eq!(try_one().await, 429);
}
