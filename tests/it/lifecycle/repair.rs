//! What nobody told of is found by looking, and nothing is removed without proof.

use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use xtask::{
    github::{Fault, NewPullRequest, Operation},
    previewd,
    stand::free_port,
    testing::eventually,
};

use super::life::{self, Life, SOON, TO_GONE, recipe};

/// Runs `previewd repair`, and gives its lines.
async fn repair(life: &Life, dry_run: bool) -> Vec<String> {
    let arguments: &[&str] = if dry_run { &["repair", "--dry-run"] } else { &["repair"] };
    let printed = previewd::run(&life.stand.config, arguments).await.unwrap();
    printed.lines().map(str::to_owned).collect()
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_webhooks_cost_time_only() {
    let Some(ground) = life::api_only().await else { return };
    super::on_each_database(ground, "lost", async |life| {
        life.sweep_alone().await;
        let github = &life.stand.github;
        let pushed = life.open("pushed", &recipe("ok")).await;
        let closed = life.open("closed", &recipe("ok")).await;
        let removed = life.open("removed", &recipe("ok")).await;
        for number in [pushed, closed, removed] {
            life.until_applied(number).await;
        }
        life.call("delete_preview_environment", removed).await.done().unwrap();
        life.until_status(removed, "deleted").await;
        assert_eq!(repair(&life, true).await, ["nothing to repair"]);

        github.hold_deliveries();
        let opened = life.open("opened", &recipe("ok")).await;
        let head = life.push(pushed).await;
        github.close(&life.repository, closed).await.unwrap();
        let lost = github.release_deliveries();
        assert!(lost.len() >= 3);

        let found = repair(&life, true).await;
        for (number, what) in [(opened, "unknown"), (pushed, "has changed"), (closed, "not among the open ones")] {
            assert!(
                found.iter().any(|line| line.contains(&format!("#{number} ")) && line.contains(what)),
                "{found:#?}"
            );
        }
        assert!(has(&found, "3 found, nothing changed"), "{found:#?}");
        assert!(life.get(opened).await.is_null());
        assert_ne!(life.get(pushed).await["commit"], head);

        repair(&life, false).await;
        life.until_applied(opened).await;
        life.until_applied(pushed).await;
        life.until_status(closed, "deleted").await;
        assert_eq!(life.get(removed).await["reason"], "removed_by_hand", "what was removed on purpose stays away");

        // Late ones change nothing any more.
        for delivery in lost {
            assert_eq!(github.send(&delivery).await.unwrap().0, 200);
        }
        life.until_settled().await;
        assert_eq!(life.get(closed).await["status"], "deleted");
        assert_eq!(repair(&life, true).await, ["nothing to repair"]);
        life.finish().await;
    })
    .await;
}

/// What GitHub tells an App alone: the webhooks that got lost, and the repositories of which it never said a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_apps_lost_webhooks_and_unheard_repositories_are_asked_for() {
    let Some(ground) = life::api_only().await else { return };
    let mut life = Life::prepare_as_app(ground, "app").await;
    life.begin().await;
    life.sweep_alone().await;
    let github = &life.stand.github;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    assert_eq!(repair(&life, true).await, ["nothing to repair"]);

    // Nobody listens there.
    let webhook = |url: &str| github.set_webhook(&format!("{url}/webhooks/github"), &[life.stand.webhook_secret()]);
    webhook(&format!("http://127.0.0.1:{}", free_port().unwrap()));
    let head = life.push(number).await;
    webhook(&life.stand.url);
    let found = repair(&life, false).await;
    assert!(has(&found, "(pull_request) failed: asked for again"), "{found:#?}");
    life.until_applied(number).await;
    assert_eq!(life.get(number).await["commit"], head);

    github.hold_deliveries();
    github.create_repository("acme", "unheard").unwrap();
    let new = NewPullRequest::new("Unheard of", "change").file(".preview.yaml", &recipe("ok"));
    let unheard = github.open_pull_request("acme/unheard", new).await.unwrap();
    github.release_deliveries();
    let found = repair(&life, false).await;
    assert!(has(&found, "acme/unheard is the App's, and the rows do not say so: stored"), "{found:#?}");
    assert!(has(&found, &format!("acme/unheard#{unheard} is open and unknown: stored")), "{found:#?}");
    let environment = json!({ "environment": format!("acme/unheard#{unheard}") });
    eventually("it is deployed", SOON, async || {
        let found = life.ask("get_preview_environment", environment.clone()).await.done().ok()?;
        (found["status"] == "deploying").then_some(())
    })
    .await;
    github.close("acme/unheard", unheard).await.unwrap();
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_no_proof_removes_nothing() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "proof").await;
    life.sweep_alone().await;
    let github = &life.stand.github;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    for fault in [Fault::EmptyList, Fault::NotJson, Fault::ServerError, Fault::NotFound, Fault::BadCredentials] {
        github.fault_times(Operation::ListPullRequests, fault.clone(), 1);
        let found = repair(&life, false).await;
        life.until_settled().await;
        assert_eq!(life.get(number).await["status"], "deploying", "{fault:?}: {found:#?}");
    }
    assert_eq!(life.namespaces().await.len(), 1);
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_without_a_row_go_slowly_or_not_at_all() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "orphans").await;
    life.sweep_alone().await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    let namespaces: Api<Namespace> = Api::all(life.kube.clone());
    let labels = life.namespaces().await[0].metadata.labels.clone().unwrap();
    let create = async |name: &str| {
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    };
    let (first, second) =
        (format!("pr-1-orphan-{}", &life.repository_id), format!("pr-2-orphan-{}", &life.repository_id));
    create(&first).await;
    assert!(has(&repair(&life, false).await, &format!("{first} has no row: watched")));
    assert!(namespaces.get_opt(&first).await.unwrap().is_some());

    // Ten minutes later, and with one more than may go.
    life.execute("UPDATE orphans SET found_at = found_at - 600000");
    create(&second).await;
    let found = repair(&life, false).await;
    assert!(has(&found, "2 namespaces have no row"), "{found:#?}");
    assert!(namespaces.get_opt(&first).await.unwrap().unwrap().metadata.deletion_timestamp.is_none());

    namespaces.delete(&second, &DeleteParams::default()).await.unwrap();
    eventually("the second is gone", TO_GONE, async || {
        namespaces.get_opt(&second).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(has(&repair(&life, true).await, &format!("{first} has no row: watched")), "a dry run removes nothing");
    assert!(has(&repair(&life, false).await, &format!("{first} has no row: removed")));
    eventually("the first is gone", TO_GONE, async || {
        namespaces.get_opt(&first).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(life.get(number).await["status"], "deploying");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_by_hand_is_put_back() {
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "drift").await;
    let number = life.open("change", &recipe("ok")).await;
    let running = life.until_running(number).await;
    let services: Api<Service> = Api::namespaced(life.kube.clone(), running["namespace"].as_str().unwrap());
    services.delete("app", &DeleteParams::default()).await.unwrap();
    repair(&life, false).await;
    eventually("the Service is back", SOON, async || services.get_opt("app").await.unwrap()).await;
    life.until_settled().await;
    let found = life.get(number).await;
    assert_eq!((&found["status"], found["deployments"].as_array().unwrap().len()), (&json!("running"), 1));
    assert!(life.page(&found).await.contains(&life.head(number)));
    life.finish().await;
}

/// T087: a thousand repositories within a fifth of GitHub's hourly limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_repositories_are_listed_within_a_fifth_of_the_limit() {
    const COUNT: i64 = 1_000;
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "thousand").await;
    life.sweep_alone().await;
    let github = &life.stand.github;
    let mut rows = Vec::new();
    for number in 0..COUNT {
        let name = format!("many-{number}");
        let id = github.create_repository("globex", &name).unwrap();
        rows.push(format!("({id}, 'globex', '{name}', 'main', 'active', 0, 0, 0)"));
    }
    life.execute(&format!(
        "INSERT INTO repositories (github_id, owner, name, default_branch, state, created_at, updated_at, swept_at) VALUES {}",
        rows.join(", ")
    ));
    let listed = |status: u16| {
        let lists = github.requests().into_iter().filter(|it| it.operation == Some(Operation::ListPullRequests));
        lists.filter(|it| it.status == status).count()
    };
    let found = repair(&life, false).await;
    assert_eq!(listed(200), 1_000, "{found:#?}");
    github.clear_requests();
    // Those are GitHub's tags: what has not changed costs nothing.
    life.execute("UPDATE github_budgets SET sweep_began = 0");
    let found = repair(&life, false).await;
    assert_eq!((listed(200), listed(304)), (0, 1_000), "{found:#?}");
    life.finish().await;
}
