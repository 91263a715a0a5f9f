//! From a bearer token to whoever it speaks for.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
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

/// Who signed in: with a token of previewd's own or of the issuer, for as long as that is good; or somebody whom GitHub
/// knows, for as long as a team has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    Token {
        hash: String,
    },
    Person {
        subject: String,
        role: Role,
        teams: Vec<String>,
        /// In seconds since 1970.
        until: i64,
    },
    GitHub {
        login: String,
    },
}

impl Grant {
    /// Begins with whose it is.
    pub fn to_json(&self) -> String {
        // Fields stay in their order. Nothing in them cannot be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the JSON of every grant of the same one begins with, and of nobody else.
    pub fn whose(&self) -> String {
        match self {
            Self::Person { subject, .. } => format!("{{\"person\":{{\"subject\":{},", serde_json::json!(subject)),
            Self::Token { .. } | Self::GitHub { .. } => self.to_json(),
        }
    }

    /// None for one of another version.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
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

    /// The issuer whose tokens are taken, as clients have to know it.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    pub async fn authenticate(&self, token: &str) -> Result<Identity, AuthenticationError> {
        if token.starts_with(TOKEN_PREFIX) {
            return self.of_hash(&hash(token)).await;
        }
        self.of_issuer(token).await.map(|(identity, _)| identity)
    }

    /// Whom a token speaks for, in a form that can be kept: what it may do is looked up anew each time.
    pub async fn sign_in(&self, token: &str) -> Result<Grant, AuthenticationError> {
        if token.starts_with(TOKEN_PREFIX) {
            let hash = hash(token);
            self.of_hash(&hash).await?;
            return Ok(Grant::Token { hash });
        }
        let (Identity { subject, role, teams, .. }, until) = self.of_issuer(token).await?;
        Ok(Grant::Person { subject, role, teams, until })
    }

    /// Who a grant is for, as it is now.
    pub async fn identity_of(&self, grant: &Grant) -> Result<Identity, AuthenticationError> {
        let teams = Arc::clone(&self.teams.borrow());
        match grant {
            Grant::Token { hash } => self.of_hash(hash).await,
            Grant::Person { until, .. } if Timestamp::now().as_second() >= *until => {
                Err(AuthenticationError::InvalidToken)
            }
            Grant::Person { subject, role, teams: own, until: _ } => {
                Ok(Identity::of_team_members(subject.clone(), *role, own.clone(), &teams))
            }
            Grant::GitHub { login } => Identity::of_login(login, &teams).ok_or(AuthenticationError::InvalidToken),
        }
    }

    /// With until when the token is taken, in seconds since 1970.
    async fn of_issuer(&self, token: &str) -> Result<(Identity, i64), AuthenticationError> {
        let teams = Arc::clone(&self.teams.borrow());
        match &self.issuer {
            Some(issuer) => issuer.identity(token, &teams).await,
            None => Err(AuthenticationError::InvalidToken),
        }
    }

    async fn of_hash(&self, hash: &str) -> Result<Identity, AuthenticationError> {
        let row = self.store.valid_token(hash).await?.ok_or(AuthenticationError::InvalidToken)?;
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
        let teams = Arc::clone(&self.teams.borrow());
        let identity = Identity::of_team_members(row.subject, role, row.teams, &teams);
        Ok(match scope {
            Some(scope) => identity.within(&scope),
            None => identity,
        })
    }
}
