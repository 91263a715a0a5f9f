//! Many processes of previewd on one PostgreSQL, some of which are killed or stopped for longer than their leases hold.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use previewd::environment::{EnvironmentStatus, INSTALLATION_LABEL};
use serde_json::json;
use tokio::task::JoinHandle;
use xtask::{
    cluster::{LocalCluster, Options},
    previewd::Server,
    stand::free_port,
    testing::{self, eventually},
};

use super::{
    databases,
    life::{Ground, Life, recipe},
};

const PROCESSES: usize = 8;
const ENVIRONMENTS: usize = 200;
/// Longer than a lease, and than its renewal.
const STOPPED: Duration = Duration::from_secs(30);
const TO_SETTLE: Duration = Duration::from_secs(420);

/// What a node's kubelet would say of pods, where containers are not the point: they are ready. As kwok's nodes do it.
fn make_pods_ready(client: Client, installation: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        let pods: Api<Pod> = Api::all(client.clone());
        loop {
            let labelled = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation}"));
            let listed = pods.list(&labelled).await.map(|list| list.items).unwrap_or_default();
            let is_waiting = |pod: &&Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Running");
            let made_ready = listed.iter().filter(is_waiting).map(async |pod| {
                let container = pod.spec.as_ref().map(|spec| &spec.containers[0]);
                let status = json!({ "status": {
                    "phase": "Running",
                    "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": previewd::service::rfc3339(0) }],
                    "containerStatuses": [{
                        "name": container.map(|container| &container.name),
                        "image": container.and_then(|container| container.image.as_ref()),
                        "imageID": "", "ready": true, "restartCount": 0, "state": { "running": {} },
                    }],
                } });
                let namespaced: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
                // One that is gone by now needs nothing.
                let _ = namespaced.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await;
                // The controller puts only pods of nodes that it knows behind a Service.
                let slices: Api<EndpointSlice> =
                    Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
                let slice = json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": { "name": "played", "labels": { "kubernetes.io/service-name": "app" } },
                    "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
                    "endpoints": [{
                        "addresses": ["10.0.0.1"], "conditions": { "ready": true },
                        "targetRef": { "kind": "Pod", "name": pod.name_any(), "namespace": pod.namespace() },
                    }],
                });
                let _ = slices.patch("played", &PatchParams::apply("test").force(), &Patch::Apply(&slice)).await;
            });
            join_all(made_ready).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
}

/// A further process with the configuration of the first, on a port of its own.
struct Process {
    config: PathBuf,
    url: String,
    log: PathBuf,
    server: Option<Server>,
}

impl Process {
    fn prepare(life: &Life, number: usize) -> Self {
        let port = free_port().unwrap();
        let text = std::fs::read_to_string(&life.stand.config).unwrap();
        let own = life.stand.url.trim_start_matches("http://");
        let config = life.stand.folder().join(format!("previewd-{number}.toml"));
        std::fs::write(&config, text.replacen(own, &format!("127.0.0.1:{port}"), 1)).unwrap();
        let log = Path::new(&life.stand.log).with_file_name(format!("previewd-{number}.log"));
        Self { config, url: format!("http://127.0.0.1:{port}"), log, server: None }
    }

    async fn start(&mut self) {
        self.server = Some(Server::start(&self.config, &self.url, &self.log).await.unwrap());
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it was started")
    }
}

