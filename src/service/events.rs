//! The audit log: who asked for what, from where, and what became of it.

use futures::{Stream, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cursor, EnvironmentReference, Repository, Service, ServiceError,
    answers::{plain, rfc3339},
};
use crate::{
    identity::{Action, Identity, Role},
    store::{EventFilter, EventKind, PastEvent},
};

/// The longest detail of an event.
const DETAIL: usize = 120;
/// Events of a page, where nobody says how many.
const EVENTS_PER_PAGE: usize = 50;
/// Events that are read at once when all of them are wanted.
const AT_ONCE: usize = 500;

/// Which events to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsRequest {
    pub environment: Option<EnvironmentReference>,
    pub repository: Option<Repository>,
    /// Of whom: a GitHub login or a token's subject.
    pub actor: Option<String>,
    pub kind: Option<EventKind>,
    /// Only what was asked for and not done.
    pub refused: bool,
    pub cursor: Option<Cursor>,
}

/// A page of events, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventList {
    pub events: Vec<EventSummary>,
    /// Give it as `cursor` to get the next page. Absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Something that happened, or that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventSummary {
    /// RFC 3339.
    pub at: String,
    pub kind: String,
    pub actor: String,
    /// `owner/name#number`. Absent where it concerns none, and in the history of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// By what way they asked: mcp, dashboard, command_line, comment or visit. Absent with what previewd did by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// From where, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why it was not done. Absent: it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl EventSummary {
    /// As a line of its environment's history.
    pub(super) fn within_environment(event: PastEvent) -> Self {
        let PastEvent { id: _, at, actor, kind, detail, interface, address: _, refusal, pull_request: _ } = event;
        Self {
            at: rfc3339(at),
            kind,
            actor: plain(&actor),
            environment: None,
            interface,
            address: None,
            refusal,
            detail: detail.map(|detail| plain(&detail).chars().take(DETAIL).collect()),
        }
    }

    /// As a line of the audit log.
    fn of(event: PastEvent, role: Role) -> Self {
        let environment = event.pull_request.as_ref().map(|(repository, number)| format!("{repository}#{number}"));
        let address = event.address.clone().filter(|_| role == Role::Operator);
        Self { environment, address, ..Self::within_environment(event) }
    }
}

impl Service {
    /// A page of what happened to the environments that exist for `identity`, and for operators of everything.
    pub async fn events(&self, identity: &Identity, request: EventsRequest) -> Result<EventList, ServiceError> {
        self.read_events(identity, request, EVENTS_PER_PAGE).await
    }

    /// All of them, page by page.
    pub fn all_events<'a>(
        &'a self,
        identity: &'a Identity,
        request: EventsRequest,
    ) -> impl Stream<Item = Result<EventSummary, ServiceError>> + use<'a> {
        stream::try_unfold(Some(request), async move |next| {
            let Some(request) = next else { return Ok::<_, ServiceError>(None) };
            let EventList { events, next_cursor } = self.read_events(identity, request.clone(), AT_ONCE).await?;
            let cursor = next_cursor.and_then(|cursor| cursor.parse().ok());
            let next = cursor.map(|cursor| EventsRequest { cursor: Some(cursor), ..request });
            Ok(Some((stream::iter(events.into_iter().map(Ok)), next)))
        })
        .try_flatten()
    }

    async fn read_events(
        &self,
        identity: &Identity,
        request: EventsRequest,
        limit: usize,
    ) -> Result<EventList, ServiceError> {
        let EventsRequest { environment, repository, actor, kind, refused, cursor } = request;
        let environment_id = match &environment {
            Some(reference) => Some(self.find(identity, reference, Action::Inspect).await?.environment.id),
            None => None,
        };
        let filter = EventFilter {
            environment_id,
            repository: repository.map(|Repository(name)| name),
            pull_request: identity.pull_request,
            actor,
            kind,
            refused_only: refused,
            visible: identity.visible_patterns(),
            after: cursor.map(|cursor| cursor.as_str().to_owned()),
            // One more tells whether there is a next page.
            limit: limit as i64 + 1,
        };
        let mut page = self.store().list_events(&filter).await?;
        let more = page.len() > limit;
        page.truncate(limit);
        let next_cursor = page.last().filter(|_| more).map(|last| last.id.clone());
        let events = page.into_iter().map(|event| EventSummary::of(event, identity.role)).collect();
        Ok(EventList { events, next_cursor })
    }
}
