//! From a bearer token to whoever it speaks for.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    Identity, Issuer, Role, Scope, Teams,
    tokens::{TOKEN_PREFIX, hash},
};
use crate::store::{Store, StoreError};

/// The configured teams as they are now: the configuration may be read anew while previewd runs.
pub type TeamsInForce = watch::Receiver<Arc<Teams>>;

/// Why a token did not lead to an identity.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// Unknown, expired, revoked or garbled: nobody is told which.
    #[error("the token is not valid; ask an operator for a new one (previewd token create)")]
    InvalidToken,
    #[error("the token cannot be checked now")]
    Store(#[from] StoreError),
    #[error("the token cannot be checked now: its issuer does not answer")]
    IssuerAway,
}

/// Finds out who calls. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    store: Store,
    teams: TeamsInForce,
    /// Whose tokens are taken besides previewd's own.
    issuer: Option<Issuer>,
}

impl Authenticator {
    pub fn new(store: Store, teams: TeamsInForce, issuer: Option<Issuer>) -> Self {
        Self { store, teams, issuer }
    }

    /// With teams that stay as they are, and previewd's own tokens alone.
    pub fn of_tokens(store: Store, teams: Teams) -> Self {
        let (_, teams) = watch::channel(Arc::new(teams));
        Self::new(store, teams, None)
    }

    /// The issuer whose tokens are taken, as clients have to know it.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    pub async fn authenticate(&self, token: &str) -> Result<Identity, AuthenticationError> {
        let teams = Arc::clone(&self.teams.borrow());
        if token.starts_with(TOKEN_PREFIX) {
            return self.own(token, &teams).await;
        }
        match &self.issuer {
            Some(issuer) => issuer.identity(token, &teams).await,
            None => Err(AuthenticationError::InvalidToken),
        }
    }

    async fn own(&self, token: &str, teams: &Teams) -> Result<Identity, AuthenticationError> {
        let row = self.store.valid_token(&hash(token)).await?.ok_or(AuthenticationError::InvalidToken)?;
        // A role of a newer version may mean less than any of ours.
        let role = Role::from_code(&row.role).ok_or(AuthenticationError::InvalidToken)?;
        let scope = match &row.repository {
            Some(repository) => {
                let repository = repository.parse().map_err(|_| AuthenticationError::InvalidToken)?;
                Some(Scope { repository, pull_request: row.pull_request })
            }
            None => None,
        };
        if let Err(error) = self.store.record_token_use(&row).await {
            tracing::debug!(%error, "it is not known that a token was used");
        }
        let identity = Identity::of_team_members(row.subject, role, row.teams, teams);
        Ok(scope.map_or(identity.clone(), |scope| identity.within(&scope)))
    }
}
