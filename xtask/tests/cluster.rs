//! The local cluster as the demo, the tests and the benchmarks use it. What needs root is skipped without.

use std::future::Future;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ResourceQuota, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;
use xtask::cluster::api_proxy::ApiProxy;
use xtask::cluster::ingress::IngressProxy;
use xtask::cluster::{LocalCluster, Options, SAMPLE_PORT, running_clusters, sample_image, sample_image_name};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Says why a test did not run.
fn skip_without_root() -> bool {
    let is_root = nix::unistd::Uid::effective().is_root();
    if !is_root {
        xtask::testing::skip("a node needs root");
    }
    !is_root
}

/// What the probe finds, awaited with a deadline.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, seconds: u64, mut probe: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn create<K>(client: &Client, namespace: &str, object: Value) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

async fn create_namespace(client: &Client, name: &str) {
    let namespace = json!({
        "metadata": { "name": name, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    let api = Api::<Namespace>::all(client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    let quota = json!({
        "metadata": { "name": "quota" },
        "spec": { "hard": { "limits.cpu": "500m", "limits.memory": "512Mi", "pods": "10" } },
    });
    create::<ResourceQuota>(client, name, quota).await;
}

/// The sample application with a Service, behind `<namespace>.localhost`.
async fn deploy_sample(client: &Client, namespace: &str, commit: &str) {
    let labels = json!({ "app": "shop" });
    let deployment = json!({
        "metadata": { "name": "shop" },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                    "containers": [{
                        "name": "shop",
                        "image": sample_image_name(commit),
                        "imagePullPolicy": "IfNotPresent",
                        "env": [{ "name": "GREETING", "value": "hello from a preview" }],
                        "ports": [{ "containerPort": SAMPLE_PORT }],
                        "readinessProbe": { "httpGet": { "path": "/healthz", "port": SAMPLE_PORT }, "periodSeconds": 1 },
                        "resources": { "limits": { "cpu": "200m", "memory": "64Mi" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    });
    create::<Deployment>(client, namespace, deployment).await;
    let service = json!({
        "metadata": { "name": "shop" },
        "spec": { "selector": labels, "ports": [{ "name": "http", "port": 80, "targetPort": SAMPLE_PORT }] },
    });
    create::<Service>(client, namespace, service).await;
    let path = json!({
        "path": "/",
        "pathType": "Prefix",
        "backend": { "service": { "name": "shop", "port": { "name": "http" } } },
    });
    let ingress = json!({
        "metadata": { "name": "shop" },
        "spec": { "rules": [{ "host": format!("{namespace}.localhost"), "http": { "paths": [path] } }] },
    });
    create::<Ingress>(client, namespace, ingress).await;
}

async fn ready_pod(client: &Client, namespace: &str) -> Pod {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    eventually("the sample's pod is ready", 60, || async {
        let listed = pods.list(&ListParams::default().labels("app=shop")).await.unwrap();
        listed.items.into_iter().find(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        })
    })
    .await
}

async fn cluster_ip(client: &Client, namespace: &str) -> String {
    let service = Api::<Service>::namespaced(client.clone(), namespace).get("shop").await.unwrap();
    service.spec.unwrap().cluster_ip.unwrap()
}

/// Status and body of a plain HTTP request.
async fn http(method: &str, url: &str, host: Option<&str>) -> Option<(u16, String)> {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let stream = tokio::net::TcpStream::connect(authority).await.ok()?;
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        host.unwrap_or(authority)
    );
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut read, mut write) = stream.into_split();
    write.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
}

async fn page(url: &str, host: Option<&str>) -> String {
    eventually(url, 20, || async { http("GET", url, host).await.filter(|(status, _)| *status == 200) }).await.1
}

#[tokio::test]
async fn an_api_only_cluster_starts_and_keeps_objects() {
    let cluster = LocalCluster::start(Options::api_only("api")).await.unwrap();

    let client = cluster.client().await.unwrap();
    assert_eq!(client.apiserver_version().await.unwrap().git_version, "v1.37.2");
    create_namespace(&client, "shop").await;
    let mut object = json!({ "metadata": { "name": "settings" }, "data": { "key": "value" } });
    let created = create::<ConfigMap>(&client, "shop", object.take()).await;
    assert_eq!(created.data.unwrap()["key"], "value");

    // The controllers end namespaces.
    let namespaces = Api::<Namespace>::all(client);
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", 30, || async {
        namespaces.get_opt("shop").await.unwrap().is_none().then_some(())
    })
    .await;

    let directory = cluster.logs().parent().unwrap().to_path_buf();
    cluster.shutdown().await.unwrap();
    assert!(!directory.exists());
}

#[tokio::test]
async fn the_proxy_counts_requests_and_brings_faults() {
    let cluster = LocalCluster::start(Options::api_only("proxied")).await.unwrap();
    let proxy = ApiProxy::start(cluster.kubeconfig()).await.unwrap();
    let kubeconfig = Kubeconfig::read_from(proxy.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let settings = Api::<ConfigMap>::namespaced(client.clone(), "default");

    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook_seen = Arc::clone(&seen);
    proxy.set_on_write(Some(Box::new(move |count, request| {
        hook_seen.lock().unwrap().push((count, request.method.clone(), request.status.unwrap().as_u16()));
    })));
    let object = |name: &str| serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    settings.create(&PostParams::default(), &object("first")).await.unwrap();
    settings.get("first").await.unwrap();
    settings.create(&PostParams { dry_run: true, ..PostParams::default() }, &object("dry")).await.unwrap();
    settings.delete("first", &DeleteParams::default()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [(1, http::Method::POST, 201), (2, http::Method::DELETE, 200)]);
    assert_eq!(proxy.count(|request| request.is_write()), 2);
    assert_eq!(
        proxy.count(|request| request.method == http::Method::GET && request.status == Some(http::StatusCode::OK)),
        1
    );

    let mut watch = settings.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    settings.create(&PostParams::default(), &object("second")).await.unwrap();
    loop {
        // What was there before comes first.
        let event = watch.try_next().await.unwrap().expect("the watch goes on");
        if matches!(&event, WatchEvent::Added(added) if added.metadata.name.as_deref() == Some("second")) {
            break;
        }
    }
    proxy.set_watches_cut(true);
    assert!(watch.try_next().await.unwrap().is_none(), "a cut watch ends");
    let refused = settings.watch(&WatchParams::default(), "0").await.err();
    assert!(matches!(refused, Some(kube::Error::Api(status)) if status.code == 503));
    settings.get("second").await.unwrap();
    proxy.set_watches_cut(false);

    proxy.set_away(true);
    settings.get("second").await.unwrap_err();
    proxy.set_away(false);
    settings.get("second").await.unwrap();

    proxy.set_delay(Duration::from_millis(300));
    let asked = Instant::now();
    settings.get("second").await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_node_runs_the_sample_application() {
    if skip_without_root() {
        return;
    }
    let cluster = LocalCluster::start(Options::with_node("node")).await.unwrap();
    let client = cluster.client().await.unwrap();
    cluster.import_image(&sample_image(COMMIT).unwrap()).await.unwrap();
    create_namespace(&client, "shop").await;
    deploy_sample(&client, "shop", COMMIT).await;
    let pod = ready_pod(&client, "shop").await;
    let name = pod.metadata.name.clone().unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), "shop");

    let logs = pods.logs(&name, &LogParams { tail_lines: Some(5), ..LogParams::default() }).await.unwrap();
    assert!(logs.contains(COMMIT), "{logs}");

    let service = cluster_ip(&client, "shop").await;
    let shown = page(&format!("http://{service}:80/"), None).await;
    assert!(shown.contains(COMMIT) && shown.contains("hello from a preview"), "{shown}");

    let proxy = IngressProxy::start(cluster.kubeconfig(), 0).await.unwrap();
    let through_ingress = page(&format!("http://{}/", proxy.address()), Some("shop.localhost")).await;
    assert_eq!(through_ingress, shown);
    let (status, _) = http("GET", &format!("http://{}/", proxy.address()), Some("other.localhost")).await.unwrap();
    assert_eq!(status, 404);

    // From inside the pod: its own Service by name, through the cluster's DNS and back to itself.
    let resolve = format!("http://{service}:80/resolve?name=shop.shop.svc.cluster.local");
    assert_eq!(page(&resolve, None).await.trim(), service);
    let unknown = format!("http://{service}:80/resolve?name=nobody.example");
    let (status, said) = http("GET", &unknown, None).await.unwrap();
    assert!(status == 502 && said.contains("no such host"), "{status} {said}");

    assert_eq!(memory_limit(&pod), Some(64 << 20));

    eventually("the pod's usage", 60, || async {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/{name}");
        let usage = client.request::<Value>(http::Request::get(path).body(Vec::new()).unwrap()).await.ok()?;
        usage["containers"][0]["usage"]["memory"].as_str().map(drop)
    })
    .await;

    http("POST", &format!("http://{service}:80/oom"), None).await.unwrap();
    eventually("the container was killed for its memory", 60, || async {
        let status = pods.get(&name).await.unwrap().status?;
        let container = status.container_statuses?.into_iter().next()?;
        let ended = container.last_state.and_then(|s| s.terminated).or(container.state.and_then(|s| s.terminated))?;
        (ended.reason.as_deref() == Some("OOMKilled")).then_some(())
    })
    .await;
    cluster.shutdown().await.unwrap();
}

/// The pod's limit as the kernel has it, in bytes.
fn memory_limit(pod: &Pod) -> Option<u64> {
    let uid = pod.metadata.uid.as_deref()?;
    let output = Command::new("find")
        .args(["/sys/fs/cgroup", "-path", &format!("*/pod{uid}/memory.limit_in_bytes")])
        .args(["-o", "-path", &format!("*/pod{uid}/memory.max")])
        .output()
        .ok()?;
    let file = String::from_utf8(output.stdout).ok()?.lines().next()?.to_string();
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[tokio::test]
async fn two_nodes_run_side_by_side_and_the_end_of_one_leaves_the_other() {
    if skip_without_root() {
        return;
    }
    let image = sample_image(COMMIT).unwrap();
    let start = async |name: &str| {
        let cluster = LocalCluster::start(Options::with_node(name)).await.unwrap();
        let client = cluster.client().await.unwrap();
        cluster.import_image(&image).await.unwrap();
        create_namespace(&client, "shop").await;
        deploy_sample(&client, "shop", COMMIT).await;
        ready_pod(&client, "shop").await;
        let url = format!("http://{}:80/", cluster_ip(&client, "shop").await);
        page(&url, None).await;
        (cluster, url)
    };
    let ((first, first_url), (second, second_url)) = futures::join!(start("first"), start("second"));
    assert_ne!(first_url, second_url);
    first.shutdown().await.unwrap();
    page(&second_url, None).await;
    second.check().unwrap();
}

#[tokio::test]
async fn the_next_start_cleans_what_a_killed_owner_left() {
    if skip_without_root() {
        return;
    }
    let name = format!("killed-{}", std::process::id());
    let mut owner = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["cluster", "up", "--name", &name])
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let find = || running_clusters().unwrap().into_iter().find(|cluster| cluster.name == name);
    let left = eventually("the owner's cluster is up", 120, || async { find() }).await;
    let directory = left.containerd.unwrap().parent().unwrap().to_path_buf();
    let pattern = format!("{}/", directory.display());
    let any_runs =
        || Command::new("pgrep").args(["--full", &pattern]).stdout(Stdio::null()).status().unwrap().success();
    assert!(any_runs());

    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("every process ended with its owner", 10, || async { (!any_runs()).then_some(()) }).await;
    assert!(directory.exists(), "a killed owner cleans nothing");

    let other = LocalCluster::start(Options::api_only("after")).await.unwrap();
    let text = std::fs::read_to_string(directory.join("cluster.json")).unwrap_or_default();
    assert!(!text.contains(&name), "the folder is gone, or another's");
    other.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_component_that_ends_early_is_named_with_the_end_of_its_log() {
    let cluster = LocalCluster::start(Options::api_only("hurt")).await.unwrap();
    let directory = cluster.logs().parent().unwrap().to_path_buf();
    let processes = std::fs::read_to_string(directory.join("processes")).unwrap();
    let etcd = processes.split(' ').next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(etcd), nix::sys::signal::Signal::SIGKILL).unwrap();
    let error = eventually("the end of etcd is noticed", 10, || async { cluster.check().err() }).await;
    let said = format!("{error:#}");
    assert!(said.contains("etcd of the local cluster ended by itself") && said.contains("signal: 9"), "{said}");
}

#[tokio::test]
async fn starting_can_be_spawned() {
    fn assert_send<T: Send>(_: &T) {}
    let started = AtomicUsize::new(0);
    let future = async {
        started.fetch_add(1, Ordering::Relaxed);
        LocalCluster::start(Options::api_only("unused")).await
    };
    assert_send(&future);
}
