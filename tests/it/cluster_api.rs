//! The calls to the Kubernetes API, each against a real API server.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, ServiceAccount},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    config::Kubeconfig,
};
use previewd::{
    cluster::{
        CALL_TIMEOUT, Cluster, ClusterError, Creation, Deletion, Expected, KubernetesSettings, LogRequest,
        NamespaceState, NoLog, Owner, PodReference, Tasks, WorkloadKind, assess, pods_to_restart,
    },
    environment::{Cause, ENVIRONMENT_LABEL, INSTALLATION_LABEL, Namespace, Obstacle, Progress},
    masking::Mask,
    recipe::Object,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use xtask::{
    cluster::{LocalCluster, api_proxy::ApiProxy},
    testing::shared_cluster,
};

/// One API server for all tests; each has namespaces of its own.
static LOCAL: OnceCell<LocalCluster> = OnceCell::const_new();

async fn local() -> &'static LocalCluster {
    LOCAL.get_or_init(async || shared_cluster(false).await.expect("a cluster")).await
}

async fn connect(kubeconfig: &Path) -> Cluster {
    let settings = KubernetesSettings { kubeconfig: Some(kubeconfig.to_owned()), context: None };
    Cluster::new(settings).await.expect("the kubeconfig is valid")
}

fn owner(environment: &str) -> Owner {
    Owner { installation_id: format!("installation-{environment}"), environment_id: environment.to_owned() }
}

fn labels(owner: &Owner) -> Value {
    json!({ INSTALLATION_LABEL: owner.installation_id, ENVIRONMENT_LABEL: owner.environment_id })
}

fn object(mut body: Value, owner: &Owner) -> Object {
    let labels = labels(owner);
    body["metadata"]["labels"] = labels;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    Object {
        api_version: text(&body["apiVersion"]),
        kind: text(&body["kind"]),
        name: text(&body["metadata"]["name"]),
        body,
    }
}

fn namespace_object(name: &str, owner: &Owner) -> Object {
    let mut object = object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}), owner);
    object.body["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("restricted");
    object
}

fn config_map(owner: &Owner) -> Object {
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"KEY": "value"}});
    object(body, owner)
}

fn pod_spec() -> Value {
    json!({
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "app", "image": "registry.localhost/shop:abc",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
        }],
    })
}

fn pod(owner: &Owner) -> Object {
    object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": pod_spec()}), owner)
}

fn deployment(owner: &Owner) -> Object {
    let body = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()},
        },
    });
    let mut object = object(body, owner);
    for (label, value) in labels(owner).as_object().expect("labels") {
        object.body["spec"]["template"]["metadata"]["labels"][label] = value.clone();
    }
    object
}

/// A namespace of this name, and the client for it.
async fn environment(name: &str) -> (Cluster, Namespace, Owner) {
    let cluster = connect(local().await.kubeconfig()).await;
    let owner = owner(name);
    let created = cluster.create_namespace(&namespace_object(name, &owner)).await.expect("the namespace is new");
    assert!(matches!(created, Creation::Created { .. }));
    (cluster, name.parse().expect("a namespace"), owner)
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut probe: impl FnMut() -> F) -> T {
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within 60 s"))
}

fn rule(result: Result<impl std::fmt::Debug, ClusterError>) -> String {
    match result.expect_err("the object is refused") {
        ClusterError::Refused(Cause::ObjectRefused { rule, .. })
        | ClusterError::Immutable(Cause::ObjectRefused { rule, .. }) => rule,
        other => panic!("not a refused object: {other:?}"),
    }
}

#[tokio::test]
async fn the_cluster_has_an_id_and_is_ready() {
    let cluster = connect(local().await.kubeconfig()).await;
    cluster.ready().await.expect("the API server is ready");
    let id = cluster.id().await.expect("kube-system has a UID");
    assert_eq!(id.len(), 36);
    assert_eq!(cluster.clone().id().await.expect("again"), id);
}

