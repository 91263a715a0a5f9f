use std::time::Instant;

use futures::future::join_all;
use secrecy::SecretString;
use xtask::github::{AppOptions, Fault, GitHub as Loopback, NewPullRequest, Operation, Options};

use super::*;
use crate::{
    environment::PullRequestState,
    github::{AppSettings, GitHubSettings},
};

/// Made for these tests; no App on GitHub has it.
const APP_KEY: &str = include_str!("app-for-tests.pem");
const APP_PUBLIC_KEY: &str = include_str!("app-for-tests.pub.pem");
const APP: u64 = 7;

const SHOP: &str = "acme/shop";
const MARKER: &str = "<!-- previewd:0f3c:42 -->";

/// A loopback GitHub with one pull request in `acme/shop`, and a client for it.
struct Scene {
    loopback: Loopback,
    github: GitHub,
    access: RepositoryAccess,
    number: i64,
}

fn settings(loopback: &Loopback) -> GitHubSettings {
    GitHubSettings { api_url: format!("{}/api/v3", loopback.url()).parse().unwrap(), ..GitHubSettings::default() }
}

fn token(loopback: &Loopback, token: &str) -> GitHub {
    GitHub::new(&GitHubSettings { token: Some(SecretString::from(token)), ..settings(loopback) }).unwrap()
}

fn app(loopback: &Loopback) -> GitHub {
    let app = AppSettings { id: APP, private_key: Some(SecretString::from(APP_KEY)), private_key_path: None };
    GitHub::new(&GitHubSettings { app: Some(app), ..settings(loopback) }).unwrap()
}

impl Scene {
    async fn new(options: Options, client: impl Fn(&Loopback) -> GitHub) -> Self {
        let loopback = Loopback::start(options).await.unwrap();
        loopback.create_repository("acme", "shop").unwrap();
        let new = NewPullRequest::new("Add a cart", "cart").file(".preview.yaml", "version: 1\n");
        let number = loopback.open_pull_request(SHOP, new).await.unwrap();
        let installation = loopback.repository(SHOP).unwrap().installation;
        Self {
            github: client(&loopback),
            access: RepositoryAccess {
                name: SHOP.parse().unwrap(),
                app_installation_id: installation.map(|id| id.try_into().unwrap()),
            },
            number: number.try_into().unwrap(),
            loopback,
        }
    }

    async fn with_token() -> Self {
        Self::new(Options::default(), |loopback| token(loopback, Loopback::TOKEN)).await
    }

    async fn with_app() -> Self {
        let app_options = AppOptions::new(APP, "previewd", APP_PUBLIC_KEY);
        Self::new(Options { app: Some(app_options), ..Options::default() }, app).await
    }

    async fn facts(&self) -> PullRequestFacts {
        self.github.pull_request(&self.access, self.number).await.unwrap()
    }

    async fn file(&self, path: &str) -> Result<RepositoryFile, GitHubError> {
        let head = self.loopback.pull_request(SHOP, self.number.try_into().unwrap()).unwrap().head.sha;
        self.github.file(&self.access, path, GitRef::Commit(&head.parse().unwrap())).await
    }

    async fn find(&self) -> Option<i64> {
        for page in 1.. {
            let (found, more) = self.github.find_comments(&self.access, self.number, MARKER, page).await.unwrap();
            let found = found.first().copied();
            if found.is_some() || !more {
                return found;
            }
        }
        None
    }

    async fn create(&self, text: &str) -> Result<i64, GitHubError> {
        self.github.create_comment(&self.access, self.number, &format!("{MARKER}\n{text}")).await
    }

    async fn update(&self, id: i64, text: &str) -> Result<(), GitHubError> {
        self.github.update_comment(&self.access, id, &format!("{MARKER}\n{text}")).await
    }

    fn comments(&self) -> Vec<xtask::github::Comment> {
        self.loopback.comments(SHOP, self.number.try_into().unwrap())
    }

    fn requests_of(&self, operation: Operation) -> usize {
        self.loopback.requests().iter().filter(|request| request.operation == Some(operation)).count()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Whether its webhooks have GitHub's shape is the loopback's own affair.
            let violations = self.loopback.violations();
            let ours: Vec<_> = violations.iter().filter(|violation| !violation.starts_with("webhook ")).collect();
            assert!(ours.is_empty(), "{ours:?}");
        }
    }
}

