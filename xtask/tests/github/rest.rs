use base64::Engine as _;
use octocrab::models::reactions::ReactionContent;
use octocrab::models::repos::DeploymentStatusState;
use octocrab::params;
use serde_json::Value;
use xtask::github::{GitHub, NewPullRequest, Operation, Role};

use crate::support::{REPOSITORY, bot, client, github, no_violations, plain, status};

#[tokio::test]
async fn every_operation_of_a_token_answers_octocrab() {
    let (github, number) = github().await;
    github.set_role(REPOSITORY, "mia", Role::Triage).unwrap();
    let octocrab = bot(&github);

    assert_eq!(octocrab.current().user().await.unwrap().login, GitHub::LOGIN);
    assert!(octocrab.ratelimit().get().await.unwrap().rate.remaining < 5000);

    let repository = octocrab.repos("acme", "shop").get().await.unwrap();
    assert_eq!((repository.name.as_str(), repository.default_branch.as_deref()), ("shop", Some("main")));

    let pulls = octocrab.pulls("acme", "shop");
    let listed = pulls.list().state(params::State::Open).per_page(100).send().await.unwrap().items;
    let pull = pulls.get(number).await.unwrap();
    assert_eq!(listed.iter().map(|pull| pull.number).collect::<Vec<_>>(), [number]);
    assert_eq!(pull.head.sha, github.pull_request(REPOSITORY, number).unwrap().head.sha);
    assert_eq!(pull.head.repo.unwrap().id, repository.id);

    let files = pulls.list_files(number).await.unwrap().items;
    assert!(files.iter().any(|file| file.filename == ".preview.yaml"), "{files:?}");

    let repos = octocrab.repos("acme", "shop");
    let content = repos.get_content().path(".preview.yaml").r#ref(&pull.head.sha).send().await.unwrap();
    assert_eq!(content.items[0].decoded_content().as_deref(), Some("version: 1\n"));
    // octocrab's own type expects words here that GitHub does not send.
    let permission: Value = octocrab.get("/repos/acme/shop/collaborators/mia/permission", None::<&()>).await.unwrap();
    assert_eq!((permission["permission"].as_str(), permission["role_name"].as_str()), (Some("read"), Some("triage")));

    let issues = octocrab.issues("acme", "shop");
    let comment = issues.create_comment(number, "Deploying").await.unwrap();
    assert_eq!(issues.get_comment(comment.id).await.unwrap().body.as_deref(), Some("Deploying"));
    issues.update_comment(comment.id, "Running").await.unwrap();
    issues.create_comment_reaction(comment.id, ReactionContent::Rocket).await.unwrap();
    let listed = issues.list_comments(number).per_page(100).send().await.unwrap().items;
    assert_eq!(listed.iter().map(|comment| comment.body.clone().unwrap()).collect::<Vec<_>>(), ["Running"]);
    assert_eq!(github.comments(REPOSITORY, number)[0].author, GitHub::LOGIN);
    issues.delete_comment(comment.id).await.unwrap();
    assert_eq!(github.comments(REPOSITORY, number), []);
    assert_eq!(status(issues.get_comment(comment.id).await), 404);

    let on_a_line = github.review_comment(REPOSITORY, number, "mia", "Why so?").await.unwrap();
    pulls.comment(on_a_line.into()).create_reaction(ReactionContent::PlusOne).await.unwrap();
    assert_eq!(github.review_reactions(REPOSITORY, on_a_line), [(GitHub::LOGIN.to_owned(), "+1".to_owned())]);

    github.set_workflow(REPOSITORY, &pull.head.sha, "in_progress").unwrap();
    let runs = octocrab.workflows("acme", "shop").list_all_runs().send().await.unwrap().items;
    let runs: Vec<_> = runs.iter().map(|run| (run.head_sha.as_str(), run.status.as_str())).collect();
    assert_eq!(runs, [(pull.head.sha.as_str(), "in_progress")]);

    let deployments = repos.deployments();
    let new = deployments.create(&pull.head.sha).auto_merge(false).required_contexts(Vec::<String>::new());
    let new = new.environment("preview/pr-1").transient_environment(true).production_environment(false);
    let deployment = new.send().await.unwrap();
    let statuses = deployments.statuses(deployment.id);
    statuses.create(DeploymentStatusState::InProgress).description("Rolling out").send().await.unwrap();
    let success = statuses.create(DeploymentStatusState::Success).environment_url("http://pr-1.preview.localhost");
    success.auto_inactive(false).send().await.unwrap();
    assert_eq!(deployments.list().environment("preview/pr-1").send().await.unwrap().items.len(), 1);
    assert_eq!(statuses.list().send().await.unwrap().items[0].state, DeploymentStatusState::Success);
    assert_eq!(github.deployments(REPOSITORY)[0].statuses.len(), 2);

    let used: std::collections::BTreeSet<_> =
        github.requests().into_iter().filter_map(|request| request.operation).collect();
    let of_the_app = |operation: &Operation| {
        operation.template().starts_with("/app")
            || matches!(operation, Operation::GetRepositoryInstallation | Operation::ListInstallationRepositories)
    };
    let rest: Vec<_> = Operation::ALL.iter().filter(|operation| !of_the_app(operation)).collect();
    assert_eq!(used.iter().collect::<Vec<_>>(), rest);
    no_violations(&github);
}

