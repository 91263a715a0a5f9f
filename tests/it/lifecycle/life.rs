//! What each test of the lifecycle stands on: a cluster that they share, and a GitHub and a previewd of its own.

use std::{
    cell::RefCell,
    fmt::Debug,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};

use diesel::{Connection, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::Namespace,
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    serde::{Serialize, de::DeserializeOwned},
};
use kube::{
    Api, Client, Resource,
    api::{ListParams, PostParams},
};
use previewd::{
    environment::{INSTALLATION_LABEL, OWN_COMMENTS},
    store::{EnvironmentFilter, Overview, Store},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::OnceCell};
use xtask::{
    agent::{Agent, Answer},
    cluster::{LocalCluster, api_proxy::ApiProxy, ingress::IngressProxy},
    github::{NewPullRequest, PullState},
    stand::{self, AppKeys, Settings, Stand},
    testing::{self, eventually},
};

/// T086: from the webhook to a running application.
pub const TO_RUNNING: Duration = Duration::from_secs(600);
/// T086: from the webhook to nothing left.
pub const TO_GONE: Duration = Duration::from_secs(300);
/// For what needs no container: a pass or two, on a machine with much else to do.
pub const SOON: Duration = Duration::from_secs(60);

/// The sample application at any commit, which the node has.
pub const IMAGE: &str = testing::SHARED_IMAGE;

/// A cluster that every test uses at the same time. It ends with the run; with this process where that is all of it.
pub struct Ground {
    pub cluster: LocalCluster,
    /// Where there is a node: what serves its Ingresses, and the domain under which it does.
    ingress: Option<(IngressProxy, String)>,
}

/// A test's runtime ends with the test, and the cluster's tasks with their runtime.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
static NODE: OnceCell<Ground> = OnceCell::const_new();
static API: OnceCell<Ground> = OnceCell::const_new();

/// The cluster that runs pods. None, and the calling test is skipped, where there can be none.
pub async fn node() -> Option<&'static Ground> {
    if !testing::has_cluster(true) {
        return None;
    }
    Some(NODE.get_or_init(|| async { RUNTIME.spawn(Ground::start(true)).await.unwrap() }).await)
}

/// The cluster whose pods stay pending: everything but the application itself is as real.
pub async fn api_only() -> Option<&'static Ground> {
    if !testing::has_cluster(false) {
        return None;
    }
    Some(API.get_or_init(|| async { RUNTIME.spawn(Ground::start(false)).await.unwrap() }).await)
}

impl Ground {
    /// A cluster that is not shared.
    pub async fn of(cluster: LocalCluster) -> Self {
        allow_previewd(&cluster).await;
        Self { cluster, ingress: None }
    }

    async fn start(has_node: bool) -> Self {
        let cluster = testing::shared_cluster(has_node).await.unwrap();
        let ingress =
            if has_node { Some(stand::serve_ingresses(cluster.kubeconfig(), 0).await.unwrap()) } else { None };
        Self { ingress, ..Self::of(cluster).await }
    }
}

/// The user of the cluster that previewd is in these tests, with the role that it says it needs and no other.
pub const ACCOUNT: &str = "previewd";

async fn allow_previewd(cluster: &LocalCluster) {
    let role = serde_json::from_value(previewd::cluster::cluster_role()).unwrap();
    allow(&cluster.client().await.unwrap(), &role, ACCOUNT).await;
}

/// Makes a role, and gives it to a user. Another process may have done so before.
pub async fn allow(kube: &Client, role: &ClusterRole, user: &str) {
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": { "name": role.metadata.name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role.metadata.name },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))
    .unwrap();
    make(kube, role).await;
    make(kube, &binding).await;
}

async fn make<K>(kube: &Client, object: &K)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    match Api::<K>::all(kube.clone()).create(&PostParams::default(), object).await {
        Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => {}
        made => drop(made.unwrap()),
    }
}

/// The recipe of the sample application in a mode, or with another image.
pub fn recipe(mode: &str) -> String {
    recipe_of(IMAGE, mode)
}

pub fn recipe_of(image: &str, mode: &str) -> String {
    format!(
        "version: 1\napp:\n  image: {image}\n  port: 8080\n  health: /healthz\n  resources: {{ cpu: 100m, memory: 64Mi }}\n  \
         env:\n    COMMIT: '{{{{ sha }}}}'\n    MODE: {mode}\n"
    )
}

/// A repository, and a previewd that cares for it.
pub struct Life {
    /// First, because the log goes with the stand.
    _log: ShownOnFailure,
    pub stand: Stand,
    pub proxy: ApiProxy,
    pub kube: Client,
    /// `acme/…`, the test's own: every GitHub counts its ids from the same number.
    pub repository: String,
    pub repository_id: u64,
    pub database: String,
    agent: Option<Agent>,
    token: Option<String>,
}

