//! Requests that carried a key, so that asking again changes nothing.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, StoreError, connection::read, schema::idempotency};

/// A request with the key that its sender gave it.
#[derive(Debug, Clone, PartialEq, Eq, Insertable)]
#[diesel(table_name = idempotency)]
pub struct Keyed {
    pub subject: String,
    #[diesel(column_name = idempotency_key)]
    pub key: String,
    /// Hex SHA-256 of what is asked for.
    pub request_digest: String,
}

impl Store {
    /// The digest of what the same subject asked for with this key, if it did.
    pub async fn request_of(&self, keyed: &Keyed) -> Result<Option<String>, StoreError> {
        read!(self, |connection| {
            idempotency::table
                .find((&keyed.subject, &keyed.key))
                .select(idempotency::request_digest)
                .first(connection)
                .await
                .optional()
        })
    }
}
