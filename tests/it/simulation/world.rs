//! One installation in one thread: a database, some processes of previewd on it, GitHub, Kubernetes, and a clock that
//! runs as fast as there is nothing to do.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    routing::post,
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use previewd::{
    cluster::Cluster,
    config::{Config, LifetimeSettings, Limits, Team},
    engine::{Builds, Engine, Given, Prober, Roles},
    environment::{CommitSha, Millis, Urgency},
    faults::{Fault, Faults},
    github::GitHub,
    helm::Helm,
    recipe::Policy,
    registry::Registries,
    sealing::Keys,
    service::{Addresses, Parts, RecipeRenderer, Service},
    store::{Migrate, Retention, Store, Turn as Budget, migrate},
    webhook::{self, Receiver},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use xtask::github::{self as loopback, Delivery};

use super::{
    configuration::{Configuration, Front, Registry},
    internet,
    kubernetes::{self, Images, Kubernetes, Outcome},
    network::{Network, Peer},
    recipes::{self, Plan},
    watch::Watch,
};

/// 2027-01-15, when every story begins. Unix seconds.
const BEGINNING: i64 = 1_800_000_000;
const SECRET: &str = "a-secret-of-the-simulation";
pub const REPOSITORY: &str = "acme/shop";
/// How many processes there are at once.
const PROCESSES: usize = 2;

/// The virtual time of a story.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    pub fn now(self) -> Millis {
        BEGINNING * 1_000 + Millis::try_from(self.began.elapsed().as_millis()).expect("a story is short")
    }
}

struct Process {
    number: usize,
    receiver: Router,
    /// Once it is dead: when the next one takes its place.
    replaced_at: Option<Instant>,
}

