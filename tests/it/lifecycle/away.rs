//! The cluster or GitHub is away, and comes back; or the database is for another cluster.

use std::time::Duration;

use previewd::store::{Migrate, Store, migrate};
use serde_json::Value;
use xtask::{
    github::{Fault, Operation},
    previewd::Server,
    testing::eventually,
};

use super::life::{self, Life, SOON, TO_GONE, recipe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn previewd_starts_without_its_cluster_and_catches_up() {
    let Some(ground) = life::api_only().await else { return };
    let mut life = Life::prepare(ground, "no-cluster", None).await;
    life.proxy.set_away(true);
    life.begin().await;
    let ready = life.ready().await;
    assert_eq!((&ready["ready"], &ready["cluster"]["ok"]), (&true.into(), &false.into()), "{ready}");
    assert!(ready["cluster"]["why"].is_string() && ready["github"]["ok"] == true, "{ready}");

    let number = life.open("change", &recipe("ok")).await;
    assert_eq!(life.stand.github.attempts().last().unwrap().status_code, 200);
    assert_eq!(life.get(number).await["status"], "pending");
    life.proxy.set_away(false);
    life.until_applied(number).await;
    eventually("ready", SOON, async || (life.ready().await["cluster"]["ok"] == true).then_some(())).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_kept_while_github_is_away() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "no-github").await;
    let github = &life.stand.github;
    github.go_away().await;
    let number = life.open("change", &recipe("ok")).await;
    assert_eq!(github.attempts().last().unwrap().status_code, 200);
    eventually("/readyz tells", SOON, async || (life.ready().await["github"]["ok"] == false).then_some(())).await;
    assert_eq!(life.get(number).await["status"], "pending");
    github.come_back().await;
    life.until_applied(number).await;
    life.until_commented(number, "is being deployed").await;
    life.finish().await;
}

/// Closed, and its repository is shown to nobody any more: nobody is left to confirm it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_closed_and_not_shown_any_more_goes() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "not-shown").await;
    let github = &life.stand.github;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    // GitHub's times are whole seconds: of two events within one the order is asked, and here nobody answers.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // That it answers with something else proves nothing.
    github.fault(Operation::GetPullRequest, Fault::BadGateway);
    github.close(&life.repository, number).await.unwrap();
    let waits = |found: &Value| {
        let said = found["message"].as_str().unwrap_or_default();
        found["status"] == "deleting" && said.starts_with("GitHub answered 502 to ")
    };
    life.until(number, SOON, waits).await;
    assert!(!life.namespaces().await.is_empty(), "it goes once GitHub says that it is closed");
    github.clear_faults();
    github.fault(Operation::GetPullRequest, Fault::NotFound);
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    github.clear_faults();
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comment_whose_answer_was_lost_is_found_again() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "lost-answer").await;
    let github = &life.stand.github;
    github.fault_times(Operation::CreateComment, Fault::CommitThenBadGateway, 1);
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    life.until_commented(number, "is being deployed").await;
    let store = life.store();
    eventually("its id is known", SOON, async || life.row(&store, number).await.environment.comment_id).await;
    let second = life.push(number).await;
    life.until_commented(number, &second[..7]).await;
    assert_eq!(github.comment_writes().created, 1);
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_conversation_stops_no_deployment() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "locked").await;
    let github = &life.stand.github;
    github.fault(Operation::CreateComment, Fault::Locked);
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    life.until_settled().await;
    assert!(life.comments(number).is_empty());
    assert!(github.comment_writes().refused <= 2, "{:?}", github.comment_writes());
    github.clear_faults();
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_another_cluster_is_refused() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::prepare(ground, "other-cluster", None).await;
    migrate(&life.database, Migrate::Auto).await.unwrap();
    let store = Store::open(&life.database).unwrap();
    store.installation().await.unwrap();
    store.bind_cluster("11111111-2222-3333-4444-555555555555").await.unwrap();

    let mut server = Server::spawn(&life.stand.config, &life.stand.url, &life.stand.log).unwrap();
    let ended = tokio::time::timeout(SOON, server.wait()).await.expect("it ends by itself").unwrap();
    assert!(!ended.success());
    let log = server.log();
    assert!(log.contains("this database belongs to the cluster 11111111-2222-3333-4444-555555555555"), "{log}");
}
