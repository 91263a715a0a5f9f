//! Places: how many environments there are at once, given in order of request. Whoever gives one holds the one lock that
//! all of them take, so that no two processes give the last one.

use diesel::{dsl::count_star, prelude::*};
use diesel_async::RunQueryDsl;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::write,
    deliveries::one_at_a_time,
    lease::held_unasked,
    pull_requests::unreadable,
    schema::{environments, installation, pull_requests, repositories},
};
use crate::environment::{Capacity, Place, RepositoryName};

/// Gives the places that are free inside a transaction that holds the lock of [`one_at_a_time`], and makes their
/// environments due. Gives what became of each that waits, by its id.
macro_rules! give_places {
    ($connection:expr, $now:expr, $capacity:expr) => {{
        let of_repository = environments::table.inner_join(pull_requests::table.inner_join(repositories::table));
        let taken: Vec<(String, String, i64)> = of_repository
            .filter(environments::admitted_at.is_not_null())
            .group_by((repositories::owner, repositories::name))
            .select((repositories::owner, repositories::name, count_star()))
            .load($connection)
            .await?;
        let queue: Vec<(String, String, String)> = of_repository
            .filter(environments::queued_at.is_not_null())
            .order((environments::queued_at, environments::id))
            .select((environments::id, repositories::owner, repositories::name))
            .load($connection)
            .await?;
        let outcome = places(&$capacity, &taken, queue)
            .map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
        for (id, _) in outcome.iter().filter(|(_, place)| *place == Place::Free) {
            diesel::update(environments::table.find(id))
                .set((
                    environments::admitted_at.eq($now.clone().nullable()),
                    environments::queued_at.eq(None::<i64>),
                    environments::due_at.eq($now.clone().nullable()),
                ))
                .execute($connection)
                .await?;
        }
        outcome
    }};
}

fn places(
    capacity: &Capacity,
    taken: &[(String, String, i64)],
    queue: Vec<(String, String, String)>,
) -> Result<Vec<(String, Place)>, StoreError> {
    let name = |owner: &str, name: &str| format!("{owner}/{name}").parse::<RepositoryName>().map_err(unreadable);
    let taken: Result<Vec<_>, StoreError> =
        taken.iter().map(|(owner, repository, count)| Ok((name(owner, repository)?, count.unsigned_abs()))).collect();
    let waiting: Result<Vec<_>, StoreError> =
        queue.iter().map(|(_, owner, repository)| name(owner, repository)).collect();
    let places = capacity.places(&taken?, &waiting?);
    Ok(queue.into_iter().map(|(id, _, _)| id).zip(places).collect())
}

impl Store {
    /// Puts the environment of the pass into line, if it is not there yet, and gives the places that are free.
    pub async fn ask_for_place(
        &self,
        lease: &Lease,
        capacity: &Capacity,
    ) -> Result<Result<Place, LeaseLost>, StoreError> {
        let (lease, capacity, now) = (lease.clone(), capacity.clone(), self.now());
        let place = write!(self, |connection| {
            one_at_a_time!(connection);
            let at = diesel::dsl::case_when(environments::queued_at.is_null(), now.clone().nullable())
                .otherwise(environments::queued_at);
            let held = diesel::update(environments::table)
                .filter(held_unasked(&lease))
                .filter(environments::admitted_at.is_null())
                .set(environments::queued_at.eq(at))
                .execute(connection)
                .await?;
            if held == 0 {
                return Ok(Err(LeaseLost));
            }
            let outcome = give_places!(connection, now, capacity);
            let own = outcome.into_iter().find(|(id, _)| *id == lease.environment_id);
            Ok(own.map(|(_, place)| place).ok_or(LeaseLost))
        })?;
        self.announce_due();
        Ok(place)
    }

    /// Gives the places that are free, because some have just become so.
    pub async fn give_places(&self, capacity: &Capacity) -> Result<(), StoreError> {
        let (capacity, now) = (capacity.clone(), self.now());
        write!(self, |connection| {
            one_at_a_time!(connection);
            give_places!(connection, now, capacity);
            Ok(())
        })?;
        self.announce_due();
        Ok(())
    }
}
