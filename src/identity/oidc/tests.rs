use std::{
    net::Ipv4Addr,
    sync::{Mutex as Locked, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::{config::Team, identity::Permission};

const RSA: &str = include_str!("../../github/client/app-for-tests.pem");
const AUDIENCE: &str = "https://previewd.example.com/mcp";

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap()
}

fn jwk(key: &EncodingKey, algorithm: Algorithm, name: &str) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some(name.to_owned());
    jwk
}

/// An issuer on loopback: what it has, and how often its keys were asked for.
struct Login {
    url: String,
    state: Arc<Locked<LoginState>>,
}

#[derive(Default)]
struct LoginState {
    keys: Vec<Jwk>,
    asked: usize,
    is_away: bool,
    url: String,
}

impl Login {
    async fn start() -> Self {
        let state = Arc::new(Locked::new(LoginState::default()));
        async fn discovery(State(state): State<Arc<Locked<LoginState>>>) -> impl IntoResponse {
            let url = state.lock().unwrap().url.clone();
            Json(json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }))
        }
        async fn keys(State(state): State<Arc<Locked<LoginState>>>) -> impl IntoResponse {
            let mut state = state.lock().unwrap();
            state.asked += 1;
            let status = if state.is_away { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
            (status, Json(json!({ "keys": state.keys })))
        }
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(state.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        state.lock().unwrap().url.clone_from(&url);
        state.lock().unwrap().keys.push(jwk(&rsa(), Algorithm::RS256, "first"));
        Self { url, state }
    }

    fn state(&self) -> MutexGuard<'_, LoginState> {
        self.state.lock().unwrap()
    }

    fn issuer(&self) -> Issuer {
        let settings = OidcSettings {
            issuer: Some(self.url.parse().unwrap()),
            audience: Some(AUDIENCE.to_owned()),
            teams: BTreeMap::from([("acme-shop".to_owned(), "shop".to_owned())]),
            roles: BTreeMap::from([("leads".to_owned(), Role::Admin), ("devs".to_owned(), Role::Member)]),
            ..OidcSettings::default()
        };
        Issuer::new(&settings, None).unwrap().unwrap()
    }

    fn claims(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": "ann@example.com", "exp": now + 300,
            "groups": ["acme-shop", "devs", "leads", "no-team-of-ours"],
        })
    }
}

fn token(key: &EncodingKey, algorithm: Algorithm, name: &str, claims: &Value) -> String {
    encode(&Header { kid: Some(name.to_owned()), ..Header::new(algorithm) }, claims, key).unwrap()
}

fn teams() -> Teams {
    let team = |pattern: &str| Team { repositories: vec![pattern.parse().unwrap()], ..Team::default() };
    Teams::from([("shop".to_owned(), team("acme/*")), ("site".to_owned(), team("globex/*"))])
}

async fn refused(issuer: &Issuer, token: &str) -> bool {
    matches!(issuer.identity(token, &teams()).await, Err(AuthenticationError::InvalidToken))
}

#[tokio::test]
async fn a_token_of_the_issuer_is_somebody_of_their_groups() {
    let login = Login::start().await;
    let issuer = login.issuer();
    let identity = issuer.identity(&token(&rsa(), Algorithm::RS256, "first", &login.claims()), &teams()).await.unwrap();
    assert_eq!((identity.subject.as_str(), identity.role), ("ann@example.com", Role::Admin), "the highest role counts");
    assert_eq!(identity.teams, ["shop"]);
    let may = |repository: &str| {
        crate::identity::may(&identity, crate::identity::Action::Delete, &repository.parse().unwrap(), 7)
    };
    assert_eq!((may("acme/shop"), may("globex/site")), (Permission::Allowed, Permission::Invisible));

    let mut nobody = login.claims();
    nobody["groups"] = json!([]);
    let nobody = issuer.identity(&token(&rsa(), Algorithm::RS256, "first", &nobody), &teams()).await.unwrap();
    assert_eq!((nobody.role, nobody.visible), (Role::Viewer, Some(Vec::new())), "without groups nothing is there");
    assert_eq!(login.state().asked, 1, "the keys are kept");
}

