//! Commands in comments: stored with their delivery, run once by a pass over their pull request's environment.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::{read, write},
    events::{Event, EventRow, Refusal},
    schema::{commands, events},
};
use crate::environment::{CommandComment, Millis};

#[derive(Insertable)]
#[diesel(table_name = commands)]
pub(super) struct NewCommand {
    comment_id: i64,
    delivery_guid: String,
    repository_id: i64,
    number: i64,
    author: String,
    line: String,
    created_at: Millis,
}

impl NewCommand {
    pub(super) fn of(comment: &CommandComment, guid: &str, at: Millis) -> Self {
        Self {
            comment_id: comment.comment_id,
            delivery_guid: guid.to_owned(),
            repository_id: comment.repository_id,
            number: comment.number,
            author: comment.author.clone(),
            line: comment.line.clone(),
            created_at: at,
        }
    }
}

/// A command whose author was not told yet what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = commands)]
pub struct Command {
    pub comment_id: i64,
    /// A GitHub login.
    pub author: String,
    /// The comment's line from `/preview` on.
    pub line: String,
    /// None: it was not run yet.
    pub accepted: Option<bool>,
    /// What its author is told besides.
    pub answer: Option<String>,
}

impl Store {
    /// The commands on a pull request whose authors wait for an answer, oldest first.
    pub async fn open_commands(&self, repository_id: i64, number: i64) -> Result<Vec<Command>, StoreError> {
        read!(self, |connection| {
            commands::table
                .filter(commands::repository_id.eq(repository_id))
                .filter(commands::number.eq(number))
                .filter(commands::answered_at.is_null())
                .order((commands::created_at, commands::comment_id))
                .select(Command::as_select())
                .load(connection)
                .await
        })
    }

    /// Records what became of a command that changed nothing.
    pub async fn settle_command(&self, comment_id: i64, answer: Option<String>) -> Result<(), StoreError> {
        write!(self, |connection| {
            diesel::update(commands::table.find(comment_id))
                .set((commands::accepted.eq(true), commands::answer.eq(answer)))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// Records that a command was refused, and what the history of its environment says of it, if anything.
    pub async fn refuse_command(
        &self,
        comment_id: i64,
        answer: String,
        refused: Option<(String, Event, Refusal)>,
    ) -> Result<(), StoreError> {
        let at = self.wall_clock();
        write!(self, |connection| {
            diesel::update(commands::table.find(comment_id))
                .set((commands::accepted.eq(false), commands::answer.eq(&answer)))
                .execute(connection)
                .await?;
            if let Some((environment_id, event, refusal)) = &refused {
                let row = EventRow::of(Some(environment_id), event, at).refused(*refusal);
                diesel::insert_into(events::table).values(row).execute(connection).await?;
            }
            Ok(())
        })
    }

    /// Records that the author of a command was told.
    pub async fn record_answered(&self, comment_id: i64) -> Result<(), StoreError> {
        let at = self.wall_clock();
        write!(self, |connection| {
            diesel::update(commands::table.find(comment_id)).set(commands::answered_at.eq(at)).execute(connection).await
        })?;
        Ok(())
    }
}
