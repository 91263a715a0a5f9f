//! Server-sent events for whoever watches, <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Dashboard;
use crate::{request::Client, service::EnvironmentReference};

/// How often a silent stream says that it is there: proxies end what says nothing for a minute.
const ALIVE: Duration = Duration::from_secs(15);
/// How often it is looked whether somebody still may hear what is streamed to them.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Events that go out together where so many are there. A piece of the answer for each costs more than the event.
const AT_ONCE: usize = 256;

/// The answer where every place is taken.
pub(super) fn too_many() -> Response {
    let text = "Too many people watch at once. Look again in a minute.\n";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "60")], text).into_response()
}

/// An answer that proxies pass on at once, and do not end. It holds its place until it ends. `events`: each with the empty
/// line after it.
pub(super) fn streamed<Event: AsRef<str>>(
    events: impl Stream<Item = Event> + Send + 'static,
    place: OwnedSemaphorePermit,
) -> Response {
    let groups = Box::pin(events.ready_chunks(AT_ONCE));
    let pieces = stream::unfold((groups, place), |(mut groups, place)| async move {
        let piece = match timeout(ALIVE, groups.next()).await {
            Ok(Some(events)) => events.iter().map(Event::as_ref).collect::<String>(),
            Ok(None) => return None,
            // A comment.
            Err(_) => ":\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(piece), (groups, place)))
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // nginx would keep lines until it has a buffer of them.
        ("x-accel-buffering", "no"),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

impl Dashboard {
    /// Ends when whoever asked may not any more, or may not look at the environment, or when the server does.
    pub(super) async fn until_they_may_not(
        self: Arc<Self>,
        headers: HeaderMap,
        client: Client,
        environment: Option<EnvironmentReference>,
        stop: Option<CancellationToken>,
    ) {
        let stop = stop.unwrap_or_default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_AGAIN) => {}
            }
            // Where it cannot be looked up now, it stays as it was.
            let identity = match self.identity(&headers, client).await {
                Ok(identity) => identity,
                Err(answer) if answer.status() == StatusCode::UNAUTHORIZED => return,
                Err(_) => continue,
            };
            if let Some(environment) = &environment
                && let Err(error) = self.service.may_inspect(&identity, environment).await
                && error.code.refusal().is_some()
            {
                return;
            }
        }
    }
}