pub struct World {
    pub rng: StdRng,
    pub github: loopback::GitHub,
    pub kubernetes: Kubernetes,
    pub network: Arc<Network>,
    pub store: Store,
    pub service: Service,
    pub clock: Clock,
    pub configuration: Configuration,
    pub images: Images,
    /// What commits say is to run. A stranger's says nothing.
    pub plans: BTreeMap<String, Plan>,
    fault: Option<Fault>,
    slots: Vec<Process>,
    started: usize,
    receivers: Arc<Mutex<Vec<(usize, Router)>>>,
    /// What must never be seen, and was.
    pub breaches: Arc<Mutex<Vec<String>>>,
    pub watch: Watch,
    /// Until when others use up what may be written to GitHub on the same token. Once in a story: what may be written in an
    /// hour is soon used up for its rest.
    pub words_used_until: Option<Instant>,
    _folder: TempDir,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>, template: &Path) -> Self {
        let clock = Clock { began: Instant::now() };
        let folder = folder();
        let path = folder.path().join("previewd.db");
        std::fs::copy(template, &path).expect("the tables can be copied");
        let database = format!("sqlite:{}", path.display());
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let configuration = Configuration::draw(&mut rng);
        let network = Arc::new(Network::new(seed, configuration.is_gentle));
        let github = loopback::GitHub::in_process(loopback::Options::default(), move || clock.now() / 1_000)
            .expect("the stand-in for GitHub starts");
        github.set_webhook("http://previewd.invalid/webhooks/github", &[SECRET]);
        let (owner, name) = REPOSITORY.split_once('/').expect("owner/name");
        github.create_repository(owner, name).expect("the repository is new");
        let images = Images::new();
        let kubernetes = {
            let network = Arc::clone(&network);
            let fate: kubernetes::Network =
                Arc::new(move |call| network.fate(Peer::Kubernetes, call.process, call.is_write, &call.what));
            Kubernetes::new(fate, images.clone())
        };
        kubernetes.take_jobs_after(configuration.takes_jobs_after);
        let keys = Keys::of(&["a-key-of-the-simulation-with-32-characters".to_owned().into()]).expect("a key");
        let store = Store::simulated(&database, move || clock.now()).expect("SQLite opens").sealing(keys);
        let config = Config::default();
        let addresses = Addresses { base_domain: config.base_domain.clone(), github_web_url: config.github.web_url() };
        let helm = Helm::played(recipes::chart);
        let renderer = RecipeRenderer { policy: config.policy(), base_domain: config.base_domain.clone(), helm };
        let service = Service::new(Parts {
            store: store.clone(),
            cluster: None,
            github: None,
            limits: config.limits.clone(),
            renderer,
            prices: config.prices.clone(),
            addresses,
            teams: watch::channel(Arc::default()).1,
        });
        let mut world = Self {
            rng,
            github,
            kubernetes,
            network,
            store,
            service,
            clock,
            configuration,
            images,
            plans: BTreeMap::new(),
            fault,
            slots: Vec::new(),
            started: 0,
            receivers: Arc::default(),
            breaches: Arc::default(),
            watch: Watch::default(),
            words_used_until: None,
            _folder: folder,
        };
        for _ in 0..PROCESSES {
            let process = world.start();
            world.slots.push(process);
        }
        world.announce();
        world
    }

    /// Lets time pass; who died is replaced.
    pub async fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            sleep(left.min(Duration::from_secs(1))).await;
            self.replace_the_dead();
            self.take_words().await;
            self.watch().await;
        }
    }

    /// Has nothing be left for so long of what may be written to GitHub.
    pub fn use_up_words(&mut self, lasts: Duration) {
        self.words_used_until = Some(Instant::now() + lasts);
    }

    /// Whether previewd may have no words, by now or for as long as the minute lasts that counts them.
    pub fn lacks_words(&self) -> bool {
        self.words_used_until.is_some_and(|until| Instant::now() < until + Duration::from_secs(150))
    }

    async fn take_words(&self) {
        while self.words_used_until.is_some_and(|until| Instant::now() < until)
            && self.store.take_write(None, Urgency::High).await.expect("the database answers") == Budget::Now
        {}
    }

    fn replace_the_dead(&mut self) {
        for slot in 0..self.slots.len() {
            if !self.network.is_dead(self.slots[slot].number) {
                continue;
            }
            match self.slots[slot].replaced_at {
                None => {
                    let wait = Duration::from_secs(self.rng.random_range(1..40));
                    self.slots[slot].replaced_at = Some(Instant::now() + wait);
                    self.announce();
                }
                Some(at) if at <= Instant::now() => {
                    self.slots[slot] = self.start();
                    self.announce();
                }
                Some(_) => {}
            }
        }
    }

    /// Kills a process; another takes its place.
    pub fn kill_one(&mut self) {
        let slot = self.rng.random_range(0..self.slots.len());
        self.network.kill(self.slots[slot].number);
    }

    fn announce(&self) {
        let alive = self.slots.iter().filter(|process| !self.network.is_dead(process.number));
        let receivers = alive.map(|process| (process.number, process.receiver.clone())).collect();
        *self.receivers.lock().expect("no story goes on after a panic") = receivers;
    }

    fn start(&mut self) -> Process {
        self.started += 1;
        let number = self.started;
        let stop = CancellationToken::new();
        self.network.join(number, stop.clone());
        let faults = {
            let network = Arc::clone(&self.network);
            Faults::new(self.fault, move |moment| {
                let network = Arc::clone(&network);
                Box::pin(async move { network.stall(number, moment).await })
            })
        };
        let store = self.store.of_process(faults.clone());
        let config = Config::default();
        let configuration = &self.configuration;
        let policy = Policy { has_router: configuration.has_router, ..config.policy() };
        let prober = match configuration.front {
            Front::Unasked => None,
            front => Some(Prober::with_client(internet::urls(self.kubernetes.clone(), front))),
        };
        let registries = match configuration.registry {
            Registry::Unasked => None,
            registry => Some(Registries::with_client(internet::registries(self.images.clone(), registry))),
        };
        let team = Team { repositories: vec![REPOSITORY.parse().expect("owner/name")], ..Team::default() };
        let (_, teams) = watch::channel(Arc::new(BTreeMap::from([("shop".to_owned(), team)])));
        let engine = Engine {
            store: store.clone(),
            cluster: Cluster::with_client(self.kubernetes.client(number)),
            github: self.way_to_github(number),
            base_domain: config.base_domain.clone(),
            public_url: config.public_url.clone(),
            policy: Arc::new(policy),
            triggers: config.triggers.clone(),
            lifetime: LifetimeSettings { ttl: configuration.ttl, sleep_after: configuration.sleep_after },
            limits: Limits { environments: configuration.places, ..config.limits.clone() },
            teams,
            report_to: configuration.report_to,
            alerts: Default::default(),
            roles: Roles::default(),
            builds: Builds::default(),
            retention: Retention { deliveries: None, events: None },
            orphans_told: Arc::default(),
            workers: 4,
            look: Duration::from_secs(3),
            faults,
            helm: Helm::played(recipes::chart),
            given: Given::default(),
            registries,
            image_wait: configuration.image_wait,
            patience: config.patience,
            prober,
        };
        let receiver = Receiver { store, secrets: vec![SECRET.to_owned().into()] };
        let receiver = Router::new().route("/webhooks/github", post(webhook::receive)).with_state(Arc::new(receiver));
        let breaches = Arc::clone(&self.breaches);
        tokio::spawn(async move {
            if let Err(error) = engine.run(stop).await {
                breaches.lock().expect("no story goes on after a panic").push(format!("an engine ended: {error:#}"));
            }
        });
        Process { number, receiver, replaced_at: None }
    }

    fn way_to_github(&self, process: usize) -> GitHub {
        let (github, network) = (self.github.clone(), Arc::clone(&self.network));
        let (kubernetes, breaches) = (self.kubernetes.clone(), Arc::clone(&self.breaches));
        let service = tower::service_fn(move |request: Request<octocrab::OctoBody>| {
            let (github, network) = (github.clone(), Arc::clone(&network));
            let (kubernetes, breaches) = (kubernetes.clone(), Arc::clone(&breaches));
            async move {
                let began = Instant::now();
                let (mut parts, body) = request.into_parts();
                let token = format!("Bearer {}", loopback::GitHub::TOKEN);
                parts.headers.insert(header::AUTHORIZATION, token.parse().expect("a token is a header"));
                parts.headers.insert(header::USER_AGENT, HeaderValue::from_static("previewd"));
                let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                let is_write = parts.method != http::Method::GET;
                let what = format!("{} {}", parts.method, parts.uri.path());
                let fate = network.fate(Peer::GitHub, process, is_write, &what);
                sleep(fate.before).await;
                match fate.outcome {
                    Outcome::NeverArrives => std::future::pending().await,
                    Outcome::RefuseUnseen => return Ok::<_, std::io::Error>(bad_gateway()),
                    Outcome::Answer | Outcome::LoseAnswer | Outcome::NeverReturns => {}
                }
                if is_write && !network.is_late(process, began) {
                    check_farewell(&kubernetes, &breaches, &body);
                }
                let answered = github.exchange(Request::from_parts(parts, body)).await;
                sleep(fate.after).await;
                match fate.outcome {
                    Outcome::NeverReturns => std::future::pending().await,
                    Outcome::LoseAnswer => Ok(bad_gateway()),
                    Outcome::Answer | Outcome::RefuseUnseen | Outcome::NeverArrives => {
                        let answered = answered.ok_or_else(|| std::io::Error::other("the connection was reset"))?;
                        let (parts, body) = answered.into_parts();
                        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                        Ok(Response::from_parts(parts, Full::new(body)))
                    }
                }
            }
        });
        GitHub::over(service)
    }

    /// Sends what GitHub has to tell: in time, late, twice, or never, as the story goes.
    pub fn deliver(&mut self) {
        let goes_wrong = !self.configuration.is_gentle;
        for delivery in self.github.take_deliveries() {
            let roll = self.rng.random_range(0..100);
            if roll < 8 && goes_wrong {
                continue;
            }
            let copies = if roll < 18 { 2 } else { 1 };
            for _ in 0..copies {
                let late = self.rng.random_bool(0.25) && goes_wrong;
                let wait = self.rng.random_range(if late { 1_000..60_000 } else { 1..900 });
                let choice = self.rng.random_range(0..PROCESSES);
                tokio::spawn(send(Arc::clone(&self.receivers), delivery.clone(), Duration::from_millis(wait), choice));
            }
        }
    }

    /// What runs from now on runs well: everything that is still under way has to come to its end.
    pub fn calm_down(&mut self) {
        self.network.calm_down();
        self.kubernetes.calm_down();
        self.github.clear_faults();
        self.words_used_until = self.words_used_until.map(|_| Instant::now());
    }

    /// A commit that says what is to run, and whose build pushes its images some time after it.
    pub fn plan(&mut self, commit: &str, plan: Plan) {
        let takes = self.configuration.builds_take.as_secs();
        let after = Duration::from_secs(if takes == 0 { 0 } else { self.rng.random_range(0..takes) });
        if !after.is_zero() {
            self.images.push(commit, Instant::now() + after);
        }
        self.plans.insert(commit.to_owned(), plan);
    }

    pub fn commit(&self, number: u64) -> CommitSha {
        let pull = self.github.pull_request(REPOSITORY, number).expect("it was opened");
        pull.head.sha.parse().expect("GitHub's ids are commits")
    }
}