/// Prints the end of previewd's log where the test fails.
struct ShownOnFailure(PathBuf);

impl Drop for ShownOnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the end of {}:\n{}", self.0.display(), end_of(&self.0));
        }
    }
}

impl Life {
    /// With a database of SQLite.
    pub async fn start(ground: &Ground, name: &str) -> Self {
        let mut life = Self::prepare(ground, name, None).await;
        life.begin().await;
        life
    }

    /// Everything but previewd itself, which [`Self::begin`] starts.
    pub async fn prepare(ground: &Ground, name: &str, database: Option<String>) -> Self {
        Self::prepare_with(ground, name, Settings { database, ..Settings::default() }).await
    }

    /// The same with a previewd that is a GitHub App.
    pub async fn prepare_as_app(ground: &Ground, name: &str) -> Self {
        let keys = AppKeys {
            public: include_str!("../../../src/github/client/app-for-tests.pub.pem"),
            private: include_str!("../../../src/github/client/app-for-tests.pem"),
        };
        Self::prepare_with(ground, name, Settings { app: Some(keys), ..Settings::default() }).await
    }

    /// The same with other settings, of which configuration and base domain are the test's own.
    pub async fn prepare_with(ground: &Ground, name: &str, settings: Settings) -> Self {
        let proxy = ApiProxy::start(ground.cluster.kubeconfig()).await.unwrap();
        proxy.act_as(ACCOUNT);
        let settings = Settings {
            config: "[teams.shop]\nrepositories = [\"acme/*\"]\n".to_owned(),
            base_domain: ground.ingress.as_ref().map(|(_, domain)| domain.clone()),
            ..settings
        };
        let database = settings.database.clone();
        let stand = Stand::prepare(&proxy.kubeconfig(), settings).await.unwrap();
        let in_folder = || format!("sqlite:{}", stand.folder().join("previewd.db").display());
        let repository_id = stand.github.create_repository("acme", name).unwrap();
        Self {
            database: database.unwrap_or_else(in_folder),
            kube: ground.cluster.client().await.unwrap(),
            repository: format!("acme/{name}"),
            repository_id,
            _log: ShownOnFailure(stand.log.clone()),
            stand,
            proxy,
            agent: None,
            token: None,
        }
    }

    /// Starts previewd, again where it ran before, and connects an agent to it.
    pub async fn begin(&mut self) {
        self.stand.start_previewd().await.unwrap();
        if self.token.is_none() {
            self.token = Some(self.stand.create_token("tester", "admin", &["shop"]).await.unwrap());
        }
        let token = self.token.as_deref().unwrap();
        self.agent = Some(Agent::over_http(&self.stand.mcp_url(), token).await.unwrap());
    }

    /// Adds to previewd's configuration, before it begins.
    pub fn configure(&self, lines: &str) {
        let mut config = OpenOptions::new().append(true).open(&self.stand.config).unwrap();
        config.write_all(lines.as_bytes()).unwrap();
    }

    /// The same with keys that belong to no section; they take the place of those that are there.
    pub fn configure_first(&self, lines: &str) {
        let keys: Vec<&str> = lines.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
        let text = std::fs::read_to_string(&self.stand.config).unwrap();
        let is_kept = |line: &&str| !keys.iter().any(|key| line.starts_with(&format!("{key} = ")));
        let kept: Vec<&str> = text.lines().filter(is_kept).collect();
        std::fs::write(&self.stand.config, format!("{lines}{}\n", kept.join("\n"))).unwrap();
    }

    pub fn store(&self) -> Store {
        Store::open(&self.database).unwrap()
    }

    /// Opens a pull request with this recipe. Gives its number.
    pub async fn open(&self, branch: &str, recipe: &str) -> u64 {
        let new = NewPullRequest::new("A change", branch).file(".preview.yaml", recipe);
        self.stand.github.open_pull_request(&self.repository, new).await.unwrap()
    }

    /// Pushes a change of the application. Gives the commit.
    pub async fn push(&self, number: u64) -> String {
        let content = format!("at {:?}", Instant::now());
        self.stand.github.push(&self.repository, number, &[("change.txt", &content)]).await.unwrap()
    }

    pub fn head(&self, number: u64) -> String {
        self.stand.github.pull_request(&self.repository, number).unwrap().head.sha
    }

    /// Calls a tool about a pull request's environment.
    pub async fn call(&self, tool: &'static str, number: u64) -> Answer {
        self.ask(tool, json!({ "environment": format!("{}#{number}", self.repository) })).await
    }

