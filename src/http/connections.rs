//! Connections: how many there are, and how much of a request is taken before anybody looks at it. Browsers of whoever
//! has a preview's address come to the same port as GitHub and agents.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use tracing::warn;

/// Files that this process asks for: connections, what is opened for them, and the database.
const OPEN_FILES: u64 = 4_096;
/// Files that a process may have open where the system does not tell.
const FEWEST_FILES: u64 = 1_024;
/// How long a request's headers may take to come, and a connection may wait for its next request.
const HEADERS: Duration = Duration::from_secs(60);
/// The longest headers, and what is read ahead of a body, in bytes.
const LONGEST_HEADERS: usize = 64 * 1024;
/// How long whoever reads an answer may read nothing of it.
const READER: Duration = Duration::from_secs(120);
/// The wait after a connection that could not be taken: there are too many open files.
const OUT_OF_FILES: Duration = Duration::from_secs(1);
/// How long what is under way may take when the server ends. A preview's answer may be endless.
const FAREWELL: Duration = Duration::from_secs(20);

/// Connections at once; the next one waits. Half of the files that this process may have open, which it raises as far as
/// it may.
pub(super) fn at_once() -> usize {
    static AT_ONCE: LazyLock<usize> = LazyLock::new(|| {
        let mut limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
        if limit.current.is_some_and(|current| current < wanted) {
            limit.current = Some(wanted);
            if let Err(error) = setrlimit(Resource::Nofile, limit) {
                warn!(%error, "cannot have more files open at once");
            }
        }
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(FEWEST_FILES).min(OPEN_FILES);
        usize::try_from(allowed / 2).unwrap_or_default().max(1)
    });
    *AT_ONCE
}

/// Serves until `stop`, and then until what is under way is answered, for 20 s at most.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(at_once()));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((place, listener.accept().await?))
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((place, (stream, peer))) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    answer(stream, ConnectInfo(peer), router, stop).await;
                    drop(place);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "cannot take a connection");
                sleep(OUT_OF_FILES).await;
            }
        }
    }
    connections.close();
    if timeout(FAREWELL, connections.wait()).await.is_err() {
        warn!(connections = connections.len(), "ends with requests under way");
    }
    Ok(())
}

/// Answers a connection's requests until it ends, or until `stop` and the end of the request that is under way.
async fn answer(stream: TcpStream, peer: ConnectInfo<std::net::SocketAddr>, router: Router, stop: CancellationToken) {
    // Whoever is gone, or reads nothing, gives its place back. Where this cannot be set, it takes longer.
    let socket = socket2::SockRef::from(&stream);
    let _ = (socket.set_tcp_nodelay(true), socket.set_keepalive(true));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(READER));
    let ending = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, ending) = (router.clone(), ending.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            // For answers that go on until somebody ends them.
            request.extensions_mut().insert(ending);
            let response: Result<Response, Infallible> = router.oneshot(request).await;
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(LONGEST_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Whether it says something of the connection alone that was to be taken.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