#[tokio::test]
async fn a_namespace_is_created_seen_and_removed_by_its_uid() {
    let cluster = connect(local().await.kubeconfig()).await;
    let ours = owner("pr-1-life");
    let name: Namespace = "pr-1-life".parse().expect("a namespace");
    assert_eq!(cluster.namespace(&name, &ours).await.expect("looked"), NamespaceState::Absent);
    assert_eq!(cluster.delete_namespace(&name, "none").await.expect("deleted"), Deletion::Gone);

    let Creation::Created { uid } =
        cluster.create_namespace(&namespace_object("pr-1-life", &ours)).await.expect("created")
    else {
        panic!("the namespace is new")
    };
    let again = cluster.create_namespace(&namespace_object("pr-1-life", &ours)).await.expect("answered");
    assert_eq!(again, Creation::AlreadyThere);
    let state = cluster.namespace(&name, &ours).await.expect("looked");
    assert_eq!(state, NamespaceState::Ours { uid: uid.clone(), terminating: None });
    let somebody = Owner { environment_id: "another".to_owned(), ..ours.clone() };
    assert_eq!(cluster.namespace(&name, &somebody).await.expect("looked"), NamespaceState::Foreign);

    let listed = cluster.namespaces(&ours.installation_id).await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].namespace, &listed[0].uid, listed[0].is_terminating), (&name, &uid, false));
    assert_eq!(listed[0].environment_id.as_deref(), Some("pr-1-life"));

    // Something that does not go by itself.
    let admin = local().await.client().await.expect("a client");
    let mut held = config_map(&ours);
    held.body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.apply(&name, &held).await.expect("applied");

    let other = "00000000-0000-0000-0000-000000000000";
    assert_eq!(cluster.delete_namespace(&name, other).await.expect("answered"), Deletion::AnotherOne);
    assert_eq!(cluster.delete_namespace(&name, &uid).await.expect("answered"), Deletion::Accepted);
    assert_eq!(cluster.delete_namespace(&name, &uid).await.expect("answered"), Deletion::Accepted);
    let blocked_by = eventually("the namespace says what holds it", async || {
        match cluster.namespace(&name, &ours).await.expect("looked") {
            NamespaceState::Ours { terminating: Some(terminating), .. } => terminating.blocked_by,
            state => panic!("not terminating: {state:?}"),
        }
    });
    assert_eq!(blocked_by.await, "the finalizer example.com/hold holds 1 of its objects");
    let created = cluster
        .apply(&name, &object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}}), &ours))
        .await;
    assert_eq!(created.expect_err("nothing can be made any more"), ClusterError::NamespaceTerminating);

    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let maps = Api::<ConfigMap>::namespaced(admin, name.as_str());
    maps.patch("web", &PatchParams::default(), &free).await.expect("the finalizer goes");
    eventually("the namespace goes", async || {
        (cluster.namespace(&name, &ours).await.expect("looked") == NamespaceState::Absent).then_some(())
    })
    .await;
    let gone = cluster.apply(&name, &config_map(&ours)).await;
    assert_eq!(gone.expect_err("there is no namespace"), ClusterError::NamespaceGone);
}