#[tokio::test]
async fn a_pull_request_as_github_has_it() {
    let scene = Scene::with_token().await;
    let loopback = &scene.loopback;
    let number = scene.number.try_into().unwrap();
    let facts = scene.facts().await;
    let known = loopback.pull_request(SHOP, number).unwrap();
    assert_eq!(facts.repository.name.as_str(), SHOP);
    assert_eq!(facts.repository.app_installation_id, None);
    assert_eq!(facts.repository.default_branch, "main");
    assert_eq!(u64::try_from(facts.repository.github_id).unwrap(), loopback.repository(SHOP).unwrap().id);
    assert_eq!(u64::try_from(facts.github_id).unwrap(), known.id);
    assert_eq!((facts.number, facts.title.as_str()), (scene.number, "Add a cart"));
    assert_eq!((facts.head_sha.as_str(), facts.head_ref.as_str()), (known.head.sha.as_str(), "cart"));
    assert_eq!((facts.base_ref.as_str(), facts.from_fork, facts.draft), ("main", false, false));
    assert_eq!(facts.state, PullRequestState::Open);
    assert_eq!(facts.github_updated_at, known.updated_at * 1000);

    loopback.label(SHOP, number, "preview").await.unwrap();
    loopback.convert_to_draft(SHOP, number).await.unwrap();
    let facts = scene.facts().await;
    assert_eq!((facts.labels, facts.draft), (vec!["preview".to_owned()], true));
    loopback.close(SHOP, number).await.unwrap();
    assert_eq!(scene.facts().await.state, PullRequestState::Closed);
    loopback.reopen(SHOP, number).await.unwrap();
    loopback.ready_for_review(SHOP, number).await.unwrap();
    loopback.merge(SHOP, number).await.unwrap();
    assert_eq!(scene.facts().await.state, PullRequestState::Merged);

    let fork = NewPullRequest::new("From outside", "outside").from_fork("stranger").file("a", "b");
    let fork = loopback.open_pull_request(SHOP, fork).await.unwrap();
    let from_fork =
        async || scene.github.pull_request(&scene.access, fork.try_into().unwrap()).await.unwrap().from_fork;
    assert!(from_fork().await);
    loopback.delete_fork(SHOP, fork).unwrap();
    assert!(from_fork().await, "its repository is gone");
    let missing = scene.github.pull_request(&scene.access, 999).await.unwrap_err();
    assert_eq!(missing, GitHubError::NotFound { tried: "reading acme/shop#999".to_owned() });
}