#[tokio::test]
async fn pages_of_250_comments_are_linked() {
    let (github, number) = github().await;
    for index in 0..250 {
        github.comment(REPOSITORY, number, "mia", &format!("comment {index}")).await.unwrap();
    }
    let octocrab = bot(&github);
    let first = octocrab.issues("acme", "shop").list_comments(number).per_page(100).send().await.unwrap();
    assert_eq!(first.items.len(), 100);
    let all = octocrab.all_pages(first).await.unwrap();
    let bodies: Vec<_> = all.into_iter().map(|comment| comment.body.unwrap()).collect();
    assert_eq!(bodies, (0..250).map(|index| format!("comment {index}")).collect::<Vec<_>>());

    // Without a size the page is 30; one that is too large is cut to 100.
    let root = format!("{}/repos/acme/shop/issues/{number}/comments", github.url());
    for (query, length, pages) in [("", 30, "page=9"), ("?per_page=1000&page=2", 100, "page=3")] {
        let answer = plain().get(format!("{root}{query}")).bearer_auth(GitHub::TOKEN).send().await.unwrap();
        let link = answer.headers()["link"].to_str().unwrap().to_owned();
        assert!(link.contains("rel=\"next\"") && link.contains(pages), "{link}");
        assert_eq!(answer.json::<Vec<Value>>().await.unwrap().len(), length);
    }
    no_violations(&github);
}

#[tokio::test]
async fn contents_come_encoded_raw_as_directories_or_not_at_all() {
    let (github, number) = github().await;
    let text = "line\n".repeat(40);
    let files = [("chart/Chart.yaml", text.as_str()), ("chart/templates/web.yaml", "kind: Service\n")];
    let sha = github.push(REPOSITORY, number, &files).await.unwrap();
    let root = format!("{}/repos/acme/shop/contents", github.url());
    let get = |path: &str, accept: &'static str| {
        let url = format!("{root}/{path}");
        async move { plain().get(url).bearer_auth(GitHub::TOKEN).header("accept", accept).send().await.unwrap() }
    };
    let json = "application/vnd.github+json";
    let file: Value = get(&format!("chart/Chart.yaml?ref={sha}"), json).await.json().await.unwrap();
    let encoded = file["content"].as_str().unwrap();
    assert!(encoded.lines().all(|line| line.len() <= 60) && encoded.contains('\n'));
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.replace('\n', "")).unwrap();
    assert_eq!(decoded, text.as_bytes());

    let raw = get("chart/Chart.yaml?ref=cart", "application/vnd.github.raw+json").await;
    assert!(raw.headers()["content-type"].to_str().unwrap().starts_with("application/vnd.github.raw"));
    assert_eq!(raw.text().await.unwrap(), text);

    let listing: Vec<Value> = get(&format!("chart?ref=refs/pull/{number}/head"), json).await.json().await.unwrap();
    let listing: Vec<_> = listing.iter().map(|entry| (entry["type"].clone(), entry["path"].clone())).collect();
    let expected = [("file", "chart/Chart.yaml"), ("dir", "chart/templates")];
    assert_eq!(listing, expected.map(|(kind, path)| (kind.into(), path.into())));

    assert_eq!(get("chart/Chart.yaml", json).await.status(), 404, "the default branch does not have it");
    let unknown = get("README.md?ref=nowhere", json).await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.json::<Value>().await.unwrap()["message"], "No commit found for the ref nowhere");
    no_violations(&github);
}

