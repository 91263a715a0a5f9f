//! What passes remember of an environment, beside what its row shows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::{read, write},
    lease::held,
    schema::{environments, standings},
};
use crate::environment::{Hitch, Hitches, Millis, Told};

/// What is remembered of one environment; by default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = standings)]
pub struct Standing {
    /// What is applied has no pods until somebody wants it again.
    pub asleep: bool,
    /// No commit has run in its namespace yet.
    pub fresh: bool,
    /// Not all of what is applied is in the cluster.
    pub half_applied: bool,
    /// When somebody asked to begin anew, where what was before is not gone yet.
    pub reset_at: Option<Millis>,
    /// Since when nothing of what ran is ready.
    pub down_since: Option<Millis>,
}

/// What a pass failed of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// A sentence without its period: who did not do what. It quotes nobody.
    pub what: String,
    pub at: Millis,
}

/// What a step changes of it; None leaves a column as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, AsChangeset)]
#[diesel(table_name = standings)]
pub(super) struct StandingChanges {
    pub asleep: Option<bool>,
    pub fresh: Option<bool>,
    pub half_applied: Option<bool>,
    pub reset_at: Option<Option<Millis>>,
    pub down_since: Option<Option<Millis>>,
    pub hitch: Option<Option<String>>,
    pub hitch_since: Option<Option<Millis>>,
    pub told: Option<Option<String>>,
}

impl StandingChanges {
    /// Nothing is there that could be remembered.
    pub const NOTHING: Self = Self {
        asleep: Some(false),
        fresh: Some(false),
        half_applied: Some(false),
        reset_at: Some(None),
        down_since: Some(None),
        hitch: Some(None),
        hitch_since: Some(None),
        told: Some(None),
    };

    /// Nothing is in the way of a deployment that begins, and nobody was told anything of it.
    pub fn begin_telling(&mut self) {
        (self.hitch, self.hitch_since, self.told) = (Some(None), Some(None), Some(None));
    }

    pub fn set_hitch(&mut self, hitch: Option<&Hitch>) {
        self.hitch = Some(hitch.map(|hitch| serde_json::json!(hitch).to_string()));
    }
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

    /// What is in the way of the deployment that is under way, and what is told of it.
    pub async fn hitches(&self, environment_id: &str) -> Result<Hitches, StoreError> {
        type Columns = (Option<String>, Option<Millis>, Option<String>);
        let columns: Option<Columns> = read!(self, |connection| {
            let columns = (standings::hitch, standings::hitch_since, standings::told);
            standings::table.find(environment_id).select(columns).first(connection).await.optional()
        })?;
        let (hitch, since, told) = columns.unwrap_or_default();
        // What another version wrote is as if nobody had.
        let now = hitch.and_then(|hitch| serde_json::from_str::<Hitch>(&hitch).ok());
        let told = told.and_then(|told| serde_json::from_str::<Told>(&told).ok());
        Ok(Hitches { now, since, told })
    }

    /// Records what a pull request is told from now on of what is in the way.
    pub async fn record_told(&self, lease: &Lease, told: &Told) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, told) = (lease.clone(), serde_json::json!(told).to_string());
        let written = write!(self, |connection| {
            let held = environments::table.filter(held(&lease)).select(environments::id);
            diesel::update(standings::table.filter(standings::environment_id.eq_any(held)))
                .set(standings::told.eq(&told))
                .execute(connection)
                .await
        })?;
        Ok(if written == 1 { Ok(()) } else { Err(LeaseLost) })
    }

    /// Keeps what the pass that holds `lease` failed of.
    pub async fn record_trouble(&self, lease: &Lease, what: &str) -> Result<(), StoreError> {
        let (lease, what, at) = (lease.clone(), what.to_owned(), lease.now());
        write!(self, |connection| {
            diesel::insert_into(standings::table)
                .values(standings::environment_id.eq(&lease.environment_id))
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
            let held = environments::table.filter(held(&lease)).select(environments::id);
            diesel::update(standings::table.filter(standings::environment_id.eq_any(held)))
                .set((standings::trouble.eq(&what), standings::trouble_at.eq(at)))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// What a pass over the environment failed of last, however long ago.
    pub async fn trouble(&self, environment_id: &str) -> Result<Option<Trouble>, StoreError> {
        let columns: Option<(Option<String>, Option<Millis>)> = read!(self, |connection| {
            let columns = (standings::trouble, standings::trouble_at);
            standings::table.find(environment_id).select(columns).first(connection).await.optional()
        })?;
        let (what, at) = columns.unwrap_or_default();
        Ok(what.zip(at).map(|(what, at)| Trouble { what, at }))
    }
}