    /// Calls a tool.
    pub async fn ask(&self, tool: &'static str, arguments: Value) -> Answer {
        self.agent.as_ref().expect("previewd began").call(tool, arguments).await.unwrap()
    }

    /// What an agent sees of the environment; null where there is none.
    pub async fn get(&self, number: u64) -> Value {
        match self.call("get_preview_environment", number).await {
            Answer::Done(found) => found,
            Answer::Refused(error) if error["code"] == "NOT_FOUND" => Value::Null,
            Answer::Refused(error) => panic!("{error}"),
        }
    }

    /// Awaits that an agent sees the environment so.
    pub async fn until(&self, number: u64, deadline: Duration, is_so: impl Fn(&Value) -> bool) -> Value {
        let last = RefCell::new(Value::Null);
        let awaited = tokio::time::timeout(
            deadline,
            eventually("what an agent sees", deadline * 2, async || {
                let found = self.get(number).await;
                last.replace(found.clone());
                is_so(&found).then_some(found)
            }),
        );
        match awaited.await {
            Ok(found) => found,
            Err(_) => panic!("not within {deadline:?}; the last seen: {:#}", last.borrow()),
        }
    }

    /// Awaits that the head commit runs.
    pub async fn until_running(&self, number: u64) -> Value {
        let head = self.head(number);
        let is_over =
            |found: &Value| (found["status"] == "running" && found["commit"] == *head) || found["status"] == "failed";
        let found = self.until(number, TO_RUNNING, is_over).await;
        assert_eq!(found["status"], "running", "{found:#}");
        found
    }

    pub async fn until_status(&self, number: u64, status: &str) -> Value {
        self.until(number, SOON, |found| found["status"] == status).await
    }

    /// Awaits that the head commit's objects are in the cluster, on a cluster that runs nothing.
    pub async fn until_applied(&self, number: u64) -> Deployment {
        let head = self.head(number);
        let found = self.until(number, SOON, |found| found["status"] == "deploying" && found["commit"] == *head).await;
        let namespace = found["namespace"].as_str().unwrap();
        let deployments: Api<Deployment> = Api::namespaced(self.kube.clone(), namespace);
        eventually("the head commit is applied", SOON, async || {
            let deployment = deployments.get_opt("app").await.unwrap()?;
            runs_commit(&deployment, &head).then_some(deployment)
        })
        .await
    }

    /// Awaits that everything that was asked for has been looked at. What awaits something is looked at later again.
    pub async fn until_settled(&self) {
        let store = self.store();
        eventually("nothing is due", SOON, async || {
            let due = store.has_due_environment().await.unwrap();
            let rows = self.environments(&store).await;
            let asked = rows.iter().any(|row| row.environment.refresh);
            (!due && !asked && !self.is_leased()).then_some(())
        })
        .await;
    }

    /// All of them, deleted ones too.
    pub async fn environments(&self, store: &Store) -> Vec<Overview> {
        let statuses = previewd::environment::EnvironmentStatus::ALL.to_vec();
        let filter = EnvironmentFilter { statuses, limit: 1000, ..EnvironmentFilter::default() };
        store.list_environments(&filter).await.unwrap().0
    }

    /// The environment's row.
    pub async fn row(&self, store: &Store, number: u64) -> Overview {
        let number = i64::try_from(number).unwrap();
        store.find_environment_of(&self.repository.parse().unwrap(), number).await.unwrap().expect("a row")
    }

    /// Whether a pass is under way; on SQLite only, where another process may look at the file.
    pub fn is_leased(&self) -> bool {
        self.count("environments", "lease_token IS NOT NULL").is_some_and(|count| count > 0)
    }

    /// How many rows are so, on SQLite.
    pub fn count(&self, table: &str, condition: &str) -> Option<i64> {
        let mut connection = SqliteConnection::establish(self.database.strip_prefix("sqlite:")?).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
        let query = format!("(SELECT count(*) FROM {table} WHERE {condition})");
        let count = diesel::dsl::sql::<diesel::sql_types::BigInt>(&query);
        Some(diesel::select(count).get_result(&mut connection).unwrap())
    }

    /// Changes rows past the store, on SQLite.
    pub fn execute(&self, sql: &str) {
        let mut connection = SqliteConnection::establish(self.database.strip_prefix("sqlite:").unwrap()).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
        connection.batch_execute(sql).unwrap();
    }

    /// Has everything that runs sleep now: nobody used it for longer than the least that it may be told to wait.
    pub fn fall_asleep(&self) {
        self.execute("UPDATE environments SET used_at = used_at - 61000, due_at = 0");
    }

