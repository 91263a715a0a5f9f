//! Charts, from commit to commit: what their hooks make stays or goes as helm lets it.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Secret, ServiceAccount},
};
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::{Value, json};
use xtask::{
    github::{NewPullRequest, Role},
    testing::eventually,
};

use super::{
    commands::command,
    life::{self, IMAGE, Life, TO_RUNNING},
    names,
    recipes::start,
};

const RECIPE: &str = "version: 1
helm: { chart: ./chart, values: { commit: '{{ sha }}' } }
expose: { service: preview-shop, port: 80 }
sleep_after: 1m
";

/// A Job that does `command` at `events`, with these annotations besides.
fn hook(name: &str, events: &str, more: &str, command: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: Job
metadata:
  name: {{{{ .Release.Name }}}}-{name}
  annotations: {{ helm.sh/hook: \"{events}\", {more} }}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{ name: job, image: {IMAGE}, command: [/shop, {command}] }}]
---
"
    )
}

/// A web server, and what its hooks make before it and after it. `upgrade`: what the hook of upgrades does.
fn chart(upgrade: &str) -> Vec<(String, String)> {
    let shop = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {{{{ .Release.Name }}}}-shop }}
spec:
  selector: {{ matchLabels: {{ app: shop }} }}
  template:
    metadata: {{ labels: {{ app: shop }} }}
    spec:
      containers:
        - name: shop
          image: {IMAGE}
          ports: [{{ containerPort: 8080 }}]
          env:
            - {{ name: COMMIT, value: {{{{ .Values.commit | quote }}}} }}
            - name: KEY
              valueFrom: {{ secretKeyRef: {{ name: {{{{ .Release.Name }}}}-key, key: key }} }}
          readinessProbe: {{ httpGet: {{ path: /healthz, port: 8080 }}, periodSeconds: 1 }}
          volumeMounts: [{{ name: late, mountPath: /late }}]
      # A hook that comes after everything else makes it: without --wait helm does not mind.
      volumes: [{{ name: late, secret: {{ secretName: {{{{ .Release.Name }}}}-late }} }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: {{{{ .Release.Name }}}}-shop }}
spec: {{ selector: {{ app: shop }}, ports: [{{ port: 80, targetPort: 8080 }}] }}
"
    );
    let made = "apiVersion: v1
kind: Secret
metadata:
  name: {{ .Release.Name }}-key
  annotations: { helm.sh/hook: pre-install }
stringData: { key: {{ randAlphaNum 32 | quote }} }
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-installed
  annotations: { helm.sh/hook: post-install }
data: { commit: {{ .Values.commit }} }
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ .Release.Name }}-late
  annotations: { helm.sh/hook: post-install }
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .Release.Name }}-hooks
  annotations: { helm.sh/hook: \"pre-install,pre-upgrade\", helm.sh/hook-delete-policy: hook-succeeded }
{{ if .Release.IsInstall }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-kept
  annotations: { helm.sh/resource-policy: keep }
data: { commit: {{ .Values.commit }} }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: {{ .Release.Name }}-pruned }
{{ end }}
";
    let jobs = [
        hook("before", "pre-install", "", "check"),
        hook("seed", "post-install", "helm.sh/hook-delete-policy: hook-succeeded", "check"),
        hook("up", "pre-upgrade, post-upgrade", "helm.sh/hook-delete-policy: hook-failed", upgrade),
        hook("probe", "test", "", "check"),
    ];
    let file = |path: &str, text: String| (path.to_owned(), text);
    vec![
        file(".preview.yaml", RECIPE.to_owned()),
        file("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 0.1.0\n".to_owned()),
        file("chart/templates/shop.yaml", shop),
        file("chart/templates/made.yaml", made.to_owned()),
        file("chart/templates/jobs.yaml", jobs.concat()),
    ]
}

async fn push(life: &Life, number: u64, files: &[(String, String)]) -> String {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    life.stand.github.push(&life.repository, number, &files).await.unwrap()
}

