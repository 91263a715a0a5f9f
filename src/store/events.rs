//! What happened, and what was refused: the history of each environment, and the audit log of all.

use std::net::IpAddr;

use diesel::{dsl::max, prelude::*};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    Store, StoreError,
    connection::{read, write},
    environments::split_patterns,
    schema::{environments, events, pull_requests, repositories},
};
use crate::{
    environment::{Millis, RepositoryName, codes},
    text::storable,
};

codes! {
    /// The steps of an environment's life, and what somebody asks for. Each is also one line of the log.
    EventKind {
        Created = "created",
        Deploying = "deploying",
        AttemptFailed = "attempt_failed",
        Running = "running",
        Failed = "failed",
        RolledBack = "rolled_back",
        /// Volumes of an earlier commit are gone, because the commit that runs has none of them.
        VolumesRemoved = "volumes_removed",
        Waiting = "waiting",
        Asleep = "asleep",
        DeploymentRequested = "deployment_requested",
        KeepingRequested = "keeping_requested",
        Approved = "approved",
        RetryRequested = "retry_requested",
        ResetRequested = "reset_requested",
        DeletionRequested = "deletion_requested",
        Deleting = "deleting",
        Deleted = "deleted",
        /// Of no environment, as all that follow.
        RepairRequested = "repair_requested",
        TokenCreated = "token_created",
        TokenRevoked = "token_revoked",
        SignedIn = "signed_in",
        SignedOut = "signed_out",
    }
}

codes! {
    /// By what way somebody asks.
    Interface {
        Mcp = "mcp",
        Dashboard = "dashboard",
        CommandLine = "command_line",
        /// A command in a comment on the pull request.
        Comment = "comment",
        /// Somebody opened a preview that slept. Where they did it from is nobody's business.
        Visit = "visit",
    }
}

codes! {
    /// Why something that was asked for was not done: the codes that callers get.
    Refusal {
        Unauthorized = "UNAUTHORIZED",
        NotFound = "NOT_FOUND",
        InvalidInput = "INVALID_INPUT",
        StaleTarget = "STALE_TARGET",
    }
}

/// From where somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    pub interface: Interface,
    /// None where there is none, or where it is not kept.
    pub address: Option<IpAddr>,
}

impl From<Interface> for Origin {
    fn from(interface: Interface) -> Self {
        Self { interface, address: None }
    }
}

/// Something that happened, or was asked for.
#[derive(Debug, Clone)]
pub struct Event {
    pub kind: EventKind,
    /// A GitHub login, a token's subject, or `previewd` itself.
    pub actor: String,
    /// None: previewd itself, or GitHub's webhook.
    pub origin: Option<Origin>,
    pub detail: Option<String>,
}

impl Event {
    /// One that previewd itself is the author of.
    pub fn own(kind: EventKind, detail: impl Into<String>) -> Self {
        Self { kind, actor: "previewd".to_owned(), origin: None, detail: Some(detail.into()) }
    }
}

#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = events)]
pub(super) struct EventRow {
    id: String,
    environment_id: Option<String>,
    at: Millis,
    actor: String,
    kind: &'static str,
    detail: Option<String>,
    interface: Option<&'static str>,
    address: Option<String>,
    refusal: Option<&'static str>,
}

impl EventRow {
    /// `environment_id`: None where it concerns none.
    pub(super) fn of(environment_id: Option<&str>, event: &Event, at: Millis) -> Self {
        let Event { kind, actor, origin, detail } = event;
        Self {
            id: Uuid::now_v7().to_string(),
            environment_id: environment_id.map(str::to_owned),
            at,
            actor: actor.clone(),
            kind: kind.code(),
            detail: detail.clone(),
            interface: origin.map(|origin| origin.interface.code()),
            address: origin.and_then(|origin| origin.address).map(|address| address.to_string()),
            refusal: None,
        }
    }

    pub(super) fn created(environment_id: &str, author: &str, at: Millis) -> Self {
        let event = Event { kind: EventKind::Created, actor: author.to_owned(), origin: None, detail: None };
        Self::of(Some(environment_id), &event, at)
    }

    /// The same, as something that was not done.
    pub(super) fn refused(self, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal.code()), ..self }
    }
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastEvent {
    pub id: String,
    pub at: Millis,
    pub actor: String,
    /// The code of an [`EventKind`], perhaps of another version.
    pub kind: String,
    pub detail: Option<String>,
    /// The code of an [`Interface`].
    pub interface: Option<String>,
    pub address: Option<String>,
    /// The code of a [`Refusal`]. None: it was done.
    pub refusal: Option<String>,
    /// The pull request whose environment it concerns.
    pub pull_request: Option<(RepositoryName, i64)>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = events)]
struct PastEventRow {
    id: String,
    at: Millis,
    actor: String,
    kind: String,
    detail: Option<String>,
    interface: Option<String>,
    address: Option<String>,
    refusal: Option<String>,
}