    /// For five minutes only the test itself sweeps: previewd's own sweeps would find first what it looks for.
    pub async fn sweep_alone(&self) {
        let store = self.store();
        let take = async || store.take_lease("repair", "the test", SOON, Duration::ZERO).await.unwrap().then_some(());
        eventually("no sweep is under way", SOON, take).await;
        store.give_lease_back("repair", "the test", true).await.unwrap();
    }

    /// The namespaces that this previewd made.
    pub async fn namespaces(&self) -> Vec<Namespace> {
        let installation = self.store().installation().await.unwrap().id;
        let ours = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation}"));
        Api::<Namespace>::all(self.kube.clone()).list(&ours).await.unwrap().items
    }

    /// The texts of the comments on a pull request.
    pub fn comments(&self, number: u64) -> Vec<String> {
        let comments = self.stand.github.comments(&self.repository, number);
        comments.into_iter().map(|comment| comment.body).collect()
    }

    /// Awaits that the one comment says this.
    pub async fn until_commented(&self, number: u64, text: &str) -> String {
        eventually(&format!("a comment with {text:?}"), SOON, async || {
            let comments = self.comments(number).into_iter();
            // Besides what people wrote, and the answers to them.
            let is_status = |comment: &String| comment.starts_with(OWN_COMMENTS) && !comment.contains(":command:");
            let comments: Vec<_> = comments.filter(is_status).collect();
            assert!(comments.len() <= 1, "{comments:#?}");
            comments.into_iter().next().filter(|comment| comment.contains(text))
        })
        .await
    }

    /// The preview's page, as a browser gets it.
    pub async fn page(&self, environment: &Value) -> String {
        self.get_path(environment, "/").await
    }

    /// What the environment's URL answers at a path.
    pub async fn get_path(&self, environment: &Value, path: &str) -> String {
        self.request(environment, http::Method::GET, path, Vec::new()).await
    }

    /// The same for something that is sent there.
    pub async fn post(&self, environment: &Value, path: &str, body: impl Into<Vec<u8>>) -> String {
        self.request(environment, http::Method::POST, path, body.into()).await
    }

    async fn request(&self, environment: &Value, method: http::Method, path: &str, body: Vec<u8>) -> String {
        let url = environment["url"].as_str().expect("a URL");
        let host = url.trim_start_matches("http://").trim_end_matches('/');
        let port = host.rsplit_once(':').expect("a port").1;
        let http = xtask::github::http_client().unwrap();
        // Names under localhost are this machine, whatever its resolver says.
        let request = http.request(method, format!("http://127.0.0.1:{port}{path}")).header("host", host);
        let answer = request.body(body).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    pub async fn ready(&self) -> Value {
        let http = xtask::github::http_client().unwrap();
        let text = http.get(format!("{}/readyz", self.stand.url)).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// previewd's log lines about steps in the life of an environment, by name.
    pub fn steps(&self, namespace: &str) -> Vec<String> {
        let log = self.log();
        // The last line may be only half there.
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["environment"] == namespace && line["level"] == "INFO")
            .filter_map(|line| line["event"].as_str().map(str::to_owned))
            .collect()
    }

    /// Everything that previewd logged.
    pub fn log(&self) -> String {
        read_log(&self.stand.log)
    }

    /// Closes what is open and looks for what is left: in the cluster, in the rows, and in what GitHub was asked.
    pub async fn finish(self) {
        let github = self.stand.github.clone();
        for number in 1.. {
            let Ok(pull_request) = github.pull_request(&self.repository, number) else { break };
            if pull_request.state == PullState::Open {
                github.close(&self.repository, number).await.unwrap();
            }
        }
        let store = self.store();
        eventually("nothing is left", TO_GONE, async || {
            let rows = self.environments(&store).await;
            let gone = rows.iter().all(|row| row.environment.deleted_at.is_some());
            (gone && self.namespaces().await.is_empty()).then_some(())
        })
        .await;
        // The last of what the watch saw may wake a row once more; it then sleeps for good.
        eventually("rows are idle", TO_GONE, async || {
            let busy =
                self.count("environments", "due_at IS NOT NULL OR lease_token IS NOT NULL OR refresh").unwrap_or(0);
            (busy == 0 && !store.has_due_environment().await.unwrap()).then_some(())
        })
        .await;
        assert_eq!(github.violations(), Vec::<String>::new());
        if let Some(agent) = self.agent {
            agent.close().await.unwrap();
        }
        self.stand.stop().await.unwrap();
    }
}

pub fn runs_commit(deployment: &Deployment, commit: &str) -> bool {
    let template = serde_json::to_string(&deployment.spec).unwrap();
    template.contains(commit)
}

fn end_of(log: &Path) -> String {
    let log = read_log(log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn read_log(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}
