//! Connections to applications: to a ready pod of the Service, by its address or through the API server. Which pod it is
//! decides each connection anew; the HTTP client keeps what it opened for a while.

use std::{
    collections::HashMap,
    io::{Error, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::http::Uri;
use futures::future::BoxFuture;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{io::DuplexStream, net::TcpStream, time::timeout};
use tokio_util::{either::Either, io::InspectReader};
use tower::Service;

use super::Reach;
use crate::{
    cluster::{Cluster, ClusterError, Endpoint},
    environment::{Namespace, is_dns_label},
    recipe::Backend,
};

/// How old what is known of a Service's pods may be.
const ENDPOINTS: Duration = Duration::from_secs(1);
/// How long one pod may take to be reached; another is tried then.
const ONE_POD: Duration = Duration::from_secs(2);
/// How long a pod is tried last that ended a connection before anything came of it.
const PASSED_OVER: Duration = Duration::from_secs(30);
/// What is known is thrown away once there is so much of it: it is old in a second anyway.
const MANY: usize = 256;

/// Opens connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Cluster,
    is_direct: bool,
    /// The ready pods by destination.
    seen: Mutex<HashMap<String, (Instant, Vec<Endpoint>)>>,
    /// The pods that ended a connection before anything came of it, and when.
    silent: Mutex<HashMap<(Namespace, String, u16), Instant>>,
}

impl Shared {
    fn pass_over(&self, namespace: Namespace, pod: String, port: u16) {
        let mut silent = lock(&self.silent);
        if silent.len() >= MANY {
            silent.clear();
        }
        silent.insert((namespace, pod, port), Instant::now());
    }

    fn passes_over(&self, namespace: &Namespace, endpoint: &Endpoint) -> bool {
        let Endpoint { pod, address: _, port } = endpoint;
        let key = (namespace.clone(), pod.clone(), *port);
        lock(&self.silent).get(&key).is_some_and(|at| at.elapsed() < PASSED_OVER)
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotConnected {
    #[error("no pod of the Service is ready")]
    NothingReady,
    #[error("none of {0} ready pods could be reached")]
    OutOfReach(usize),
    #[error("the destination is none of the router's own")]
    NoDestination,
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The URI under which the connector reaches a backend. The commit is part of it: what is open to the pods of the one
/// before is not used for the next.
/// None for a Service whose name is none: with a dot in it, it could name another environment.
pub(super) fn uri_of(namespace: &Namespace, backend: &Backend, commit: &str) -> Option<Uri> {
    let Backend { service, port } = backend;
    if !is_dns_label(service) {
        return None;
    }
    format!("http://{service}.{namespace}.{commit}:{port}/").parse().ok()
}

/// The reverse of [`uri_of`].
fn destination(uri: &Uri) -> Option<(Namespace, &str, u16)> {
    let mut labels = uri.host()?.split('.');
    let (service, namespace, _commit) = (labels.next()?, labels.next()?, labels.next()?);
    Some((namespace.parse().ok()?, service, uri.port_u16()?))
}

impl Connector {
    pub fn new(cluster: Cluster, reach: Reach) -> Self {
        let is_direct = match reach {
            Reach::Auto => cluster.is_around_us(),
            Reach::Direct => true,
            Reach::PortForward => false,
        };
        Self { shared: Arc::new(Shared { cluster, is_direct, seen: Mutex::default(), silent: Mutex::default() }) }
    }

    /// Whether there is a ready pod behind what `uri` names.
    pub async fn is_ready(&self, uri: &Uri) -> bool {
        self.endpoints(uri, ENDPOINTS).await.is_ok_and(|endpoints| !endpoints.is_empty())
    }

    async fn connect(&self, uri: Uri) -> Result<Stream, NotConnected> {
        let mut tried: Vec<Endpoint> = Vec::new();
        // What was seen a moment ago may be gone by now; then it is looked at anew.
        for age in [ENDPOINTS, Duration::ZERO] {
            let mut endpoints = self.endpoints(&uri, age).await?;
            if endpoints.is_empty() {
                return Err(NotConnected::NothingReady);
            }
            let first = rand::random_range(0..endpoints.len());
            endpoints.rotate_left(first);
            if let Some((namespace, ..)) = destination(&uri) {
                endpoints.sort_by_cached_key(|endpoint| self.shared.passes_over(&namespace, endpoint));
            }
            for endpoint in endpoints {
                if tried.contains(&endpoint) {
                    continue;
                }
                match self.open(&uri, &endpoint).await {
                    Ok(stream) => return Ok(stream),
                    Err(why) => tracing::debug!(why, pod = endpoint.pod, "a pod cannot be reached"),
                }
                tried.push(endpoint);
            }
        }
        Err(NotConnected::OutOfReach(tried.len()))
    }

    async fn endpoints(&self, uri: &Uri, age: Duration) -> Result<Vec<Endpoint>, NotConnected> {
        let (namespace, service, port) = destination(uri).ok_or(NotConnected::NoDestination)?;
        let name = uri.authority().map(ToString::to_string).unwrap_or_default();
        if let Some((at, endpoints)) = lock(&self.shared.seen).get(&name)
            && at.elapsed() < age
        {
            return Ok(endpoints.clone());
        }
        let endpoints = self.shared.cluster.endpoints(&namespace, service, port).await?;
        let mut all = lock(&self.shared.seen);
        if all.len() >= MANY {
            all.clear();
        }
        all.insert(name, (Instant::now(), endpoints.clone()));
        Ok(endpoints)
    }

    async fn open(&self, uri: &Uri, endpoint: &Endpoint) -> Result<Stream, String> {
        let Endpoint { pod, address, port } = endpoint;
        let too_long = |_| format!("not within {} s", ONE_POD.as_secs());
        if self.shared.is_direct {
            let stream = timeout(ONE_POD, TcpStream::connect((*address, *port))).await.map_err(too_long)?;
            let stream = stream.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            return Ok(Stream(TokioIo::new(Either::Right(stream))));
        }
        let (namespace, _, _) = destination(uri).ok_or("no destination")?;
        let forwarded = timeout(ONE_POD, self.shared.cluster.port_forward(&namespace, pod, *port)).await;
        let forwarded = forwarded.map_err(too_long)?.map_err(|error| error.to_string())?;
        // The API server takes the connection before the pod does. Of one that the pod refuses nothing comes but its
        // end, and to wait for that would delay every good one.
        let (shared, pod, port) = (self.shared.clone(), pod.clone(), *port);
        let forwarded = watch(forwarded, move || shared.pass_over(namespace, pod, port));
        Ok(Stream(TokioIo::new(Either::Left(forwarded))))
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = NotConnected;
    type Future = BoxFuture<'static, Result<Stream, NotConnected>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is shown each piece that was read.
type Inspect = Box<dyn FnMut(&[u8]) + Send>;

/// A stream of which somebody is told where it ends before its first byte.
type Watched = InspectReader<DuplexStream, Inspect>;

fn watch(stream: DuplexStream, ends_in_silence: impl FnOnce() + Send + 'static) -> Watched {
    let mut ends_in_silence = Some(ends_in_silence);
    let inspect: Inspect = Box::new(move |first: &[u8]| {
        if let Some(tell) = ends_in_silence.take().filter(|_| first.is_empty()) {
            tell();
        }
    });
    InspectReader::new(stream, inspect)
}

/// One connection.
pub(super) struct Stream(TokioIo<Either<Watched, TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.0).poll_write_vectored(context, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn only_a_stream_that_ends_before_its_first_byte_ends_in_silence() {
        for (answer, is_silent) in [("", true), ("HTTP/1.1 200 OK", false)] {
            let told = Arc::new(AtomicBool::new(false));
            let (ours, mut theirs) = duplex(64);
            let tell = told.clone();
            let mut watched = watch(ours, move || tell.store(true, Ordering::Relaxed));
            theirs.write_all(answer.as_bytes()).await.unwrap();
            drop(theirs);
            let mut read = String::new();
            watched.read_to_string(&mut read).await.unwrap();
            assert_eq!((read.as_str(), told.load(Ordering::Relaxed)), (answer, is_silent));
        }
    }

    #[test]
    fn destinations_are_read_back() {
        let namespace: Namespace = "pr-7-shop-abcdefghij".parse().unwrap();
        let backend = |service: &str| Backend { service: service.to_owned(), port: 8080 };
        let uri = uri_of(&namespace, &backend("web"), "0123456").unwrap();
        assert_eq!(destination(&uri), Some((namespace.clone(), "web", 8080)));
        for no_service in ["", "a b", "web.pr-8-other-abcdefghij", "web:80", "user@web"] {
            assert_eq!(uri_of(&namespace, &backend(no_service), "0123456"), None, "{no_service}");
        }
        assert_eq!(destination(&"http://localhost:80/".parse().unwrap()), None);
    }
}
