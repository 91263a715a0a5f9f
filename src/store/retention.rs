//! Retention: what nobody needs any more goes, a little at a time.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::write,
    schema::{
        commands, deliveries, deployments, environments, events, idempotency, kept_logs, objects, renders, sessions,
    },
};
use crate::environment::{EnvironmentStatus, Millis};

/// Rows that go in one transaction: others wait for it.
const AT_ONCE: i64 = 1_000;
/// Requests are sent again within minutes; a day is plenty.
const KEYS: Duration = Duration::from_secs(24 * 3_600);

/// How long things are kept, in milliseconds. None: for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub deliveries: Option<Millis>,
    pub events: Option<Millis>,
}

/// Deletes the oldest rows of a table, as many as go at once. Gives how many.
macro_rules! forget {
    ($store:expr, $table:ident, $key:ident, $time:ident, $age:expr) => {{
        let before = $store.now_minus($age);
        write!($store, |connection| {
            let old = diesel::alias!($table as old);
            let keys = old
                .filter(old.field($table::$time).lt(before))
                .order(old.field($table::$time))
                .limit(AT_ONCE)
                .select(old.field($table::$key));
            diesel::delete($table::table.filter($table::$key.eq_any(keys))).execute(connection).await
        })?
    }};
}

impl Store {
    /// Deletes what is older than it is kept. Gives how many rows.
    pub async fn forget(&self, retention: Retention) -> Result<usize, StoreError> {
        let age = |millis: Millis| Duration::from_millis(millis.unsigned_abs());
        let mut forgotten = 0;
        loop {
            let mut some = 0;
            if let Some(kept) = retention.deliveries {
                some += forget!(self, deliveries, guid, received_at, age(kept));
                some += forget!(self, commands, delivery_guid, created_at, age(kept));
            }
            if let Some(kept) = retention.events {
                some += forget!(self, events, id, at, age(kept));
            }
            let before = self.now_minus(KEYS);
            some += write!(self, |connection| {
                diesel::delete(idempotency::table.filter(idempotency::created_at.lt(before))).execute(connection).await
            })?;
            some += write!(self, |connection| {
                // Nothing goes back to what was applied for an environment that is gone.
                let gone = deployments::table
                    .inner_join(environments::table)
                    .filter(environments::status.eq(EnvironmentStatus::Deleted.code()))
                    .select(deployments::id);
                diesel::delete(renders::table.filter(renders::deployment_id.eq_any(gone))).execute(connection).await
            })?;
            let now = self.now();
            some += write!(self, |connection| {
                diesel::delete(sessions::table.filter(sessions::expires_at.le(now))).execute(connection).await
            })?;
            let of_gone = || {
                environments::table
                    .filter(environments::status.eq(EnvironmentStatus::Deleted.code()))
                    .select(environments::id)
            };
            some += write!(self, |connection| {
                let of_gone = deployments::table.filter(deployments::environment_id.eq_any(of_gone()));
                let logs = kept_logs::table.filter(kept_logs::deployment_id.eq_any(of_gone.select(deployments::id)));
                diesel::delete(logs).execute(connection).await
            })?;
            some += write!(self, |connection| {
                let inventory = objects::table.filter(objects::environment_id.eq_any(of_gone()));
                diesel::delete(inventory).execute(connection).await
            })?;
            write!(self, |connection| {
                // It is read again where the commit comes back.
                diesel::update(deployments::table)
                    .filter(deployments::environment_id.eq_any(of_gone()))
                    .filter(deployments::recipe.is_not_null())
                    .set(deployments::recipe.eq(None::<String>))
                    .execute(connection)
                    .await
            })?;
            forgotten += some;
            if some < AT_ONCE as usize {
                return Ok(forgotten);
            }
        }
    }
}