#[tokio::test]
async fn objects_are_applied_and_deleted() {
    let (cluster, namespace, owner) = environment("pr-2-apply").await;
    let mut map = config_map(&owner);
    cluster.apply(&namespace, &map).await.expect("applied");
    map.body["data"] = json!({"OTHER": "value"});
    cluster.apply(&namespace, &map).await.expect("applied again");
    let admin = Api::<ConfigMap>::namespaced(local().await.client().await.expect("a client"), namespace.as_str());
    let stored = admin.get("web").await.expect("it is there");
    assert_eq!(stored.data.expect("data").into_keys().collect::<Vec<_>>(), ["OTHER"]);

    let delete = || cluster.delete_object(&namespace, "v1", "ConfigMap", "web");
    assert_eq!(delete().await.expect("answered"), Deletion::Accepted);
    assert_eq!(delete().await.expect("answered"), Deletion::Gone);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_said_without_its_values() {
    let (cluster, namespace, owner) = environment("pr-3-refused").await;
    let canary = "canary-9c41";

    let mut unknown_field = deployment(&owner);
    unknown_field.body["spec"]["replica"] = json!(canary);
    assert_eq!(rule(cluster.apply(&namespace, &unknown_field).await), "it has no field spec.replica");

    let mut wrong_type = deployment(&owner);
    wrong_type.body["spec"]["replicas"] = json!(canary);
    let text = rule(cluster.apply(&namespace, &wrong_type).await);
    assert!(!text.contains(canary), "{text}");

    let mut twice = deployment(&owner);
    let variable = |value: &str| json!({ "name": "LOG_LEVEL", "value": value });
    let container = &mut twice.body["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([variable("info"), variable(canary), { "name": "PORT", "value": 8080 }]);
    let text = rule(cluster.apply(&namespace, &twice).await);
    assert!(text.contains(".env has two entries of name=LOG_LEVEL; leave one out"), "{text}");
    assert!(text.contains(".env[name=PORT].value must be text; put it in quotes"), "{text}");
    assert!(!text.contains(canary), "{text}");

    let mut invalid = deployment(&owner);
    invalid.body["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!(canary);
    invalid.body["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 99_999_999}]);
    let text = rule(cluster.apply(&namespace, &invalid).await);
    assert!(text.starts_with("spec.template.spec.containers[0]."), "{text}");
    assert!(text.ends_with(" (and 1 more)") && !text.contains(canary), "{text}");

    cluster.apply(&namespace, &deployment(&owner)).await.expect("applied");
    let mut immutable = deployment(&owner);
    immutable.body["spec"]["selector"]["matchLabels"]["tier"] = json!(canary);
    immutable.body["spec"]["template"]["metadata"]["labels"]["tier"] = json!(canary);
    assert_eq!(rule(cluster.apply(&namespace, &immutable).await), "spec.selector cannot be changed once it is set");

    // Of a kind that no test defines, because clusters are shared.
    let table = json!({"apiVersion": "example.com/v1", "kind": "Table", "metadata": {"name": "web"}});
    let text = rule(cluster.apply(&namespace, &object(table, &owner)).await);
    assert_eq!(text, "the cluster has no such kind of object");

    // Past a ConfigMap's limit, and past a request's.
    let mut large = config_map(&owner);
    large.body["data"]["KEY"] = json!("x".repeat(2 << 20));
    assert_eq!(rule(cluster.apply(&namespace, &large).await), "it is too long");
    large.body["data"]["KEY"] = json!("x".repeat(4 << 20));
    assert_eq!(rule(cluster.apply(&namespace, &large).await), "it is too large");
}

#[tokio::test]
async fn pods_are_tried_before_they_are_made() {
    let (cluster, namespace, owner) = environment("pr-4-try").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "preview"}});
    cluster.apply(&namespace, &object(account, &owner)).await.expect("applied");
    let mut allowed = pod(&owner);
    allowed.body["spec"]["serviceAccountName"] = json!("preview");
    cluster.dry_run_pod(&namespace, &allowed).await.expect("the pod is allowed");

    let mut root = allowed.clone();
    root.body["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    root.body["spec"]["containers"][0]["securityContext"] = json!({});
    root.body["spec"]["hostNetwork"] = json!(true);
    assert_eq!(
        rule(cluster.dry_run_pod(&namespace, &root).await),
        "the Pod Security profile asks that allowPrivilegeEscalation must be false; capabilities must drop ALL and add \
         at most NET_BIND_SERVICE; runAsNonRoot must be true; hostNetwork, hostPID and hostIPC must not be set"
    );

    let mut lost = allowed.clone();
    lost.body["spec"]["serviceAccountName"] = json!("nobody");
    assert_eq!(rule(cluster.dry_run_pod(&namespace, &lost).await), "its service account does not exist");

    // As their controller makes them, with the set's own claims, and one for each pod.
    let mut spec = allowed.body["spec"].clone();
    let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Mi" } } });
    spec["volumes"] = json!([{ "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": claim } } }]);
    let mounts = json!([{ "name": "data", "mountPath": "/data" }, { "name": "scratch", "mountPath": "/scratch" }]);
    spec["containers"][0]["volumeMounts"] = mounts;
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "set" },
        "spec": {
            "serviceName": "set", "selector": { "matchLabels": { "a": "b" } },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": claim }],
            "template": { "metadata": { "labels": { "a": "b" } }, "spec": spec },
        },
    });
    let mut set = object(set, &owner);
    cluster.dry_run_pod(&namespace, &set).await.expect("its claims are there");
    let container = "/spec/template/spec/containers/0";
    set.body.pointer_mut(container).unwrap()["volumeMounts"][0]["name"] = json!("nothing");
    let text = rule(cluster.dry_run_pod(&namespace, &set).await);
    let mount = "spec.template.spec.containers[0].volumeMounts[0].name";
    assert_eq!(text, format!("{mount} names something that does not exist"));
    set.body.pointer_mut(container).unwrap()["env"] = json!([{ "name": "PORT", "value": 8080 }]);
    let text = rule(cluster.dry_run_pod(&namespace, &set).await);
    assert_eq!(text, "spec.template.spec.containers.env.value must be text; put it in quotes");

    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "preview"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "200m"}, "default": {"memory": "32Mi"}}]},
    });
    cluster.apply(&namespace, &object(range, &owner)).await.expect("applied");
    let mut greedy = allowed.clone();
    greedy.body["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!("300m");
    let text = eventually("the limit range is known", async || {
        let tried = cluster.dry_run_pod(&namespace, &greedy).await;
        tried.is_err().then(|| rule(tried))
    });
    assert_eq!(text.await, "the maximum of cpu per Container is 200m, and its limit is 300m");

    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "preview"},
        "spec": {"hard": {"limits.cpu": "50m", "limits.memory": "512Mi"}},
    });
    cluster.apply(&namespace, &object(quota, &owner)).await.expect("applied");
    let refused = eventually("the quota is counted", async || match cluster.dry_run_pod(&namespace, &allowed).await {
        Ok(()) | Err(ClusterError::NotTaken { .. }) => None,
        Err(error) => Some(error),
    });
    let cause = Cause::QuotaExceeded {
        resource: "limits.cpu".to_owned(),
        needed: "100m".to_owned(),
        allowed: "50m".to_owned(),
    };
    assert_eq!(refused.await, ClusterError::Refused(cause));
}

