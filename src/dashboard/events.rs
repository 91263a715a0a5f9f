//! The audit log: as a page, and to be kept elsewhere, a line of JSON for each event, newest first.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Dashboard,
    access::{Asker, Visitor, failure},
    frame::{Frame, failed, page},
};
use crate::{
    service::{EventList, EventSummary, EventsRequest, ServiceError, parse_request},
    store::EventKind,
};

/// Events that wait for whoever reads them.
const AHEAD: usize = 64;

/// The form's fields. One that is not filled in is empty.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    environment: Option<String>,
    repository: Option<String>,
    actor: Option<String>,
    kind: Option<String>,
    refused: Option<String>,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    filter: Filter,
    kinds: Vec<&'static str>,
    query: String,
    problem: Option<String>,
    events: Vec<EventSummary>,
    next: Option<String>,
}

impl Filter {
    fn is_refused(&self) -> bool {
        self.refused.as_deref() == Some("true")
    }

    fn fields(&self) -> Vec<(&'static str, &str)> {
        let Self { environment, repository, actor, kind, refused, cursor } = self;
        let all = [
            ("environment", environment),
            ("repository", repository),
            ("actor", actor),
            ("kind", kind),
            ("refused", refused),
            ("cursor", cursor),
        ];
        let filled = all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?.trim())));
        filled.filter(|(_, value)| !value.is_empty()).collect()
    }

    fn request(&self) -> Result<EventsRequest, ServiceError> {
        let value = |name: &str, value: &str| match name {
            "refused" => Value::Bool(value == "true"),
            _ => Value::String(value.to_owned()),
        };
        let fields: Map<String, Value> =
            self.fields().into_iter().map(|(name, text)| (name.to_owned(), value(name, text))).collect();
        parse_request(fields)
    }

    /// As the query of an address, without where a page begins.
    fn query(&self) -> String {
        let fields = self.fields().into_iter().filter(|(name, _)| *name != "cursor");
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
    }
}

pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    Visitor(who): Visitor,
    Query(filter): Query<Filter>,
) -> Response {
    let frame = Frame::of(&who, "events");
    let found = match filter.request() {
        Ok(request) => dashboard.service.events(&who.identity, request).await,
        Err(error) => Err(error),
    };
    let (found, problem) = match found {
        Ok(found) => (found, None),
        Err(error) if error.code.refusal().is_some() => {
            (EventList { events: Vec::new(), next_cursor: None }, Some(error.message))
        }
        Err(error) => return failed(frame, error),
    };
    let query = filter.query();
    let next = found.next_cursor.map(|cursor| format!("/events?{query}&cursor={cursor}"));
    let kinds = EventKind::ALL.iter().map(|kind| kind.code()).collect();
    page(StatusCode::OK, &EventsPage { frame, filter, kinds, query, problem, events: found.events, next }, "")
}

pub(super) async fn export(
    State(dashboard): State<Arc<Dashboard>>,
    Asker(identity): Asker,
    Query(filter): Query<Filter>,
) -> Response {
    let request = match filter.request() {
        Ok(request) => request,
        Err(error) => return failure(error),
    };
    let (lines, mut read) = tokio::sync::mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut events = std::pin::pin!(dashboard.service.all_events(&identity, request));
        while let Some(event) = events.next().await {
            let failed = event.is_err();
            // Whoever went away wants no more.
            if lines.send(event).await.is_err() || failed {
                break;
            }
        }
    });
    // What can be refused is refused with the first.
    let first = match read.recv().await {
        Some(Err(error)) => return failure(error),
        first => first,
    };
    let rest = stream::poll_fn(move |context| read.poll_recv(context));
    let body = stream::iter(first).chain(rest).and_then(async |event: EventSummary| line(&event));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(body)).into_response()
}

fn line(event: &EventSummary) -> Result<Bytes, ServiceError> {
    let line = serde_json::to_string(event).map_err(|error| ServiceError::invalid("event", error))?;
    Ok(Bytes::from(line + "\n"))
}
