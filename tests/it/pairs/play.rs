//! Plays a row: its configuration, its recipe, and what happens to its pull request.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret, Service},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use xtask::{
    cluster::{ImageSpec, Registry, sample_image},
    github::{NewPullRequest, Role, webhook_examples},
    stand::{AppKeys, Settings},
    testing::{self, eventually},
};

use super::{
    recipe::{self, service},
    row::Row,
    settings::{LABEL, SECRET, configure},
    volumes::Volumes,
};
use crate::lifecycle::{
    self, commands,
    exposure::define_gateway_api,
    life::{self, Ground, IMAGE, Life, SOON, TO_GONE},
};

/// From an event to its end, which a round of attempts comes to within this time: where many rows are played at once on a
/// busy machine, a first attempt may end before its pods had their turn.
const TO_END: Duration = Duration::from_secs(600);
/// Runs as root, and of any commit.
const ROOT_IMAGE: &str = "registry.localhost/shop:root";

static GATEWAY_API: OnceCell<()> = OnceCell::const_new();

/// Plays the row of this name from its beginning to its end.
pub async fn play(name: &'static str) {
    let row = Row::of(name);
    let Some(ground) = life::node().await else { return };
    let mut settings = Settings::default();
    if row.has("postgresql") {
        settings.database = lifecycle::postgres_database().await;
        if settings.database.is_none() {
            testing::skip("there is no PostgreSQL for previewd's rows; cargo xtask test has one");
            return;
        }
    }
    if row.has("installed") {
        settings.app = Some(AppKeys {
            public: include_str!("../../../src/github/client/app-for-tests.pub.pem"),
            private: include_str!("../../../src/github/client/app-for-tests.pem"),
        });
    }
    let began = Instant::now();
    let mut play = Play::begin(ground, row, settings).await;
    match play.row.event() {
        "open" => drop(play.open().await),
        "push" => play.push_and_run().await,
        "broken" => play.break_and_mend(Broken::Recipe).await,
        "rollback" => play.break_and_mend(Broken::Root).await,
        "retry" => play.fail_and_retry().await,
        "reset" => play.reset().await,
        "sleep" => play.sleep_and_wake().await,
        "reopen" => play.close_and_reopen().await,
        "fork" => play.approve().await,
        "kill" => play.kill().await,
        other => panic!("nobody knows how to play {other}"),
    }
    let to_close = began.elapsed();
    play.close().await;
    println!("{name}: {} s, {} s of them until it is closed", began.elapsed().as_secs(), to_close.as_secs());
}

/// How a commit does not become a running application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// Its recipe is none.
    Recipe,
    /// It starts, and its image wants to be root.
    Root,
}

/// A row that is being played. Its pull request is the repository's first.
struct Play {
    row: Row,
    life: Life,
    /// Where commits' own images are.
    registry: Option<Registry>,
    /// The visits that the database counted.
    visits: Cell<Option<u64>>,
    ground: &'static Ground,
}

const NUMBER: u64 = 1;

fn text<'a>(found: &'a Value, key: &str) -> &'a str {
    found[key].as_str().unwrap_or_default()
}

fn new_commit() -> String {
    hex::encode(rand::random::<[u8; 20]>())
}

/// A reason is there, and its sentence.
fn assert_explained(found: &Value) {
    assert!(!text(found, "reason").is_empty() && !text(found, "message").is_empty(), "no reason: {found:#}");
}

impl Play {
    async fn begin(ground: &'static Ground, row: Row, settings: Settings) -> Self {
        let mut life = Life::prepare_with(ground, &row.repository(), settings).await;
        if row.has("gateway") {
            GATEWAY_API.get_or_init(|| define_gateway_api(&life.kube)).await;
        }
        let registry = match row.has("built") || row.has("unasked") {
            true => Some(ground.cluster.start_registry(true).await.unwrap()),
            false => None,
        };
        let helm = match row.has("chart") {
            true => Some(tokio::task::spawn_blocking(xtask::cluster::helm).await.unwrap().unwrap()),
            false => None,
        };
        let host = registry.as_ref().map(Registry::host);
        configure(&life.stand.config, &life.stand.url, &row, host, helm.as_deref());
        life.begin().await;
        life.stand.github.set_role(&life.repository, "ann", Role::Admin).unwrap();
        Self { row, life, registry, visits: Cell::new(None), ground }
    }