#[tokio::test]
async fn files_at_a_commit() {
    let scene = Scene::with_token().await;
    let number = scene.number.try_into().unwrap();
    let longest = "#".repeat(RECIPE_LIMIT);
    let too_long = "é".repeat(RECIPE_LIMIT / 2 + 1);
    let files = [("longest.yaml", longest.as_str()), ("too-long.yaml", &too_long), ("a b/ü?.yaml", "here")];
    scene.loopback.push(SHOP, number, &files).await.unwrap();
    let bytes = [("bytes.yaml".to_owned(), Some(vec![0xc3, 0x28]))].into();
    scene.loopback.push_changes(SHOP, number, &bytes, None).await.unwrap();

    for (path, expected) in [
        (".preview.yaml", RepositoryFile::Text("version: 1\n".to_owned())),
        ("a b/ü?.yaml", RepositoryFile::Text("here".to_owned())),
        ("longest.yaml", RepositoryFile::Text(longest.clone())),
        ("too-long.yaml", RepositoryFile::TooLong),
        ("bytes.yaml", RepositoryFile::NotText),
        ("missing.yaml", RepositoryFile::Missing),
    ] {
        assert_eq!(scene.file(path).await.unwrap(), expected, "{path}");
    }

    // A 404 proves nothing about a file of a repository that cannot be seen.
    let head = scene.facts().await.head_sha;
    scene.loopback.delete_repository(SHOP).unwrap();
    let gone = scene.github.file(&scene.access, ".preview.yaml", GitRef::Commit(&head)).await;
    assert!(matches!(gone, Err(GitHubError::NotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn our_comment_is_found_among_hundreds() {
    let scene = Scene::with_token().await;
    let number = scene.number.try_into().unwrap();
    assert_eq!(scene.find().await, None);
    for index in 0..230 {
        scene.loopback.comment(SHOP, number, "somebody", &format!("comment {index}")).await.unwrap();
    }
    // The marker alone makes a comment nobody's of ours, and so does the author alone.
    scene.loopback.comment(SHOP, number, "somebody", &format!("{MARKER}\nme too")).await.unwrap();
    scene.loopback.comment(SHOP, number, Loopback::LOGIN, &format!("> {MARKER}\n\nquoted")).await.unwrap();
    assert_eq!(scene.find().await, None);

    let first = scene.create("first").await.unwrap();
    let second = scene.create("second").await.unwrap();
    assert!(first < second);
    scene.loopback.clear_requests();
    assert_eq!(scene.find().await, Some(first), "the oldest of several");
    assert_eq!(scene.requests_of(Operation::ListComments), 3);
    assert_eq!(scene.requests_of(Operation::GetUser), 0, "who we are is known");

    scene.update(first, "edited").await.unwrap();
    let edited = scene.comments().into_iter().find(|comment| i64::try_from(comment.id) == Ok(first)).unwrap();
    assert_eq!(edited.body, format!("{MARKER}\nedited"));

    scene.loopback.delete_comment(SHOP, first.try_into().unwrap()).await.unwrap();
    let gone = scene.update(first, "again").await.unwrap_err();
    assert_eq!(gone, GitHubError::NotFound { tried: format!("updating comment {first} of acme/shop") });
    assert_eq!(scene.find().await, Some(second));
}

#[tokio::test]
async fn an_app_asks_for_one_token_and_for_another_when_it_ends() {
    let scene = Scene::with_app().await;
    let all = join_all((0..20).map(|_| scene.facts())).await;
    assert_eq!(all[0].repository.app_installation_id, scene.access.app_installation_id);
    assert_eq!(scene.requests_of(Operation::CreateInstallationToken), 1);

    scene.loopback.revoke_installation_tokens();
    scene.facts().await;
    assert_eq!(scene.requests_of(Operation::CreateInstallationToken), 2);

    let comment = scene.create("first").await.unwrap();
    assert_eq!(scene.comments()[0].author, "previewd[bot]");
    assert_eq!(scene.find().await, Some(comment));
    scene.update(comment, "edited").await.unwrap();
    assert_eq!(scene.file(".preview.yaml").await.unwrap(), RepositoryFile::Text("version: 1\n".to_owned()));
    scene.github.ready().await.unwrap();
}

#[tokio::test]
async fn an_app_finds_its_installation_by_the_repositorys_name() {
    let mut scene = Scene::with_app().await;
    let installation = scene.access.app_installation_id.take();
    assert_eq!(scene.github.installation_of(&scene.access.name).await.unwrap(), installation);
    assert_eq!(scene.facts().await.repository.app_installation_id, installation);

    let elsewhere = "acme/none".parse().unwrap();
    assert_eq!(scene.github.installation_of(&elsewhere).await.unwrap(), None);
    let with_token = Scene::with_token().await;
    assert_eq!(with_token.github.installation_of(&with_token.access.name).await.unwrap(), None);
}

#[tokio::test]
async fn an_installation_that_is_suspended_or_gone() {
    let scene = Scene::with_app().await;
    scene.loopback.suspend("acme").await.unwrap();
    let suspended = scene.github.pull_request(&scene.access, scene.number).await;
    assert!(matches!(suspended, Err(GitHubError::Forbidden { .. })), "{suspended:?}");
    scene.loopback.unsuspend("acme").await.unwrap();
    scene.facts().await;
    scene.loopback.set_private(SHOP, true).unwrap();
    scene.loopback.uninstall("acme").await.unwrap();
    let gone = app(&scene.loopback).pull_request(&scene.access, scene.number).await;
    assert!(matches!(gone, Err(GitHubError::NotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_renamed_repository_answers_to_its_old_name() {
    for scene in [Scene::with_token().await, Scene::with_app().await] {
        let comment = scene.create("first").await.unwrap();
        scene.loopback.rename_repository(SHOP, "store").await.unwrap();
        assert_eq!(scene.facts().await.repository.name.as_str(), "acme/store");
        assert_eq!(scene.find().await, Some(comment));
        scene.update(comment, "edited").await.unwrap();
        let second = scene.create("second").await.unwrap();
        let comments = scene.loopback.comments("acme/store", scene.number.try_into().unwrap());
        let bodies: Vec<_> = comments.iter().map(|comment| comment.body.lines().last().unwrap()).collect();
        assert_eq!(bodies, ["edited", "second"]);
        assert!(second > comment);
    }
}

#[tokio::test]
async fn what_goes_wrong_is_sorted_and_sent_once() {
    let scene = Scene::with_token().await;
    let tried = || format!("commenting on {SHOP}#{}", scene.number);
    let seconds = Duration::from_secs;
    let limited = |retry_after| GitHubError::RateLimited { tried: tried(), retry_after: seconds(retry_after) };
    let away = |how: &str| GitHubError::Away { tried: tried(), how: how.to_owned() };
    for (fault, expected) in [
        (Fault::BadGateway, away("status 502")),
        (Fault::ServerError, away("status 500")),
        (Fault::NotJson, away("the answer is not GitHub's JSON")),
        (Fault::SecondaryLimit { retry_after: seconds(30) }, limited(30)),
        (Fault::Locked, GitHubError::Forbidden { tried: tried() }),
        (Fault::Forbidden, GitHubError::Forbidden { tried: tried() }),
        (Fault::BadCredentials, GitHubError::Unauthorized { tried: tried() }),
        (Fault::NotFound, GitHubError::NotFound { tried: tried() }),
    ] {
        scene.loopback.clear_requests();
        scene.loopback.fault_times(Operation::CreateComment, fault.clone(), 1);
        let error = scene.create("text").await.unwrap_err();
        assert_eq!(error, expected, "{fault:?}");
        assert!(!error.to_string().contains(Loopback::TOKEN));
        assert_eq!(scene.requests_of(Operation::CreateComment), 1, "{fault:?}");
    }
    scene.loopback.fault_times(Operation::CreateComment, Fault::Reset, 1);
    let reset = scene.create("text").await.unwrap_err();
    assert!(matches!(&reset, GitHubError::Away { .. }), "{reset}");
    scene.loopback.fault_times(Operation::CreateComment, Fault::PrimaryLimit { reset_in: seconds(90) }, 1);
    let used_up = scene.create("text").await.unwrap_err();
    assert!(
        matches!(&used_up, GitHubError::RateLimited { retry_after, .. } if (89..=91).contains(&retry_after.as_secs())),
        "{used_up}"
    );
    assert!(scene.comments().is_empty());
}

#[tokio::test]
async fn a_comment_whose_answer_was_lost_is_found() {
    let scene = Scene::with_token().await;
    for fault in [Fault::CommitThenBadGateway, Fault::CommitThenReset] {
        scene.loopback.fault_times(Operation::CreateComment, fault, 1);
        let lost = scene.create("text").await.unwrap_err();
        assert!(matches!(lost, GitHubError::Away { .. }), "{lost}");
        let found = scene.find().await.expect("the comment");
        assert_eq!(scene.comments().len(), 1);
        scene.loopback.delete_comment(SHOP, found.try_into().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_github_that_says_nothing_is_away_in_time() {
    let scene = Scene::with_token().await;
    scene.loopback.fault(Operation::GetPullRequest, Fault::Slow(Duration::from_secs(120)));
    let started = Instant::now();
    let error = scene.github.pull_request(&scene.access, scene.number).await.unwrap_err();
    assert!(matches!(error, GitHubError::Away { .. }), "{error}");
    assert!(started.elapsed() < crate::github::CALL_TIMEOUT + Duration::from_secs(5));
}

#[tokio::test]
async fn readiness_is_asked_for_once_a_minute() {
    for scene in [Scene::with_token().await, Scene::with_app().await] {
        join_all((0..10).map(|_| scene.github.ready())).await.into_iter().for_each(|ready| ready.unwrap());
        assert_eq!(scene.requests_of(Operation::GetUser) + scene.requests_of(Operation::GetApp), 1);
        // The yes is believed for a while.
        scene.loopback.go_away().await;
        scene.github.ready().await.unwrap();
    }
}

#[tokio::test]
async fn not_ready_says_why() {
    let scene = Scene::with_token().await;
    let wrong = token(&scene.loopback, "ghp_canary").ready().await.unwrap_err();
    assert_eq!(wrong, GitHubError::Unauthorized { tried: "asking who previewd is".to_owned() });
    assert!(wrong.to_string().contains("github.token") && !wrong.to_string().contains("canary"));

    scene.loopback.go_away().await;
    let away = scene.github.ready().await.unwrap_err();
    assert!(matches!(&away, GitHubError::Away { how, .. } if how.contains("refused")), "{away}");
    // The no is believed for a moment too, and forgotten after it.
    scene.loopback.come_back().await;
    assert_eq!(scene.github.ready().await, Err(away));
}

/// The settings are checked, and nothing is sent: there is nobody at the address.
#[tokio::test]
async fn a_client_needs_no_network_to_begin() {
    let settings = GitHubSettings {
        api_url: "http://127.0.0.1:1".parse().unwrap(),
        token: Some(SecretString::from("t")),
        ..GitHubSettings::default()
    };
    GitHub::new(&settings).unwrap();
    assert_eq!(GitHub::new(&GitHubSettings::default()).err().map(|error| error.key), Some("github"));
}

#[tokio::test]
async fn open_pull_requests_are_listed_whole_and_told_apart_by_their_tag() {
    for scene in [Scene::with_token().await, Scene::with_app().await] {
        let list = async |etag: Option<&str>| scene.github.open_pull_requests(&scene.access, etag).await.unwrap();
        let Listing::Listed { pull_requests, etag } = list(None).await else { panic!("nothing is known yet") };
        assert_eq!(pull_requests, [scene.facts().await]);
        let etag = etag.expect("a tag");
        assert_eq!(list(Some(&etag)).await, Listing::Unchanged);
        scene.loopback.edit_title(SHOP, 1, "Another title").await.unwrap();
        assert!(matches!(list(Some(&etag)).await, Listing::Listed { .. }));

        for number in 0..PER_PAGE {
            let new = NewPullRequest::new("One of many", &format!("branch-{number}"));
            scene.loopback.open_pull_request(SHOP, new).await.unwrap();
        }
        let Listing::Listed { pull_requests, etag } = list(None).await else { panic!("it has changed") };
        assert_eq!((pull_requests.len(), etag), (PER_PAGE + 1, None), "one page's tag says nothing of the others");
    }
}

#[tokio::test]
async fn an_app_has_lost_deliveries_sent_again() {
    let scene = Scene::with_app().await;
    // Nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.loopback.set_webhook(&format!("http://{nowhere}/webhooks/github"), &["secret"]);
    scene.loopback.edit_title(SHOP, 1, "Another title").await.unwrap();
    let failed = scene.github.failed_deliveries().await.unwrap();
    let [delivery] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(delivery.event, "pull_request");
    let repository_id = i64::try_from(scene.loopback.repository(SHOP).unwrap().id).unwrap();
    let last = scene.github.last_delivery_to(repository_id).await.unwrap().expect("a delivery");
    assert!(!last.arrived);
    assert_eq!(scene.github.last_delivery_to(repository_id + 1).await.unwrap(), None);

    scene.github.redeliver(delivery.id).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while scene.loopback.attempts().len() < 2 {
        assert!(Instant::now() < deadline, "it is sent again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let attempts = scene.loopback.attempts();
    assert_eq!(attempts[0].delivery.guid, attempts[1].delivery.guid);
    let with_token = Scene::with_token().await;
    assert_eq!(with_token.github.failed_deliveries().await.unwrap(), [], "a token sees none");
}

#[tokio::test]
async fn roles_changed_files_and_deployments() {
    let scene = Scene::with_app().await;
    scene.loopback.set_role(SHOP, "ann", xtask::github::Role::Maintain).unwrap();
    let role = async |login: &str| scene.github.role_of(&scene.access, login).await.unwrap();
    assert_eq!((role("ann").await.as_str(), role("acme").await.as_str()), ("maintain", "admin"));
    assert!(!["maintain", "admin", "write"].contains(&role("nobody-at-all").await.as_str()));

    let changes = async |wanted: &str| {
        scene.github.changes_file(&scene.access, scene.number, |path| path == wanted, 1).await.unwrap()
    };
    assert_eq!(changes(".preview.yaml").await, Page { found: Some(()), more: false });
    assert_eq!(changes("src/main.rs").await, Page { found: None, more: false });

    let head = scene.facts().await.head_sha;
    let preview = "pr-1".parse().unwrap();
    let find = async || scene.github.find_deployment(&scene.access, &head, &preview).await.unwrap();
    assert_eq!(find().await, None);
    let create = async |place, preview: &str| {
        scene.github.create_deployment(&scene.access, place, &preview.parse().unwrap()).await.unwrap()
    };
    // Two pull requests of one branch have the same head.
    create(GitRef::Commit(&head), "pr-2").await;
    assert_eq!(find().await, None);
    let (made, of) = create(GitRef::Branch(&scene.facts().await.head_ref), "pr-1").await;
    assert_eq!((find().await, of.as_str()), (Some(made), head.as_str()));
    let long = "x".repeat(200);
    let state = GitHubState::Success;
    let url = Some("https://pr-1.preview.example.com");
    let log_url = Some("https://previewd.example.com/environments/1");
    scene.github.set_deployment_state(&scene.access, made, state, url, log_url, &long).await.unwrap();
    let told = scene.loopback.deployments(SHOP).pop().expect("the newest");
    let shown = &told.statuses[0];
    assert_eq!((shown.state.as_str(), Some(shown.log_url.as_str())), ("success", log_url));
    assert_eq!(told.environment, "preview");
    assert_eq!(scene.loopback.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_app_lists_the_repositories_that_it_was_given() {
    let scene = Scene::with_app().await;
    for number in 0..PER_PAGE {
        scene.loopback.create_repository("acme", &format!("more-{number:03}")).unwrap();
    }
    scene.loopback.create_repository("globex", "site").unwrap();
    let installations = scene.github.installations().await.unwrap();
    let mut found = Vec::new();
    for id in &installations {
        for page in 1.. {
            let (repositories, more) = scene.github.repositories_of(*id, page).await.unwrap();
            found.extend(repositories);
            if !more {
                break;
            }
        }
    }
    assert_eq!((installations.len(), found.len()), (2, PER_PAGE + 2));
    let site = found.iter().find(|facts| facts.name.as_str() == "globex/site").unwrap();
    assert_eq!(site.app_installation_id, Some(installations[1]));
    scene.loopback.suspend("acme").await.unwrap();
    assert_eq!(scene.github.installations().await.unwrap(), installations[1..]);
    let with_token = Scene::with_token().await;
    assert!(with_token.github.installations().await.unwrap().is_empty(), "a token is no App");
}

#[test]
fn the_newest_run_of_each_workflow_says_how_it_ended() {
    let run = |id: i64, workflow: i64, status: &str, conclusion: Option<&str>| {
        let (event, conclusion) = ("pull_request".to_owned(), conclusion.map(str::to_owned));
        Run { id, workflow_id: workflow, event, status: Some(status.to_owned()), conclusion }
    };
    let ended = |id, workflow, conclusion| run(id, workflow, "completed", Some(conclusion));
    let going = |id, workflow| run(id, workflow, "in_progress", None);
    let pushed = Run { event: "push".to_owned(), ..ended(2, 1, "success") };
    for (runs, expected) in [
        (vec![], Workflows::None),
        (vec![going(1, 1)], Workflows::UnderWay),
        (vec![ended(2, 2, "failure"), going(1, 1)], Workflows::UnderWay),
        (vec![ended(1, 1, "success"), ended(2, 2, "skipped")], Workflows::Over),
        (vec![run(1, 1, "waiting", None)], Workflows::Over),
        (vec![ended(1, 1, "failure")], Workflows::Failed),
        (vec![ended(1, 1, "timed_out")], Workflows::Failed),
        (vec![ended(1, 1, "startup_failure")], Workflows::Failed),
        // What did nothing says nothing.
        (vec![ended(1, 1, "cancelled")], Workflows::Over),
        (vec![ended(1, 1, "cancelled"), ended(2, 2, "failure")], Workflows::Failed),
        (vec![ended(1, 1, "skipped"), ended(2, 2, "neutral"), ended(3, 3, "failure")], Workflows::Failed),
        (vec![ended(2, 2, "success"), ended(1, 1, "failure")], Workflows::SomeFailed),
        (vec![ended(2, 2, "failure"), ended(1, 1, "failure")], Workflows::Failed),
        // Started anew, in whichever order they are listed.
        (vec![ended(2, 1, "success"), ended(1, 1, "cancelled")], Workflows::Over),
        (vec![ended(1, 1, "success"), ended(2, 1, "failure")], Workflows::Failed),
        (vec![ended(1, 1, "failure"), ended(2, 1, "cancelled")], Workflows::Over),
        // What a push starts does not take the place of what the pull request does.
        (vec![pushed, ended(1, 1, "failure")], Workflows::SomeFailed),
    ] {
        assert_eq!(workflows_of(&runs), expected, "{runs:?}");
    }
}

#[tokio::test]
async fn workflows_of_a_commit_as_github_has_them() {
    let scene = Scene::with_token().await;
    let head = scene.facts().await.head_sha;
    let now = async || scene.github.workflows(&scene.access, &head).await.unwrap();
    assert_eq!(now().await, Workflows::None);
    scene.loopback.set_workflow(SHOP, head.as_str(), "in_progress").unwrap();
    assert_eq!(now().await, Workflows::UnderWay);
    scene.loopback.set_workflow(SHOP, head.as_str(), "completed").unwrap();
    assert_eq!(now().await, Workflows::Over);
    scene.loopback.end_workflow(SHOP, head.as_str(), "failure").unwrap();
    assert_eq!(now().await, Workflows::Failed);
}
