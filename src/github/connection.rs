//! One way to GitHub for every call: who asks, how long it may take, how much may come back.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt, combinators::BoxBody};
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder, service::middleware::retry::RetryConfig};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;
use tower::{BoxError, Service};

use super::{
    error::{GitHubError, NOT_GITHUB},
    facts::RepositoryAccess,
    settings::{Credentials, GitHubSettings, InvalidGitHubSettings},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Without a byte arriving.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that any call takes, an installation's new token included: after it the call has failed, though GitHub
/// may have done what it asked for.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A page of a hundred comments of 65,536 characters, GitHub's limits, in UTF-8.
const JSON_LIMIT: usize = 32 << 20;

/// How long GitHub's yes, and its no, to previewd's credentials are believed.
const READY_FOR: Duration = Duration::from_secs(60);
const NOT_READY_FOR: Duration = Duration::from_secs(5);

/// GitHub's REST API, as a GitHub App or with a token. Cheap to clone; clones share tokens and connections. Nothing is
/// sent twice: whoever calls knows whether and when to try again.
#[derive(Clone)]
pub struct GitHub {
    connection: Arc<Connection>,
}

struct Connection {
    /// The App itself, or the token's owner.
    own: Arc<Account>,
    is_app: bool,
    /// Where GitHub Enterprise Server has its API: `/api/v3`. Empty on github.com.
    base_path: String,
    installations: Mutex<HashMap<i64, Arc<Account>>>,
    identity: tokio::sync::Mutex<Identity>,
}

/// In whose name requests are sent. An octocrab keeps its installation's token and renews it 30 seconds before it ends;
/// a clone of it would keep a token of its own, hence the `Arc` around this.
struct Account {
    octocrab: Octocrab,
    /// Held while the token is looked at, so that fifty environments at once ask for one token and not for fifty.
    renewal: tokio::sync::Mutex<()>,
}

impl Account {
    fn new(octocrab: Octocrab) -> Arc<Self> {
        Arc::new(Self { octocrab, renewal: tokio::sync::Mutex::default() })
    }
}

/// As whom previewd's comments appear.
#[derive(Default)]
struct Identity {
    login: Option<(Instant, String)>,
    failure: Option<(Instant, GitHubError)>,
}

/// One request: what it is for, in words that fit "{tried}: it failed", and how it is sent.
pub(super) struct Call<'a> {
    pub tried: &'a str,
    pub method: Method,
    /// Path and query under the API's address.
    pub path: String,
    pub accept: &'static str,
    pub body: Option<Value>,
    /// GitHub's tag of an answer that is known: where it is still the same, the answer is a 304 and costs nothing.
    pub known_etag: Option<String>,
    /// Bytes of the answer's body that are read; the rest is left.
    pub limit: usize,
}

impl<'a> Call<'a> {
    pub fn get(tried: &'a str, path: impl Into<String>) -> Self {
        Self {
            tried,
            method: Method::GET,
            path: path.into(),
            accept: "application/vnd.github+json",
            body: None,
            known_etag: None,
            limit: JSON_LIMIT,
        }
    }

    pub fn write(tried: &'a str, method: Method, path: impl Into<String>, body: Value) -> Self {
        Self { method, body: Some(body), ..Self::get(tried, path) }
    }
}

/// An answer of success.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self, tried: &str) -> Result<T, GitHubError> {
        serde_json::from_slice(&self.body).map_err(|_| GitHubError::away(tried, NOT_GITHUB))
    }
}

/// In whose name a call is made.
#[derive(Clone, Copy)]
pub(super) enum Actor<'a> {
    /// The App itself, or the token.
    Own,
    /// The App's installation on a repository, or the token.
    On(&'a RepositoryAccess),
    /// An installation of the App, by its id, or the token.
    Installation(i64),
}

