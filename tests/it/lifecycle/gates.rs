//! What may not start, and what is said of it.

use xtask::{
    github::{NewPullRequest, Operation, Role},
    testing::eventually,
};

use super::{
    commands::command,
    life::{self, Life, recipe},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_commit_waits_and_nothing_of_it_is_read() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "forks").await;
    let github = &life.stand.github;
    github.commit(&life.repository, "main", &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
    let new = NewPullRequest::new("From a fork", "mine").from_fork("mallory").file(".preview.yaml", &recipe("ok"));
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    let waits = |found: &serde_json::Value| found["status"] == "pending" && found["reason"] == "awaiting_approval";
    life.until(number, life::SOON, waits).await;
    life.push(number).await;
    github.delete_fork(&life.repository, number).unwrap();
    let without_fork = github.delivery_for(&life.repository, number, "edited").unwrap();
    assert!(without_fork.payload()["pull_request"]["head"]["repo"].is_null());
    assert_eq!(github.send(&without_fork).await.unwrap().0, 200);
    life.until_settled().await;

    let environment = life.get(number).await;
    assert!(waits(&environment), "{environment:#}");
    assert_eq!(environment["commit"], life.head(number));
    assert!(life.namespaces().await.is_empty());
    life.until_commented(number, &format!("/preview approve {}", life.head(number))).await;
    let requests = github.requests();
    let read: Vec<&str> = requests
        .iter()
        .filter(|request| request.operation == Some(Operation::GetContents))
        .map(|request| request.query.as_str())
        .collect();
    assert!(!read.is_empty() && read.iter().all(|query| *query == "ref=main"), "the base branch's recipe: {read:?}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_whose_fork_is_gone_already_is_a_strangers() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "ghosts").await;
    let github = &life.stand.github;
    github.commit(&life.repository, "main", &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
    github.hold_deliveries();
    let new = NewPullRequest::new("From a fork", "mine").from_fork("mallory").file(".preview.yaml", &recipe("ok"));
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    github.delete_fork(&life.repository, number).unwrap();
    github.release_deliveries();
    let opened = github.delivery_for(&life.repository, number, "opened").unwrap();
    assert_eq!(github.send(&opened).await.unwrap().0, 200);
    life.until(number, life::SOON, |found| found["reason"] == "awaiting_approval").await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_recipe_nothing_starts_until_one_is_pushed() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "no-recipe").await;
    let github = &life.stand.github;
    let new = NewPullRequest::new("No recipe", "plain").file("index.html", "hello");
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    life.until(number, life::SOON, |found| found["reason"] == "no_recipe").await;
    life.until_settled().await;
    assert!(life.namespaces().await.is_empty() && life.comments(number).is_empty());

    github.push(&life.repository, number, &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
    life.until_applied(number).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_recipe_is_explained_by_file_line_and_field() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "invalid").await;
    let number = life.open("typo", "version: 1\napp:\n  image: shop\n  prot: 8080\n").await;
    let environment = life.until_status(number, "failed").await;
    assert_eq!(environment["reason"], "invalid_recipe");
    let comment = life.until_commented(number, "Preview failed").await;
    assert!(comment.contains(".preview.yaml, line 4: app.prot"), "{comment}");
    assert!(life.namespaces().await.is_empty());

    life.stand.github.push(&life.repository, number, &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
    life.until_applied(number).await;
    life.finish().await;
}

/// The sample's recipe with these triggers.
fn triggered(triggers: &str) -> String {
    recipe("ok").replace("version: 1\n", &format!("version: 1\ntriggers: {{ {triggers} }}\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_brings_the_preview_and_takes_it_away() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "labels").await;
    let github = &life.stand.github;
    let number = life.open("change", &triggered("label: preview")).await;
    let waiting = life.until(number, life::SOON, |found| found["reason"] == "not_labelled").await;
    assert_eq!(waiting["status"], "pending", "{waiting:#}");
    github.label(&life.repository, number, "bug").await.unwrap();
    life.until_settled().await;
    assert!(life.namespaces().await.is_empty() && life.comments(number).is_empty());

    github.label(&life.repository, number, "Preview").await.unwrap();
    life.until_applied(number).await;
    life.until_commented(number, "is being deployed").await;
    github.unlabel(&life.repository, number, "Preview").await.unwrap();
    let gone = life.until_status(number, "deleted").await;
    assert_eq!(gone["reason"], "not_labelled", "{gone:#}");
    life.until_commented(number, "does not have the label").await;
    assert!(life.namespaces().await.is_empty());

    // What was removed on purpose comes back with the label only.
    github.label(&life.repository, number, "Preview").await.unwrap();
    life.until_applied(number).await;
    life.call("delete_preview_environment", number).await.done().unwrap();
    life.until_status(number, "deleted").await;
    github.label(&life.repository, number, "later").await.unwrap();
    life.until_settled().await;
    assert_eq!(life.get(number).await["reason"], "removed_by_hand");
    github.unlabel(&life.repository, number, "Preview").await.unwrap();
    // Within one second GitHub's times tell no order.
    life.until_settled().await;
    github.label(&life.repository, number, "Preview").await.unwrap();
    life.until_applied(number).await;
    life.finish().await;
}

/// No pull request hears of it when somebody renames a label in the repository's settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_label_takes_no_preview_away() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "renamed").await;
    let github = &life.stand.github;
    let recipe = triggered("label: preview");
    let new = NewPullRequest::new("Change", "change").label("preview").file(".preview.yaml", &recipe);
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    life.until_applied(number).await;
    github.rename_label(&life.repository, "preview", "deploy me").unwrap();
    life.push(number).await;
    life.until_applied(number).await;
    life.until_commented(number, "is called “deploy me” by now").await;
    let asked = serde_json::json!({ "repository": life.repository, "pull_request": number });
    let explained = life.ask("explain_preview_environment", asked).await.done().unwrap();
    assert!(explained["findings"].to_string().contains("deploy me"), "{explained:#}");

    github.set_role(&life.repository, "ann", Role::Triage).unwrap();
    // Begun anew, nothing of it is in the cluster for a moment: it was let in all the same.
    let before = life.until_applied(number).await.metadata.uid;
    assert_eq!(command(&life, number, "ann", "/preview reset").await, "+1");
    eventually("it was begun anew", life::SOON, async || {
        (life.until_applied(number).await.metadata.uid != before).then_some(())
    })
    .await;

    github.unlabel(&life.repository, number, "deploy me").await.unwrap();
    assert_eq!(life.until_status(number, "deleted").await["reason"], "not_labelled");
    life.finish().await;
}

/// Bots open many pull requests, for which nobody builds an image; a label takes one out; words bring it all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_triggers_take_out_gets_no_preview_unless_somebody_asks() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "taken-out").await;
    let github = &life.stand.github;
    let recipe = triggered("authors: ['!*[bot]'], head_branches: ['!renovate/**'], exclude_labels: [wip]");
    let of_bot = NewPullRequest::new("Bump", "bump").author("dependabot[bot]").file(".preview.yaml", &recipe);
    let of_bot = github.open_pull_request(&life.repository, of_bot).await.unwrap();
    let waiting = life.until(of_bot, life::SOON, |found| found["reason"] == "author_not_included").await;
    assert!(waiting["message"].as_str().unwrap().contains("dependabot[bot]"), "{waiting:#}");
    let from_branch = life.open("renovate/serde", &recipe).await;
    life.until(from_branch, life::SOON, |found| found["reason"] == "head_not_included").await;
    life.until_settled().await;
    assert!(life.namespaces().await.is_empty() && life.comments(of_bot).is_empty());

    let number = life.open("change", &recipe).await;
    life.until_applied(number).await;
    github.label(&life.repository, number, "WIP").await.unwrap();
    assert_eq!(life.until_status(number, "deleted").await["reason"], "label_excludes");
    github.unlabel(&life.repository, number, "WIP").await.unwrap();
    life.until_applied(number).await;

    let asked = serde_json::json!({ "repository": life.repository, "pull_request": of_bot });
    life.ask("create_preview_environment", asked).await.done().unwrap();
    life.until_applied(of_bot).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_waits_where_the_recipe_says_so() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "no-drafts").await;
    let github = &life.stand.github;
    let new = NewPullRequest::new("A draft", "draft").draft().file(".preview.yaml", &triggered("drafts: false"));
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    life.until(number, life::SOON, |found| found["reason"] == "draft").await;
    assert!(life.namespaces().await.is_empty() && life.comments(number).is_empty());
    github.ready_for_review(&life.repository, number).await.unwrap();
    life.until_applied(number).await;

    // What has begun goes on; what is new waits, and the rest stays.
    github.convert_to_draft(&life.repository, number).await.unwrap();
    life.until_settled().await;
    assert_eq!(life.get(number).await["status"], "deploying");
    life.push(number).await;
    life.until(number, life::SOON, |found| found["reason"] == "draft").await;
    assert_eq!(life.namespaces().await.len(), 1);
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pull_requests_into_the_named_branches_are_deployed() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "branches").await;
    let github = &life.stand.github;
    github.commit(&life.repository, "legacy/1", &[("a", "b")]).await.unwrap();
    let recipe = triggered("branches: [main, 'release/*']");
    let new = NewPullRequest::new("A change", "change").base("legacy/1").file(".preview.yaml", &recipe);
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    life.until(number, life::SOON, |found| found["reason"] == "branch_not_included").await;
    github.change_base(&life.repository, number, "main").await.unwrap();
    life.until_applied(number).await;
    github.change_base(&life.repository, number, "legacy/1").await.unwrap();
    life.until_status(number, "deleted").await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_changes_a_named_path_is_deployed() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "paths").await;
    let github = &life.stand.github;
    let recipe = triggered("paths: ['src/**', '!src/*.md']");
    github.commit(&life.repository, "main", &[(".preview.yaml", &recipe)]).await.unwrap();
    let new = NewPullRequest::new("A word", "docs").file("src/README.md", "words").file("README.md", "words");
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    life.until(number, life::SOON, |found| found["reason"] == "paths_not_included").await;
    assert!(life.namespaces().await.is_empty() && life.comments(number).is_empty());
    github.push(&life.repository, number, &[("src/main.rs", "code")]).await.unwrap();
    life.until_applied(number).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_is_deployed() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "drafts").await;
    let new = NewPullRequest::new("A draft", "draft").draft().file(".preview.yaml", &recipe("ok"));
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    life.until_applied(number).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_request_that_nobody_told_of_is_explained_and_created() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "unheard").await;
    let github = &life.stand.github;
    github.hold_deliveries();
    let number = life.open("change", &recipe("ok")).await;
    let name = serde_json::json!({ "repository": life.repository, "pull_request": number });
    let explained = life.ask("explain_preview_environment", name.clone()).await.done().unwrap();
    assert!(explained["explanation"].as_str().unwrap().contains("no webhook of it ever arrived"), "{explained:#}");
    assert!(explained["findings"][0].as_str().unwrap().contains("No webhook from"), "{explained:#}");
    assert_eq!(life.get(number).await, serde_json::Value::Null);

    life.ask("create_preview_environment", name.clone()).await.done().unwrap();
    life.until_applied(number).await;
    let explained = life.ask("explain_preview_environment", name.clone()).await.done().unwrap();
    assert!(explained["explanation"].as_str().unwrap().contains("deploying"), "{explained:#}");
    github.release_deliveries();
    let nobody = serde_json::json!({ "repository": life.repository, "pull_request": 99 });
    for tool in ["explain_preview_environment", "create_preview_environment"] {
        assert_eq!(life.ask(tool, nobody.clone()).await.code(), Some("NOT_FOUND"), "{tool}");
    }
    github.close(&life.repository, number).await.unwrap();
    life.until_status(number, "deleted").await;
    let (code, message) = match life.ask("create_preview_environment", name).await {
        xtask::agent::Answer::Refused(error) => (error["code"].clone(), error["message"].clone()),
        xtask::agent::Answer::Done(done) => panic!("{done:#}"),
    };
    assert!(code == "INVALID_INPUT" && message.as_str().unwrap().contains("closed"), "{message}");
    life.finish().await;
}
