//! What may be sent to GitHub, counted for all processes together.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::{read, write},
    schema::github_budgets,
};
use crate::environment::{Millis, Urgency, Window, Writes};

/// A token has no installation.
const OF_TOKEN: i64 = 0;

#[derive(Debug, Clone, Copy, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = github_budgets)]
struct BudgetRow {
    app_installation_id: i64,
    blocked_until: Millis,
    minute_began: Millis,
    minute_writes: i64,
    minute_before: i64,
    hour_began: Millis,
    hour_writes: i64,
    hour_before: i64,
}

impl BudgetRow {
    fn of(app_installation_id: i64, blocked_until: Millis, writes: Writes) -> Self {
        let Writes { minute, hour } = writes;
        Self {
            app_installation_id,
            blocked_until,
            minute_began: minute.began,
            minute_writes: minute.writes,
            minute_before: minute.before,
            hour_began: hour.began,
            hour_writes: hour.writes,
            hour_before: hour.before,
        }
    }

    fn writes(&self) -> Writes {
        let Self { minute_began, minute_writes, minute_before, hour_began, hour_writes, hour_before, .. } = *self;
        Writes {
            minute: Window { began: minute_began, writes: minute_writes, before: minute_before },
            hour: Window { began: hour_began, writes: hour_writes, before: hour_before },
        }
    }
}

/// Whether something may be sent to GitHub now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Now,
    /// Not before this has passed.
    After(Duration),
}

fn after(millis: Millis) -> Turn {
    Turn::After(Duration::from_millis(millis.max(1).unsigned_abs()))
}

/// Inside a transaction: there is a row from here on.
macro_rules! make_row {
    ($connection:expr, $key:expr) => {
        diesel::insert_into(github_budgets::table)
            .values(BudgetRow::of($key, 0, Writes::default()))
            .on_conflict_do_nothing()
            .execute($connection)
            .await?
    };
}

impl Store {
    /// Whether something may be read from GitHub now.
    pub async fn may_read(&self, app_installation_id: Option<i64>) -> Result<Turn, StoreError> {
        let key = app_installation_id.unwrap_or(OF_TOKEN);
        let now = self.now();
        let found: Option<(Millis, Millis)> = read!(self, |connection| {
            github_budgets::table
                .find(key)
                .select((github_budgets::blocked_until, now))
                .first(connection)
                .await
                .optional()
        })?;
        Ok(match found {
            Some((blocked_until, now)) if blocked_until > now => after(blocked_until - now),
            Some(_) | None => Turn::Now,
        })
    }

    /// Takes one write to GitHub out of the budget, where there is one left for this urgency.
    pub async fn take_write(&self, app_installation_id: Option<i64>, urgency: Urgency) -> Result<Turn, StoreError> {
        let key = app_installation_id.unwrap_or(OF_TOKEN);
        let clock = self.now();
        write!(self, |connection| {
            make_row!(connection, key);
            // Locks the row: of two processes one counts after the other.
            let row: BudgetRow = diesel::update(github_budgets::table.find(key))
                .set(github_budgets::blocked_until.eq(github_budgets::blocked_until))
                .returning(BudgetRow::as_returning())
                .get_result(connection)
                .await?;
            let now: Millis = diesel::select(clock).get_result(connection).await?;
            if row.blocked_until > now {
                return Ok(after(row.blocked_until - now));
            }
            match row.writes().and_one(now, urgency) {
                Ok(writes) => {
                    diesel::update(github_budgets::table.find(key))
                        .set(BudgetRow::of(key, row.blocked_until, writes))
                        .execute(connection)
                        .await?;
                    Ok(Turn::Now)
                }
                Err(wait) => Ok(after(wait)),
            }
        })
    }

    /// GitHub asked for silence.
    pub async fn block_github(&self, app_installation_id: Option<i64>, wait: Duration) -> Result<(), StoreError> {
        let key = app_installation_id.unwrap_or(OF_TOKEN);
        let until = self.now_plus(wait);
        write!(self, |connection| {
            make_row!(connection, key);
            diesel::update(github_budgets::table.find(key))
                .filter(github_budgets::blocked_until.lt(until.clone()))
                .set(github_budgets::blocked_until.eq(until))
                .execute(connection)
                .await
        })?;
        Ok(())
    }

    /// Takes one read of a sweep out of the budget of an hour, where there is one left.
    pub async fn take_sweep_read(&self, app_installation_id: Option<i64>, at_most: i64) -> Result<bool, StoreError> {
        let key = app_installation_id.unwrap_or(OF_TOKEN);
        let (now, an_hour_ago) = (self.now(), self.now_minus(Duration::from_secs(3_600)));
        let taken = write!(self, |connection| {
            make_row!(connection, key);
            diesel::update(github_budgets::table.find(key).filter(github_budgets::sweep_began.le(an_hour_ago)))
                .set((github_budgets::sweep_began.eq(now.clone()), github_budgets::sweep_reads.eq(0)))
                .execute(connection)
                .await?;
            diesel::update(github_budgets::table.find(key))
                .filter(github_budgets::sweep_reads.lt(at_most))
                .filter(github_budgets::blocked_until.le(now))
                .set(github_budgets::sweep_reads.eq(github_budgets::sweep_reads + 1))
                .execute(connection)
                .await
        })?;
        Ok(taken == 1)
    }

    /// Gives back what cost GitHub nothing.
    pub async fn give_sweep_read_back(&self, app_installation_id: Option<i64>) -> Result<(), StoreError> {
        let key = app_installation_id.unwrap_or(OF_TOKEN);
        write!(self, |connection| {
            diesel::update(github_budgets::table.find(key))
                .filter(github_budgets::sweep_reads.gt(0))
                .set(github_budgets::sweep_reads.eq(github_budgets::sweep_reads - 1))
                .execute(connection)
                .await
        })?;
        Ok(())
    }
}
