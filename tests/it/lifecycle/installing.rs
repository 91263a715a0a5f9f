//! previewd in a cluster, as its own chart installs it: with PostgreSQL, two replicas, and an image of its own.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Secret, Service},
    policy::v1::PodDisruptionBudget,
    rbac::v1::ClusterRole,
};
use kube::{
    Api, Client,
    api::{AttachParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    discovery::pinned_kind,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use xtask::{
    cluster::{POSTGRES_IMAGE, POSTGRES_VERSION, helm, previewd_image},
    github::{GitHub, NewPullRequest, Options},
    testing::eventually,
};

use super::life::{self, SOON, TO_GONE, TO_RUNNING, recipe};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/previewd");
const SYSTEM: &str = "previewd-system";
const OWN_IMAGE: &str = "registry.localhost/previewd:test";
const CONFIG: &str = "/etc/previewd/previewd.toml";
const SECRET: &str = "a-webhook-secret-of-the-chart";
const TO_INSTALL: Duration = Duration::from_secs(240);

/// A cluster's part in the tests of the chart.
struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
}

impl Cluster {
    async fn helm(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(tokio::task::spawn_blocking(helm).await.unwrap().unwrap());
        command.args(arguments).env_clear().env("HOME", self.folder.path()).env("KUBECONFIG", &self.kubeconfig);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            panic!("{arguments:?}: {said}{}{}", String::from_utf8_lossy(&output.stderr), self.pods_say().await);
        }
        said
    }

    /// How every pod of the release is, and what it printed last.
    async fn pods_say(&self) -> String {
        let pods: Api<Pod> = self.api();
        let mut said = String::new();
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            let name = pod.metadata.name.unwrap_or_default();
            let status = serde_json::to_string(&pod.status).unwrap_or_default();
            let log = pods.logs(&name, &Default::default()).await.unwrap_or_else(|error| error.to_string());
            said.push_str(&format!("\n{name}: {status}\n{log}"));
        }
        said
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    async fn create<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    /// previewd's pods that are ready and stay.
    async fn ready_pods(&self) -> Vec<String> {
        let ours = ListParams::default().labels("app.kubernetes.io/name=previewd");
        let pods = self.api::<Pod>().list(&ours).await.unwrap();
        let is_ready = |pod: &&Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
            pod.metadata.deletion_timestamp.is_none()
                && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        pods.iter().filter(is_ready).filter_map(|pod| pod.metadata.name.clone()).collect()
    }

    /// What a command says in a pod.
    async fn run_in(&self, pod: &str, command: &[&str]) -> String {
        let asked = AttachParams::default().stdout(true).stderr(true).container("previewd");
        let mut running = self.api::<Pod>().exec(pod, command.iter().copied(), &asked).await.unwrap();
        let (mut said, mut complained) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (running.stdout().unwrap(), running.stderr().unwrap());
        let (one, other) = tokio::join!(stdout.read_to_string(&mut said), stderr.read_to_string(&mut complained));
        one.and(other).unwrap();
        running.join().await.unwrap();
        format!("{said}{complained}")
    }

    /// A port of this machine that leads to one of previewd's pods, as `kubectl port-forward` does.
    async fn forward(&self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pods, pod) = (self.api::<Pod>(), self.ready_pods().await.remove(0));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let Ok(mut forwarder) = pods.portforward(&pod, &[8787]).await else { continue };
                tokio::spawn(async move {
                    let Some(mut far) = forwarder.take_stream(8787) else { return };
                    // Err: one of both went away.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        port
    }
}

/// Lets pods reach a port of this machine's loopback. Gives its address for them.
async fn lead_out(host: Ipv4Addr, to: String) -> String {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(to).await else { return };
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    format!("http://{address}")
}

fn postgres(password: &str) -> (Value, Value) {
    let labels = json!({ "app": "postgres" });
    let variable = |name: &str, value: &str| json!({ "name": name, "value": value });
    let deployment = json!({
        "metadata": { "name": "postgres" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "securityContext": {
                        "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999, "runAsNonRoot": true,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "postgres",
                        "image": format!("{POSTGRES_IMAGE}:{POSTGRES_VERSION}"),
                        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                        "env": [
                            variable("POSTGRES_USER", "previewd"), variable("POSTGRES_DB", "previewd"),
                            variable("POSTGRES_PASSWORD", password), variable("PGDATA", "/data/pg"),
                        ],
                        "ports": [{ "containerPort": 5432 }],
                        "readinessProbe": { "tcpSocket": { "port": 5432 }, "periodSeconds": 1 },
                        "volumeMounts": [
                            { "name": "data", "mountPath": "/data" }, { "name": "tmp", "mountPath": "/tmp" },
                        ],
                    }],
                    "volumes": [{ "name": "data", "emptyDir": {} }, { "name": "tmp", "emptyDir": {} }],
                },
            },
        },
    });
    let service = json!({
        "metadata": { "name": "postgres" },
        "spec": { "selector": labels, "ports": [{ "port": 5432 }] },
    });
    (deployment, service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_brings_previewd_into_a_cluster() {
    let Some(ground) = life::node().await else { return };
    let image = previewd_image(OWN_IMAGE, Path::new(env!("CARGO_BIN_EXE_previewd"))).unwrap();
    ground.cluster.import_image(&image).await.unwrap();
    let cluster = Cluster {
        client: ground.cluster.client().await.unwrap(),
        kubeconfig: ground.cluster.kubeconfig().to_owned(),
        folder: tempfile::tempdir().unwrap(),
    };
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let system = json!({
        "metadata": { "name": SYSTEM, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    namespaces.create(&PostParams::default(), &serde_json::from_value(system).unwrap()).await.unwrap();

    let github = GitHub::start(Options::default()).await.unwrap();
    let host = ground.cluster.host_address().expect("a node");
    let github_url = lead_out(host, github.url().trim_start_matches("http://").to_owned()).await;
    github.create_repository("acme", "chart").unwrap();
    github.commit("acme/chart", "main", &[(".preview.yaml", &recipe("ok"))]).await.unwrap();

    let password = "chart-pass";
    let (deployment, service) = postgres(password);
    cluster.create::<Deployment>(deployment).await;
    cluster.create::<Service>(service).await;
    let secret = json!({
        "metadata": { "name": "previewd" },
        "stringData": {
            "PREVIEWD_DATABASE": format!("postgres://previewd:{password}@postgres/previewd"),
            "PREVIEWD_GITHUB__WEBHOOK_SECRETS": SECRET,
            "PREVIEWD_GITHUB__TOKEN": GitHub::TOKEN,
            "PREVIEWD_SEALING__KEYS": "a-key-for-sealing-of-the-chart-0123456789",
        },
    });
    cluster.create::<Secret>(secret).await;
    let config = format!(
        "base_domain = \"preview.example.com\"\n[github]\napi_url = \"{github_url}\"\n\
         [teams.shop]\nrepositories = [\"acme/*\"]\n"
    );
    let values = json!({
        "image": { "repository": "registry.localhost/previewd", "tag": "test" },
        "config": config,
        "ingress": { "enabled": true, "host": "previewd.example.com", "previewsDomain": "preview.example.com" },
        "resources": { "requests": { "cpu": "50m" } },
    });
    let values = cluster.write("values.json", &values.to_string());

    let linted = cluster.helm(&["lint", CHART, "--strict", "--values", &values]).await;
    assert!(linted.contains("0 chart(s) failed"), "{linted}");
    dry_run(&cluster, &values).await;

    let timeout = format!("{}s", TO_INSTALL.as_secs());
    let wait = ["--namespace", SYSTEM, "--values", &values, "--wait", "--timeout", &timeout].to_vec();
    cluster.helm(&[&["install", "previewd", CHART], wait.as_slice()].concat()).await;
    let pods = eventually("two replicas", SOON, async || {
        let ready = cluster.ready_pods().await;
        (ready.len() == 2).then_some(ready)
    })
    .await;
    let budget = cluster.api::<PodDisruptionBudget>().get("previewd").await.unwrap();
    assert_eq!(serde_json::to_value(budget.spec.unwrap()).unwrap()["maxUnavailable"], 1);

    let checked = cluster.run_in(&pods[0], &["previewd", "doctor", "--config", CONFIG]).await;
    for piece in ["database", "cluster", "helm", "GitHub"] {
        let line = checked.lines().find(|line| line.contains(&format!("  {piece}  ")));
        assert!(line.is_some_and(|line| line.starts_with("ok")), "{piece}: {checked}");
    }
    let root = cluster.run_in(&pods[0], &["previewd", "backup", "/etc/backup", "--config", CONFIG]).await;
    assert!(root.contains("Read-only file system") || root.contains("read-only"), "{root}");

    // A pull request, through both of them.
    let port = cluster.forward().await;
    github.set_webhook(&format!("http://127.0.0.1:{port}/webhooks/github"), &[SECRET]);
    let new = NewPullRequest::new("In a cluster", "in-a-cluster").file(".preview.yaml", &recipe("ok"));
    let number = github.open_pull_request("acme/chart", new).await.unwrap();
    let says = async |text: &str, deadline: Duration| {
        eventually(&format!("the comment says {text}"), deadline, async || {
            github.comments("acme/chart", number).iter().any(|comment| comment.body.contains(text)).then_some(())
        })
        .await;
    };
    says("running", TO_RUNNING).await;

    // With another configuration, one replica after the other.
    let other = config.replace("preview.example.com", "other.example.com");
    let upgraded =
        cluster.write("upgraded.json", &json!({ "config": other, "podAnnotations": { "a": "b" } }).to_string());
    let upgrade = [&["upgrade", "previewd", CHART], wait.as_slice(), &["--values", &upgraded]].concat();
    cluster.helm(&upgrade).await;
    let left = cluster.api::<Secret>().get_opt("previewd-migrate").await.unwrap();
    assert!(left.is_none(), "what migrates leaves nothing behind");
    let port = cluster.forward().await;
    github.set_webhook(&format!("http://127.0.0.1:{port}/webhooks/github"), &[SECRET]);
    github.close("acme/chart", number).await.unwrap();
    says("was removed", TO_GONE).await;
    assert_eq!(github.violations(), [""; 0]);

    cluster.helm(&["uninstall", "previewd", "--namespace", SYSTEM, "--wait"]).await;
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/instance=previewd");
    assert_eq!(roles.list(&ours).await.unwrap().items.len(), 0);
    assert_eq!(cluster.api::<Deployment>().list(&ours).await.unwrap().items.len(), 0);
    namespaces.delete(SYSTEM, &Default::default()).await.unwrap();
}

/// The API server takes every object that the chart renders, strictly: no field of them is unknown.
async fn dry_run(cluster: &Cluster, values: &str) {
    for more in [vec![], vec!["--set", "replicas=1", "--set", "persistence.enabled=true"]] {
        let render = ["template", "previewd", CHART, "--namespace", SYSTEM, "--values", values];
        let rendered = cluster.helm(&[render.as_slice(), &more].concat()).await;
        let mut kinds = Vec::new();
        for document in rendered.split("\n---\n").filter(|text| text.lines().any(|line| line.starts_with("kind:"))) {
            let object: DynamicObject = serde_saphyr::from_str(document).unwrap();
            let types = object.types.clone().unwrap();
            let kind = GroupVersionKind::try_from(&types).unwrap();
            let (resource, capabilities) = pinned_kind(&cluster.client, &kind).await.unwrap();
            let api: Api<DynamicObject> = match capabilities.scope {
                kube::discovery::Scope::Cluster => Api::all_with(cluster.client.clone(), &resource),
                kube::discovery::Scope::Namespaced => Api::namespaced_with(cluster.client.clone(), SYSTEM, &resource),
            };
            let strict = PatchParams {
                field_validation: Some(kube::api::ValidationDirective::Strict),
                ..PatchParams::apply("test").dry_run().force()
            };
            let name = object.metadata.name.clone().unwrap();
            let applied = api.patch(&name, &strict, &Patch::Apply(&object)).await;
            applied.unwrap_or_else(|error| panic!("{} {name}: {error}", types.kind));
            kinds.push(types.kind);
        }
        let wanted = if more.is_empty() { "Job" } else { "PersistentVolumeClaim" };
        for kind in ["Deployment", "Service", "Ingress", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", wanted]
        {
            assert!(kinds.iter().any(|found| found == kind), "no {kind} in {kinds:?}");
        }
        assert!(!kinds.iter().any(|found| found == "ConfigMap"), "a configuration may hold secrets: {kinds:?}");
    }
}

/// The chart's role is the one that previewd says it needs, and its values are checked.
#[tokio::test]
async fn the_chart_says_what_previewd_says() {
    let file = Path::new(CHART).join("cluster-role.json");
    let role: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(role, previewd::cluster::cluster_role());
    let helm = tokio::task::spawn_blocking(helm).await.unwrap().unwrap();
    for (set, complaint) in [
        ("persistence.enabled=true", "replicas"),
        ("replicas=0", "replicas"),
        ("replica=3", "replica"),
        ("existingSecret=", "existingSecret"),
    ] {
        let mut command = Command::new(&helm);
        command.args(["template", "previewd", CHART, "--set", set]).env_clear().env("HOME", "/nonexistent");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(complaint), "{set}: {said}");
    }
}
