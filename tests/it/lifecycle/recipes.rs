//! What a preview runs: services beside the app, databases, tasks, and manifests of the repository's own.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::Value;
use xtask::{
    cluster::{POSTGRES_IMAGE, POSTGRES_VERSION},
    github::{NewPullRequest, Role},
    testing::eventually,
};

use super::{
    commands::command,
    life::{self, IMAGE, Life, SOON, TO_GONE, TO_RUNNING},
    names,
};

/// An application with a database, whose setup does `migrate`.
fn with_database(migrate: &str) -> String {
    format!(
        "version: 1
app:
  image: {IMAGE}
  port: 8080
  health: /healthz
  env: {{ COMMIT: '{{{{ sha }}}}' }}
services:
  worker:
    image: {IMAGE}
    port: 8080
databases:
  db: {{ engine: postgres, version: {POSTGRES_VERSION}, storage: 128Mi }}
seed: {{ command: [/shop, seed] }}
setup:
  command: [/shop, migrate]
  env: {{ MIGRATE: {migrate} }}
"
    )
}

/// With everything that recipes may ask for.
pub async fn start(ground: &life::Ground, name: &str) -> Life {
    start_with(ground, name, "").await
}

/// The same, with more sections in the configuration.
pub async fn start_with(ground: &life::Ground, name: &str, sections: &str) -> Life {
    let mut life = Life::prepare(ground, name, None).await;
    let helm = tokio::task::spawn_blocking(xtask::cluster::helm).await.unwrap().unwrap();
    life.configure(&format!(
        "[quota]\ncpu = \"250m\"\n[database_images]\npostgres = \"{POSTGRES_IMAGE}\"\n[helm]\npath = {helm:?}\n{sections}"
    ));
    life.begin().await;
    life
}

async fn database_pod(life: &Life, namespace: &str) -> String {
    let pods = Api::<Pod>::namespaced(life.kube.clone(), namespace);
    let found = pods.list(&ListParams::default().labels("app.kubernetes.io/name=db")).await.unwrap();
    found.items.first().and_then(ResourceExt::uid).expect("the database's pod")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_keeps_its_rows_from_commit_to_commit() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "rows").await;
    let number = life.open("change", &with_database("ok")).await;
    let running = life.until_running(number).await;
    let namespace = running["namespace"].as_str().unwrap().to_owned();
    let visits = async |environment: &Value| life.get_path(environment, "/visits").await.trim().to_owned();
    assert_eq!(visits(&running).await, "2", "the seed's and this one");
    assert_eq!(names::<Deployment>(&life, &namespace).await, ["app", "db", "worker"]);
    assert_eq!(names::<Service>(&life, &namespace).await, ["app", "db", "worker"]);
    let jobs = names::<Job>(&life, &namespace).await;
    assert!(jobs.len() == 2 && jobs[0] == "seed" && jobs[1].starts_with("setup-"), "{jobs:?}");
    let before = database_pod(&life, &namespace).await;

    let second = life.push(number).await;
    let running = life.until_running(number).await;
    assert!(life.page(&running).await.contains(&second));
    assert_eq!(visits(&running).await, "3", "nothing is lost, and nothing is seeded twice");
    assert_eq!(database_pod(&life, &namespace).await, before, "a push does not concern the database");

    let github = &life.stand.github;
    github.push(&life.repository, number, &[(".preview.yaml", &with_database("fail"))]).await.unwrap();
    // Three attempts, with their waits.
    let failed = life.until(number, TO_RUNNING, |found| found["status"] == "failed").await;
    assert_eq!(failed["reason"], "setup_failed", "{failed:#}");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("ended with exit code 1") && message.contains("stays changed"), "{message}");
    let served = |found: &Value| found["serving_commit"] == second.as_str();
    let failed = life.until(number, TO_RUNNING, served).await;
    assert_eq!(visits(&failed).await, "4", "the last good commit serves, with its rows");
    life.until_commented(number, "ended with exit code 1").await;

    // The password is in one Secret, and in nothing that people or agents see.
    let secret = Api::<Secret>::namespaced(life.kube.clone(), &namespace).get("db").await.unwrap();
    let password = String::from_utf8(secret.data.unwrap().remove("PASSWORD").unwrap().0).unwrap();
    assert!(password.len() >= 32);
    let seen = format!("{}{failed}{}", life.comments(number).join("\n"), life.log());
    assert!(!seen.contains(&password), "the database's password got out");
    assert!(!is_kept(&life, &password), "the database's password is in the clear in previewd's own");

    github.close(&life.repository, number).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    let volumes = Api::<PersistentVolume>::all(life.kube.clone());
    let is_ours = |volume: &PersistentVolume| {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        claim.is_some_and(|claim| claim.namespace.as_deref() == Some(&namespace))
    };
    eventually("its volume is gone", SOON, async || {
        let left = volumes.list(&ListParams::default()).await.unwrap();
        (!left.items.iter().any(is_ours)).then_some(())
    })
    .await;
    life.finish().await;
}

