//! Logs for people: as server-sent events while they are written (`line`, `lost`, `ended` and `gone`, each with its JSON),
//! and as a text file.

use std::{fmt::Write, sync::Arc};

use axum::{
    Extension,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Dashboard,
    access::{Asker, failure},
    stream::{streamed, too_many},
};
use crate::{
    environment::short_commit,
    request::Client,
    service::{EnvironmentLogs, LogsRequest, ServiceError, merged, parse_request},
};

/// What a form or an address says. A field that is not filled in is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    pub tail: Option<i64>,
    pub since: Option<String>,
    pub container: Option<String>,
    pub contains: Option<String>,
    /// Whether it is the run before the last restart.
    pub previous: bool,
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
    let Ok(place) = dashboard.watchers.clone().try_acquire_owned() else { return too_many() };
    let of = request.environment.clone();
    match dashboard.service.follow(&identity, request).await {
        Ok(events) => {
            let end = dashboard.until_they_may_not(headers, client, Some(of), stop.map(|it| it.0));
            streamed(events.take_until(Box::pin(end)), place)
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
        Ok(request) => dashboard.service.whole_logs(&identity, request).await,
        Err(error) => Err(error),
    };
    let logs = match read {
        Ok(logs) => logs,
        Err(error) => return failure(error),
    };
    let mut text: String = notes(&logs).iter().map(|note| format!("# {note}\n")).collect();
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

/// What there is to know of a log beside its lines.
pub(super) fn notes(logs: &EnvironmentLogs) -> Vec<String> {
    let kept = logs.kept_of.as_ref().map(|commit| format!("Kept of commit {}, which failed.", short_commit(commit)));
    let silent = logs.containers.iter().filter_map(|log| {
        let why = log.no_log.as_ref()?;
        Some(format!("{} of {} has no log: {why}.", log.container, log.pod))
    });
    let more = (logs.containers_left_out > 0)
        .then(|| format!("{} more containers were not read; choose one.", logs.containers_left_out));
    let older = (logs.lines_left_out > 0).then(|| format!("{} older lines are left out.", logs.lines_left_out));
    kept.into_iter().chain(silent).chain(more).chain(older).collect()
}

fn parse(environment: String, wanted: Result<Query<Wanted>, QueryRejection>) -> Result<LogsRequest, ServiceError> {
    match wanted {
        Ok(Query(wanted)) => request(environment, wanted),
        Err(rejection) => Err(ServiceError::invalid("query", rejection.body_text())),
    }
}

/// What is asked of the service: always with times, which put the lines of several containers in order.
pub(super) fn request(environment: String, wanted: Wanted) -> Result<LogsRequest, ServiceError> {
    let Wanted { tail, since, container, contains, previous, timestamps: _, refresh: _ } = wanted;
    let filled = |value: Option<String>| value.filter(|value| !value.is_empty());
    let fields = json!({
        "environment": environment,
        "tail": tail.unwrap_or(100),
        "since": filled(since),
        "container": filled(container),
        "contains": filled(contains),
        "timestamps": true,
        "previous": previous,
    });
    let Value::Object(fields) = fields else { return Err(ServiceError::invalid("query", "must be fields")) };
    parse_request(fields)
}
