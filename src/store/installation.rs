//! The one row that says whose database this is, and for which cluster.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    Store, StoreError,
    connection::{read, write},
    schema::installation,
};

/// The generation of the tables that this version makes.
pub(super) const GENERATION: i64 = 1;

/// Whose database this is.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Installation {
    /// Labels everything of ours in the cluster.
    pub id: String,
    /// The UID of the cluster's kube-system namespace; None before the first contact.
    pub cluster_id: Option<String>,
}

impl Store {
    /// The installation, made at the first call.
    pub async fn installation(&self) -> Result<Installation, StoreError> {
        let query = installation::table.find(1).select((installation::installation_id, installation::cluster_id));
        let known: Option<Installation> = read!(self, |connection| query.first(connection).await.optional())?;
        if let Some(known) = known {
            return Ok(known);
        }
        let fresh = Uuid::new_v4().simple().to_string();
        let at = self.wall_clock();
        write!(self, |connection| {
            diesel::insert_into(installation::table)
                .values((
                    installation::id.eq(1),
                    installation::installation_id.eq(&fresh),
                    installation::oldest_generation.eq(GENERATION),
                    installation::created_at.eq(at),
                ))
                .on_conflict_do_nothing()
                .execute(connection)
                .await?;
            query.first(connection).await
        })
    }

    /// Binds the database to a cluster, once. Gives the cluster that it is bound to from then on.
    pub async fn bind_cluster(&self, cluster_id: &str) -> Result<Option<String>, StoreError> {
        let cluster_id = cluster_id.to_owned();
        write!(self, |connection| {
            diesel::update(installation::table.filter(installation::cluster_id.is_null()))
                .set(installation::cluster_id.eq(&cluster_id))
                .execute(connection)
                .await?;
            installation::table.find(1).select(installation::cluster_id).first(connection).await
        })
    }
}
