//! One request, passed on and answered: bodies stream both ways, and connections change to WebSockets.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{Method, Uri, header},
    response::Response,
};
use axum_reverse_proxy::{HostBehaviour, ProxyError, ProxyPolicy, ReverseProxy, TunnelGuard};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use super::{connector::Connector, headers};

/// Requests of all environments that are under way at once. Each may hold two buffers of 1 MiB where its reader is slow.
const AT_ONCE: usize = 256;
/// How long a connection may take, all pods that are tried for it together.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the answer may take to begin, counted from the last piece of the request. The default of common controllers.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may be silent in both directions: a WebSocket, or an answer that comes bit by bit.
const SILENCE: Duration = Duration::from_secs(600);
/// What is kept open for the next request: so many to each Service, for so long.
const IDLE_AT_MOST: usize = 8;
const IDLE: Duration = Duration::from_secs(30);
/// What is read ahead of an answer, or written ahead of a request, in bytes. Headers must fit in.
const BUFFER: usize = 64 * 1024;

/// Passes requests on. The library keeps connections' own headers to itself, streams and upgrades; what it says of
/// itself stays in the extensions of its answers.
pub(super) struct Forwarder {
    client: Client<TimeoutConnector<Connector>, Body>,
    places: Arc<Semaphore>,
}

/// Why there is no answer of the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many are under way.
    Busy,
    /// No pod took the connection; nothing of the request was sent.
    Unreachable,
    /// The connection ended before an answer.
    BrokenOff,
    TooSlow,
}

impl Forwarder {
    pub fn new(connector: Connector) -> Self {
        let mut connector = TimeoutConnector::new(connector);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_read_timeout(Some(SILENCE));
        connector.set_write_timeout(Some(SILENCE));
        connector.set_reset_reader_on_write(true);
        let mut client = Client::builder(TokioExecutor::new());
        client
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_AT_MOST)
            .http1_max_buf_size(BUFFER);
        Self { client: client.build(connector), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Passes `request` on to `to`. One that only reads, and was not answered at all, is asked once more: its pod may have
    /// just gone.
    pub async fn forward(
        &self,
        request: Request,
        to: &Uri,
        of_environment: &Arc<Semaphore>,
        host: &str,
        scheme: &'static str,
    ) -> Result<Response, Refusal> {
        let permit = |of: &Arc<Semaphore>| of.clone().try_acquire_owned().map_err(|_| Refusal::Busy);
        let places = (permit(&self.places)?, permit(of_environment)?);
        let (mut parts, body) = request.into_parts();
        headers::prepare_request(&mut parts.headers, host, scheme);
        let only_reads = matches!(parts.method, Method::GET | Method::HEAD)
            && body.is_end_stream()
            && !parts.headers.contains_key(header::UPGRADE);
        let again = only_reads.then(|| parts.clone());

        // Given back only once it is known that nothing is asked again.
        let places = Arc::new(places);
        let first = self.send(Request::from_parts(parts, body), to, places.clone()).await;
        let answer = match (first, again) {
            (Err(Refusal::BrokenOff), Some(parts)) => {
                self.send(Request::from_parts(parts, Body::empty()), to, places).await
            }
            (answer, _) => answer,
        };
        answer.map(|mut response| {
            headers::prepare_answer(response.headers_mut());
            response
        })
    }

    async fn send(&self, request: Request, to: &Uri, places: Arc<Places>) -> Result<Response, Refusal> {
        let progress = Progress::begin();
        let mut request = request.map(|body| Body::new(Watched { body, progress: progress.clone() }));
        // Held until the answer, or what it changed to, has ended.
        request.extensions_mut().insert(TunnelGuard::new(places));
        let policy =
            ProxyPolicy::new().with_host_behaviour(HostBehaviour::Preserve).with_websocket_connect_timeout(ANSWER);
        let proxy = ReverseProxy::new_with_client("", to.to_string(), self.client.clone()).with_policy(policy);
        let answered = tokio::select! {
            biased;
            answered = proxy.proxy_request(request) => answered,
            () = progress.stalled() => return Err(Refusal::TooSlow),
        };
        let response = answered.unwrap_or_else(|never| match never {});
        match response.extensions().get::<ProxyError>() {
            None => Ok(response),
            Some(error) => {
                tracing::debug!(error = error.message(), %to, "an application did not answer");
                Err(if error.is_connect() { Refusal::Unreachable } else { Refusal::BrokenOff })
            }
        }
    }
}

/// One of all places, and one of the environment's.
type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// When the last piece of a request was taken.
#[derive(Debug, Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn made(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once nothing was taken for as long as an answer may take.
    async fn stalled(&self) {
        loop {
            let last = self.last();
            sleep_until(last + ANSWER).await;
            if self.last() == last {
                return;
            }
        }
    }
}

/// A request's body that tells when it is read.
struct Watched {
    body: Body,
    progress: Progress,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.progress.made();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
