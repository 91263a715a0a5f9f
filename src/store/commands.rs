//! Commands in comments: stored with their delivery, run once by a pass over their pull request's environment.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::{read, write},
    events::{Event, EventRow, Refusal},
    pull_requests::from_code,
    schema::{commands, events},
};
use crate::environment::{CommandComment, CommandKey, CommentKind, Millis};

/// The key of a command's row.
pub(super) fn columns(key: &CommandKey) -> (&'static str, i64, i64) {
    (key.kind.code(), key.comment_id, key.place)
}

#[derive(Insertable)]
#[diesel(table_name = commands)]
pub(super) struct NewCommand {
    kind: &'static str,
    comment_id: i64,
    place: i64,
    delivery_guid: String,
    repository_id: i64,
    number: i64,
    author: String,
    line: String,
    created_at: Millis,
}

impl NewCommand {
    /// The comment's commands. Of one that was edited the first of those that came into it.
    pub(super) fn of(comment: &CommandComment, guid: &str, at: Millis) -> Vec<Self> {
        let places = if comment.edited { CommandKey::EDITED_IN..0 } else { 0..CommandKey::AT_MOST + 1 };
        let new = |(place, line): (i64, &String)| Self {
            kind: comment.kind.code(),
            comment_id: comment.comment_id,
            place,
            delivery_guid: guid.to_owned(),
            repository_id: comment.repository_id,
            number: comment.number,
            author: comment.author.clone(),
            line: line.clone(),
            created_at: at,
        };
        places.zip(&comment.lines).map(new).collect()
    }
}

/// A command whose author was not told yet what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub key: CommandKey,
    /// A GitHub login.
    pub author: String,
    /// The comment's line from `/preview` on.
    pub line: String,
    /// None: it was not run yet.
    pub accepted: Option<bool>,
    /// What its author is told besides.
    pub answer: Option<String>,
}

type CommandRow = (String, i64, i64, String, String, Option<bool>, Option<String>);

impl Command {
    fn of((kind, comment_id, place, author, line, accepted, answer): CommandRow) -> Result<Self, StoreError> {
        let kind = from_code(&kind, CommentKind::from_code)?;
        Ok(Self { key: CommandKey { kind, comment_id, place }, author, line, accepted, answer })
    }
}

impl Store {
    /// The commands on a pull request whose authors wait for an answer, the oldest first, those of one comment together
    /// and in their order.
    pub async fn open_commands(&self, repository_id: i64, number: i64) -> Result<Vec<Command>, StoreError> {
        let rows: Vec<CommandRow> = read!(self, |connection| {
            commands::table
                .filter(commands::repository_id.eq(repository_id))
                .filter(commands::number.eq(number))
                .filter(commands::answered_at.is_null())
                .order((commands::created_at, commands::kind, commands::comment_id, commands::place))
                .select((
                    commands::kind,
                    commands::comment_id,
                    commands::place,
                    commands::author,
                    commands::line,
                    commands::accepted,
                    commands::answer,
                ))
                .load(connection)
                .await
        })?;
        rows.into_iter().map(Command::of).collect()
    }

    /// Records what became of a command that changed nothing.
    pub async fn settle_command(&self, command: CommandKey, answer: Option<String>) -> Result<(), StoreError> {
        write!(self, |connection| {
            diesel::update(commands::table.find(columns(&command)))
                .set((commands::accepted.eq(true), commands::answer.eq(answer)))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// Records that a command was refused, and what the history of its environment says of it, if anything.
    pub async fn refuse_command(
        &self,
        command: CommandKey,
        answer: String,
        refused: Option<(String, Event, Refusal)>,
    ) -> Result<(), StoreError> {
        let at = self.wall_clock();
        write!(self, |connection| {
            diesel::update(commands::table.find(columns(&command)))
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

    /// Records that the author of a comment was told of all its commands that were run.
    pub async fn record_answered(&self, kind: CommentKind, comment_id: i64) -> Result<(), StoreError> {
        let at = self.wall_clock();
        write!(self, |connection| {
            diesel::update(commands::table)
                .filter(commands::kind.eq(kind.code()))
                .filter(commands::comment_id.eq(comment_id))
                .filter(commands::accepted.is_not_null())
                .filter(commands::answered_at.is_null())
                .set(commands::answered_at.eq(at))
                .execute(connection)
                .await
        })?;
        Ok(())
    }
}
