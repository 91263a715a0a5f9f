use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use octocrab::Octocrab;
use octocrab::models::AppId;
use octocrab::service::middleware::retry::RetryConfig;
use serde_json::{Value, json};
use xtask::github::{AppKey, AppOptions, GitHub, NewPullRequest, Operation, Options};

use crate::support::{REPOSITORY, Receiver, client, eventually, no_violations, plain, status};

const APP: u64 = 4242;

/// Making a key takes a while; one does for all tests.
fn key() -> &'static AppKey {
    static KEY: OnceLock<AppKey> = OnceLock::new();
    KEY.get_or_init(|| AppKey::generate().unwrap())
}

async fn github(options: Options) -> (GitHub, u64) {
    let app = Some(AppOptions::new(APP, "previews", &key().public));
    let github = GitHub::start(Options { app, ..options }).await.unwrap();
    github.create_repository("acme", "shop").unwrap();
    let number = github.open_pull_request(REPOSITORY, NewPullRequest::new("Add a cart", "cart")).await.unwrap();
    (github, number)
}

fn app(github: &GitHub) -> Octocrab {
    let builder = Octocrab::builder().base_uri(github.url()).unwrap().add_retry_config(RetryConfig::None);
    builder.app_from_rsa_pem(AppId(APP), &key().private).unwrap().build().unwrap()
}

#[tokio::test]
async fn an_app_gets_a_token_for_its_installation_and_comments_as_its_bot() {
    let (github, number) = github(Options::default()).await;
    let app = app(&github);
    let known = app.current().app().await.unwrap();
    assert_eq!((known.id, known.slug.as_deref()), (AppId(APP), Some("previews")));
    let listed = app.apps().installations().send().await.unwrap().items;
    let installation = app.apps().get_repository_installation("acme", "shop").await.unwrap();
    assert_eq!(listed.iter().map(|other| other.id).collect::<Vec<_>>(), [installation.id]);

    let octocrab = app.installation(installation.id).unwrap();
    let comment = octocrab.issues("acme", "shop").create_comment(number, "Deploying").await.unwrap();
    assert_eq!((comment.user.login.as_str(), comment.user.r#type.as_str()), ("previews[bot]", "Bot"));
    let url = format!("{}/repos/acme/shop/issues/comments/{}", github.url(), comment.id);
    let token = GitHub::TOKEN;
    let shown: Value = plain().get(url).bearer_auth(token).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["performed_via_github_app"]["slug"], "previews");
    assert_eq!(status(octocrab.current().user().await), 403);
    let asked = github.requests();
    let tokens = asked.iter().filter(|request| request.operation == Some(Operation::CreateInstallationToken));
    assert_eq!(tokens.count(), 1);
    no_violations(&github);
}

#[tokio::test]
async fn tokens_end() {
    let (github, _) = github(Options { installation_token_lifetime: Duration::ZERO, ..Options::default() }).await;
    let answer = token(&github, &jwt(json!({})), json!({})).await;
    assert_eq!(answer.0, 201, "{}", answer.1);
    let ended = client(&github, answer.1["token"].as_str().unwrap());
    assert_eq!(status(ended.repos("acme", "shop").get().await), 401);
    no_violations(&github);
}

#[tokio::test]
async fn tokens_reach_no_further_than_the_installation() {
    let (github, number) = github(Options::default()).await;
    github.create_repository("acme", "secret").unwrap();
    github.set_private("acme/secret", true).unwrap();
    let asked = json!({ "repositories": ["shop"], "permissions": { "contents": "read", "metadata": "read" } });
    let (created, shape) = token(&github, &jwt(json!({})), asked).await;
    assert_eq!((created, shape["repositories"][0]["name"].as_str()), (201, Some("shop")));
    let narrow = client(&github, shape["token"].as_str().unwrap());
    assert_eq!(narrow.repos("acme", "shop").get().await.unwrap().name, "shop");
    assert_eq!(status(narrow.repos("acme", "secret").get().await), 404);
    assert_eq!(status(narrow.issues("acme", "shop").create_comment(number, "hello").await), 403);
    let too_much = json!({ "permissions": { "contents": "write" } });
    assert_eq!(token(&github, &jwt(json!({})), too_much).await.0, 422);

    let (_, shape) = token(&github, &jwt(json!({})), json!({})).await;
    let whole = client(&github, shape["token"].as_str().unwrap());
    assert_eq!(whole.repos("acme", "secret").get().await.unwrap().name, "secret");
    github.remove_from_installation("acme/secret").await.unwrap();
    assert_eq!(status(whole.repos("acme", "secret").get().await), 404);
    github.suspend("acme").await.unwrap();
    assert_eq!(status(whole.repos("acme", "shop").get().await), 403);
    assert_eq!(token(&github, &jwt(json!({})), json!({})).await.0, 403);
    github.unsuspend("acme").await.unwrap();
    assert_eq!(whole.repos("acme", "shop").get().await.unwrap().name, "shop");
    github.uninstall("acme").await.unwrap();
    assert_eq!(status(whole.repos("acme", "shop").get().await), 401);
    no_violations(&github);
}

#[tokio::test]
async fn app_tokens_are_verified() {
    let (github, _) = github(Options::default()).await;
    let get = |token: String| {
        let url = format!("{}/app", github.url());
        async move { plain().get(url).bearer_auth(token).send().await.unwrap().status().as_u16() }
    };
    let now = now();
    assert_eq!(get(jwt(json!({}))).await, 200);
    for wrong in
        [json!({ "exp": now - 1 }), json!({ "exp": now + 3600 }), json!({ "iat": now + 3600 }), json!({ "iss": "1" })]
    {
        assert_eq!(get(jwt(wrong.clone())).await, 401, "{wrong}");
    }
    assert_eq!(get(GitHub::TOKEN.to_owned()).await, 401);
    let good = jwt(json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = jwt(json!({ "iat": now - 30 }));
    let foreign = other.rsplit_once('.').unwrap().1;
    assert_ne!(signature, foreign);
    assert_eq!(get(format!("{signed}.{foreign}")).await, 401);
    let answer = plain().get(format!("{}/repos/acme/shop", github.url())).bearer_auth(good).send().await.unwrap();
    assert_eq!(answer.status(), 401, "an App's own token reads no repository");
    no_violations(&github);
}

#[tokio::test]
async fn failed_deliveries_are_listed_and_asked_for_again() {
    let (github, number) = github(Options::default()).await;
    let (receiver, url) = Receiver::start().await;
    github.set_webhook(&url, &["s3cret"]);
    receiver.answer(StatusCode::SERVICE_UNAVAILABLE);
    github.label(REPOSITORY, number, "preview").await.unwrap();
    receiver.answer(StatusCode::OK);
    github.unlabel(REPOSITORY, number, "preview").await.unwrap();

    let url = format!("{}/app/hook/deliveries", github.url());
    let list = |query: &'static str| {
        let request = plain().get(format!("{url}{query}")).bearer_auth(jwt(json!({})));
        async move { request.send().await.unwrap() }
    };
    let failed: Vec<Value> = list("?status=failure").await.json().await.unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0]["action"].as_str(), failed[0]["status_code"].as_u64()), (Some("labeled"), Some(503)));

    let first = list("?per_page=1").await;
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    assert!(link.contains("cursor=") && link.ends_with("rel=\"next\""), "{link}");
    assert_eq!(first.json::<Vec<Value>>().await.unwrap()[0]["action"], "unlabeled");

    let id = failed[0]["id"].as_u64().unwrap();
    app(&github).apps().redeliver_webhook_delivery(id).await.unwrap();
    eventually("the delivery comes again", || receiver.got().len() == 3).await;
    let got = receiver.got();
    assert_eq!(got[2].0["x-github-delivery"], got[0].0["x-github-delivery"]);
    assert_eq!(got[2].1, got[0].1);
    eventually("it is recorded", || github.attempts().len() == 3).await;
    assert!(github.attempts()[2].redelivery);
    no_violations(&github);
}