/// T079: whatever happens to single processes, each pull request ends with its newest commit running once, or with
/// nothing left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_stopped_processes_cost_only_time() {
    if !testing::has_cluster(false) {
        return;
    }
    let Some(database) = databases().await.into_iter().flatten().next() else {
        testing::skip("there is no PostgreSQL; `cargo xtask test` starts one");
        return;
    };
    // Whatever else waits for a namespace to go would wait for two hundred.
    let ground = Ground::of(LocalCluster::start(Options::api_only("processes")).await.unwrap()).await;
    let mut life = Life::prepare(&ground, "processes", Some(database)).await;
    life.begin().await;
    let pods = make_pods_ready(life.kube.clone(), life.store().installation().await.unwrap().id);
    let mut processes: Vec<Process> = (1..PROCESSES).map(|number| Process::prepare(&life, number)).collect();
    join_all(processes.iter_mut().map(Process::start)).await;

    // Comments would take as many minutes as GitHub allows writes in; some of them are enough.
    let quiet = format!("{}report: none\n", recipe("ok"));
    let began = Instant::now();
    let mut numbers = Vec::new();
    for n in 0..ENVIRONMENTS {
        let recipe = if n % 10 == 0 { recipe("ok") } else { quiet.clone() };
        numbers.push(life.open(&format!("change-{n}"), &recipe).await);
    }
    disturb(&mut processes, Duration::from_secs(40)).await;
    let (closed, pushed) = numbers.split_at(ENVIRONMENTS / 2);
    let github = &life.stand.github;
    join_all(closed.iter().map(|number| github.close(&life.repository, *number))).await;
    let mut heads = BTreeMap::new();
    for number in pushed {
        heads.insert(*number, life.push(*number).await);
    }
    disturb(&mut processes, Duration::from_secs(40)).await;

    let store = life.store();
    eventually("everything has come to its end", TO_SETTLE, async || {
        let rows = life.environments(&store).await;
        let are = |status| rows.iter().filter(|row| row.environment.status == status).count();
        let is_owed = store.has_due_environment().await.unwrap();
        let all = are(EnvironmentStatus::Running) == pushed.len() && are(EnvironmentStatus::Deleted) == closed.len();
        (all && !is_owed).then_some(())
    })
    .await;
    println!(
        "{ENVIRONMENTS} environments under {PROCESSES} processes settled in {:.0} s",
        began.elapsed().as_secs_f32()
    );

    for (number, head) in &heads {
        let found = life.get(*number).await;
        assert_eq!(found["serving_commit"], head.as_str(), "{found}");
        let namespace = found["namespace"].as_str().unwrap();
        let applied = Api::<Deployment>::namespaced(life.kube.clone(), namespace).get("app").await.unwrap();
        // A commit that is applied twice changes nothing: one rollout for each commit, or fewer.
        assert!(applied.metadata.generation <= Some(2), "#{number}: {:?}", applied.metadata.generation);
        assert!(super::life::runs_commit(&applied, head), "#{number}");
    }
    eventually("the namespaces of what is closed are gone", TO_SETTLE, async || {
        let left: Vec<Namespace> = life.namespaces().await;
        (left.len() == pushed.len()).then_some(())
    })
    .await;
    for number in numbers.iter().filter(|number| (**number - numbers[0]).is_multiple_of(10)) {
        assert!(life.comments(*number).len() <= 1, "#{number} has one comment at most");
    }
    pods.abort();
    for process in processes {
        if let Some(server) = process.server {
            server.stop().await.unwrap();
        }
    }
    life.finish().await;
    ground.cluster.shutdown().await.unwrap();
}

/// Kills one process after the other, and stops others for longer than their leases hold. In the end all of them run.
async fn disturb(processes: &mut [Process], time: Duration) {
    let until = Instant::now() + time;
    let mut stopped: BTreeMap<usize, Instant> = BTreeMap::new();
    for turn in 0.. {
        let go_on: Vec<usize> =
            stopped.iter().filter(|(_, since)| since.elapsed() >= STOPPED).map(|(index, _)| *index).collect();
        for index in go_on {
            processes[index].server().go_on().unwrap();
            stopped.remove(&index);
        }
        let index = turn % processes.len();
        if Instant::now() >= until {
            if stopped.is_empty() {
                return;
            }
        } else if let Entry::Vacant(running) = stopped.entry(index) {
            if turn % 2 == 0 {
                processes[index].server().freeze().unwrap();
                running.insert(Instant::now());
            } else {
                processes[index].server.as_mut().expect("it was started").kill().await.unwrap();
                processes[index].start().await;
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}