#[tokio::test]
async fn tokens_that_are_not_for_previewd_are_refused() {
    let login = Login::start().await;
    let issuer = login.issuer();
    let with = |pointer: &str, value: Value| {
        let mut claims = login.claims();
        claims[pointer] = value;
        token(&rsa(), Algorithm::RS256, "first", &claims)
    };
    let without = |pointer: &str| {
        let mut claims = login.claims();
        claims.as_object_mut().unwrap().remove(pointer);
        token(&rsa(), Algorithm::RS256, "first", &claims)
    };
    let far = login.claims()["exp"].as_u64().unwrap() + 3_600;
    let good = token(&rsa(), Algorithm::RS256, "first", &login.claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&login.claims().to_string()));
    // The public key, which everybody has, taken for a secret.
    let public = include_str!("../../github/client/app-for-tests.pub.pem");
    let confused = token(&EncodingKey::from_secret(public.as_bytes()), Algorithm::HS256, "first", &login.claims());
    for (what, token) in [
        ("expired", with("exp", json!(1_000_000_000))),
        ("not yet valid", with("nbf", json!(far))),
        ("another audience", with("aud", json!("https://other.example.com"))),
        ("another issuer", with("iss", json!("https://evil.example.com"))),
        ("no audience", without("aud")),
        ("no end", without("exp")),
        ("no subject", without("sub")),
        ("a subject of control characters", with("sub", json!("ann\nroot"))),
        ("alg none", unsigned),
        ("a shared secret", confused),
        ("another algorithm than the key's", token(&rsa(), Algorithm::RS512, "first", &login.claims())),
        ("a signature of something else", format!("{signed}.{}", part("no signature"))),
        ("no JWT", "abc.def".to_owned()),
        ("nothing", String::new()),
    ] {
        assert!(refused(&issuer, &token).await, "{what}");
    }
    assert!(!refused(&issuer, &good).await);
}

#[tokio::test]
async fn keys_are_rotated_and_an_issuer_may_be_away() {
    let login = Login::start().await;
    let issuer = login.issuer();
    let first = token(&rsa(), Algorithm::RS256, "first", &login.claims());
    assert!(!refused(&issuer, &first).await);

    let unknown = token(&rsa(), Algorithm::RS256, "second", &login.claims());
    assert!(refused(&issuer, &unknown).await, "nobody knows that key");
    assert_eq!(login.state().asked, 1, "whoever sends it makes nobody ask all the time");
    login.state().keys = vec![jwk(&rsa(), Algorithm::RS256, "second")];
    issuer.shared.keys.lock().await.asked_at = None;
    assert!(!refused(&issuer, &unknown).await, "a new key is found when somebody uses it");
    assert!(refused(&issuer, &first).await, "the old one is gone");

    login.state().is_away = true;
    issuer.shared.keys.lock().await.asked_at = None;
    assert!(!refused(&issuer, &unknown).await, "known keys last while the issuer is away");
    let fresh = login.issuer();
    let away = fresh.identity(&unknown, &teams()).await;
    assert!(matches!(away, Err(AuthenticationError::IssuerAway)), "nobody can say whether it is good");
}

#[tokio::test]
async fn settings_say_what_is_missing() {
    let of = |text: &str| Issuer::new(&toml::from_str(text).unwrap(), None).map(|issuer| issuer.is_some());
    assert!(!of("").unwrap());
    assert!(of("issuer = 'https://a.example'\naudience = 'x'").unwrap());
    let error = of("issuer = 'https://a.example'").unwrap_err().to_string();
    assert!(error.starts_with("oidc.audience: must be set"), "{error}");
    let error = of("issuer = 'http://a.example'\naudience = 'x'").unwrap_err().to_string();
    assert!(error.starts_with("oidc.issuer: must begin with https://"), "{error}");
}