impl PastEvent {
    fn of(row: PastEventRow, pull_request: Option<(String, String, i64)>) -> Result<Self, StoreError> {
        let PastEventRow { id, at, actor, kind, detail, interface, address, refusal } = row;
        let name = |(owner, name, number)| {
            let repository = format!("{owner}/{name}").parse().map_err(super::pull_requests::unreadable)?;
            Ok::<_, StoreError>((repository, number))
        };
        let pull_request = pull_request.map(name).transpose()?;
        Ok(Self { id, at, actor, kind, detail, interface, address, refusal, pull_request })
    }
}

/// Which events a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub environment_id: Option<String>,
    pub repository: Option<RepositoryName>,
    /// The number of the pull request.
    pub pull_request: Option<i64>,
    pub actor: Option<String>,
    pub kind: Option<EventKind>,
    pub refused_only: bool,
    /// Patterns of repositories that the asker may see: `owner/name` or `owner/*`. None: all, and what concerns no
    /// environment.
    pub visible: Option<Vec<String>>,
    /// The id after which the page begins.
    pub after: Option<String>,
    pub limit: i64,
}

impl Store {
    /// The last steps of an environment's life, newest first.
    pub async fn events_of(&self, environment_id: &str, limit: i64) -> Result<Vec<PastEvent>, StoreError> {
        let rows: Vec<PastEventRow> = read!(self, |connection| {
            events::table
                .filter(events::environment_id.eq(environment_id))
                .order((events::at.desc(), events::id.desc()))
                .limit(limit)
                .select(PastEventRow::as_select())
                .load(connection)
                .await
        })?;
        rows.into_iter().map(|row| PastEvent::of(row, None)).collect()
    }

    /// A page of the audit log.
    pub async fn list_events(&self, filter: &EventFilter) -> Result<Vec<PastEvent>, StoreError> {
        type Row = (PastEventRow, (Option<String>, Option<String>, Option<i64>));
        let rows: Vec<Row> = read!(self, |connection| {
            // One after the other: of a join in brackets SQLite makes the whole first.
            let mut query = events::table
                .left_join(environments::table)
                .left_join(
                    pull_requests::table
                        .on(environments::pull_request_id.nullable().eq(pull_requests::github_id.nullable())),
                )
                .left_join(
                    repositories::table
                        .on(pull_requests::repository_id.nullable().eq(repositories::github_id.nullable())),
                )
                .select((
                    PastEventRow::as_select(),
                    (repositories::owner.nullable(), repositories::name.nullable(), pull_requests::number.nullable()),
                ))
                // Ids begin with their time.
                .order(events::id.desc())
                .limit(filter.limit)
                .into_boxed();
            if let Some(id) = &filter.environment_id {
                query = query.filter(events::environment_id.eq(id));
            }
            if let Some(repository) = &filter.repository {
                query = query
                    .filter(repositories::owner.eq(repository.owner()))
                    .filter(repositories::name.eq(repository.name()));
            }
            if let Some(number) = filter.pull_request {
                query = query.filter(pull_requests::number.eq(number));
            }
            if let Some(actor) = &filter.actor {
                query = query.filter(events::actor.eq(storable(actor.clone())));
            }
            if let Some(kind) = filter.kind {
                query = query.filter(events::kind.eq(kind.code()));
            }
            if filter.refused_only {
                query = query.filter(events::refusal.is_not_null());
            }
            if let Some(patterns) = &filter.visible {
                let (owners, names) = split_patterns(patterns);
                query = query.filter(
                    repositories::owner
                        .eq_any(owners)
                        .or(repositories::owner.concat("/").concat(repositories::name).eq_any(names)),
                );
            }
            if let Some(after) = &filter.after {
                query = query.filter(events::id.lt(after));
            }
            query.load(connection).await
        })?;
        let named =
            |(owner, name, number): (Option<String>, Option<String>, Option<i64>)| Some((owner?, name?, number?));
        rows.into_iter().map(|(row, pull_request)| PastEvent::of(row, named(pull_request))).collect()
    }

    /// What tells one state of the environments from another: the last event, and when a row of theirs was changed last.
    pub async fn state_of_environments(&self) -> Result<String, StoreError> {
        let event: Option<String> = read!(self, |connection| {
            events::table.order(events::id.desc()).select(events::id).first(connection).await.optional()
        })?;
        let changed: Option<Millis> = read!(self, |connection| {
            environments::table.select(max(environments::updated_at)).first(connection).await
        })?;
        Ok(format!("{} {}", event.unwrap_or_default(), changed.unwrap_or_default()))
    }

    /// Records what was asked for and not done, and why. What is done is recorded with it, in one transaction.
    pub async fn record_refusal(
        &self,
        environment_id: Option<&str>,
        event: &Event,
        refusal: Refusal,
    ) -> Result<(), StoreError> {
        let row = EventRow::of(environment_id, event, self.wall_clock()).refused(refusal);
        write!(self, |connection| diesel::insert_into(events::table).values(&row).execute(connection).await)?;
        Ok(())
    }

    /// Records something that concerns no environment.
    pub async fn record_event(&self, event: &Event) -> Result<(), StoreError> {
        let row = EventRow::of(None, event, self.wall_clock());
        write!(self, |connection| diesel::insert_into(events::table).values(&row).execute(connection).await)?;
        Ok(())
    }
}