    /// The image as the recipe names it.
    fn image(&self, broken: Option<Broken>) -> String {
        match &self.registry {
            Some(registry) => format!("{}/shop:{{{{ sha }}}}", registry.host()),
            None if self.row.has("retry") => format!("registry.localhost/shop:{}", self.row.repository()),
            None if broken == Some(Broken::Root) => ROOT_IMAGE.to_owned(),
            None => IMAGE.to_owned(),
        }
    }

    /// What a build makes of a commit.
    fn built(&self, commit: &str, as_root: bool) -> ImageSpec {
        let mut image = sample_image(commit).unwrap();
        image.name = self.image(None).replace("{{ sha }}", commit);
        if as_root {
            image.user = "0".to_owned();
        }
        image
    }

    fn files(&self, broken: Option<Broken>) -> Vec<(String, String)> {
        match broken {
            Some(Broken::Recipe) => vec![(".preview.yaml".to_owned(), "version: [".to_owned())],
            // What is to be retried has first an image that wants to be root.
            broken => {
                let as_root = broken == Some(Broken::Root) || self.row.has("retry");
                recipe::files(&self.row, &self.image(broken), as_root)
            }
        }
    }

    /// Before the commit is known to previewd: the build of who is not asked is over by then.
    async fn build_before(&self, commit: &str, broken: Option<Broken>) {
        if let Some(registry) = self.registry.as_ref().filter(|_| self.row.has("unasked")) {
            registry.push(&self.built(commit, broken == Some(Broken::Root))).await.unwrap();
        }
    }

    /// After that: previewd waits for the build, and is told that it has ended.
    async fn build_after(&self, commit: &str, broken: Option<Broken>) {
        let Some(registry) = self.registry.as_ref().filter(|_| self.row.has("built")) else { return };
        let waits = |found: &Value| found["reason"] == "waiting_for_image" && found["commit"] == commit;
        assert_explained(&self.life.until(NUMBER, TO_END, waits).await);
        registry.push(&self.built(commit, broken == Some(Broken::Root))).await.unwrap();
        let mut payload = webhook_examples("workflow_run").into_iter().find(|it| it["action"] == "completed").unwrap();
        payload["repository"]["id"] = json!(self.life.repository_id);
        payload["repository"]["full_name"] = json!(self.life.repository);
        payload["workflow_run"]["event"] = json!("pull_request");
        let told = self.life.stand.github.delivery_of("workflow_run", &payload).unwrap();
        assert_eq!(self.life.stand.github.send(&told).await.unwrap().0, 200);
    }

    async fn open_at(&self, commit: &str) {
        let mut new = NewPullRequest::new("A change", "change").sha(commit);
        if !self.row.has("everything") {
            new = new.label(LABEL);
        }
        let github = &self.life.stand.github;
        if self.row.has("fork") {
            let files = self.files(None);
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            github.commit(&self.life.repository, "main", &files).await.unwrap();
            new = new.from_fork("eve").file("change.txt", "theirs");
        } else {
            for (path, text) in self.files(None) {
                new = new.file(&path, &text);
            }
        }
        assert_eq!(github.open_pull_request(&self.life.repository, new).await.unwrap(), NUMBER);
    }

    /// Opens the pull request, which then runs. Gives its environment, and the commit.
    async fn open(&self) -> (Value, String) {
        let commit = new_commit();
        self.build_before(&commit, None).await;
        self.open_at(&commit).await;
        self.build_after(&commit, None).await;
        (self.until_it_runs(&commit).await, commit)
    }

    /// Pushes a commit, whose image is built, too. Gives it.
    async fn push(&self, broken: Option<Broken>) -> String {
        let commit = new_commit();
        let mut files = self.files(broken);
        files.push(("change.txt".to_owned(), commit.clone()));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        self.build_before(&commit, broken).await;
        let github = &self.life.stand.github;
        github.push_as(&self.life.repository, NUMBER, &files, &commit).await.unwrap();
        if broken != Some(Broken::Recipe) {
            self.build_after(&commit, broken).await;
        }
        commit
    }

    /// Awaits that the commit is said to run, and looks whether it does, everywhere.
    async fn until_it_runs(&self, commit: &str) -> Value {
        let is_over = |found: &Value| {
            (found["status"] == "running" && found["commit"] == commit && found["reason"].is_null())
                || found["status"] == "failed"
        };
        let found = self.life.until(NUMBER, TO_END, is_over).await;
        assert_eq!(found["status"], "running", "{found:#}");
        self.assert_serves(&found, commit).await;
        self.until_told("is running", "success", commit).await;
        found
    }

