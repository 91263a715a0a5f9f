//! Bearer tokens, stored as hashes.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    Store, StoreError,
    connection::{read, write},
    events::{Event, EventRow},
    pull_requests::unreadable,
    schema::{events, pull_requests, repositories, tokens},
};
use crate::environment::{Millis, PullRequestState, RepositoryName, RepositoryState};

/// How exactly it is known when a token was used last.
const USE_RESOLUTION: Duration = Duration::from_secs(60);

/// A token as its row has it; the token itself is nowhere.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = tokens)]
struct TokenRow {
    id: String,
    subject: String,
    hash: String,
    role: String,
    teams: String,
    created_at: Millis,
    expires_at: Option<Millis>,
    last_used_at: Option<Millis>,
    revoked_at: Option<Millis>,
    repository: Option<String>,
    pull_request: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub id: String,
    pub subject: String,
    /// A role's code.
    pub role: String,
    pub teams: Vec<String>,
    /// `owner/name`: what it is for, and nothing else.
    pub repository: Option<String>,
    /// The same for one of the repository's pull requests.
    pub pull_request: Option<i64>,
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
    /// To the minute.
    pub last_used_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
}

#[derive(Debug, Clone)]
pub struct NewToken {
    pub subject: String,
    pub hash: String,
    pub role: String,
    pub teams: Vec<String>,
    pub repository: Option<String>,
    pub pull_request: Option<i64>,
    pub expires_at: Option<Millis>,
}

impl TryFrom<TokenRow> for Token {
    type Error = StoreError;

    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            subject: row.subject,
            role: row.role,
            teams: serde_json::from_str(&row.teams).map_err(unreadable)?,
            repository: row.repository,
            pull_request: row.pull_request,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        })
    }
}

/// Ends the tokens of a pull request that is closed, inside a transaction, for good: opening it again brings none back.
macro_rules! end_tokens {
    ($connection:expr, $repository:expr, $number:expr, $at:expr) => {{
        use super::{
            events::{Event, EventKind, EventRow},
            schema::{events, tokens},
        };
        let ended: Vec<String> = diesel::update(tokens::table)
            .filter(tokens::repository.eq($repository))
            .filter(tokens::pull_request.eq($number))
            .filter(tokens::revoked_at.is_null())
            .set(tokens::revoked_at.eq($at))
            .returning(tokens::id)
            .get_results($connection)
            .await?;
        for id in ended {
            let event = Event::own(EventKind::TokenRevoked, format!("{id}: its pull request is closed"));
            diesel::insert_into(events::table).values(EventRow::of(None, &event, $at)).execute($connection).await?;
        }
    }};
}

/// Has tokens follow a repository to another name, inside a transaction.
macro_rules! move_tokens {
    ($connection:expr, $from:expr, $to:expr) => {{
        use super::schema::tokens;
        diesel::update(tokens::table)
            .filter(tokens::repository.eq($from))
            .set(tokens::repository.eq($to))
            .execute($connection)
            .await?
    }};
}
pub(super) use {end_tokens, move_tokens};

impl Store {
    /// Stores a new token, and who made it. Gives its id.
    pub async fn create_token(&self, token: NewToken, event: Event) -> Result<String, StoreError> {
        let row = TokenRow {
            id: Uuid::now_v7().to_string(),
            subject: token.subject,
            hash: token.hash,
            role: token.role,
            teams: serde_json::Value::from(token.teams).to_string(),
            created_at: self.wall_clock(),
            expires_at: token.expires_at,
            last_used_at: None,
            revoked_at: None,
            repository: token.repository,
            pull_request: token.pull_request,
        };
        let id = row.id.clone();
        write!(self, |connection| {
            diesel::insert_into(tokens::table).values(&row).execute(connection).await?;
            let event = EventRow::of(None, &event, row.created_at);
            diesel::insert_into(events::table).values(&event).execute(connection).await
        })?;
        Ok(id)
    }

    /// Remembers that a token was used. One write a minute at most, so that reads stay reads.
    pub async fn record_token_use(&self, token: &Token) -> Result<(), StoreError> {
        let is_known = |at: Millis| self.wall_clock() - at < USE_RESOLUTION.as_millis() as Millis;
        if token.last_used_at.is_some_and(is_known) {
            return Ok(());
        }
        let (id, at) = (token.id.clone(), self.wall_clock());
        write!(self, |connection| {
            let used = diesel::update(tokens::table.find(&id)).set(tokens::last_used_at.eq(at));
            used.execute(connection).await
        })?;
        Ok(())
    }

    /// The token with this hash, unless it is revoked or expired, or what it is for is gone: its repository out of
    /// previewd's reach, its pull request closed.
    pub async fn valid_token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        let now = self.now();
        let row: Option<TokenRow> = read!(self, |connection| {
            tokens::table
                .filter(tokens::hash.eq(hash))
                .filter(tokens::revoked_at.is_null())
                .filter(tokens::expires_at.is_null().or(tokens::expires_at.gt(now.nullable())))
                .select(TokenRow::as_select())
                .first(connection)
                .await
                .optional()
        })?;
        let Some(token) = row.map(Token::try_from).transpose()? else { return Ok(None) };
        let is_over = match &token.repository {
            Some(repository) => self.is_over(&repository.parse().map_err(unreadable)?, token.pull_request).await?,
            None => false,
        };
        Ok(Some(token).filter(|_| !is_over))
    }

    /// Whether what a token is for is gone: its repository, or a pull request that was closed before there was the token.
    /// What nobody heard of yet is not.
    async fn is_over(&self, repository: &RepositoryName, number: Option<i64>) -> Result<bool, StoreError> {
        let row: Option<(i64, String)> = read!(self, |connection| {
            repositories::table
                .filter(repositories::owner.eq(repository.owner()))
                .filter(repositories::name.eq(repository.name()))
                .select((repositories::github_id, repositories::state))
                .first(connection)
                .await
                .optional()
        })?;
        let Some((id, state)) = row else { return Ok(false) };
        let Some(number) = number else { return Ok(state != RepositoryState::Active.code()) };
        let of_pull_request: Option<String> = read!(self, |connection| {
            pull_requests::table
                .filter(pull_requests::repository_id.eq(id))
                .filter(pull_requests::number.eq(number))
                .select(pull_requests::state)
                .first(connection)
                .await
                .optional()
        })?;
        let is_closed = of_pull_request.is_some_and(|state| state != PullRequestState::Open.code());
        Ok(is_closed || state != RepositoryState::Active.code())
    }

    pub async fn list_tokens(&self) -> Result<Vec<Token>, StoreError> {
        let rows: Vec<TokenRow> = read!(self, |connection| {
            tokens::table.order(tokens::created_at).select(TokenRow::as_select()).load(connection).await
        })?;
        rows.into_iter().map(Token::try_from).collect()
    }

    /// Revokes a token. False, and nothing written, where there is none of this id, or it was revoked before.
    pub async fn revoke_token(&self, id: &str, event: Event) -> Result<bool, StoreError> {
        let (id, at) = (id.to_owned(), self.wall_clock());
        write!(self, |connection| {
            let revoked = diesel::update(tokens::table.find(&id))
                .filter(tokens::revoked_at.is_null())
                .set(tokens::revoked_at.eq(at))
                .execute(connection)
                .await?;
            if revoked == 1 {
                let event = EventRow::of(None, &event, at);
                diesel::insert_into(events::table).values(&event).execute(connection).await?;
            }
            Ok(revoked == 1)
        })
    }
}