#[tokio::test]
async fn an_app_hears_only_of_where_it_is_installed() {
    let (github, number) = github(Options::default()).await;
    let (receiver, url) = Receiver::start().await;
    github.set_webhook(&url, &["s3cret"]);
    assert_eq!(github.ping().await.unwrap().0, 200);
    github.suspend("acme").await.unwrap();
    github.unsuspend("acme").await.unwrap();
    github.remove_from_installation(REPOSITORY).await.unwrap();
    github.close(REPOSITORY, number).await.unwrap();
    github.add_to_installation(REPOSITORY).await.unwrap();
    github.reopen(REPOSITORY, number).await.unwrap();
    github.uninstall("acme").await.unwrap();
    github.install("acme").await.unwrap();
    let names: Vec<_> = receiver.names().into_iter().map(|(event, action)| format!("{event} {action}")).collect();
    let expected = [
        "ping ",
        "installation suspend",
        "installation unsuspend",
        "installation_repositories removed",
        "installation_repositories added",
        "pull_request reopened",
        "installation deleted",
        "installation created",
    ];
    assert_eq!(names, expected);
    let reopened: Value = serde_json::from_slice(&receiver.got()[5].1).unwrap();
    assert!(reopened["installation"]["id"].is_u64());
    no_violations(&github);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An App token with some claims put differently.
fn jwt(instead: Value) -> String {
    let mut claims = json!({ "iat": now() - 60, "exp": now() + 540, "iss": APP.to_string() });
    claims.as_object_mut().unwrap().extend(instead.as_object().unwrap().clone());
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(key().private.as_bytes()).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

async fn token(github: &GitHub, jwt: &str, asked: Value) -> (u16, Value) {
    let url = format!("{}/app/installations", github.url());
    let listed: Value = plain().get(&url).bearer_auth(jwt).send().await.unwrap().json().await.unwrap();
    let id = listed[0]["id"].as_u64().unwrap();
    let request = plain().post(format!("{url}/{id}/access_tokens")).bearer_auth(jwt).json(&asked);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}