#[tokio::test]
async fn rollouts_are_read_and_judged() {
    let (cluster, namespace, owner) = environment("pr-5-rollout").await;
    let web = [(WorkloadKind::Deployment, "web".to_owned())];
    let expected = Expected {
        workloads: &web,
        attempt_started_at: 0,
        attempt_deadline: 180_000,
        now: 60_000,
        tasks: Tasks::Repositorys,
    };
    cluster.apply(&namespace, &deployment(&owner)).await.expect("applied");
    let workloads = eventually("the pod is made", async || {
        let workloads = cluster.workloads(&namespace, &owner, &[]).await.expect("read");
        (!workloads.pods.is_empty() && !workloads.replica_sets.is_empty()).then_some(workloads)
    })
    .await;
    assert_eq!((workloads.deployments.len(), workloads.replica_sets.len(), workloads.pods.len()), (1, 1, 1));
    assert_eq!(assess(&workloads, &expected), Progress::Progressing);
    let somebody = Owner { environment_id: "another".to_owned(), ..owner.clone() };
    let none = cluster.workloads(&namespace, &somebody, &[]).await.expect("read");
    assert!(none.deployments.is_empty() && none.replica_sets.is_empty() && none.pods.is_empty());

    let request = LogRequest { tail: 10, timestamps: true, ..LogRequest::default() };
    let logs = cluster.logs(&namespace, &owner, &request, &Mask::default()).await.expect("read");
    assert_eq!((logs.containers.len(), logs.omitted), (1, 0));
    assert_eq!(logs.containers[0].container, "app");
    assert_eq!(logs.containers[0].no_log, Some(NoLog::Waiting { reason: "Pending".to_owned() }));
    assert!(cluster.logs(&namespace, &somebody, &request, &Mask::default()).await.expect("read").containers.is_empty());

    let restarted = eventually("the new ReplicaSet is seen", async || {
        let workloads = cluster.workloads(&namespace, &owner, &[]).await.expect("read");
        let pods = pods_to_restart(&workloads, &expected);
        (!pods.is_empty()).then_some(pods)
    })
    .await;
    for outcome in ["deleted", "as good as deleted"] {
        for pod in &restarted {
            cluster.restart_pod(&namespace, pod).await.expect(outcome);
        }
    }
    eventually("another pod takes its place", async || {
        let workloads = cluster.workloads(&namespace, &owner, &[]).await.expect("read");
        let pods = pods_to_restart(&workloads, &expected);
        pods.first().is_some_and(|PodReference { uid, .. }| *uid != restarted[0].uid).then_some(())
    })
    .await;

    let mut refused = deployment(&owner);
    refused.body["spec"]["template"]["spec"]["securityContext"] = json!({"runAsNonRoot": true});
    cluster.apply(&namespace, &refused).await.expect("the Deployment itself is taken");
    let failed = eventually("its pods are refused", async || {
        let workloads = cluster.workloads(&namespace, &owner, &[]).await.expect("read");
        match assess(&workloads, &expected) {
            Progress::Failed(cause) => Some(cause),
            Progress::Progressing => None,
            other => panic!("{other:?}"),
        }
    });
    let cause = failed.await;
    assert_eq!(
        cause.to_string(),
        "Deployment web was refused: the Pod Security profile asks that seccompProfile must be RuntimeDefault or \
         Localhost."
    );
}

