use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use xtask::github::{GitHub, NewPullRequest, Options, disagreement, sign, webhook_examples};

use crate::support::{REPOSITORY, Receiver, bot, eventually, github, no_violations};

#[tokio::test]
async fn deliveries_are_signed_as_github_signs_them() {
    let (github, number) = github().await;
    let (receiver, url) = Receiver::start().await;
    github.set_webhook(&url, &["new", "old"]);
    github.close(REPOSITORY, number).await.unwrap();
    let (headers, body) = receiver.got().remove(0);
    let given = headers["x-hub-signature-256"].to_str().unwrap().strip_prefix("sha256=").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"new").unwrap();
    mac.update(&body);
    mac.verify_slice(&hex::decode(given).unwrap()).unwrap();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["x-github-event"], "pull_request");
    assert_eq!(headers["x-github-delivery"].len(), 36);
    assert!(headers.contains_key("x-github-hook-id"));
    assert!(headers["user-agent"].to_str().unwrap().starts_with("GitHub-Hookshot/"));
    // The example in GitHub's documentation of signatures.
    let documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(sign("It's a Secret to Everybody", b"Hello, World!"), documented);
    no_violations(&github);
}

#[tokio::test]
async fn deliveries_are_held_permuted_doubled_and_tampered_with() {
    let (github, number) = github().await;
    let (receiver, url) = Receiver::start().await;
    github.set_webhook(&url, &["s3cret"]);
    github.hold_deliveries();
    let first = github.push(REPOSITORY, number, &[("a", "1")]).await.unwrap();
    let second = github.push(REPOSITORY, number, &[("a", "2")]).await.unwrap();
    assert_eq!(receiver.got().len(), 0);
    let held = github.release_deliveries();
    let moves: Vec<_> =
        held.iter().map(|held| (held.payload()["before"].clone(), held.payload()["after"].clone())).collect();
    assert_eq!(moves[1], (json!(first), json!(second)));
    assert_eq!(moves[0].1, json!(first));
    for delivery in held.iter().rev() {
        assert_eq!(github.send(delivery).await.unwrap(), (200, "recorded".to_owned()));
    }
    github.redeliver(&held[0].guid).await.unwrap();
    let changed = held[0].clone().tampered(held[0].body.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
    assert_ne!(changed.signature.as_deref(), Some(sign("s3cret", &changed.body).as_str()));
    let resigned = changed.clone().signed_with("other");
    assert_eq!(resigned.signature.as_deref(), Some(sign("other", &changed.body).as_str()));

    let built = github.delivery_for(REPOSITORY, number, "synchronize").unwrap();
    assert_eq!(built.payload()["before"], json!(first));
    assert_ne!(built.guid, built.clone().with_new_guid().guid);
    assert_eq!(github.attempts().iter().filter(|attempt| attempt.redelivery).count(), 1);
    assert_eq!(receiver.got().len(), 3);
    no_violations(&github);
}

#[tokio::test]
async fn nobody_listening_is_a_failed_delivery() {
    let (github, number) = github().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    github.set_webhook(&closed, &["s3cret"]);
    github.close(REPOSITORY, number).await.unwrap();
    let attempts = github.attempts();
    assert_eq!((attempts.len(), attempts[0].status_code, attempts[0].succeeded()), (1, 502, false));
    no_violations(&github);
}

/// Everything that is sent has what GitHub's examples of the same event and action have; violations would say what is
/// missing.
#[tokio::test]
async fn every_payload_has_the_published_shape() {
    for owner in ["acme", "Octocoders"] {
        let github = GitHub::start(Options::default()).await.unwrap();
        if owner == "Octocoders" {
            github.create_organization(owner);
        }
        let (receiver, url) = Receiver::start().await;
        github.set_webhook(&url, &["s3cret"]);
        github.create_repository(owner, "shop").unwrap();
        let name = format!("{owner}/shop");
        github.ping().await.unwrap();
        let new = NewPullRequest::new("Add a cart", "cart").file("a", "1").draft();
        let number = github.open_pull_request(&name, new).await.unwrap();
        github.ready_for_review(&name, number).await.unwrap();
        github.convert_to_draft(&name, number).await.unwrap();
        github.push(&name, number, &[("a", "2")]).await.unwrap();
        github.label(&name, number, "preview").await.unwrap();
        github.edit_title(&name, number, "Add two carts").await.unwrap();
        github.commit(&name, "release", &[("b", "1")]).await.unwrap();
        github.change_base(&name, number, "release").await.unwrap();
        github.unlabel(&name, number, "preview").await.unwrap();
        github.close(&name, number).await.unwrap();
        github.reopen(&name, number).await.unwrap();
        let comment = github.comment(&name, number, "mia", "/preview deploy").await.unwrap();
        let octocrab = bot(&github);
        octocrab.issues(owner, "shop").update_comment(comment.into(), "/preview retry").await.unwrap();
        eventually("the edit is reported", || receiver.names().iter().any(|(_, action)| action == "edited")).await;
        github.delete_comment(&name, comment).await.unwrap();
        github.merge(&name, number).await.unwrap();
        let fork = NewPullRequest::new("From outside", "patch-1").file("b", "2").from_fork("olga");
        let fork = github.open_pull_request(&name, fork).await.unwrap();
        github.delete_fork(&name, fork).unwrap();
        github.close(&name, fork).await.unwrap();
        github.rename_repository(&name, "store").await.unwrap();
        github.transfer_repository(&format!("{owner}/store"), "mia").await.unwrap();
        eventually("all is reported", || receiver.got().len() >= 19).await;
        let merged = receiver.got().into_iter().map(|(_, body)| serde_json::from_slice::<Value>(&body).unwrap());
        let merged = merged.filter(|body| body["pull_request"]["merged"] == true).count();
        assert_eq!(merged, 1);
        no_violations(&github);
    }
}

#[test]
fn shapes_are_compared_deeply() {
    for event in [
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "issue_comment",
        "repository",
        "installation",
        "installation_repositories",
        "ping",
    ] {
        assert!(!webhook_examples(event).is_empty(), "{event}");
    }
    let mut payload =
        webhook_examples("pull_request").into_iter().find(|example| example["action"] == "synchronize").unwrap();
    assert_eq!(disagreement("pull_request", &payload), None);
    payload["pull_request"]["head"]["repo"]["owner"].as_object_mut().unwrap().remove("id");
    let reason = disagreement("pull_request", &payload).unwrap();
    assert_eq!(reason, "/pull_request/head/repo/owner/id is missing");
    payload["pull_request"]["head"]["repo"]["owner"]["id"] = json!("5");
    let reason = disagreement("pull_request", &payload).unwrap();
    assert_eq!(reason, "/pull_request/head/repo/owner/id is string, not number");
    payload["pull_request"]["head"] = Value::Null;
    assert_eq!(disagreement("pull_request", &payload).unwrap(), "/pull_request/head is null, not object");
}

#[tokio::test]
async fn times_have_whole_seconds_and_may_stand_still() {
    let (github, number) = github().await;
    let (receiver, url) = Receiver::start().await;
    github.set_webhook(&url, &["s3cret"]);
    github.freeze_clock(Some(1_790_000_000));
    github.push(REPOSITORY, number, &[("a", "1")]).await.unwrap();
    github.push(REPOSITORY, number, &[("a", "2")]).await.unwrap();
    let times: Vec<_> = receiver
        .got()
        .iter()
        .map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()["pull_request"]["updated_at"].clone())
        .collect();
    assert_eq!(times, [json!("2026-09-21T14:13:20Z"), json!("2026-09-21T14:13:20Z")]);
    github.freeze_clock(None);
    no_violations(&github);
}
