//! The inventory: what was applied for an environment, written before it is applied, so that nothing of ours is ever
//! outside it.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::{read, write},
    schema::{environments, objects},
};
use crate::recipe::Object;

/// What tells one object of an environment from the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Queryable, Selectable)]
#[diesel(table_name = objects)]
pub struct ObjectKey {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

impl ObjectKey {
    pub fn is_among(&self, objects: &[Object]) -> bool {
        let Self { api_version, kind, name } = self;
        objects.iter().any(|object| (&object.api_version, &object.kind, &object.name) == (api_version, kind, name))
    }
}

#[derive(Insertable)]
#[diesel(table_name = objects)]
struct ObjectRow {
    environment_id: String,
    api_version: String,
    kind: String,
    name: String,
    digest: String,
}

/// Whether the pass still holds its lease; takes the row's lock inside a transaction.
macro_rules! lease_held {
    ($connection:expr, $lease:expr) => {
        diesel::update(environments::table)
            .filter(environments::id.eq(&$lease.environment_id))
            .filter(environments::lease_token.eq(&$lease.token))
            .set(environments::lease_until.eq(environments::lease_until))
            .execute($connection)
            .await?
            == 1
    };
}

impl Store {
    pub async fn inventory(&self, environment_id: &str) -> Result<Vec<ObjectKey>, StoreError> {
        read!(self, |connection| {
            objects::table
                .filter(objects::environment_id.eq(environment_id))
                .select(ObjectKey::as_select())
                .load(connection)
                .await
        })
    }

    /// Adds what is about to be applied.
    pub async fn add_to_inventory(
        &self,
        lease: &Lease,
        applied: &[Object],
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let lease = lease.clone();
        let rows: Vec<ObjectRow> = applied
            .iter()
            .map(|object| ObjectRow {
                environment_id: lease.environment_id.clone(),
                api_version: object.api_version.clone(),
                kind: object.kind.clone(),
                name: object.name.clone(),
                digest: object.digest(),
            })
            .collect();
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            // Row by row: diesel inserts many at once into PostgreSQL only.
            for row in &rows {
                diesel::insert_into(objects::table)
                    .values(row)
                    .on_conflict((objects::environment_id, objects::api_version, objects::kind, objects::name))
                    .do_update()
                    .set(objects::digest.eq(&row.digest))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }

    /// Takes out what was deleted.
    pub async fn remove_from_inventory(
        &self,
        lease: &Lease,
        deleted: &[ObjectKey],
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let lease = lease.clone();
        let deleted = deleted.to_vec();
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            for key in &deleted {
                diesel::delete(objects::table)
                    .filter(objects::environment_id.eq(&lease.environment_id))
                    .filter(objects::api_version.eq(&key.api_version))
                    .filter(objects::kind.eq(&key.kind))
                    .filter(objects::name.eq(&key.name))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }
}
