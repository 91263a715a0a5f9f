//! A plain-HTTP proxy in front of an API server, for tests: it counts requests, brings faults, and lets a test act at
//! the moment between the API server's answer and its arrival.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use axum::{Router, http};
use futures::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::certificates::{kubeconfig, write_private};

/// Headers about one connection, which is not the next one's.
const CONNECTION_HEADERS: [header::HeaderName; 5] =
    [header::CONNECTION, header::CONTENT_LENGTH, header::HOST, header::TRANSFER_ENCODING, header::UPGRADE];

/// The API server's own limit on a request's size (3 MiB), and then some.
const LONGEST_REQUEST: usize = 4 << 20;

/// Runs until dropped. What a connection is upgraded to (exec, port-forward) passes as it is.
pub struct ApiProxy {
    shared: Arc<Shared>,
    address: std::net::SocketAddr,
    folder: tempfile::TempDir,
    server: AbortHandle,
}

/// One request that reached the proxy.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    pub method: Method,
    pub path_and_query: String,
    pub is_watch: bool,
    /// What the client was told; none while it waits, and for ever if it went away.
    pub status: Option<StatusCode>,
}

/// Called with how many writes there have been since it was set, and the latest.
pub type OnWrite = Box<dyn Fn(usize, &RecordedRequest) + Send + Sync>;

/// Gives the status and words with which the API server seems to refuse a request, if it does.
pub type Refuse = Box<dyn Fn(&RecordedRequest) -> Option<(StatusCode, String)> + Send + Sync>;

struct Shared {
    client: Client,
    /// Whose permissions count instead of the administrator's.
    user: Mutex<Option<String>>,
    requests: Mutex<Vec<RecordedRequest>>,
    faults: watch::Sender<Faults>,
    refuse: Mutex<Option<Refuse>>,
    on_write: Mutex<(usize, Option<Arc<OnWrite>>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    away: bool,
    watches_cut: bool,
    delay: Duration,
}

impl RecordedRequest {
    /// Whether it asks for something to be stored. Questions sent by POST (access and token reviews) and dry runs
    /// do not.
    pub fn is_write(&self) -> bool {
        let changes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&self.method);
        let asks = ["/apis/authorization.k8s.io/", "/apis/authentication.k8s.io/"]
            .iter()
            .any(|group| self.path_and_query.starts_with(group));
        changes && !asks && !self.path_and_query.contains("dryRun=All")
    }
}

impl ApiProxy {
    /// Starts one on a free loopback port, as the user of `kubeconfig`.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub async fn start(kubeconfig: &Path) -> Result<ApiProxy> {
        let shared = Arc::new(Shared {
            client: super::client(kubeconfig).await?,
            user: Mutex::default(),
            requests: Mutex::default(),
            faults: watch::Sender::default(),
            refuse: Mutex::default(),
            on_write: Mutex::default(),
        });
        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = inner.local_addr()?;
        let folder = tempfile::tempdir()?;
        write_private(&folder.path().join("kubeconfig"), &plain_kubeconfig(&format!("http://{address}")))?;
        let listener = FaultyListener { inner, faults: shared.faults.subscribe() };
        let router = Router::new().fallback(forward).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(ApiProxy { shared, address, folder, server })
    }

    /// A kubeconfig that goes through the proxy.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.shared.requests).clone()
    }

    /// How many requests so far are such.
    pub fn count(&self, predicate: impl Fn(&RecordedRequest) -> bool) -> usize {
        lock(&self.shared.requests).iter().filter(|request| predicate(request)).count()
    }

    /// From now on requests are made with the permissions of `user`, instead of the administrator's.
    pub fn act_as(&self, user: &str) {
        *lock(&self.shared.user) = Some(user.to_owned());
    }

    /// Whether the API server seems to be gone: new connections are closed, running answers break off, and requests
    /// on open connections get a 502.
    pub fn set_away(&self, away: bool) {
        self.shared.faults.send_modify(|faults| faults.away = away);
    }

    /// Whether watches end and new ones are refused with a 503, while all else passes.
    pub fn set_watches_cut(&self, watches_cut: bool) {
        self.shared.faults.send_modify(|faults| faults.watches_cut = watches_cut);
    }

    /// What is refused, instead of passed on.
    pub fn set_refuse(&self, refuse: Option<Refuse>) {
        *lock(&self.shared.refuse) = refuse;
    }

    /// How long every request waits before it is passed on.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Calls `hook` after each write that the API server has answered and before the client hears of it. The answer
    /// waits until the hook returns.
    pub fn set_on_write(&self, hook: Option<OnWrite>) {
        *lock(&self.shared.on_write) = (0, hook.map(Arc::new));
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.server.abort();
        // Connections are tasks of their own; this ends what still streams on them.
        self.set_away(true);
    }
}

