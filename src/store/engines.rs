//! Which engines are alive, so that `previewd mcp` starts one of its own only where there is none.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store, StoreError,
    connection::{read, write},
    schema::engines,
};

/// An engine whose heartbeat is older is gone.
pub(super) const ALIVE: Duration = Duration::from_secs(30);

impl Store {
    /// Says that engine `id` is alive, and forgets those that are long gone.
    pub async fn heartbeat(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        let (now, long_gone) = (self.now(), self.now_minus(ALIVE * 10));
        write!(self, |connection| {
            diesel::insert_into(engines::table)
                .values((engines::id.eq(&id), engines::heartbeat.eq(now.clone())))
                .on_conflict(engines::id)
                .do_update()
                .set(engines::heartbeat.eq(now))
                .execute(connection)
                .await?;
            diesel::delete(engines::table.filter(engines::heartbeat.lt(long_gone))).execute(connection).await?;
            Ok(())
        })
    }

    /// Says that engine `id` ends.
    pub async fn end_engine(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        write!(self, |connection| {
            diesel::delete(engines::table.find(&id)).execute(connection).await?;
            Ok(())
        })
    }

    pub async fn has_live_engine(&self) -> Result<bool, StoreError> {
        let query = engines::table.filter(engines::heartbeat.gt(self.now_minus(ALIVE))).select(engines::id);
        let alive: Option<String> = read!(self, |connection| query.first(connection).await.optional())?;
        Ok(alive.is_some())
    }
}