#[tokio::test]
async fn changes_are_seen_as_they_happen() {
    let cluster = connect(local().await.kubeconfig()).await;
    let ours = owner("pr-6-watch");
    let (touched, health) = cluster.watch(&ours.installation_id);
    let mut touched = std::pin::pin!(touched);
    assert_eq!(health.missing(), ["Namespace", "Deployment", "Pod", "StatefulSet", "Job"]);
    let namespace: Namespace = "pr-6-watch".parse().expect("a namespace");

    let create = async {
        eventually("the watches stand", async || health.missing().is_empty().then_some(())).await;
        cluster.create_namespace(&namespace_object("pr-6-watch", &ours)).await.expect("created");
    };
    let (seen, ()) = tokio::join!(touched.next(), create);
    assert_eq!(seen, Some(namespace.clone()));

    cluster.apply(&namespace, &deployment(&ours)).await.expect("applied");
    // The Deployment's own changes, and its pod.
    for _ in 0..3 {
        let seen = tokio::time::timeout(Duration::from_secs(30), touched.next()).await.expect("an event");
        assert_eq!(seen, Some(namespace.clone()));
    }

    // What is there already comes first to whoever begins later.
    let (late, _) = cluster.watch(&ours.installation_id);
    let mut late = std::pin::pin!(late);
    let seen = tokio::time::timeout(Duration::from_secs(30), late.next()).await.expect("an event");
    assert_eq!(seen, Some(namespace));
}

#[tokio::test]
async fn watches_that_were_cut_come_back_with_what_was_missed() {
    let proxy = ApiProxy::start(local().await.kubeconfig()).await.expect("a proxy");
    let cluster = connect(&proxy.kubeconfig()).await;
    let ours = owner("pr-8-cut");
    let (touched, health) = cluster.watch(&ours.installation_id);
    let mut touched = std::pin::pin!(touched);
    let scene = async {
        eventually("the watches stand", async || health.missing().is_empty().then_some(())).await;
        proxy.set_watches_cut(true);
        eventually("it is noticed", async || (!health.missing().is_empty()).then_some(())).await;
        let direct = connect(local().await.kubeconfig()).await;
        direct.create_namespace(&namespace_object("pr-8-cut", &ours)).await.expect("created");
        proxy.set_watches_cut(false);
    };
    let (seen, ()) = tokio::join!(touched.next(), scene);
    assert_eq!(seen.as_ref().map(Namespace::as_str), Some("pr-8-cut"));
    let stand = eventually("the watches stand again", async || health.missing().is_empty().then_some(()));
    tokio::select! {
        () = stand => {}
        () = async { while touched.next().await.is_some() {} } => unreachable!("the watch never ends"),
    }
}

#[tokio::test]
async fn calls_cost_what_they_say() {
    let (_, namespace, owner) = environment("pr-9-cost").await;
    let proxy = ApiProxy::start(local().await.kubeconfig()).await.expect("a proxy");
    let cluster = connect(&proxy.kubeconfig()).await;
    assert_eq!(proxy.requests().len(), 0, "nothing is sent before the first call");
    let mut before = 0;
    let mut cost = || proxy.requests().len() - std::mem::replace(&mut before, proxy.requests().len());

    cluster.namespace(&namespace, &owner).await.expect("read");
    assert_eq!(cost(), 1);
    cluster.apply(&namespace, &deployment(&owner)).await.expect("applied");
    assert_eq!(cost(), 1, "no discovery");
    cluster.workloads(&namespace, &owner, &[]).await.expect("read");
    assert_eq!(cost(), 3);
    let request = LogRequest { tail: 10, timestamps: true, ..LogRequest::default() };
    cluster.logs(&namespace, &owner, &request, &Mask::default()).await.expect("read");
    assert_eq!(cost(), 1, "a container that has not started is not asked");
    let mut unknown_kind = config_map(&owner);
    unknown_kind.api_version = "example.com/v1".to_owned();
    cluster.apply(&namespace, &unknown_kind).await.expect_err("there is no such kind");
    assert_eq!(cost(), 1);

    proxy.set_away(true);
    let away = cluster.namespace(&namespace, &owner).await.expect_err("it is away");
    assert!(matches!(away, ClusterError::Away { .. }), "{away:?}");
    assert!(cost() <= 1, "nothing is tried again");
    proxy.set_away(false);
    cluster.namespace(&namespace, &owner).await.expect("it is back");

    proxy.set_delay(CALL_TIMEOUT * 2);
    let began = Instant::now();
    let away = cluster.namespace(&namespace, &owner).await.expect_err("it hangs");
    assert!(matches!(&away, ClusterError::Away { why, .. } if why.contains("within 10 s")), "{away:?}");
    assert!(began.elapsed() < CALL_TIMEOUT + Duration::from_secs(1));
}

