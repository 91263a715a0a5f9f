//! Logs for people: as server-sent events while they are written (`line`, `lost`, `ended` and `gone`, each with its JSON),
//! and as a text file.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Dashboard,
    access::{Asker, failure},
};
use crate::{
    http::Client,
    service::{EnvironmentReference, Followed, LogEvent, LogsRequest, ServiceError, merged, parse_request},
};

/// How often a silent stream says that it is there: proxies end what says nothing for a minute.
pub(super) const ALIVE: Duration = Duration::from_secs(15);

/// How often it is looked whether somebody still may hear what is streamed to them.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a form or an address says. A field that is not filled in is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    pub tail: Option<i64>,
    pub since: Option<String>,
    pub container: Option<String>,
    pub contains: Option<String>,
    /// Whether times are shown.
    pub timestamps: Option<bool>,
    /// Whether an open page asks for its live parts again, of which the log is none.
    pub refresh: bool,
}

/// `environment`: its id or its namespace.
pub(super) async fn follow(
    State(dashboard): State<Arc<Dashboard>>,
    Asker(identity): Asker,
    Extension(client): Extension<Client>,
    stop: Option<Extension<CancellationToken>>,
    Path(environment): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let request = match parse(environment, wanted) {
        Ok(request) => request,
        Err(error) => return failure(error),
    };
    let of = request.environment.clone();
    match dashboard.service.follow(&identity, request).await {
        Ok(events) => {
            let events = events.map(|event| Ok::<_, Infallible>(sent(&event)));
            let end = dashboard.until_they_may_not(headers, client, Some(of), stop.map(|it| it.0));
            streamed(events.take_until(Box::pin(end)))
        }
        Err(error) => failure(error),
    }
}

/// The lines as a file, with their times and containers.
pub(super) async fn download(
    State(dashboard): State<Arc<Dashboard>>,
    Asker(identity): Asker,
    Path(environment): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let read = match parse(environment, wanted) {
        Ok(request) => dashboard.service.logs(&identity, request).await,
        Err(error) => Err(error),
    };
    let logs = match read {
        Ok(logs) => logs,
        Err(error) => return failure(error),
    };
    let mut text = String::new();
    for (log, line) in merged(&logs) {
        let (at, line) = line.split_once(' ').unwrap_or((line, ""));
        let _ = writeln!(text, "{at} {}/{} {line}", log.pod, log.container);
    }
    let name = format!("attachment; filename=\"{}.log\"", logs.namespace);
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (headers, text).into_response()
}

fn parse(environment: String, wanted: Result<Query<Wanted>, QueryRejection>) -> Result<LogsRequest, ServiceError> {
    match wanted {
        Ok(Query(wanted)) => request(environment, wanted),
        Err(rejection) => Err(ServiceError::invalid("query", rejection.body_text())),
    }
}

/// What is asked of the service: always with times, which put the lines of several containers in order.
pub(super) fn request(environment: String, wanted: Wanted) -> Result<LogsRequest, ServiceError> {
    let Wanted { tail, since, container, contains, timestamps: _, refresh: _ } = wanted;
    let filled = |value: Option<String>| value.filter(|value| !value.is_empty());
    let fields = json!({
        "environment": environment,
        "tail": tail.unwrap_or(100),
        "since": filled(since),
        "container": filled(container),
        "contains": filled(contains),
        "timestamps": true,
    });
    let Value::Object(fields) = fields else { return Err(ServiceError::invalid("query", "must be fields")) };
    parse_request(fields)
}

/// A stream that proxies pass on at once, and do not end.
pub(super) fn streamed<S>(events: S) -> Response
where
    S: futures::Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would keep lines until it has a buffer of them.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE))).into_response()
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
                () = tokio::time::sleep(LOOK_AGAIN) => {}
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

fn sent(followed: &Followed) -> Event {
    let name = match followed.event() {
        LogEvent::Line { .. } => "line",
        LogEvent::Lost { .. } => "lost",
        LogEvent::Ended { .. } => "ended",
        LogEvent::Gone => "gone",
    };
    // Text of any kind is one line of JSON.
    Event::default().event(name).data(followed.json())
}
