//! What real containers do, read and judged: each way of going wrong has a namespace of its own on one node.

use std::{
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;
use previewd::{
    cluster::{
        Cluster, Creation, Expected, KubernetesSettings, LogRequest, NamespaceState, NoLog, Owner, Tasks, WorkloadKind,
        assess,
    },
    environment::{
        Cause, ENVIRONMENT_LABEL, Hindrance, INSTALLATION_LABEL, Namespace, ProbeResult, Progress, PullFailure,
    },
    masking::Mask,
    recipe::Object,
};
use serde_json::{Value, json};
use xtask::{
    cluster::{LocalCluster, Options, sample_image, sample_image_name},
    testing::eventually,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A namespace with one Deployment.
struct Environment {
    cluster: Cluster,
    namespace: Namespace,
    owner: Owner,
    started_at: i64,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is right");
    i64::try_from(since.as_millis()).expect("a time of this era")
}

impl Environment {
    async fn start(cluster: &Cluster, name: &str, container: Value) -> Self {
        let owner = Owner { installation_id: "installation".to_owned(), environment_id: name.to_owned() };
        let labels = json!({INSTALLATION_LABEL: "installation", ENVIRONMENT_LABEL: name});
        let mut labels_of_namespace = labels.clone();
        labels_of_namespace["pod-security.kubernetes.io/enforce"] = json!("restricted");
        let object = |api_version: &str, kind: &str, name: &str, body: Value| Object {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            body,
        };
        let body = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels_of_namespace},
        });
        let created = cluster.create_namespace(&object("v1", "Namespace", name, body)).await.expect("created");
        assert!(matches!(created, Creation::Created { .. }));

        let mut app = json!({
            "name": "app", "image": sample_image_name(COMMIT), "imagePullPolicy": "IfNotPresent",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        });
        app.as_object_mut().expect("a container").extend(container.as_object().expect("fields").clone());
        let body = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [app],
                }},
            },
        });
        let namespace: Namespace = name.parse().expect("a namespace");
        let started_at = now();
        cluster.apply(&namespace, &object("apps/v1", "Deployment", "web", body)).await.expect("applied");
        Self { cluster: cluster.clone(), namespace, owner, started_at }
    }

    async fn progress(&self) -> Progress {
        let mut workloads = self.cluster.workloads(&self.namespace, &self.owner, &[]).await.expect("read");
        workloads.events = self.cluster.events(&self.namespace).await;
        let web = [(WorkloadKind::Deployment, "web".to_owned())];
        let expected = Expected {
            workloads: &web,
            attempt_started_at: self.started_at,
            attempt_deadline: self.started_at + 180_000,
            now: now(),
            tasks: Tasks::Repositorys,
        };
        assess(&workloads, &expected)
    }

    async fn until(&self, is_awaited: impl Fn(&Progress) -> bool) -> Progress {
        let mut last = Progress::Progressing;
        let awaited = tokio::time::timeout(Duration::from_secs(180), async {
            loop {
                last = self.progress().await;
                if is_awaited(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let in_time = awaited.await.is_ok();
        assert!(in_time, "{} stays at {last:?}", self.namespace);
        last
    }

    async fn logs(&self, request: LogRequest) -> previewd::cluster::Logs {
        self.cluster.logs(&self.namespace, &self.owner, &request, &Mask::default()).await.expect("read")
    }
}

fn log_request() -> LogRequest {
    LogRequest { tail: 100, timestamps: true, ..LogRequest::default() }
}

fn mode(mode: &str) -> Value {
    json!({"env": [{"name": "MODE", "value": mode}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_judged_by_what_they_do() {
    if std::fs::metadata("/proc/self").expect("Linux").uid() != 0 {
        return xtask::testing::skip("a node needs root");
    }
    let local = LocalCluster::start(Options::with_node("cluster-node")).await.expect("a cluster");
    let image = sample_image(COMMIT).expect("an image");
    let user = |name: &str, user: &str| {
        let mut image = image.clone();
        image.name = format!("registry.localhost/{name}:1");
        image.user = user.into();
        image
    };
    for image in [image.clone(), user("root", "0"), user("named", "node")] {
        local.import_image(&image).await.expect("imported");
    }
    let settings = KubernetesSettings { kubeconfig: Some(local.kubeconfig().to_owned()), context: None };
    let cluster = Cluster::new(settings).await.expect("the kubeconfig is valid");

    let app = || "app".to_owned();
    let missing = |missing: &str| Cause::ContainerConfig { container: app(), missing: Some(missing.to_owned()) };
    let from_map =
        json!({"env": [{"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "KEY"}}}]});
    let absent = "127.0.0.1:1/absent:1";
    let ends = [
        (
            "root",
            json!({"image": "registry.localhost/root:1"}),
            Progress::Failed(Cause::RunsAsRoot { container: app() }),
        ),
        (
            "named",
            json!({"image": "registry.localhost/named:1"}),
            Progress::Failed(missing("a numeric USER in its image")),
        ),
        ("no-map", from_map, Progress::Failed(missing("the ConfigMap settings"))),
        (
            "no-image",
            json!({"image": absent}),
            Progress::Stumbling(Cause::ImagePullFailed {
                container: app(),
                image: absent.to_owned(),
                why: PullFailure::Unreachable,
            }),
        ),
        (
            "no-room",
            json!({"resources": {"requests": {"cpu": "500"}, "limits": {"cpu": "500"}}}),
            Progress::Stumbling(Cause::Unschedulable { hindrances: vec![Hindrance::Cpu] }),
        ),
        (
            "crash",
            mode("crash"),
            Progress::AttemptOver(Cause::CrashLoop { container: app(), restarts: 3, exit_code: Some(1) }),
        ),
        (
            "oom",
            mode("oom"),
            Progress::AttemptOver(Cause::OutOfMemory { container: app(), limit: Some("32Mi".to_owned()) }),
        ),
    ];
    let judged = join_all(ends.into_iter().map(|(name, container, end)| {
        let cluster = &cluster;
        async move {
            let environment = Environment::start(cluster, name, container).await;
            environment.until(|progress| *progress == end).await;
            if name == "crash" {
                // The kubelet keeps one run before the present one, and may be about to remove it.
                eventually("the log of a run that ended", Duration::from_secs(60), async || {
                    let logs = environment.logs(LogRequest { previous: true, ..log_request() }).await;
                    let [log] = &logs.containers[..] else { panic!("{logs:?}") };
                    assert!(log.no_log.as_ref().is_none_or(|no_log| *no_log == NoLog::Unavailable), "{logs:?}");
                    log.lines.iter().any(|line| line.text.contains("on fire")).then_some(())
                })
                .await;
            }
            if name == "root" {
                let logs = environment.logs(log_request()).await;
                let waiting = NoLog::Waiting { reason: "CreateContainerConfigError".to_owned() };
                assert_eq!(logs.containers[0].no_log, Some(waiting));
            }
        }
    }));
    let never_ready = async {
        let environment = Environment::start(&cluster, "never-ready", mode("never-ready")).await;
        let is_answered = |progress: &Progress| match progress {
            Progress::Stumbling(Cause::NotReadyYet { probe: Some(probe), .. }) => {
                matches!(probe.result, ProbeResult::Answered(_))
            }
            _ => false,
        };
        environment.until(is_answered).await;
    };
    let ready = async {
        let environment = Environment::start(&cluster, "ready", json!({})).await;
        environment.until(|progress| matches!(progress, Progress::Ready)).await;

        let logs = environment.logs(log_request()).await;
        assert_eq!((logs.containers.len(), logs.omitted), (1, 0));
        let log = &logs.containers[0];
        assert!(log.left_out == 0 && log.no_log.is_none());
        assert!(log.lines[0].text.ends_with(&format!("shop {COMMIT} starts")), "{log:?}");
        assert!(log.lines.iter().all(|line| line.timestamp.is_some()), "{log:?}");
        let one = environment.logs(LogRequest { tail: 1, timestamps: false, ..log_request() }).await;
        assert_eq!((one.containers[0].lines.len(), &one.containers[0].lines[0].timestamp), (1, &None));
        let before = environment.logs(LogRequest { previous: true, ..log_request() }).await;
        assert_eq!(before.containers[0].no_log, Some(NoLog::NeverRestarted));
        let other = environment.logs(LogRequest { container: Some("other".to_owned()), ..log_request() }).await;
        assert!(other.containers.is_empty());

        // A namespace with a running pod goes too.
        let Environment { cluster, namespace, owner, .. } = &environment;
        let NamespaceState::Ours { uid, .. } = cluster.namespace(namespace, owner).await.expect("looked") else {
            panic!("it is ours")
        };
        cluster.delete_namespace(namespace, &uid).await.expect("accepted");
        let gone = tokio::time::timeout(Duration::from_secs(60), async {
            while cluster.namespace(namespace, owner).await.expect("looked") != NamespaceState::Absent {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        gone.await.expect("the namespace goes");
    };
    tokio::join!(judged, never_ready, ready);
    local.shutdown().await.expect("nothing is left behind");
}
