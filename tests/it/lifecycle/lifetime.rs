//! How many environments there are, and for how long.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::json;
use xtask::{
    agent::{Agent, Answer},
    github::{Fault, Operation, Role},
    testing::eventually,
};

use super::life::{self, Life, SOON, TO_RUNNING, recipe};

fn with(recipe_lines: &str, recipe: &str) -> String {
    format!("{recipe}{recipe_lines}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_beyond_the_limit_wait_in_line() {
    let Some(ground) = life::api_only().await else { return };
    super::on_each_database_with(ground, "line", "[limits]\nenvironments_per_repository = 1\n", async |life| {
        let first = life.open("first", &recipe("ok")).await;
        life.until_applied(first).await;
        let mut waiting = Vec::new();
        for (position, branch) in ["second", "third"].into_iter().enumerate() {
            let number = life.open(branch, &recipe("ok")).await;
            let in_line = format!("this is number {} in line", position + 1);
            life.until(number, SOON, |found| {
                found["reason"] == "queued_for_capacity" && found["message"].as_str().unwrap().contains(&in_line)
            })
            .await;
            life.until_commented(number, &in_line).await;
            waiting.push(number);
        }
        assert_eq!(life.namespaces().await.len(), 1);

        // One that is closed while it waits takes nobody's place.
        life.stand.github.close(&life.repository, waiting[0]).await.unwrap();
        life.until_status(waiting[0], "deleted").await;
        assert_eq!(life.namespaces().await.len(), 1);
        life.stand.github.close(&life.repository, first).await.unwrap();
        life.until_applied(waiting[1]).await;
        life.finish().await;
    })
    .await;
}

/// Teams are what the configuration has them be, without a restart; one that is not valid changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teams_are_changed_while_previewd_runs() {
    let Some(ground) = life::api_only().await else { return };
    let mut life = Life::prepare(ground, "teams", None).await;
    let file = life.stand.config.clone();
    let without = std::fs::read_to_string(&file).unwrap();
    let team = format!("{without}[teams.narrow]\nrepositories = [\"{}\"]\n", life.repository);
    let team = |environments: u64| format!("{team}environments = {environments}\n");
    std::fs::write(&file, team(1)).unwrap();
    life.begin().await;
    let reader = life.stand.create_token("reader", "viewer", &["narrow"]).await.unwrap();
    let reader = Agent::over_http(&life.stand.mcp_url(), &reader).await.unwrap();
    let listed = async || match reader.call("list_preview_environments", json!({})).await.unwrap() {
        Answer::Done(list) => list["environments"].as_array().unwrap().len(),
        Answer::Refused(error) => panic!("{error}"),
    };
    let first = life.open("first", &recipe("ok")).await;
    life.until_applied(first).await;
    let second = life.open("second", &recipe("ok")).await;
    life.until(second, SOON, |found| found["reason"] == "queued_for_capacity").await;
    assert_eq!(listed().await, 2);

    std::fs::write(&file, format!("{}members = 7\n", team(9))).unwrap();
    eventually("a complaint", SOON, async || life.log().contains("teams and roles stay as they were").then_some(()))
        .await;
    assert_eq!(listed().await, 2);
    assert_eq!(life.get(second).await["reason"], "queued_for_capacity");

    // Those in line look once a minute.
    std::fs::write(&file, team(2)).unwrap();
    life.until(second, TO_RUNNING, |found| found["status"] == "deploying").await;
    std::fs::write(&file, &without).unwrap();
    eventually("a team that is gone sees nothing", SOON, async || (listed().await == 0).then_some(())).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_uses_expires_and_comes_back_when_somebody_wants_it() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "expiry").await;
    life.stand.github.set_role(&life.repository, "ann", Role::Write).unwrap();
    let number = life.open("change", &with("ttl: 5s", &recipe("ok"))).await;
    life.until_applied(number).await;
    let expired = life.until_status(number, "deleted").await;
    assert_eq!(expired["reason"], "expired", "{expired:#}");
    life.until_commented(number, "Nobody used it").await;
    // Nothing brings it back by itself.
    life.stand.github.edit_title(&life.repository, number, "Another title").await.unwrap();
    life.until_settled().await;
    assert_eq!(life.get(number).await["reason"], "expired");

    life.stand.github.comment(&life.repository, number, "ann", "/preview deploy").await.unwrap();
    life.until_applied(number).await;
    life.until_status(number, "deleted").await;
    life.push(number).await;
    life.until_applied(number).await;
    life.finish().await;
}

/// What is to go does not wait for GitHub, which may not show the repository any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_or_expires_goes_whatever_github_answers() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "unconfirmed").await;
    let github = &life.stand.github;
    let expires = life.open("expires", &with("ttl: 15s", &recipe("ok"))).await;
    life.until_applied(expires).await;
    github.fault(Operation::GetPullRequest, Fault::NotFound);
    github.edit_title(&life.repository, expires, "GitHub is to be asked").await.unwrap();
    assert_eq!(life.until_status(expires, "deleted").await["reason"], "expired");
    for (number, fault) in [
        Fault::NotFound,
        Fault::BadCredentials,
        Fault::Forbidden,
        Fault::ServerError,
        Fault::SecondaryLimit { retry_after: Duration::from_secs(20) },
    ]
    .into_iter()
    .enumerate()
    {
        github.clear_faults();
        let number = life.open(&format!("change-{number}"), &recipe("ok")).await;
        life.until_applied(number).await;
        github.fault(Operation::GetPullRequest, fault.clone());
        life.call("delete_preview_environment", number).await.done().unwrap();
        assert_eq!(life.until_status(number, "deleted").await["reason"], "removed_by_hand", "{fault:?}");
    }
    github.clear_faults();
    assert!(life.namespaces().await.is_empty());
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_uses_sleeps_and_is_woken() {
    let Some(ground) = life::node().await else { return };
    let mut life = Life::prepare(ground, "sleep", None).await;
    life.configure("[lifetime]\nsleep_after = \"1m\"\n");
    life.begin().await;
    let number = life.open("change", &with("ttl: 100s", &recipe("ok"))).await;
    life.until_running(number).await;
    life.fall_asleep();
    let asleep = life
        .until(number, TO_RUNNING + SOON, |found| found["status"] == "running" && found["reason"] == "asleep")
        .await;
    life.until_commented(number, "Preview sleeps").await;
    let deployments: Api<Deployment> = Api::namespaced(life.kube.clone(), asleep["namespace"].as_str().unwrap());
    let replicas = async || deployments.get("app").await.unwrap().spec.unwrap().replicas;
    assert_eq!(replicas().await, Some(0));

    life.call("retry_preview_deployment", number).await.done().unwrap();
    life.until(number, TO_RUNNING, |found| found["status"] == "running" && found["reason"].is_null()).await;
    assert_eq!(replicas().await, Some(1));
    assert!(life.page(&life.get(number).await).await.contains(&life.head(number)));
    life.fall_asleep();
    life.until(number, SOON, |found| found["reason"] == "asleep").await;
    // Its pods have time to end, and can be read until then.
    let note = eventually("nothing that could print is left", SOON, async || {
        let printed = life.call("get_preview_logs", number).await.done().unwrap();
        (printed["containers"] == json!([])).then(|| printed["note"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    assert!(note.contains("It sleeps"), "{note}");
    life.fall_asleep();
    // The warning comes a quarter of its time before it goes.
    let deadline = Duration::from_secs(200);
    xtask::testing::eventually("a warning", deadline, async || {
        life.comments(number).into_iter().find(|comment| comment.contains("unless somebody uses it"))
    })
    .await;
    life.finish().await;
}
