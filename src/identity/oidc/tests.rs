use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use xtask::issuer::{self as login, AUDIENCE, forge, sign, sign_as};

use super::*;
use crate::{config::Team, identity::Permission};

fn issuer(login: &login::Issuer) -> Issuer {
    let settings = OidcSettings {
        issuer: Some(login.url.parse().unwrap()),
        audience: Some(AUDIENCE.to_owned()),
        teams: BTreeMap::from([("acme-shop".to_owned(), "shop".to_owned())]),
        roles: BTreeMap::from([("leads".to_owned(), Role::Admin), ("devs".to_owned(), Role::Member)]),
        ..OidcSettings::default()
    };
    Issuer::new(&settings, None).unwrap().unwrap()
}

fn claims(login: &login::Issuer) -> Value {
    login.claims("ann@example.com", &["acme-shop", "devs", "leads", "no-team-of-ours"])
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
    let login = login::Issuer::start().await.unwrap();
    let issuer = issuer(&login);
    let ours = claims(&login);
    let (identity, until) = issuer.identity(&sign("first", &ours), &teams()).await.unwrap();
    assert!(until >= ours["exp"].as_i64().unwrap());
    assert_eq!((identity.subject.as_str(), identity.role), ("ann@example.com", Role::Admin), "the highest role counts");
    assert_eq!(identity.teams, ["shop"]);
    let may = |repository: &str| {
        crate::identity::may(&identity, crate::identity::Action::Delete, &repository.parse().unwrap(), 7)
    };
    assert_eq!((may("acme/shop"), may("globex/site")), (Permission::Allowed, Permission::Invisible));

    let mut nobody = claims(&login);
    nobody["groups"] = json!([]);
    let (nobody, _) = issuer.identity(&sign("first", &nobody), &teams()).await.unwrap();
    assert_eq!((nobody.role, nobody.visible), (Role::Viewer, Some(Vec::new())), "without groups nothing is there");
    assert_eq!(login.state().asked, 1, "the keys are kept");
}

#[tokio::test]
async fn tokens_that_are_not_for_previewd_are_refused() {
    let login = login::Issuer::start().await.unwrap();
    let issuer = issuer(&login);
    let with = |pointer: &str, value: Value| {
        let mut claims = claims(&login);
        claims[pointer] = value;
        sign("first", &claims)
    };
    let without = |pointer: &str| {
        let mut claims = claims(&login);
        claims.as_object_mut().unwrap().remove(pointer);
        sign("first", &claims)
    };
    let far = claims(&login)["exp"].as_u64().unwrap() + 3_600;
    let good = sign("first", &claims(&login));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let part = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims(&login).to_string()));
    // The public key, which everybody has, taken for a secret.
    let public = include_str!("../../github/client/app-for-tests.pub.pem");
    let confused = encode(
        &Header { kid: Some("first".to_owned()), ..Header::new(Algorithm::HS256) },
        &claims(&login),
        &EncodingKey::from_secret(public.as_bytes()),
    )
    .unwrap();
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
        ("another key of that name", forge("first", &claims(&login))),
        ("a shared secret", confused),
        ("another algorithm than the key's", sign_as(Algorithm::RS512, "first", &claims(&login))),
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
    let login = login::Issuer::start().await.unwrap();
    let issuer = issuer(&login);
    let first = sign("first", &claims(&login));
    assert!(!refused(&issuer, &first).await);

    let unknown = sign("second", &claims(&login));
    assert!(refused(&issuer, &unknown).await, "nobody knows that key");
    assert_eq!(login.state().asked, 1, "whoever sends it makes nobody ask all the time");
    login.state().keys = vec!["second".to_owned()];
    issuer.keys().asked_at = None;
    assert!(!refused(&issuer, &unknown).await, "a new key is found when somebody uses it");
    assert!(refused(&issuer, &first).await, "the old one is gone");

    login.state().is_away = true;
    issuer.keys().asked_at = None;
    assert!(!refused(&issuer, &unknown).await, "known keys last while the issuer is away");
    let fresh = super::tests::issuer(&login);
    let away = fresh.identity(&unknown, &teams()).await;
    assert!(matches!(away, Err(AuthenticationError::IssuerAway)), "nobody can say whether it is good");
}

/// Whoever sends a key that nobody knows waits for the issuer; those whose key is known do not wait for them.
#[tokio::test]
async fn nobody_waits_for_somebody_elses_key() {
    let login = login::Issuer::start().await.unwrap();
    let issuer = issuer(&login);
    let known = sign("first", &claims(&login));
    assert!(!refused(&issuer, &known).await);
    login.state().takes = Duration::from_secs(3_600);
    issuer.keys().asked_at = None;
    let unknown = sign("second", &claims(&login));
    let asks = tokio::spawn({
        let issuer = issuer.clone();
        async move { refused(&issuer, &unknown).await }
    });
    while login.state().asked < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!refused(&issuer, &known).await);
    assert!(!asks.is_finished());
    asks.abort();
}

#[tokio::test]
async fn claims_may_come_to_mean_something_else() {
    let login = login::Issuer::start().await.unwrap();
    let issuer = issuer(&login);
    let role = async || issuer.identity(&sign("first", &claims(&login)), &teams()).await.unwrap().0.role;
    assert_eq!(role().await, Role::Admin);
    assert!(issuer.read_claims_by(OidcSettings { default_role: Role::Member, ..OidcSettings::default() }));
    assert_eq!(role().await, Role::Member);
    assert!(!issuer.read_claims_by(OidcSettings { default_role: Role::Member, ..OidcSettings::default() }));
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