    /// That the commit answers now, with what the database had before.
    async fn assert_serves(&self, environment: &Value, commit: &str) {
        let page = self.get(environment, "/").await;
        assert!(page.contains(commit), "this is not {commit}: {page}\n{environment:#}");
        if self.row.has("postgres") && (self.row.has("setup") || self.row.has("seed")) {
            let visits: u64 = self.get(environment, "/visits").await.trim().parse().unwrap();
            let expected = self.visits.get().map_or(u64::from(self.row.has("seed")), |visits| visits) + 1;
            assert_eq!(visits, expected, "rows are lost, or seeded twice");
            self.visits.set(Some(visits));
        }
    }

    /// What the environment's URL answers, or its Service where the URL is not for everybody.
    async fn get(&self, environment: &Value, path: &str) -> String {
        if self.row.has("public") && !self.row.has("gateway") {
            return self.life.get_path(environment, path).await;
        }
        let http = xtask::web::client().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        if self.row.has("login") {
            let host = text(environment, "url").trim_start_matches("http://").trim_end_matches('/');
            let html = "text/html,application/xhtml+xml";
            let asked = http.get(format!("{}{path}", self.life.stand.url)).header("host", host).header("accept", html);
            let answer = asked.send().await.unwrap();
            let to = answer.headers().get("location").map_or("", |to| to.to_str().unwrap());
            assert!(answer.status().is_redirection() && to.contains("/login"), "{} to {to:?}", answer.status());
        }
        let services: Api<Service> = Api::namespaced(self.life.kube.clone(), text(environment, "namespace"));
        let found = services.get(service(&self.row)).await.unwrap();
        let address = found.spec.unwrap().cluster_ip.unwrap();
        let answer = http.get(format!("http://{address}{path}")).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    /// Awaits that the pull request is told so, by the ways that the row has.
    async fn until_told(&self, sentence: &str, state: &str, commit: &str) {
        let github = &self.life.stand.github;
        if self.row.has("deployments") {
            // A recipe that is none does not say how it is told.
            let comments = self.life.comments(NUMBER);
            assert!(self.row.has("broken") || !comments.iter().any(|comment| comment.contains("is running")));
        } else {
            self.life.until_commented(NUMBER, sentence).await;
        }
        if !self.row.has("commented") {
            eventually(&format!("{commit} is {state} on GitHub"), SOON, async || {
                let deployments = github.deployments(&self.life.repository).into_iter();
                let last =
                    deployments.filter(|told| told.sha == commit).filter_map(|told| told.statuses.last().cloned());
                last.into_iter().any(|status| status.state == state).then_some(())
            })
            .await;
        }
    }

    async fn push_and_run(&self) {
        let (environment, _) = self.open().await;
        let volumes = Volumes::mark(&self.life, text(&environment, "namespace")).await;
        let commit = self.push(None).await;
        self.until_it_runs(&commit).await;
        volumes.assert_kept().await;
    }

    async fn break_and_mend(&self, broken: Broken) {
        let (environment, good) = self.open().await;
        let volumes = Volumes::mark(&self.life, text(&environment, "namespace")).await;
        let bad = self.push(Some(broken)).await;
        let is_back =
            |found: &Value| found["status"] == "failed" && found["commit"] == *bad && found["serving_commit"] == *good;
        let failed = self.life.until(NUMBER, TO_END, is_back).await;
        assert_explained(&failed);
        self.assert_serves(&failed, &good).await;
        self.until_told("still answers", "success", &good).await;
        volumes.assert_kept().await;
        let commit = self.push(None).await;
        self.until_it_runs(&commit).await;
        volumes.assert_kept().await;
    }

    /// The first commit fails of its image, which is then mended without a push.
    async fn fail_and_retry(&self) {
        let commit = new_commit();
        if !self.row.has("built") {
            self.ground.cluster.import_image(&self.built(&commit, true)).await.unwrap();
        }
        self.open_at(&commit).await;
        let failed = self.life.until(NUMBER, TO_END, |found| found["status"] == "failed").await;
        assert_explained(&failed);
        match self.registry.as_ref().filter(|_| self.row.has("built")) {
            Some(registry) => registry.push(&self.built(&commit, false)).await.unwrap(),
            None => self.ground.cluster.import_image(&self.built(&commit, false)).await.unwrap(),
        }
        self.life.call("retry_preview_deployment", NUMBER).await.done().unwrap();
        let has_begun = |found: &Value| found["status"] != "failed";
        self.life.until(NUMBER, TO_END, has_begun).await;
        self.until_it_runs(&commit).await;
    }

    async fn reset(&self) {
        let (environment, commit) = self.open().await;
        let volumes = Volumes::mark(&self.life, text(&environment, "namespace")).await;
        assert_eq!(commands::command(&self.life, NUMBER, "ann", "/preview reset").await, "+1");
        self.visits.set(None);
        let environment = self.until_it_runs(&commit).await;
        volumes.assert_new().await;
        let jobs = lifecycle::names::<Job>(&self.life, text(&environment, "namespace")).await;
        assert_eq!(jobs.contains(&"seed".to_owned()), self.row.has("seed"), "{jobs:?}");
    }

    async fn sleep_and_wake(&self) {
        let (environment, commit) = self.open().await;
        let namespace = text(&environment, "namespace");
        let volumes = Volumes::mark(&self.life, namespace).await;
        // Where it can be said that this minute is over; previewd's other database is waited for.
        if self.row.has("sqlite") {
            self.life.fall_asleep();
        }
        let asleep = |found: &Value| found["status"] == "running" && found["reason"] == "asleep";
        assert_explained(&self.life.until(NUMBER, TO_END, asleep).await);
        let pods: Api<Pod> = Api::namespaced(self.life.kube.clone(), namespace);
        eventually("it has no pods", SOON, async || {
            let left = pods.list(&ListParams::default()).await.unwrap().items;
            // Those of Jobs have ended.
            let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            (!left.iter().any(runs)).then_some(())
        })
        .await;
        self.life.call("retry_preview_deployment", NUMBER).await.done().unwrap();
        self.until_it_runs(&commit).await;
        volumes.assert_kept().await;
    }

    async fn close_and_reopen(&self) {
        let (_, commit) = self.open().await;
        self.close_it().await;
        self.visits.set(None);
        self.life.stand.github.reopen(&self.life.repository, NUMBER).await.unwrap();
        self.until_it_runs(&commit).await;
    }

    /// A stranger's commit, which somebody approves.
    async fn approve(&self) {
        let commit = new_commit();
        self.build_before(&commit, None).await;
        self.open_at(&commit).await;
        let waiting = self.life.until(NUMBER, TO_END, |found| found["reason"] == "awaiting_approval").await;
        assert_explained(&waiting);
        assert!(self.life.namespaces().await.is_empty(), "nothing of it is there");
        let approve = format!("/preview approve {}", &commit[..12]);
        assert_eq!(commands::command(&self.life, NUMBER, "ann", &approve).await, "+1");
        self.build_after(&commit, None).await;
        let environment = self.until_it_runs(&commit).await;
        let secrets: Api<Secret> = Api::namespaced(self.life.kube.clone(), text(&environment, "namespace"));
        let given = secrets.list(&ListParams::default()).await.unwrap();
        let names: Vec<String> = given.items.iter().map(ResourceExt::name_any).collect();
        assert!(!names.contains(&"preview-secrets".to_owned()), "a stranger's commit gets nothing: {names:?}");
        let holds = |secret: &Secret| {
            let values = secret.data.iter().flat_map(|data| data.values());
            values.into_iter().any(|value| value.0 == SECRET.1.as_bytes())
        };
        assert!(!given.items.iter().any(holds));
    }

    /// previewd is killed in the middle of a deployment.
    async fn kill(&mut self) {
        let (environment, _) = self.open().await;
        let volumes = Volumes::mark(&self.life, text(&environment, "namespace")).await;
        let commit = self.push(None).await;
        let is_begun = |found: &Value| found["commit"] == *commit && found["status"] != "pending";
        self.life.until(NUMBER, TO_END, is_begun).await;
        self.life.stand.server.as_mut().unwrap().kill().await.unwrap();
        self.life.begin().await;
        self.until_it_runs(&commit).await;
        volumes.assert_kept().await;
    }

    /// Closes the pull request, and awaits that nothing is left.
    async fn close_it(&self) {
        let commit = self.life.head(NUMBER);
        self.life.stand.github.close(&self.life.repository, NUMBER).await.unwrap();
        self.life.until(NUMBER, TO_GONE, |found| found["status"] == "deleted").await;
        assert!(self.life.namespaces().await.is_empty(), "nothing is left");
        self.until_told("was removed", "inactive", &commit).await;
    }

    async fn close(self) {
        self.close_it().await;
        self.life.finish().await;
    }
}