/// Whether a text stands in the clear, or in base64, in the files of previewd's database.
fn is_kept(life: &Life, text: &str) -> bool {
    let encoded = BASE64.encode(text);
    // Within other text the first and last characters of base64 differ with their neighbours.
    let encoded = &encoded[..encoded.len() - 4];
    let holds = |content: &[u8], text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
    ["previewd.db", "previewd.db-wal"].into_iter().any(|name| {
        let content = std::fs::read(life.stand.folder().join(name)).unwrap_or_default();
        holds(&content, text) || holds(&content, encoded)
    })
}

const CANARY: &str = "canary-of-the-operator-0123456789";

/// T080 for what the operator gives: it reaches the container, and nothing and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_the_operator_reach_the_repositorys_own_commits_only() {
    let Some(ground) = life::node().await else { return };
    let mut life = Life::prepare(ground, "secrets", None).await;
    life.configure(&format!(
        "[secrets]\n\"acme/*\" = {{ STRIPE_KEY = \"{CANARY}\", OTHER = \"{CANARY}\" }}\n\
         [registries]\n\"registry.example.com\" = {{ username = \"bot\", password = \"{CANARY}\" }}\n\
         [triggers]\nforks = \"approve\"\n"
    ));
    life.begin().await;
    let github = &life.stand.github;
    github.set_role(&life.repository, "ann", Role::Maintain).unwrap();
    let recipe = format!("{}secrets: [STRIPE_KEY]\n", life::recipe("ok"));
    github.commit(&life.repository, "main", &[(".preview.yaml", &recipe)]).await.unwrap();
    let number = life.open("own", &recipe).await;
    let running = life.until_running(number).await;
    let namespace = running["namespace"].as_str().unwrap();
    let secrets = Api::<Secret>::namespaced(life.kube.clone(), namespace);
    let given = secrets.get("preview-secrets").await.unwrap().data.unwrap();
    assert_eq!(given.keys().collect::<Vec<_>>(), ["STRIPE_KEY"], "what was asked for and nothing else");
    let pod = async |namespace: &str| {
        let pods = Api::<Pod>::namespaced(life.kube.clone(), namespace).list(&ListParams::default()).await.unwrap();
        serde_json::to_value(&pods.items[0].spec).unwrap()
    };
    let spec = pod(namespace).await;
    assert_eq!(spec["imagePullSecrets"][0]["name"], "previewd-registry");
    assert!(spec["containers"][0]["env"].to_string().contains("STRIPE_KEY") && !spec.to_string().contains(CANARY));

    let new = NewPullRequest::new("A stranger's", "theirs").from_fork("eve").file("change.txt", "theirs");
    let theirs = github.open_pull_request(&life.repository, new).await.unwrap();
    life.until(theirs, SOON, |found| found["reason"] == "awaiting_approval").await;
    let approve = format!("/preview approve {}", &life.head(theirs)[..12]);
    assert_eq!(command(&life, theirs, "ann", &approve).await, "+1");
    let running = life.until_running(theirs).await;
    let namespace = running["namespace"].as_str().unwrap();
    let secrets = Api::<Secret>::namespaced(life.kube.clone(), namespace);
    assert!(secrets.get_opt("preview-secrets").await.unwrap().is_none(), "a stranger's commit gets nothing");
    assert!(!pod(namespace).await.to_string().contains("STRIPE_KEY"));

    // One that is not given is named, with its place; the value of none is anywhere.
    let unknown = recipe.replace("STRIPE_KEY]", "STRIPE_KEY, ROOT_PASSWORD]");
    github.push(&life.repository, number, &[(".preview.yaml", &unknown)]).await.unwrap();
    let failed = life.until_status(number, "failed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("secrets[1] is none of the secrets that the operator gives this repository"), "{message}");
    let comments = format!("{}{}", life.comments(number).join("\n"), life.comments(theirs).join("\n"));
    let logs = life.call("get_preview_logs", number).await;
    let seen = format!("{comments}{failed}{logs:?}{}", life.log());
    assert!(!seen.contains(CANARY), "a secret got out");
    assert!(!is_kept(&life, CANARY), "a secret is in the clear in previewd's database");
    life.finish().await;
}

