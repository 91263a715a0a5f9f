//! What passes remember of an environment, beside what its row shows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, StoreError, connection::read, schema::standings};
use crate::environment::Millis;

/// What is remembered of one environment; by default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = standings)]
pub struct Standing {
    /// What is applied has no pods until somebody wants it again.
    pub asleep: bool,
    /// No commit has run in its namespace yet.
    pub fresh: bool,
    /// When somebody asked to begin anew, where what was before is not gone yet.
    pub reset_at: Option<Millis>,
    /// Since when nothing of what ran is ready.
    pub down_since: Option<Millis>,
}

/// What a step changes of it; None leaves a column as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, AsChangeset)]
#[diesel(table_name = standings)]
pub(super) struct StandingChanges {
    pub asleep: Option<bool>,
    pub fresh: Option<bool>,
    pub reset_at: Option<Option<Millis>>,
    pub down_since: Option<Option<Millis>>,
}

impl StandingChanges {
    /// Nothing is there that could be remembered.
    pub const NOTHING: Self =
        Self { asleep: Some(false), fresh: Some(false), reset_at: Some(None), down_since: Some(None) };
}

/// Changes what is remembered, inside a transaction that has the environment's lock.
macro_rules! change_standing {
    ($connection:expr, $environment_id:expr, $changes:expr) => {{
        use $crate::store::schema::standings;
        diesel::insert_into(standings::table)
            .values(standings::environment_id.eq(&$environment_id))
            .on_conflict_do_nothing()
            .execute($connection)
            .await?;
        diesel::update(standings::table.find(&$environment_id)).set($changes).execute($connection).await?;
    }};
}
pub(super) use change_standing;

impl Store {
    /// What is remembered of an environment.
    pub async fn standing(&self, environment_id: &str) -> Result<Standing, StoreError> {
        let standing: Option<Standing> = read!(self, |connection| {
            standings::table.find(environment_id).select(Standing::as_select()).first(connection).await.optional()
        })?;
        Ok(standing.unwrap_or_default())
    }
}
