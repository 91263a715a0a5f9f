//! The life of a pull request at its user's side: webhooks in; comments, the cluster and an agent's answers out.

mod away;
mod bad_input;
mod browser;
mod charts;
pub mod commands;
mod crashes;
mod doctor;
mod examples;
pub mod exposure;
mod failures;
mod gates;
mod images;
mod installing;
pub mod life;
mod lifetime;
mod many;
mod meetings;
mod objects;
mod once;
mod people;
mod permissions;
mod processes;
mod readiness;
mod recipes;
mod refusals;
mod repair;
mod reports;
mod router;
mod stuck;
mod traces;
mod watching;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{LimitRange, Namespace, Pod, ResourceQuota, Service, ServiceAccount},
        networking::v1::{Ingress, NetworkPolicy},
    },
    serde::de::DeserializeOwned,
};
use kube::{Api, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use serde_json::Value;
use uuid::Uuid;
use xtask::testing::{self, eventually};

use self::life::{Ground, Life, SOON, TO_GONE, node, recipe};
use super::store::database;

/// A database of its own on PostgreSQL, where `cargo xtask test` started one.
pub async fn postgres_database() -> Option<String> {
    let server = std::env::var(testing::POSTGRES).ok()?;
    let name = format!("previewd_life_{}", Uuid::new_v4().simple());
    database::execute_postgres(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await;
    Some(format!("{server}/{name}"))
}

/// The databases to live on: None is SQLite.
async fn databases() -> Vec<Option<String>> {
    [None].into_iter().chain(postgres_database().await.map(Some)).collect()
}

/// Lives the same life on each database, at the same time.
async fn on_each_database(ground: &Ground, name: &str, live: impl AsyncFn(Life)) {
    on_each_database_with(ground, name, "", live).await;
}

/// The same, with `lines` in its configuration.
async fn on_each_database_with(ground: &Ground, name: &str, lines: &str, live: impl AsyncFn(Life)) {
    let lives = databases().await.into_iter().enumerate().map(async |(number, database)| {
        let mut life = Life::prepare(ground, &format!("{name}-{number}"), database).await;
        life.configure(lines);
        life.begin().await;
        live(life).await;
    });
    futures::future::join_all(lives).await;
}

pub async fn names<K>(life: &Life, namespace: &str) -> Vec<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let found = Api::<K>::namespaced(life.kube.clone(), namespace).list(&ListParams::default()).await.unwrap();
    found.items.iter().map(ResourceExt::name_any).collect()
}

/// The environment's history, newest first: commit and status.
fn deployments(environment: &Value) -> Vec<(&str, &str)> {
    fn text<'a>(deployment: &'a Value, key: &str) -> &'a str {
        deployment[key].as_str().expect("a text")
    }
    let deployments = environment["deployments"].as_array().expect("deployments");
    deployments.iter().map(|deployment| (text(deployment, "commit"), text(deployment, "status"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_is_opened_pushed_to_closed_and_reopened() {
    let Some(ground) = node().await else { return };
    on_each_database(ground, "whole", async |life| {
        let github = &life.stand.github;
        let number = life.open("change", &recipe("ok")).await;
        let first = life.head(number);
        let environment = life.until_running(number).await;
        let namespace = environment["namespace"].as_str().unwrap();
        let url = environment["url"].as_str().unwrap();

        let comment = life.until_commented(number, "is running").await;
        assert!(comment.contains(url) && comment.contains(&first[..7]), "{comment}");
        assert!(life.page(&environment).await.contains(&first), "the page of the first commit");
        assert_eq!(names::<ResourceQuota>(&life, namespace).await.len(), 1);
        assert_eq!(names::<LimitRange>(&life, namespace).await.len(), 1);
        assert!(!names::<NetworkPolicy>(&life, namespace).await.is_empty());
        assert!(names::<ServiceAccount>(&life, namespace).await.contains(&"preview".to_owned()));
        assert_eq!(names::<Deployment>(&life, namespace).await, ["app"]);
        assert_eq!(names::<Service>(&life, namespace).await, ["app"]);
        assert_eq!(names::<Ingress>(&life, namespace).await, ["preview"]);
        life.until_settled().await;
        assert_eq!(github.comment_writes().total(), 2, "one creation, one edit");

        let second = life.push(number).await;
        let environment = life.until_running(number).await;
        assert!(life.page(&environment).await.contains(&second), "the page of the second commit");
        assert_eq!(deployments(&environment), [(second.as_str(), "succeeded"), (first.as_str(), "succeeded")]);
        let running = format!("Commit `{}` answers", &second[..7]);
        let comment = life.until_commented(number, &running).await;
        let history: Vec<&str> = comment.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(history.len(), 2, "{comment}");
        assert!(history[0].starts_with(&format!("| `{}` | succeeded | 2", &second[..7])), "{comment}");
        life.until_settled().await;
        let writes = github.comment_writes();
        assert!(writes.total() <= 4 && writes.created == 1, "at most two a push: {writes:?}");

        github.close(&life.repository, number).await.unwrap();
        life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
        assert!(life.namespaces().await.is_empty(), "nothing is left");
        life.until_commented(number, "was removed").await;

        github.reopen(&life.repository, number).await.unwrap();
        let environment = life.until_running(number).await;
        assert!(life.page(&environment).await.contains(&second), "the same commit again");
        life.until_commented(number, &running).await;

        let expected =
            ["created", "deploying", "running", "deploying", "running", "deleting", "deleted", "deploying", "running"];
        assert_eq!(life.steps(namespace), expected);
        life.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_is_watched_and_looked_at_only_now_and_then() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "watched").await;
    let number = life.open("slow", &recipe("never-ready")).await;
    // From then on nothing changes until the application becomes ready.
    let environment = life.until(number, SOON * 2, |found| found["reason"] == "not_ready_in_time").await;
    let namespace = environment["namespace"].as_str().unwrap();

    let reads = |life: &Life| life.proxy.count(|request| request.method == "GET" && !request.is_watch);
    let passes =
        |life: &Life| life.proxy.count(|request| request.path_and_query == format!("/api/v1/namespaces/{namespace}"));
    let (reads_before, passes_before) = (reads(&life), passes(&life));
    // Not a wait for anything: what is counted is counted over a time.
    tokio::time::sleep(std::time::Duration::from_secs(25)).await;
    let (reads, passes) = (reads(&life) - reads_before, passes(&life) - passes_before);
    assert!(passes <= 4, "{passes} passes in 25 s; one every 10 s is enough");
    assert!(reads <= passes * 4 + 4, "{reads} reads in {passes} passes");

    let pods: Api<Pod> = Api::namespaced(life.kube.clone(), namespace);
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0);
    let address = pod.status.unwrap().pod_ip.unwrap();
    let http = xtask::github::http_client().unwrap();
    http.post(format!("http://{address}:8080/ok")).send().await.unwrap().error_for_status().unwrap();
    life.until_running(number).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_gets_to_running_without_any_watch() {
    let Some(ground) = node().await else { return };
    let mut life = Life::prepare(ground, "unwatched", None).await;
    life.proxy.set_watches_cut(true);
    life.begin().await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_running(number).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_by_hand_stays_deleted_until_a_push() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "by-hand").await;
    let github = &life.stand.github;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    life.until_commented(number, "is being deployed").await;
    let opened = github.attempts().last().unwrap().delivery.clone();
    life.call("delete_preview_environment", number).await.done().unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted" && found["reason"] == "removed_by_hand").await;
    life.until_commented(number, "deleted by hand").await;

    github.redeliver(&opened.guid).await.unwrap();
    github.send(&opened.with_new_guid()).await.unwrap();
    github.edit_title(&life.repository, number, "Another title").await.unwrap();
    github.label(&life.repository, number, "preview").await.unwrap();
    life.until_settled().await;
    let environment = life.get(number).await;
    assert_eq!((&environment["status"], &environment["reason"]), (&"deleted".into(), &"removed_by_hand".into()));
    assert!(life.namespaces().await.is_empty());

    life.push(number).await;
    life.until_applied(number).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_namespace_is_left_alone() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "taken").await;
    let repository = life.repository.parse().unwrap();
    let id = i64::try_from(life.repository_id).unwrap();
    let name = previewd::environment::Namespace::of_pull_request(id, &repository, 1).to_string();
    let namespaces: Api<Namespace> = Api::all(life.kube.clone());
    let mut made = Namespace::default();
    made.metadata.name = Some(name.clone());
    let made = namespaces.create(&Default::default(), &made).await.unwrap();

    let number = life.open("change", &recipe("ok")).await;
    let environment = life.until_status(number, "failed").await;
    assert_eq!((number, &environment["reason"]), (1, &"namespace_taken".into()));
    life.until_commented(number, "belongs to somebody else").await;
    life.stand.github.close(&life.repository, number).await.unwrap();
    life.until_status(number, "deleted").await;
    life.until_settled().await;

    let found = namespaces.get(&name).await.unwrap();
    assert_eq!(found.uid(), made.uid());
    assert_eq!(found.labels(), made.labels());
    assert!(found.metadata.deletion_timestamp.is_none());
    assert_eq!(names::<ResourceQuota>(&life, &name).await, Vec::<String>::new());
    life.finish().await;
    namespaces.delete(&name, &Default::default()).await.unwrap();
    eventually("the test's own namespace is gone", SOON, async || {
        namespaces.get_opt(&name).await.unwrap().is_none().then_some(())
    })
    .await;
}