/// A comment that says that everything is gone is only written once it is. What a process sends that was stopped after it
/// made sure of its lease is not asked for this: GitHub takes it, and whoever has the lease since writes anew.
fn check_farewell(kubernetes: &Kubernetes, breaches: &Mutex<Vec<String>>, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    if !text.contains("Preview was removed") {
        return;
    }
    let left = kubernetes.namespaces().into_iter().find(|namespace| {
        let id = namespace.labels.get("previewd.dev/environment");
        id.is_some_and(|id| text.contains(id.as_str()))
    });
    if let Some(left) = left {
        let breach = format!("a comment says that {} was removed, and it is there", left.name);
        breaches.lock().expect("no story goes on after a panic").push(breach);
    }
}

fn bad_gateway() -> Response<Full<Bytes>> {
    Response::builder().status(StatusCode::BAD_GATEWAY).body(Full::default()).expect("a status is enough")
}

async fn send(receivers: Arc<Mutex<Vec<(usize, Router)>>>, delivery: Delivery, wait: Duration, choice: usize) {
    sleep(wait).await;
    let receiver = {
        let receivers = receivers.lock().expect("no story goes on after a panic");
        match receivers.len() {
            // Nobody listens, and GitHub does not come again by itself.
            0 => return,
            alive => receivers[choice % alive].1.clone(),
        }
    };
    let mut request = Request::post("/webhooks/github");
    for (name, value) in delivery.headers() {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(delivery.body)).expect("a delivery is a request");
    let answered: Result<_, Infallible> = receiver.oneshot(request).await;
    let Ok(_) = answered;
}

/// Where a story's database is: in memory where the machine has such a folder.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = || tempfile::Builder::new().prefix("previewd-story-").to_owned();
    if memory.is_dir() { builder().tempdir_in(memory) } else { builder().tempdir() }.expect("a folder can be made")
}

/// A database with this version's tables, made once, in no story's time.
pub fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = TEMPLATE.get_or_init(|| {
        let folder = folder();
        let path = folder.path().join("template.db");
        let url = format!("sqlite:{}", path.display());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime can be had");
        runtime.block_on(migrate(&url, Migrate::Auto)).expect("the tables can be made");
        (folder, path)
    });
    path
}
