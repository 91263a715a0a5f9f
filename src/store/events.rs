//! The history of an environment: who or what did what, when. Also the audit log.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Store, StoreError, connection::read, schema::events};
use crate::environment::{Millis, codes};

codes! {
    /// The steps of an environment's life, each also one line of the log.
    EventKind {
        Created = "created",
        Deploying = "deploying",
        AttemptFailed = "attempt_failed",
        Running = "running",
        Failed = "failed",
        RolledBack = "rolled_back",
        Waiting = "waiting",
        Asleep = "asleep",
        DeploymentRequested = "deployment_requested",
        KeepingRequested = "keeping_requested",
        Approved = "approved",
        RetryRequested = "retry_requested",
        DeletionRequested = "deletion_requested",
        Deleting = "deleting",
        Deleted = "deleted",
    }
}

#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = events)]
pub(super) struct EventRow {
    id: String,
    environment_id: String,
    at: Millis,
    actor: String,
    kind: &'static str,
    detail: Option<String>,
}

/// Something that happened to an environment.
#[derive(Debug, Clone)]
pub struct Event {
    pub kind: EventKind,
    /// A GitHub login, a token's subject, or `previewd` itself.
    pub actor: String,
    pub detail: Option<String>,
}

impl EventRow {
    pub(super) fn of(environment_id: &str, event: &Event, at: Millis) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            environment_id: environment_id.to_owned(),
            at,
            actor: event.actor.clone(),
            kind: event.kind.code(),
            detail: event.detail.clone(),
        }
    }

    pub(super) fn created(environment_id: &str, actor: &str, at: Millis) -> Self {
        Self::of(environment_id, &Event { kind: EventKind::Created, actor: actor.to_owned(), detail: None }, at)
    }
}

/// One line of an environment's history.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = events)]
pub struct PastEvent {
    pub at: Millis,
    pub actor: String,
    /// The code of an [`EventKind`], perhaps of another version.
    pub kind: String,
    pub detail: Option<String>,
}

impl Store {
    /// The last steps of an environment's life, newest first.
    pub async fn events_of(&self, environment_id: &str, limit: i64) -> Result<Vec<PastEvent>, StoreError> {
        read!(self, |connection| {
            events::table
                .filter(events::environment_id.eq(environment_id))
                .order((events::at.desc(), events::id.desc()))
                .limit(limit)
                .select(PastEvent::as_select())
                .load(connection)
                .await
        })
    }
}