/// What an installation made: the key, and the commit that `installed` and `kept` name.
async fn made(life: &Life, namespace: &str) -> (Vec<u8>, String, String) {
    let secret = Api::<Secret>::namespaced(life.kube.clone(), namespace).get("preview-key").await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(life.kube.clone(), namespace);
    let commit = async |name: &str| maps.get(name).await.unwrap().data.unwrap()["commit"].clone();
    let key = secret.data.unwrap()["key"].0.clone();
    (key, commit("preview-installed").await, commit("preview-kept").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_installation_made_is_there_for_later_commits_and_a_reset_installs_anew() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "hooks").await;
    let github = &life.stand.github;
    github.set_role(&life.repository, "ann", Role::Maintain).unwrap();
    let mut new = NewPullRequest::new("A chart", "chart");
    for (path, text) in chart("check") {
        new = new.file(&path, &text);
    }
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    let running = life.until_running(number).await;
    let namespace = running["namespace"].as_str().unwrap().to_owned();
    let jobs = async || names::<Job>(&life, &namespace).await;
    let maps = async || {
        let maps = names::<ConfigMap>(&life, &namespace).await;
        maps.into_iter().filter(|name| name.starts_with("preview-")).collect::<Vec<_>>()
    };
    let first = life.head(number);
    let installed = made(&life, &namespace).await;
    assert_eq!((installed.1.as_str(), installed.2.as_str()), (first.as_str(), first.as_str()));
    assert_eq!(jobs().await, ["preview-before"], "what succeeded goes where the chart wants it so");
    assert_eq!(maps().await, ["preview-installed", "preview-kept", "preview-pruned"]);
    let accounts = names::<ServiceAccount>(&life, &namespace).await;
    assert!(!accounts.iter().any(|name| name == "preview-hooks"), "{accounts:?}");

    // What wakes is what was installed, and no upgrade of it.
    life.fall_asleep();
    life.until(number, TO_RUNNING, |found| found["reason"] == "asleep").await;
    life.call("retry_preview_deployment", number).await.done().unwrap();
    life.until(number, TO_RUNNING, |found| found["status"] != "running").await;
    life.until_running(number).await;
    assert_eq!(jobs().await, ["preview-before"], "no hook runs again");
    assert_eq!(maps().await, ["preview-installed", "preview-kept", "preview-pruned"]);

    for _ in 0..2 {
        let commit = life.push(number).await;
        life.until_running(number).await;
        for hook in ["preview-up", "preview-up-post"] {
            let hook = Api::<Job>::namespaced(life.kube.clone(), &namespace).get(hook).await.unwrap();
            assert_eq!(hook.annotations()["previewd.dev/run"], commit, "each commit runs the hooks of its own");
        }
        assert_eq!(made(&life, &namespace).await, installed, "what hooks of an installation made stays as it was");
        assert_eq!(jobs().await, ["preview-up", "preview-up-post"], "before and after");
        // What only holds something goes once the commit without it runs.
        life.until_settled().await;
        assert_eq!(maps().await, ["preview-installed", "preview-kept"]);
    }
    let good = life.head(number);

    // A hook that fails goes where the chart wants it so; what it said is kept.
    push(&life, number, &chart("fail")).await;
    let served = |found: &Value| found["status"] == "failed" && found["serving_commit"] == good.as_str();
    let failed = life.until(number, TO_RUNNING, served).await;
    assert_eq!(failed["reason"], "hook_failed", "{failed:#}");
    life.until_settled().await;
    assert_eq!(jobs().await, ["preview-up-post"], "of the last good commit");
    assert_eq!(made(&life, &namespace).await, installed);
    assert!(life.page(&failed).await.contains(&good));
    push(&life, number, &chart("check")).await;
    life.until_running(number).await;

    assert_eq!(command(&life, number, "ann", "/preview reset").await, "+1");
    eventually("it is installed anew", TO_RUNNING, async || (jobs().await == ["preview-before"]).then_some(())).await;
    life.until_running(number).await;
    let again = made(&life, &namespace).await;
    assert_ne!(again.0, installed.0, "the key is made up anew");
    assert_eq!((again.1, again.2), (life.head(number), life.head(number)));
    life.finish().await;
}

/// There is no release of it yet, whatever ran there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chart_that_follows_something_else_is_installed() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "follows").await;
    let number = life.open("change", &life::recipe("ok")).await;
    let running = life.until_running(number).await;
    let namespace = running["namespace"].as_str().unwrap().to_owned();
    let installed = push(&life, number, &chart("check")).await;
    life.until_running(number).await;
    let (_, by_hook, kept) = made(&life, &namespace).await;
    assert_eq!((by_hook.as_str(), kept.as_str()), (installed.as_str(), installed.as_str()));
    assert_eq!(names::<Job>(&life, &namespace).await, ["preview-before"]);
    life.push(number).await;
    life.until_running(number).await;
    assert_eq!(names::<Job>(&life, &namespace).await, ["preview-up", "preview-up-post"], "and then upgraded");
    life.finish().await;
}

/// The hooks that are kept of it are those of an upgrade, and there is nothing any more that they could upgrade.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_not_put_back_into_an_empty_namespace() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "emptied").await;
    let github = &life.stand.github;
    let mut new = NewPullRequest::new("A chart", "chart");
    for (path, text) in chart("check") {
        new = new.file(&path, &text);
    }
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    life.until_running(number).await;
    let good = life.push(number).await;
    let running = life.until_running(number).await;
    push(&life, number, &chart("fail")).await;
    let is_back = |found: &Value| found["status"] == "failed" && found["serving_commit"] == good;
    life.until(number, TO_RUNNING, is_back).await;

    let namespace = running["namespace"].as_str().unwrap();
    let namespaces: Api<Namespace> = Api::all(life.kube.clone());
    namespaces.delete(namespace, &DeleteParams::default()).await.unwrap();
    let gave_up = "The chart ran as an upgrade of what its namespace has no longer.";
    eventually("it is not put back, and that is said", TO_RUNNING, async || {
        let explained = life
            .ask("explain_preview_environment", json!({ "repository": life.repository, "pull_request": number }))
            .await;
        explained.done().unwrap().to_string().contains(&format!("not to {good}: {gave_up}")).then_some(())
    })
    .await;
    let failed = life.get(number).await;
    assert_eq!((&failed["status"], &failed["serving_commit"]), (&"failed".into(), &Value::Null), "{failed:#}");
    assert!(namespaces.get_opt(namespace).await.unwrap().is_none(), "nothing is made of it");

    // Its installation has no hook that fails.
    life.call("retry_preview_deployment", number).await.done().unwrap();
    life.until_running(number).await;
    assert_eq!(names::<Job>(&life, namespace).await, ["preview-before"]);
    life.finish().await;
}