/// A web server with its settings and a claim, as a repository would write them.
fn manifests(label: &str, size: &str, pod: &str) -> Vec<(String, String)> {
    let recipe = "version: 1\nmanifests: [k8s/*.yaml]\nexpose: { service: web, port: 80 }\n";
    let web = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  selector: {{ matchLabels: {{ app: {label} }} }}
  template:
    metadata: {{ labels: {{ app: {label} }} }}
    spec:
      {pod}
      containers:
        - name: web
          image: {IMAGE}
          ports: [{{ containerPort: 8080 }}]
          envFrom: [{{ configMapRef: {{ name: settings }} }}]
          readinessProbe: {{ httpGet: {{ path: /healthz, port: 8080 }}, periodSeconds: 1 }}
          volumeMounts: [{{ name: data, mountPath: /data }}]
      volumes: [{{ name: data, persistentVolumeClaim: {{ claimName: data }} }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: web }}
spec:
  selector: {{ app: {label} }}
  ports: [{{ port: 80, targetPort: 8080 }}]
"
    );
    let settings = format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{ name: settings, namespace: '{{{{ namespace }}}}' }}
data:
  COMMIT: '{{{{ sha }}}}'
  GREETING: hello from {{{{ branch }}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{ name: data }}
spec:
  accessModes: [{size}]
  resources: {{ requests: {{ storage: 16Mi }} }}
"
    );
    let file = |path: &str, text: String| (path.to_owned(), text);
    vec![file(".preview.yaml", recipe.to_owned()), file("k8s/web.yaml", web), file("k8s/settings.yaml", settings)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_of_the_repository_are_deployed_and_changed() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "manifests").await;
    let github = &life.stand.github;
    github.set_role(&life.repository, "ann", Role::Maintain).unwrap();
    let mut new = NewPullRequest::new("Manifests", "k8s");
    for (path, text) in manifests("web", "ReadWriteOnce", "") {
        new = new.file(&path, &text);
    }
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    let running = life.until_running(number).await;
    let namespace = running["namespace"].as_str().unwrap().to_owned();
    assert!(life.page(&running).await.contains("hello from k8s"));

    let push = async |files: Vec<(String, String)>| {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        github.push(&life.repository, number, &files).await.unwrap();
    };
    // A Deployment's selector cannot be changed where it stands: it is made anew.
    push(manifests("site", "ReadWriteOnce", "")).await;
    life.until_running(number).await;
    let deployment = Api::<Deployment>::namespaced(life.kube.clone(), &namespace).get("web").await.unwrap();
    let labels = deployment.spec.unwrap().selector.match_labels.unwrap();
    assert_eq!(labels["app"], "site");

    push(manifests("site", "ReadWriteOnce", "hostNetwork: true")).await;
    let failed = life.until_status(number, "failed").await;
    assert_eq!(failed["reason"], "object_refused", "{failed:#}");
    let message = failed["message"].as_str().unwrap();
    assert_eq!(message, "Deployment web was refused: spec.template.spec.hostNetwork must not be set.");

    // What a volume holds is not thrown away unasked.
    push(manifests("site", "ReadWriteMany", "")).await;
    let failed = life.until(number, TO_RUNNING, |found| found["reason"] == "needs_reset").await;
    assert!(failed["message"].as_str().unwrap().contains("PersistentVolumeClaim data"), "{failed:#}");
    let claims = Api::<PersistentVolumeClaim>::namespaced(life.kube.clone(), &namespace);
    let before = claims.get("data").await.unwrap().uid();
    assert_eq!(command(&life, number, "ann", "/preview reset").await, "+1");
    life.until_running(number).await;
    assert_ne!(claims.get("data").await.unwrap().uid(), before, "a new volume");
    life.finish().await;
}

/// The processes that previewd started and that still run.
fn children(life: &Life) -> usize {
    let parent = life.stand.server.as_ref().and_then(|server| server.id()).unwrap().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_child = |id: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name, in parentheses, may have anything in it; the state and the parent come after it.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut fields = rest.split_whitespace();
        fields.next() != Some("Z") && fields.next() == Some(&parent)
    };
    processes.filter(is_child).count()
}

/// A new commit ends what is under way within ten seconds, child processes included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_ends_a_chart_that_is_still_rendered() {
    let Some(ground) = life::api_only().await else { return };
    let life = start(ground, "endless").await;
    let endless = "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}";
    let new = NewPullRequest::new("Endless", "endless")
        .file(".preview.yaml", "version: 1\nhelm: { chart: ./chart }\nexpose: { service: web, port: 80 }\n")
        .file("chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
        .file("chart/templates/web.yaml", endless);
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    eventually("helm runs", SOON, async || (children(&life) > 0).then_some(())).await;
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", &life::recipe("ok"))]).await.unwrap();
    eventually("helm has ended", Duration::from_secs(10), async || (children(&life) == 0).then_some(())).await;
    life.until_applied(number).await;
    life.finish().await;
}