impl GitHub {
    /// Checks the settings and reads the private key; sends nothing. Needs a Tokio runtime, and for `https` the
    /// machine's CA certificates.
    pub fn new(settings: &GitHubSettings) -> Result<Self, InvalidGitHubSettings> {
        let api_url = settings.checked_api_url()?;
        let credentials = settings.credentials()?;
        let is_app = matches!(credentials, Credentials::App { .. });

        let unusable = |error: octocrab::Error| {
            tracing::debug!(%error, "octocrab refused its settings");
            InvalidGitHubSettings::new(
                "github.api_url",
                "no connection can be set up; does the machine have CA certificates (package ca-certificates)?",
            )
        };
        let builder = Octocrab::builder()
            .base_uri(api_url.as_str())
            .map_err(unusable)?
            .add_retry_config(RetryConfig::None)
            .set_connect_timeout(Some(CONNECT_TIMEOUT))
            .set_read_timeout(Some(READ_TIMEOUT))
            .set_write_timeout(Some(READ_TIMEOUT));
        let builder = match credentials {
            Credentials::App { id, key } => builder.app(id.into(), key),
            Credentials::Token(token) => builder.personal_token(token),
        };
        Ok(Self {
            connection: Arc::new(Connection {
                own: Account::new(builder.build().map_err(unusable)?),
                is_app,
                base_path: api_url.path().trim_end_matches('/').to_owned(),
                installations: Mutex::default(),
                identity: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// GitHub behind a service that is given, which adds the credentials of a token by itself: a way to it that is no
    /// socket.
    pub fn over<S, B>(service: S) -> Self
    where
        S: Service<Request<OctoBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError> + Send,
        B: hyper::body::Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError> + Send,
    {
        let built = OctocrabBuilder::new_empty().with_service(service).with_auth(AuthState::None).build();
        let Ok(octocrab) = built;
        Self {
            connection: Arc::new(Connection {
                own: Account::new(octocrab),
                is_app: false,
                base_path: String::new(),
                installations: Mutex::default(),
                identity: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Whether GitHub answers and takes previewd's credentials. GitHub's yes is believed for a minute, its no for five
    /// seconds.
    pub async fn ready(&self) -> Result<(), GitHubError> {
        self.login(READY_FOR).await.map(drop)
    }

    /// The login that previewd's comments have, as it was `age` ago at most.
    pub(super) async fn login(&self, age: Duration) -> Result<String, GitHubError> {
        // Held during the call: whoever asks meanwhile takes the same answer.
        let mut identity = self.connection.identity.lock().await;
        if let Some((at, login)) = &identity.login
            && at.elapsed() < age
        {
            return Ok(login.clone());
        }
        if let Some((at, failure)) = &identity.failure
            && at.elapsed() < NOT_READY_FOR
        {
            return Err(failure.clone());
        }
        match self.ask_for_login().await {
            Ok(login) => {
                *identity = Identity { login: Some((Instant::now(), login.clone())), failure: None };
                Ok(login)
            }
            Err(failure) => {
                identity.failure = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn ask_for_login(&self) -> Result<String, GitHubError> {
        #[derive(Deserialize)]
        struct App {
            slug: String,
        }
        #[derive(Deserialize)]
        struct User {
            login: String,
        }
        let tried = "asking who previewd is";
        if self.connection.is_app {
            let app: App = self.call(Actor::Own, Call::get(tried, "/app")).await?.json(tried)?;
            Ok(format!("{}[bot]", app.slug))
        } else {
            let user: User = self.call(Actor::Own, Call::get(tried, "/user")).await?.json(tried)?;
            Ok(user.login)
        }
    }

    pub(super) fn is_app(&self) -> bool {
        self.connection.is_app
    }

    /// Sends one request and reads its answer, within [`CALL_TIMEOUT`].
    pub(super) async fn call(&self, actor: Actor<'_>, call: Call<'_>) -> Result<Answer, GitHubError> {
        let tried = call.tried;
        let sent = async {
            let account = self.account(actor, tried).await?;
            let mut response = send(&account.octocrab, &call, &call.path).await?;
            // octocrab follows redirects of what has no body. For the rest a renamed repository answers 307, to be
            // repeated as it is: https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects
            if response.status().is_redirection()
                && let Some(path) = self.redirected_path(&response)
            {
                response = send(&account.octocrab, &call, &path).await?;
            }
            let (parts, body) = response.into_parts();
            let body = read(body, call.limit).await.map_err(|error| GitHubError::of_octocrab(tried, &error))?;
            let is_known = parts.status == StatusCode::NOT_MODIFIED && call.known_etag.is_some();
            if parts.status.is_success() || is_known {
                return Ok(Answer { status: parts.status, headers: parts.headers, body });
            }
            Err(GitHubError::of_answer(tried, parts.status, &parts.headers, &String::from_utf8_lossy(&body)))
        };
        let too_long = || GitHubError::away(tried, format_args!("nothing within {} s", CALL_TIMEOUT.as_secs()));
        tokio::time::timeout(CALL_TIMEOUT, sent).await.unwrap_or_else(|_| Err(too_long()))
    }

    /// Where a redirect leads, as a path of the same API: the credentials go nowhere else, whatever host it names.
    fn redirected_path(&self, response: &Response<Body>) -> Option<String> {
        let location = response.headers().get(header::LOCATION)?.to_str().ok()?.parse::<http::Uri>().ok()?;
        let path = location.path_and_query().map(PathAndQuery::as_str)?;
        Some(path.strip_prefix(&self.connection.base_path).unwrap_or(path).to_owned())
    }

    /// With an App: the installation that `access` names, or else the one that GitHub does.
    pub(super) async fn installation_id(&self, access: &RepositoryAccess, tried: &str) -> Result<i64, GitHubError> {
        match access.app_installation_id {
            Some(id) => Ok(id),
            None => {
                let found = self.installation_of(&access.name).await?;
                found.ok_or_else(|| GitHubError::NotFound { tried: tried.to_owned() })
            }
        }
    }

    async fn account(&self, actor: Actor<'_>, tried: &str) -> Result<Arc<Account>, GitHubError> {
        let id = match actor {
            Actor::Installation(id) if self.connection.is_app => id,
            // Boxed, because looking for it is a call of its own.
            Actor::On(access) if self.connection.is_app => Box::pin(self.installation_id(access, tried)).await?,
            Actor::On(_) | Actor::Installation(_) | Actor::Own => return Ok(Arc::clone(&self.connection.own)),
        };
        let failed = |error: octocrab::Error| GitHubError::of_octocrab(tried, &error);
        let installation = match self.connection.installations.lock().expect("never poisoned").entry(id) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                let id = u64::try_from(id).map_err(|_| GitHubError::NotFound { tried: tried.to_owned() })?;
                let octocrab = self.connection.own.octocrab.installation(id.into()).map_err(failed)?;
                Arc::clone(new.insert(Account::new(octocrab)))
            }
        };
        let renewal = installation.renewal.lock().await;
        installation.octocrab.installation_token().await.map_err(failed)?;
        drop(renewal);
        Ok(installation)
    }
}

type Body = BoxBody<Bytes, octocrab::Error>;

async fn send(octocrab: &Octocrab, call: &Call<'_>, path: &str) -> Result<Response<Body>, GitHubError> {
    let failed = |error: octocrab::Error| GitHubError::of_octocrab(call.tried, &error);
    let request = Request::builder()
        .method(call.method.clone())
        .uri(path)
        .header(header::ACCEPT, HeaderValue::from_static(call.accept));
    let known = call.known_etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
    let request = match known {
        Some(etag) => request.header(header::IF_NONE_MATCH, etag),
        None => request,
    };
    let request = octocrab.build_request(request, call.body.as_ref()).map_err(failed)?;
    octocrab.execute(request).await.map_err(failed)
}

/// The first `limit` bytes of a body.
async fn read(mut body: Body, limit: usize) -> Result<Vec<u8>, octocrab::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < limit
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data[..data.len().min(limit - bytes.len())]);
        }
    }
    Ok(bytes)
}
