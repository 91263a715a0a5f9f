//! Calls that are refused: nothing of what they say gets out, and nothing is left half-made.

use std::{fs::OpenOptions, io::Write as _};

use axum::http::StatusCode;
use serde_json::json;
use xtask::{
    cluster::api_proxy::RecordedRequest,
    github::{Fault, Operation, Scope},
};

use super::{
    life::{self, Life, SOON, node, recipe},
    objects::{in_the_cluster, in_the_inventory},
};

/// What nobody but the application may see.
const CANARY: &str = "canary-5f2b91c4";

fn is_deployment(request: &RecordedRequest) -> bool {
    request.is_write() && request.path_and_query.contains("/deployments/app")
}

/// Recipes with a value that is no good, each with a secret where a person may put one.
fn bad_recipes() -> Vec<String> {
    let app = |lines: &str| format!("version: 1\napp:\n  image: registry.localhost/shop:any\n{lines}");
    vec![
        app(&format!("  port: {CANARY}\n")),
        app(&format!("  port: 8080\n  health: '{CANARY} {CANARY}'\n")),
        app(&format!("  port: 8080\n  env: [{CANARY}]\n")),
        app(&format!("  port: 8080\n  env:\n    TOKEN: [{CANARY}]\n")),
        app(&format!("  port: 8080\n  resources: {{ cpu: {CANARY} }}\n")),
        app(&format!("  port: 8080\n  env: {{ TOKEN: '{CANARY}' \n")),
        app(&format!("  port: 8080\n  env:\n    TOKEN: '{CANARY} {{{{ sha'\n")),
        format!("version: '{CANARY}'\n"),
        format!("version: 1\napp:\n  port: 80\n  image: 'user:{CANARY}@ghcr.io/acme/shop:1'\n"),
        format!("{CANARY}\n"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_secret_never_gets_out() {
    let Some(ground) = life::api_only().await else { return };
    let mut life = Life::prepare(ground, "canary", None).await;
    let mut config = OpenOptions::new().append(true).open(&life.stand.config).unwrap();
    config.write_all(b"[log]\nfilter = \"debug\"\n").unwrap();
    life.begin().await;
    let github = life.stand.github.clone();
    let store = life.store();

    for (number, recipe) in bad_recipes().into_iter().enumerate() {
        let number = life.open(&format!("recipe-{number}"), &recipe).await;
        let failed = life.until(number, SOON, |found| found["status"] == "failed").await;
        assert_eq!(failed["reason"], "invalid_recipe", "{recipe}: {failed:#}");
        life.until_commented(number, "Preview failed").await;
    }

    // What the API server and its webhooks say quotes values.
    let good = recipe("ok").replace("env:", &format!("env:\n    TOKEN: {CANARY}"));
    let quota = format!("pods \"app\" is forbidden: exceeded quota: q, requested: {CANARY}=1, used: {CANARY}=0");
    let webhook = format!("admission webhook \"policy.example.com\" denied the request: TOKEN={CANARY}");
    let invalid = format!("Deployment.apps \"app\" is invalid: spec: Invalid value: \"{CANARY}\"");
    let untyped = format!("failed to create typed patch object (ns/app): {CANARY}: field not declared in schema");
    let broken = format!("Internal error occurred: {CANARY}");
    for (status, message, is_refused) in [
        (StatusCode::FORBIDDEN, quota, true),
        (StatusCode::FORBIDDEN, webhook.clone(), true),
        (StatusCode::UNAUTHORIZED, webhook.clone(), true),
        (StatusCode::SERVICE_UNAVAILABLE, webhook, false),
        (StatusCode::UNPROCESSABLE_ENTITY, invalid, true),
        (StatusCode::INTERNAL_SERVER_ERROR, untyped, true),
        (StatusCode::INTERNAL_SERVER_ERROR, broken.clone(), false),
        (StatusCode::SERVICE_UNAVAILABLE, broken.clone(), false),
        (StatusCode::CONFLICT, broken.clone(), false),
        (StatusCode::BAD_REQUEST, broken.clone(), true),
        (StatusCode::TOO_MANY_REQUESTS, broken, false),
    ] {
        let refusal = (status, message);
        life.proxy.set_refuse(Some(Box::new(move |request| is_deployment(request).then(|| refusal.clone()))));
        let number = life.open(&format!("status-{}", github.commits().len()), &good).await;
        if is_refused {
            let failed = life.until(number, SOON, |found| found["status"] == "failed").await;
            assert_eq!(failed["reason"], "object_refused", "{status}: {failed:#}");
            life.until_commented(number, "Preview failed").await;
        } else {
            let told = life.until(number, SOON, |found| found["reason"] == "cluster_error").await;
            assert_eq!(told["status"], "deploying", "{status}: {told:#}");
        }
        life.proxy.set_refuse(None);
    }

    // So may GitHub.
    for status in [400, 422, 500] {
        for scope in [Scope::Operation(Operation::GetContents), Scope::CommentWrites] {
            github.fault_times(scope, Fault::Refused { status, message: format!("No: {CANARY}") }, 1);
            let number = life.open(&format!("github-{}", github.commits().len()), &good).await;
            life.until_applied(number).await;
            life.until_commented(number, "is being deployed").await;
        }
    }

    // And strangers.
    let http = xtask::github::http_client().unwrap();
    let opened = github.delivery_for(&life.repository, 1, "opened").unwrap();
    let unsigned = opened.clone().unsigned();
    let garbled = opened.tampered(format!("{{\"{CANARY}\": ")).signed_with(life.stand.webhook_secret());
    for (delivery, status) in [(unsigned, 401), (garbled, 400)] {
        assert_eq!(github.send(&delivery).await.unwrap().0, status);
    }
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { CANARY: CANARY } });
    let request = http.post(life.stand.mcp_url()).bearer_auth(format!("pvd_{CANARY}")).json(&call);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 401);

    let mut said = vec![life.log(), answer.text().await.unwrap(), life.ready().await.to_string()];
    assert!(said[0].contains("\"level\":\"DEBUG\""), "the log says everything that it can");
    for row in life.environments(&store).await {
        let number = u64::try_from(row.pull_request.facts.number).unwrap();
        said.extend(life.comments(number));
        said.push(life.get(number).await.to_string());
        for tool in ["get_preview_logs", "keep_preview_environment", "retry_preview_deployment"] {
            said.push(format!("{:?}", life.call(tool, number).await));
        }
        let asked = json!({ "repository": life.repository, "pull_request": number });
        said.push(format!("{:?}", life.ask("explain_preview_environment", asked).await));
    }
    for recipe in bad_recipes() {
        said.push(format!("{:?}", life.ask("check_preview_recipe", json!({ "recipe": recipe })).await));
    }
    said.push(format!("{:?}", life.ask("list_preview_environments", json!({})).await));
    for secret in [CANARY, "loopback-token", life.stand.webhook_secret()] {
        for text in &said {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} got out");
        }
        assert_eq!(life.count("events", &format!("detail LIKE '%{secret}%'")), Some(0));
    }
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_the_cluster_refuses_leaves_the_commit_before_it_serving() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "half-way").await;
    let store = life.store();
    let number = life.open("change", &recipe("ok")).await;
    let running = life.until_running(number).await;
    let first = life.head(number);

    let refusal = (StatusCode::UNPROCESSABLE_ENTITY, "Deployment.apps \"app\" is invalid".to_owned());
    life.proxy.set_refuse(Some(Box::new(move |request| is_deployment(request).then(|| refusal.clone()))));
    let second = life.push(number).await;
    let failed = life.until(number, SOON, |found| found["status"] == "failed").await;
    assert_eq!((&failed["commit"], &failed["reason"]), (&json!(second), &json!("object_refused")), "{failed:#}");
    let comment = life.until_commented(number, "Preview failed").await;
    assert!(comment.contains(&first[..7]) && comment.contains(&second[..7]), "{comment}");
    assert!(life.page(&running).await.contains(&first), "the first commit serves");
    let row = life.row(&store, number).await.environment;
    assert_eq!(in_the_cluster(&life, &row).await, in_the_inventory(&store, &row).await);

    life.proxy.set_refuse(None);
    let third = life.push(number).await;
    let running = life.until_running(number).await;
    assert!(life.page(&running).await.contains(&third));
    life.finish().await;
}
