//! People and agents of an OpenID Connect issuer: from a token that it signed to what they may see, through every door.

use std::{collections::BTreeMap, time::Duration};

use previewd::identity::{Issuer, OidcSettings, Role};
use serde_json::{Value, json};
use xtask::{
    issuer::{self as login, AUDIENCE, forge, sign},
    testing::eventually,
};

use crate::{
    cli::{self, Way},
    dashboard::Person,
    support::{Era, Stand, commit},
};

async fn stand(login: &login::Issuer) -> Stand {
    let settings = OidcSettings {
        issuer: Some(login.url.parse().unwrap()),
        audience: Some(AUDIENCE.to_owned()),
        teams: BTreeMap::from([("acme-developers".to_owned(), "shop".to_owned())]),
        roles: BTreeMap::from([("acme-leads".to_owned(), Role::Admin)]),
        ..OidcSettings::default()
    };
    let stand = Stand::with_issuer(Issuer::new(&settings, None).unwrap().unwrap()).await;
    stand.open("acme/shop", 7, &commit('a')).await;
    stand.open("globex/site", 3, &commit('b')).await;
    stand
}

/// What a client without a token is led to: the metadata of what it wants, and in it the issuer.
async fn led_to(stand: &Stand) -> String {
    let http = xtask::web::plain_client();
    let turned_away = http.post(format!("http://{}/mcp", stand.address)).body("{}").send().await.unwrap();
    assert_eq!(turned_away.status(), 401);
    let challenge = turned_away.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let (_, metadata) = challenge.split_once("resource_metadata=\"").unwrap();
    let metadata: Value = http.get(metadata.trim_end_matches('"')).send().await.unwrap().json().await.unwrap();
    let root = format!("http://{}/.well-known/oauth-protected-resource", stand.address);
    let of_root: Value = http.get(root).send().await.unwrap().json().await.unwrap();
    assert_eq!(of_root, metadata);
    assert_eq!(metadata["resource"], format!("http://{}/mcp", stand.address));
    let issuer = metadata["authorization_servers"][0].as_str().unwrap();
    let discovery: Value =
        http.get(format!("{issuer}/.well-known/openid-configuration")).send().await.unwrap().json().await.unwrap();
    discovery["issuer"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_of_an_issuer_see_their_teams_through_every_door() {
    let login = login::Issuer::start().await.unwrap();
    let stand = stand(&login).await;
    assert_eq!(led_to(&stand).await, login.url);

    let developer = sign("first", &login.claims("ann@example.com", &["acme-developers"]));
    let client = stand.over_http(&developer, Era::Discover).await;
    let list = client.call("list_preview_environments", json!({})).await.unwrap();
    let names: Vec<_> = list["environments"].as_array().unwrap().iter().map(|row| &row["environment"]).collect();
    assert_eq!(names, ["acme/shop#7"]);
    let denied = client.call("delete_preview_environment", json!({ "environment": "acme/shop#7" })).await;
    assert_eq!(denied.unwrap_err()["code"], "UNAUTHORIZED", "a developer is a viewer here");

    let listed = cli::run(&stand, Way::Server, Some(&developer), "list").await;
    assert!(listed.stdout.contains("acme/shop#7") && !listed.stdout.contains("globex/site"), "{}", listed.stderr);
    let person = Person::with_token(&stand, &developer).await;
    let page = person.open("/").await;
    assert!(page.body.contains("acme/shop#7") && !page.body.contains("globex/site"), "{}", page.body);
    assert!(page.body.contains("ann@example.com"), "whose page it is");

    let lead = sign("first", &login.claims("ben@example.com", &["acme-developers", "acme-leads"]));
    let client = stand.over_http(&lead, Era::Discover).await;
    client.call("delete_preview_environment", json!({ "environment": "acme/shop#7" })).await.unwrap();
    let explained = json!({ "repository": "acme/shop", "pull_request": 7 });
    let explained = client.call("explain_preview_environment", explained).await.unwrap();
    assert!(explained.to_string().contains("ben@example.com"), "the history has the name: {explained}");
}

/// Whoever left the issuer's groups gets no new token, and stays signed in no longer than with the old one.
#[tokio::test]
async fn a_session_ends_with_the_token_that_it_began_with() {
    let login = login::Issuer::start().await.unwrap();
    let stand = stand(&login).await;
    let mut claims = login.claims("ann@example.com", &["acme-developers"]);
    // Clocks may differ by a minute, so that it is taken for twenty seconds more.
    claims["exp"] = (claims["exp"].as_i64().unwrap() - 300 - 40).into();
    let person = Person::with_token(&stand, &sign("first", &claims)).await;
    assert!(person.open("/").await.body.contains("acme/shop#7"));
    let out = async || (person.open("/").await.status == 303).then_some(());
    eventually("they are signed out", Duration::from_secs(60), out).await;
}

/// Whichever token each of their browsers had.
#[tokio::test]
async fn whoever_signs_out_is_out_in_every_browser() {
    let login = login::Issuer::start().await.unwrap();
    let stand = stand(&login).await;
    let sign_in = async |subject: &str, later: i64| {
        let mut claims = login.claims(subject, &["acme-developers"]);
        claims["exp"] = (claims["exp"].as_i64().unwrap() + later).into();
        Person::with_token(&stand, &sign("first", &claims)).await
    };
    let (one, other) = (sign_in("ann@example.com", 0).await, sign_in("ann@example.com", 60).await);
    let somebody_else = sign_in("ann@example.com.org", 0).await;
    let page = one.open("/").await;
    assert_eq!(one.post("/logout", &[("csrf", page.csrf())]).await.status, 303);
    assert_eq!((one.open("/").await.status, other.open("/").await.status), (303, 303));
    assert_eq!(somebody_else.open("/").await.status, 200);
}

#[tokio::test]
async fn tokens_of_others_open_no_door() {
    let login = login::Issuer::start().await.unwrap();
    let stand = stand(&login).await;
    let claims = login.claims("ann@example.com", &["acme-leads", "acme-developers"]);
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        sign("first", &claims)
    };
    let good = sign("first", &claims);
    let (_, rest) = good.split_once('.').unwrap();
    let (payload, _) = rest.split_once('.').unwrap();
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{payload}.");
    let http = xtask::web::plain_client();
    let status = async |token: &str| {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": { "name": "list_preview_environments", "arguments": {} } });
        let request = http.post(format!("http://{}/mcp", stand.address)).bearer_auth(token).body(call.to_string());
        let request = request.header("accept", "application/json, text/event-stream");
        let request = request.header("content-type", "application/json").header("mcp-protocol-version", "2025-11-25");
        let answer = request.send().await.unwrap();
        let challenge = answer.headers().get("www-authenticate").map(|it| it.to_str().unwrap().to_owned());
        (answer.status().as_u16(), challenge.unwrap_or_default())
    };
    assert_eq!(status(&good).await.0, 200);
    for (what, token) in [
        ("expired", with("exp", json!(1_000_000_000))),
        ("for another server", with("aud", json!("https://other.example.com/mcp"))),
        ("of another issuer", with("iss", json!("https://evil.example.com"))),
        ("unsigned", unsigned),
        ("of another key", forge("first", &claims)),
        ("of a key that nobody knows", sign("third", &claims)),
    ] {
        let (code, challenge) = status(&token).await;
        assert_eq!(code, 401, "{what}");
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
        let refused = cli::run(&stand, Way::Server, Some(&token), "list").await;
        assert_eq!(refused.code, 3, "{what}: {}", refused.stderr);
    }
}

#[tokio::test]
async fn an_issuer_that_is_away_is_no_reason_to_turn_anybody_away_for_good() {
    let login = login::Issuer::start().await.unwrap();
    login.state().is_away = true;
    let stand = stand(&login).await;
    let token = sign("first", &login.claims("ann@example.com", &["acme-developers"]));
    let http = xtask::web::plain_client();
    let asked = http.post(format!("http://{}/mcp", stand.address)).bearer_auth(&token).body("{}").send().await.unwrap();
    assert_eq!((asked.status().as_u16(), &asked.headers()["retry-after"]), (503, &"10".parse().unwrap()));
    assert!(asked.text().await.unwrap().contains("its issuer does not answer"));
}