/// A kubeconfig for the same cluster with another user.
async fn kubeconfig_with(user: Value) -> tempfile::NamedTempFile {
    let admin = Kubeconfig::read_from(local().await.kubeconfig()).expect("the kubeconfig is valid");
    let admin = serde_json::to_value(admin).expect("it serializes");
    let name = admin["clusters"][0]["name"].clone();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": admin["clusters"],
        "contexts": [{"name": "other", "context": {"cluster": name, "user": "other"}}],
        "users": [{"name": "other", "user": user}],
        "current-context": "other",
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), kubeconfig.to_string()).expect("written");
    file
}

#[tokio::test]
async fn missing_permissions_are_the_operators_matter() {
    let (_, namespace, owner) = environment("pr-7-rights").await;
    let accounts = Api::<ServiceAccount>::namespaced(local().await.client().await.expect("a client"), "default");
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let token = accounts.create_token_request("default", &PostParams::default(), &request).await.expect("a token");
    let token = token.status.expect("a token").token;
    let file = kubeconfig_with(json!({"token": token})).await;
    let cluster = connect(file.path()).await;
    cluster.ready().await.expect("everybody may ask that");

    let mut calls = BTreeSet::new();
    let mut note = |error: ClusterError| match error {
        ClusterError::Forbidden { call } => calls.insert(call),
        // What is sent can be shown where it is missing.
        ClusterError::NotTaken { cause: Cause::NotTaken { kind, name, why: Obstacle::Forbidden }, .. } => {
            calls.insert(format!("send {kind} {name}"))
        }
        other => panic!("not forbidden: {other:?}"),
    };
    note(cluster.namespace(&namespace, &owner).await.expect_err("forbidden"));
    note(cluster.apply(&namespace, &config_map(&owner)).await.expect_err("forbidden"));
    note(cluster.dry_run_pod(&namespace, &pod(&owner)).await.expect_err("forbidden"));
    note(cluster.create_namespace(&namespace_object("pr-7-new", &owner)).await.expect_err("forbidden"));
    note(cluster.delete_namespace(&namespace, "x").await.expect_err("forbidden"));
    assert_eq!(
        calls.into_iter().collect::<Vec<_>>(),
        [
            "delete Namespace pr-7-rights",
            "read Namespace pr-7-rights",
            "send ConfigMap web",
            "send Namespace pr-7-new",
            "send Pod web",
        ]
    );
}

#[tokio::test]
async fn credentials_that_ran_out_are_read_again() {
    let file = kubeconfig_with(json!({"token": "expired"})).await;
    let cluster = connect(file.path()).await;
    let refused = cluster.id().await.expect_err("the token is not known");
    assert!(matches!(&refused, ClusterError::Away { why, .. } if why.contains("credentials")), "{refused:?}");

    std::fs::copy(local().await.kubeconfig(), file.path()).expect("fresh credentials");
    cluster.id().await.expect("the fresh credentials are used");
}

#[tokio::test]
async fn a_cluster_that_is_away_is_awaited() {
    // Nobody listens on the port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "clusters": [{"name": "away", "cluster": {"server": format!("https://127.0.0.1:{port}")}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "me"}}],
        "users": [{"name": "me", "user": {"token": "canary-51d0"}}],
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), kubeconfig.to_string()).expect("written");
    let cluster = connect(file.path()).await;
    let began = Instant::now();
    let error = cluster.ready().await.expect_err("nobody is there");
    assert!(matches!(error, ClusterError::Away { .. }), "{error:?}");
    assert!(error.to_string().contains("refused") && !error.to_string().contains("canary"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "it was tried once only");
}