#[tokio::test]
async fn a_fork_is_read_through_its_base_and_may_vanish() {
    let (github, _) = github().await;
    let new = NewPullRequest::new("From outside", "patch-1").file("web.yaml", "kind: Pod\n").from_fork("olga");
    let number = github.open_pull_request(REPOSITORY, new).await.unwrap();
    let octocrab = bot(&github);
    let pull = octocrab.pulls("acme", "shop").get(number).await.unwrap();
    let (head, base) = (pull.head.repo.unwrap(), pull.base.repo.unwrap());
    assert_ne!(head.id, base.id);
    assert_eq!((head.fork, pull.head.label.as_deref()), (Some(true), Some("olga:patch-1")));

    github.delete_fork(REPOSITORY, number).unwrap();
    let pull = octocrab.pulls("acme", "shop").get(number).await.unwrap();
    assert!(pull.head.repo.is_none());
    let listed = octocrab.pulls("acme", "shop").list().send().await.unwrap().items;
    assert!(listed.iter().any(|pull| pull.head.repo.is_none()));
    let repos = octocrab.repos("acme", "shop");
    let content = repos.get_content().path("web.yaml").r#ref(&pull.head.sha).send().await.unwrap();
    assert_eq!(content.items[0].decoded_content().as_deref(), Some("kind: Pod\n"));
    assert!(github.push(REPOSITORY, number, &[("a", "b")]).await.is_err());
    no_violations(&github);
}

#[tokio::test]
async fn a_renamed_repository_is_found_under_its_old_name() {
    let (github, number) = github().await;
    github.rename_repository(REPOSITORY, "store").await.unwrap();
    let octocrab = bot(&github);
    let old = octocrab.pulls("acme", "shop").get(number).await.unwrap();
    assert_eq!(old.base.repo.unwrap().full_name.as_deref(), Some("acme/store"));
    let first = github.requests().into_iter().find(|request| request.path.contains("shop")).unwrap();
    assert_eq!(first.status, 301);
    assert_eq!(octocrab.repos("ACME", "Store").get().await.unwrap().name, "store");
    no_violations(&github);
}

#[tokio::test]
async fn unchanged_lists_answer_304_and_cost_nothing() {
    let (github, number) = github().await;
    let url = format!("{}/repos/acme/shop/pulls?state=open&per_page=100", github.url());
    let ask = |etag: String| {
        let request = plain().get(&url).bearer_auth(GitHub::TOKEN).header("if-none-match", etag);
        async move { request.send().await.unwrap() }
    };
    let first = ask(String::new()).await;
    let header = |answer: &reqwest::Response, name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let (etag, left) = (header(&first, "etag"), header(&first, "x-ratelimit-remaining"));
    let second = ask(etag.clone()).await;
    assert_eq!((second.status().as_u16(), header(&second, "x-ratelimit-remaining")), (304, left));
    github.close(REPOSITORY, number).await.unwrap();
    let third = ask(etag).await;
    assert_eq!(third.status(), 200);
    assert_eq!(third.json::<Vec<Value>>().await.unwrap().len(), 0);
    no_violations(&github);
}

