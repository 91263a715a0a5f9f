//! What browsers hold, as hashes: sessions, and codes that are good once.

use std::time::Duration;

use diesel::{
    define_sql_function,
    prelude::*,
    sql_types::{Integer, Text},
};
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::{read, write},
    events::{Event, EventRow},
    schema::{events, sessions},
};
use crate::environment::codes;

define_sql_function! {
    /// So many characters of a text, from the `start`th on.
    fn substr(text: Text, start: Integer, count: Integer) -> Text;
}

codes! {
    /// What a browser's secret is good for.
    SessionKind {
        /// The dashboard, and codes for previews.
        Dashboard = "dashboard",
        /// A session at one preview's host, once.
        Code = "code",
        /// One preview.
        Preview = "preview",
    }
}

#[derive(Debug, Clone)]
pub struct NewSession {
    pub hash: String,
    pub kind: SessionKind,
    /// The only environment that it is for. None with the dashboard.
    pub environment_id: Option<String>,
    /// Who it is, as JSON.
    pub granted: String,
    pub lasts: Duration,
}

impl Store {
    /// `event`: what the history says of it, if anything.
    pub async fn create_session(&self, session: NewSession, event: Option<Event>) -> Result<(), StoreError> {
        let (now, until, at) = (self.now(), self.now_plus(session.lasts), self.wall_clock());
        write!(self, |connection| {
            diesel::insert_into(sessions::table)
                .values((
                    sessions::hash.eq(&session.hash),
                    sessions::kind.eq(session.kind.code()),
                    sessions::environment_id.eq(&session.environment_id),
                    sessions::granted.eq(&session.granted),
                    sessions::created_at.eq(now),
                    sessions::expires_at.eq(until),
                ))
                .execute(connection)
                .await?;
            if let Some(event) = &event {
                diesel::insert_into(events::table).values(EventRow::of(None, event, at)).execute(connection).await?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Who holds the secret with this hash, where it is still good for this: for the environment, where one is named.
    pub async fn session(
        &self,
        hash: &str,
        kind: SessionKind,
        environment_id: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        let now = self.now();
        read!(self, |connection| {
            let query = sessions::table
                .filter(sessions::hash.eq(hash))
                .filter(sessions::kind.eq(kind.code()))
                .filter(sessions::expires_at.gt(now))
                .select(sessions::granted)
                .into_boxed();
            match environment_id {
                Some(id) => query.filter(sessions::environment_id.eq(id)),
                None => query,
            }
            .first(connection)
            .await
            .optional()
        })
    }

    /// The same for a code of an environment, which is good once.
    pub async fn take_code(&self, hash: &str, environment_id: &str) -> Result<Option<String>, StoreError> {
        let now = self.now();
        let (hash, id) = (hash.to_owned(), environment_id.to_owned());
        write!(self, |connection| {
            diesel::delete(sessions::table.find(&hash))
                .filter(sessions::kind.eq(SessionKind::Code.code()))
                .filter(sessions::environment_id.eq(&id))
                .filter(sessions::expires_at.gt(now))
                .returning(sessions::granted)
                .get_result(connection)
                .await
                .optional()
        })
    }

    /// Ends every session of whoever this is. `whose`: what is granted to them begins with it.
    pub async fn end_sessions(&self, whose: &str, event: Event) -> Result<(), StoreError> {
        let (whose, at) = (whose.to_owned(), self.wall_clock());
        let characters = i32::try_from(whose.chars().count()).unwrap_or(i32::MAX);
        write!(self, |connection| {
            let theirs = substr(sessions::granted, 1, characters).eq(&whose);
            diesel::delete(sessions::table.filter(theirs)).execute(connection).await?;
            diesel::insert_into(events::table).values(EventRow::of(None, &event, at)).execute(connection).await
        })?;
        Ok(())
    }
}
