//! Sessions of browsers: at the dashboard's host, and at each preview's, which are kept apart. A preview is a stranger's
//! program, so its host gets nothing that opens more than itself: whoever is signed in takes a code there that is good
//! once, for a minute, and for that preview.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    environment::RepositoryName,
    identity::{Action, AuthenticationError, Authenticator, Grant, Identity, Permission, may, new_secret, secret_hash},
    store::{Event, EventKind, NewSession, Origin, Refusal, SessionKind, Store},
};

/// How long somebody stays signed in.
pub const LASTS: Duration = Duration::from_secs(12 * 3_600);
/// From one host to the other takes a redirect.
const CODE_LASTS: Duration = Duration::from_secs(60);
/// How long a look at a session and at whom it is for is believed: one page makes many requests.
const BELIEVED: Duration = Duration::from_secs(10);
/// Sessions that are remembered at once.
const REMEMBERED: usize = 1_024;

/// Who is signed in. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    store: Store,
    authenticator: Authenticator,
    /// Preview sessions that were good, by their hash and environment, and since when.
    admitted: Arc<Mutex<HashMap<(String, String), Instant>>>,
}

/// Somebody who is signed in.
pub struct SignedIn {
    pub identity: Identity,
    /// What forms of their session carry, so that no other site's form is theirs.
    pub csrf: String,
    grant: Grant,
}

impl Sessions {
    pub fn new(store: Store, authenticator: Authenticator) -> Self {
        Self { store, authenticator, admitted: Arc::default() }
    }

    /// Who finds out whose tokens they are.
    pub fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Signs in whoever has this token; gives the session's secret.
    pub async fn sign_in(&self, token: &str, origin: Origin) -> Result<SecretString, AuthenticationError> {
        let grant = self.authenticator.sign_in(token).await?;
        self.sign_in_as(&grant, origin).await
    }

    /// Signs in whoever somebody else vouches for; gives the session's secret.
    pub async fn sign_in_as(&self, grant: &Grant, origin: Origin) -> Result<SecretString, AuthenticationError> {
        let found = self.authenticator.identity_of(grant).await;
        if let (Err(AuthenticationError::InvalidToken), Grant::GitHub { login }) = (&found, grant) {
            let detail = Some("no team has them".to_owned());
            let event = Event { kind: EventKind::SignedIn, actor: login.clone(), origin: Some(origin), detail };
            self.store.record_refusal(None, &event, Refusal::Unauthorized).await?;
        }
        let identity = found?.from_origin(origin);
        let event = identity.event(EventKind::SignedIn, identity.role.code());
        self.begin(SessionKind::Dashboard, None, grant, LASTS, Some(event)).await
    }

    /// Who holds a session of the dashboard. None: nobody, or nobody any more.
    pub async fn signed_in(&self, secret: &str, origin: Origin) -> Result<Option<SignedIn>, AuthenticationError> {
        let granted = self.store.session(&secret_hash(secret), SessionKind::Dashboard, None).await?;
        let Some(grant) = granted.and_then(|granted| Grant::from_json(&granted)) else { return Ok(None) };
        match self.authenticator.identity_of(&grant).await {
            Ok(identity) => {
                let csrf = secret_hash(&format!("csrf {secret}"));
                Ok(Some(SignedIn { identity: identity.from_origin(origin), csrf, grant }))
            }
            // Their token was revoked, or has expired.
            Err(AuthenticationError::InvalidToken) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Signs out, everywhere.
    pub async fn sign_out(&self, who: &SignedIn) -> Result<(), AuthenticationError> {
        let event = who.identity.event(EventKind::SignedOut, who.identity.role.code());
        self.store.end_sessions(&who.grant.whose(), event).await?;
        self.remembered().clear();
        Ok(())
    }

    /// A code with which their browser gets into one preview.
    pub async fn code(&self, who: &SignedIn, environment_id: &str) -> Result<SecretString, AuthenticationError> {
        self.begin(SessionKind::Code, Some(environment_id), &who.grant, CODE_LASTS, None).await
    }

    /// Takes a code for a session at the preview. None: it is not good, or not any more.
    pub async fn enter(&self, code: &str, environment_id: &str) -> Result<Option<SecretString>, AuthenticationError> {
        let granted = self.store.take_code(&secret_hash(code), environment_id).await?;
        let Some(grant) = granted.and_then(|granted| Grant::from_json(&granted)) else { return Ok(None) };
        self.begin(SessionKind::Preview, Some(environment_id), &grant, LASTS, None).await.map(Some)
    }

    /// Whether a preview's session lets somebody see it.
    pub async fn admits(
        &self,
        secret: &str,
        environment_id: &str,
        repository: &RepositoryName,
        number: i64,
    ) -> Result<bool, AuthenticationError> {
        let key = (secret_hash(secret), environment_id.to_owned());
        if self.remembered().get(&key).is_some_and(|at| at.elapsed() < BELIEVED) {
            return Ok(true);
        }
        let granted = self.store.session(&key.0, SessionKind::Preview, Some(environment_id)).await?;
        let Some(grant) = granted.and_then(|granted| Grant::from_json(&granted)) else { return Ok(false) };
        let identity = match self.authenticator.identity_of(&grant).await {
            Ok(identity) => identity,
            Err(AuthenticationError::InvalidToken) => return Ok(false),
            Err(error) => return Err(error),
        };
        let admitted = may(&identity, Action::Inspect, repository, number) == Permission::Allowed;
        if admitted {
            let mut remembered = self.remembered();
            if remembered.len() >= REMEMBERED {
                remembered.retain(|_, at| at.elapsed() < BELIEVED);
            }
            if remembered.len() < REMEMBERED {
                remembered.insert(key, Instant::now());
            }
        }
        Ok(admitted)
    }

    async fn begin(
        &self,
        kind: SessionKind,
        environment_id: Option<&str>,
        grant: &Grant,
        lasts: Duration,
        event: Option<Event>,
    ) -> Result<SecretString, AuthenticationError> {
        let secret = new_secret();
        let session = NewSession {
            hash: secret_hash(secret.expose_secret()),
            kind,
            environment_id: environment_id.map(str::to_owned),
            granted: grant.to_json(),
            lasts,
        };
        self.store.create_session(session, event).await?;
        Ok(secret)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Instant>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