#[tokio::test]
async fn the_enterprise_prefix_is_kept_in_addresses() {
    let (github, number) = github().await;
    let base = format!("{}/api/v3", github.url());
    let octocrab = octocrab::Octocrab::builder().base_uri(base.as_str()).unwrap();
    let octocrab = octocrab.personal_token(GitHub::TOKEN.to_owned()).build().unwrap();
    for index in 0..31 {
        octocrab.issues("acme", "shop").create_comment(number, format!("{index}")).await.unwrap();
    }
    let first = octocrab.issues("acme", "shop").list_comments(number).send().await.unwrap();
    assert!(first.items[0].url.as_str().starts_with(&base));
    assert!(first.next.as_ref().unwrap().to_string().starts_with(&base));
    assert_eq!(octocrab.all_pages(first).await.unwrap().len(), 31);
    no_violations(&github);
}

#[tokio::test]
async fn credentials_and_roles_decide() {
    let (github, number) = github().await;
    assert_eq!(status(client(&github, "ghp_wrong").repos("acme", "shop").get().await), 401);
    let url = format!("{}/repos/acme/shop", github.url());
    let answer = plain().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let body: Value = answer.json().await.unwrap();
    assert_eq!((body["message"].as_str(), body["status"].as_str()), (Some("Requires authentication"), Some("401")));
    // GitHub takes both spellings.
    let token = plain().get(&url).header("authorization", format!("token {}", GitHub::TOKEN)).send().await.unwrap();
    assert_eq!(token.status(), 200);

    github.set_private(REPOSITORY, true).unwrap();
    github.set_role(REPOSITORY, GitHub::LOGIN, Role::None).unwrap();
    assert_eq!(status(bot(&github).pulls("acme", "shop").get(number).await), 404);
    github.set_role(REPOSITORY, GitHub::LOGIN, Role::Read).unwrap();
    let octocrab = bot(&github);
    let repos = octocrab.repos("acme", "shop");
    assert_eq!(status(repos.get_contributor_permission("acme").send().await), 403);
    let theirs = github.comment(REPOSITORY, number, "mia", "hello").await.unwrap();
    assert_eq!(status(octocrab.issues("acme", "shop").update_comment(theirs.into(), "mine").await), 403);
    no_violations(&github);
}

#[tokio::test]
async fn what_github_would_not_take_is_refused_and_recorded() {
    let (github, number) = github().await;
    let root = format!("{}/repos/acme/shop", github.url());
    let post = |path: String, body: &'static str| {
        let request = plain().post(format!("{root}/{path}")).bearer_auth(GitHub::TOKEN).body(body);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(post(format!("issues/{number}/comments"), r#"{"text": "misspelt"}"#).await, 500);
    assert_eq!(post(format!("issues/{number}/comments"), r#"{"body": 5}"#).await, 500);
    assert_eq!(post("deployments".to_owned(), r#"{"ref": "main", "required_context": []}"#).await, 500);
    let query = plain().get(format!("{root}/pulls?state=opened")).bearer_auth(GitHub::TOKEN).send().await.unwrap();
    assert_eq!(query.status(), 500);
    let violations = github.violations();
    assert_eq!(violations.len(), 4, "{violations:#?}");
    assert!(violations[0].contains("text") && violations[3].contains("state"), "{violations:#?}");
    assert_eq!(github.comments(REPOSITORY, number), []);

    // Well-formed and still refused: GitHub's own 422, no violation.
    assert_eq!(post(format!("issues/{number}/comments"), r#"{"body": " "}"#).await, 422);
    assert_eq!(post("deployments".to_owned(), r#"{"ref": "nowhere"}"#).await, 422);
    assert_eq!(github.violations().len(), 4);
}
