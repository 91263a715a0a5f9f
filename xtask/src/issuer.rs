//! An OpenID Connect issuer on loopback: it says where its keys are, and signs whatever it is told to.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

/// Keys that are no secret.
const OWN: &[u8] = include_bytes!("../../src/github/client/app-for-tests.pem");
const OTHER: &[u8] = include_bytes!("../data/issuer-other-key.pem");
/// Whom its tokens are for, where nobody says otherwise.
pub const AUDIENCE: &str = "https://previewd.example.com/mcp";

/// The issuer, and how it is now.
pub struct Issuer {
    pub url: String,
    state: Arc<Mutex<IssuerState>>,
}

#[derive(Default)]
pub struct IssuerState {
    /// The names of its keys: all of them are the same one.
    pub keys: Vec<String>,
    /// How often its keys were asked for.
    pub asked: usize,
    pub is_away: bool,
    /// How long it takes to say which keys it has.
    pub takes: Duration,
    url: String,
}

type Shared = State<Arc<Mutex<IssuerState>>>;

impl Issuer {
    /// With one key, `first`.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = IssuerState { keys: vec!["first".to_owned()], url: url.clone(), ..IssuerState::default() };
        let state = Arc::new(Mutex::new(state));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(state.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        Ok(Self { url, state })
    }

    pub fn state(&self) -> MutexGuard<'_, IssuerState> {
        lock(&self.state)
    }

    /// Somebody of `groups`, for five minutes.
    pub fn claims(&self, subject: &str, groups: &[&str]) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        json!({ "iss": self.url, "aud": AUDIENCE, "sub": subject, "exp": now + 300, "groups": groups })
    }
}

async fn discovery(State(state): Shared) -> impl IntoResponse {
    let url = lock(&state).url.clone();
    Json(json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }))
}

async fn keys(State(state): Shared) -> impl IntoResponse {
    let takes = {
        let mut state = lock(&state);
        state.asked += 1;
        state.takes
    };
    sleep(takes).await;
    let state = lock(&state);
    let status = if state.is_away { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    let keys: Vec<Jwk> = state.keys.iter().filter_map(|name| public(name).ok()).collect();
    (status, Json(json!({ "keys": keys })))
}

fn lock(state: &Mutex<IssuerState>) -> MutexGuard<'_, IssuerState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn public(name: &str) -> Result<Jwk> {
    let mut jwk = Jwk::from_encoding_key(&EncodingKey::from_rsa_pem(OWN)?, Algorithm::RS256)?;
    jwk.common.key_id = Some(name.to_owned());
    Ok(jwk)
}

/// A JWT that the issuer's key signed, which it calls `name`.
pub fn sign(name: &str, claims: &Value) -> String {
    sign_as(Algorithm::RS256, name, claims)
}

/// The same, signed as the key is not for.
pub fn sign_as(algorithm: Algorithm, name: &str, claims: &Value) -> String {
    signed(algorithm, name, claims, OWN)
}

/// The same by somebody else's key of that name.
pub fn forge(name: &str, claims: &Value) -> String {
    signed(Algorithm::RS256, name, claims, OTHER)
}

fn signed(algorithm: Algorithm, name: &str, claims: &Value, key: &[u8]) -> String {
    let key = EncodingKey::from_rsa_pem(key).expect("a key");
    encode(&Header { kid: Some(name.to_owned()), ..Header::new(algorithm) }, claims, &key).expect("a token")
}