async fn forward(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let path_and_query = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    let record = RecordedRequest {
        is_watch: query.split('&').any(|pair| matches!(pair, "watch" | "watch=true" | "watch=1")),
        method: parts.method.clone(),
        path_and_query,
        status: None,
    };
    let number = {
        let mut requests = lock(&shared.requests);
        requests.push(record.clone());
        requests.len() - 1
    };
    let delay = shared.faults.borrow().delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let faults = *shared.faults.borrow();
    let refused = lock(&shared.refuse).as_ref().and_then(|refuse| refuse(&record));
    let response = if faults.away {
        refuse(StatusCode::BAD_GATEWAY)
    } else if faults.watches_cut && record.is_watch {
        refuse(StatusCode::SERVICE_UNAVAILABLE)
    } else if let Some((status, message)) = refused {
        refuse_with(status, &message)
    } else {
        match to_bytes(body, LONGEST_REQUEST).await {
            Ok(body) => pass_on(&shared, &record, parts.headers, body, upgrade).await,
            Err(_) => refuse(StatusCode::PAYLOAD_TOO_LARGE),
        }
    };
    lock(&shared.requests)[number].status = Some(response.status());
    response
}

async fn pass_on(
    shared: &Shared,
    record: &RecordedRequest,
    mut headers: HeaderMap,
    body: Bytes,
    upgrade: Option<OnUpgrade>,
) -> Response {
    let protocol = headers.get(header::UPGRADE).cloned();
    CONNECTION_HEADERS.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let mut request = http::Request::new(kube::client::Body::from(body));
    *request.method_mut() = record.method.clone();
    *request.headers_mut() = headers;
    if let Some(user) = lock(&shared.user).as_deref().and_then(|user| HeaderValue::from_str(user).ok()) {
        request.headers_mut().insert("impersonate-user", user);
        request.headers_mut().insert("impersonate-group", HeaderValue::from_static("system:authenticated"));
    }
    match record.path_and_query.parse() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(_) => return refuse(StatusCode::BAD_REQUEST),
    }
    let Ok(mut answer) = shared.client.send(request).await else { return refuse(StatusCode::BAD_GATEWAY) };
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (answer.status(), upgrade) {
        tokio::spawn(connect(upgrade, hyper::upgrade::on(&mut answer), shared.faults.subscribe()));
        return answer.map(|_| Body::empty());
    }
    if record.is_write() {
        let called = {
            let mut on_write = lock(&shared.on_write);
            on_write.0 += 1;
            on_write.1.clone().map(|hook| (on_write.0, hook))
        };
        if let Some((count, hook)) = called {
            hook(count, &RecordedRequest { status: Some(answer.status()), ..record.clone() });
        }
    }
    let (mut parts, body) = answer.into_parts();
    CONNECTION_HEADERS.iter().for_each(|name| drop(parts.headers.remove(name)));
    let body = Body::from_stream(until_fault(body.into_data_stream(), shared.faults.subscribe(), record.is_watch));
    Response::from_parts(parts, body)
}

/// Passes bytes both ways until either side ends, or the API server goes away.
async fn connect(client: OnUpgrade, server: OnUpgrade, mut faults: watch::Receiver<Faults>) {
    let Ok((client, server)) = tokio::try_join!(client, server) else { return };
    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = faults.wait_for(|faults| faults.away) => {}
    }
}

/// A cut watch ends as the API server ends one; an answer from a server that goes away breaks off.
fn until_fault<E: std::error::Error + Send + Sync + 'static>(
    body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    mut faults: watch::Receiver<Faults>,
    is_watch: bool,
) -> impl Stream<Item = Result<Bytes, axum::BoxError>> + Send + 'static {
    let fault = async move {
        match faults.wait_for(|faults| faults.away || (is_watch && faults.watches_cut)).await {
            Ok(faults) => faults.away,
            // The proxy itself is gone.
            Err(_) => true,
        }
    };
    let mut body = Box::pin(body);
    let mut fault = Box::pin(fault);
    let mut ended = false;
    futures::stream::poll_fn(move |context| {
        use std::task::Poll;
        if ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(away) = fault.as_mut().poll(context) {
            ended = true;
            return Poll::Ready(away.then(|| Err("the API server went away".into())));
        }
        body.poll_next_unpin(context).map(|item| item.map(|chunk| chunk.map_err(Into::into)))
    })
}

fn refuse(status: StatusCode) -> Response {
    refuse_with(status, "refused by the test's proxy")
}

/// As an API server refuses: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>.
fn refuse_with(status: StatusCode, message: &str) -> Response {
    let reason = match status {
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        _ => "",
    };
    let body = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": status.as_u16(),
    });
    let close = (header::CONNECTION, HeaderValue::from_static("close"));
    (status, [close], axum::Json(body)).into_response()
}

/// Closes every new connection while the API server is to seem away.
struct FaultyListener {
    inner: TcpListener,
    faults: watch::Receiver<Faults>,
}

impl Listener for FaultyListener {
    type Io = TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let accepted = Listener::accept(&mut self.inner).await;
            if !self.faults.borrow().away {
                return accepted;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

fn plain_kubeconfig(server: &str) -> String {
    kubeconfig(json!({ "server": server }), json!({}))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
