//! Where two features meet: what each does alone is tested beside it, and here what they do to each other.

use axum::http::{Method, StatusCode};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use xtask::{
    github::{NewPullRequest, Role},
    testing::eventually,
};

use super::{
    commands::command,
    life::{self, Ground, IMAGE, Life, SOON, TO_RUNNING},
    names,
};

/// Starts a previewd that proves URLs, as README's own example has it.
async fn start(ground: &Ground, name: &str, lines: &str) -> Life {
    let mut life = Life::prepare(ground, name, None).await;
    life.configure_first("probe_urls = true\n");
    life.configure(lines);
    life.begin().await;
    life.stand.github.set_role(&life.repository, "ann", Role::Admin).unwrap();
    life
}

/// The application in a mode, with more fields of it, and more of the recipe.
fn app(mode: &str, fields: &str, more: &str) -> String {
    format!(
        "version: 1\napp:\n  image: {IMAGE}\n  port: 8080\n  health: /healthz\n  env: {{ COMMIT: '{{{{ sha }}}}', MODE: {mode} }}\n  \
         {fields}\n{more}"
    )
}

/// Has the application behave so from now on, once it listens.
async fn enter(address: &str, mode: &str) {
    let http = xtask::github::http_client().unwrap();
    eventually("the application listens", SOON, async || {
        let answer = http.post(format!("http://{address}:8080/{mode}")).send().await.ok()?;
        answer.error_for_status().ok().map(drop)
    })
    .await;
}

async fn push_recipe(life: &Life, number: u64, recipe: &str) -> String {
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", recipe)]).await.unwrap()
}

fn text<'a>(found: &'a Value, key: &str) -> &'a str {
    found[key].as_str().unwrap_or_default()
}

/// Awaits that the head commit failed and that `commit` answers.
async fn until_put_back(life: &Life, number: u64, commit: &str) -> Value {
    let is_back = |found: &Value| found["status"] == "failed" && found["serving_commit"] == commit;
    let found = life.until(number, TO_RUNNING, is_back).await;
    assert!(life.page(&found).await.contains(commit), "it is said to answer, and does");
    found
}

async fn claim(life: &Life, namespace: &str, name: &str) -> Option<String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(life.kube.clone(), namespace);
    claims.get_opt(name).await.unwrap().filter(|claim| claim.metadata.deletion_timestamp.is_none())?.uid()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_a_setup_runs_where_urls_are_proved() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "proved-setup", "").await;
    let number = life.open("change", &app("ok", "", "setup: { command: [/shop, check] }\n")).await;
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["readiness"]["url_status"], 200, "{running:#}");
    assert_eq!(running["deployments"][0]["attempt"], 1);
    life.finish().await;
}

/// A volume is deleted once the commit without it runs, and not before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_does_not_run_takes_no_volume_of_the_one_that_does() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "volumes", "").await;
    let with = app("ok", "volumes: { /data: 16Mi }", "");
    let number = life.open("change", &with).await;
    let running = life.until_running(number).await;
    let (first, namespace) = (life.head(number), text(&running, "namespace").to_owned());
    let volume = claim(&life, &namespace, "app-data").await.expect("the volume");

    let broken = app("ok", "", "services: { worker: { image: registry.localhost/shop:root, port: 8080 } }\n");
    push_recipe(&life, number, &broken).await;
    life.until_commented(number, "volumes that its recipe has no longer are deleted with their data: app-data").await;
    until_put_back(&life, number, &first).await;
    assert_eq!(claim(&life, &namespace, "app-data").await.as_ref(), Some(&volume), "the same volume");

    push_recipe(&life, number, &app("ok", "", "")).await;
    life.until_running(number).await;
    eventually("the volume goes", SOON, async || claim(&life, &namespace, "app-data").await.is_none().then_some(()))
        .await;
    life.until_settled().await;
    assert!(life.steps(&namespace).contains(&"volumes_removed".to_owned()), "it is said afterwards");
    life.until_commented(number, "were deleted with their data: app-data").await;
    life.finish().await;
}

/// The volume of a commit that never ran is counted until its pod lets go of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_a_commit_that_never_ran_makes_room_for_that_of_the_next() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "storage", "[quota]\nstorage = \"32Mi\"\n").await;
    let number = life.open("change", &app("ok", "volumes: { /one: 32Mi }", "")).await;
    let running = life.until_running(number).await;
    let pods: Api<Pod> = Api::namespaced(life.kube.clone(), text(&running, "namespace"));

    // There is room for the volumes of two commits, and that which runs keeps its own.
    push_recipe(&life, number, &app("never-ready", "volumes: { /two: 32Mi }", "")).await;
    eventually("its pod holds its volume", TO_RUNNING, async || {
        let pods = pods.list(&ListParams::default()).await.unwrap().items;
        let holds = |pod: &Pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let mut claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
            let runs = pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
            runs && claims.any(|claim| claim.claim_name == "app-two")
        };
        pods.iter().any(holds).then_some(())
    })
    .await;
    push_recipe(&life, number, &app("ok", "volumes: { /three: 32Mi }", "")).await;
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");
    life.finish().await;
}

/// What a policy of the cluster keeps of the commit before holds nothing up, and goes once the policy lets go of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_keeps_of_a_commit_does_not_keep_the_next_one_from_running() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "kept", "").await;
    let with = app("ok", "", &format!("services: {{ side: {{ image: {IMAGE}, port: 8080 }} }}\n"));
    let number = life.open("change", &with).await;
    let running = life.until_running(number).await;
    let namespace = text(&running, "namespace").to_owned();

    let denial = (StatusCode::FORBIDDEN, "admission webhook \"keep.example.com\" denied the request".to_owned());
    life.proxy.set_refuse(Some(Box::new(move |request| {
        let is_removal = request.method == Method::DELETE && request.path_and_query.contains("/deployments/side");
        is_removal.then(|| denial.clone())
    })));
    push_recipe(&life, number, &app("ok", "", "")).await;
    life.until_running(number).await;
    assert_eq!(names::<Deployment>(&life, &namespace).await, ["app", "side"]);

    life.proxy.set_refuse(None);
    life.execute("UPDATE environments SET checked_at = checked_at * -1 - 1, due_at = 0 WHERE checked_at >= 0");
    eventually("it goes with the next check", SOON, async || {
        (names::<Deployment>(&life, &namespace).await == ["app"]).then_some(())
    })
    .await;
    life.finish().await;
}

/// Half of the next commit is there by then, and what serves has a volume that it leaves out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_serves_and_is_pushed_back_to_is_put_back_as_a_whole() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "back", "").await;
    let number = life.open("change", &app("ok", "volumes: { /data: 16Mi }", "")).await;
    let running = life.until_running(number).await;
    let (first, namespace) = (life.head(number), text(&running, "namespace").to_owned());
    let volume = claim(&life, &namespace, "app-data").await.expect("the volume");

    let second = push_recipe(
        &life,
        number,
        &app("never-ready", "", "services: { worker: { image: registry.localhost/shop:slow } }\n"),
    )
    .await;
    life.until(number, TO_RUNNING, |found| found["commit"] == *second && found["status"] == "deploying").await;
    let deployments: Api<Deployment> = Api::namespaced(life.kube.clone(), &namespace);
    eventually("the second commit is applied", SOON, async || deployments.get_opt("worker").await.unwrap()).await;
    life.stand.github.force_push(&life.repository, "change", &first).await.unwrap();
    let running = life.until_running(number).await;
    assert_eq!(running["serving_commit"], first, "{running:#}");
    assert!(life.page(&running).await.contains(&first));
    assert_eq!(claim(&life, &namespace, "app-data").await.as_ref(), Some(&volume), "the same volume");
    let is_gone = async || deployments.get_opt("worker").await.unwrap().is_none().then_some(());
    eventually("what the second had goes", SOON, is_gone).await;
    life.finish().await;
}

/// A CronJob's Job that hangs would keep the next from its turn, whatever the CronJob says by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_schedule_began_ends_with_its_commit() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "schedule").await;
    let new = NewPullRequest::new("A schedule", "schedule")
        .file(".preview.yaml", "version: 1\nmanifests: [k8s/*.yaml]\nexpose: { service: app, port: 80 }\n")
        .file("k8s/all.yaml", SCHEDULE);
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    life.until_applied(number).await;
    let namespace = text(&life.get(number).await, "namespace").to_owned();
    let schedules: Api<CronJob> = Api::namespaced(life.kube.clone(), &namespace);
    let schedule = eventually("the schedule", SOON, async || schedules.get_opt("tick").await.unwrap()).await;
    let owner = schedule.controller_owner_ref(&()).expect("it has a UID");
    let template = schedule.spec.unwrap().job_template;
    let labels = template.metadata.unwrap().labels;
    let metadata = json!({ "name": "tick-1", "labels": labels, "ownerReferences": [owner] });
    let jobs: Api<Job> = Api::namespaced(life.kube.clone(), &namespace);
    let job = serde_json::from_value(json!({ "metadata": metadata, "spec": template.spec })).unwrap();
    jobs.create(&Default::default(), &job).await.unwrap();

    life.push(number).await;
    let is_gone = async || jobs.get_opt("tick-1").await.unwrap().is_none().then_some(());
    eventually("what it began is ended", SOON, is_gone).await;
    life.finish().await;
}

const SCHEDULE: &str = r#"
{apiVersion: apps/v1, kind: Deployment, metadata: {name: app}, spec: {selector: {matchLabels: {app: app}}, template: {
  metadata: {labels: {app: app}}, spec: {containers: [{name: app, image: "registry.localhost/shop:{{ sha }}"}]}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: app}, spec: {selector: {app: app}, ports: [{port: 80}]}}
---
{apiVersion: batch/v1, kind: CronJob, metadata: {name: tick}, spec: {schedule: "0 0 1 1 *", concurrencyPolicy: Forbid,
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{
    name: tick, image: "registry.localhost/shop:{{ sha }}"}]}}}}}}
"#;

/// Its controller leaves them behind, and they count against the quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_a_stateful_set_that_is_left_out_go_once_the_next_commit_runs() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "left-claims", "").await;
    let new = NewPullRequest::new("A set", "set")
        .file(".preview.yaml", "version: 1\nmanifests: [set.yaml]\nexpose: { service: shop, port: 80 }\n")
        .file("set.yaml", &set("ok"));
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    let running = life.until_running(number).await;
    let (first, namespace) = (life.head(number), text(&running, "namespace").to_owned());
    let volume = claim(&life, &namespace, "data-shop-0").await.expect("the volume");

    let broken = app("ok", "", "services: { worker: { image: registry.localhost/shop:root, port: 8080 } }\n");
    push_recipe(&life, number, &broken).await;
    let is_back = |found: &Value| found["status"] == "failed" && found["serving_commit"] == first.as_str();
    let found = life.until(number, TO_RUNNING, is_back).await;
    // Its route leads to another Service again, which what serves Ingresses learns a moment later.
    let pods: Api<Pod> = Api::namespaced(life.kube.clone(), &namespace);
    eventually("nothing else runs", SOON, async || {
        let left = pods.list(&ListParams::default()).await.unwrap().items;
        left.iter().all(|pod| pod.name_any() == "shop-0").then_some(())
    })
    .await;
    eventually("its page", SOON, async || life.page(&found).await.contains(&first).then_some(())).await;
    assert_eq!(claim(&life, &namespace, "data-shop-0").await.as_ref(), Some(&volume), "the same volume");

    push_recipe(&life, number, &app("ok", "", "")).await;
    life.until_running(number).await;
    eventually("the claim goes", SOON, async || claim(&life, &namespace, "data-shop-0").await.is_none().then_some(()))
        .await;
    life.until_settled().await;
    assert!(life.steps(&namespace).contains(&"volumes_removed".to_owned()), "it is said afterwards");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_needs_less_takes_the_place_of_one_that_had_almost_all() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "less", "[quota]\ncpu = \"500m\"\n").await;
    let number = life.open("change", &app("ok", "resources: { cpu: 450m, memory: 64Mi }", "")).await;
    life.until_running(number).await;
    push_recipe(&life, number, &app("ok", "resources: { cpu: 100m, memory: 64Mi }", "")).await;
    let making_room = life.until(number, SOON, |found| found["reason"] == "pods_terminating").await;
    let said =
        "Pods of before are still ending, and the quota has no room for both; Deployment app comes once they are gone.";
    assert_eq!(text(&making_room, "message"), said, "{making_room:#}");
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setup_has_room_beside_an_application_with_all_of_the_quota() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "setup-room", "").await;
    let number = life.open("change", &app("ok", "volumes: { /data: 16Mi }", "")).await;
    life.until_running(number).await;
    let with_setup = app("ok", "volumes: { /data: 16Mi }", "setup: { command: [/shop, check] }\n");
    push_recipe(&life, number, &with_setup).await;
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_failed_or_hangs_is_replaced_by_the_next_commits() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "seeds", "").await;
    let seed = |command: &str, mode: &str| {
        let env = format!("env: {{ MIGRATE: {mode}, MODE: {mode} }}");
        app("ok", "", &format!("seed: {{ command: [/shop{command}], {env} }}\n"))
    };
    let number = life.open("change", &seed(", migrate", "fail")).await;
    life.until(number, TO_RUNNING, |found| found["reason"] == "setup_failed").await;
    push_recipe(&life, number, &seed(", check", "ok")).await;
    let head = life.head(number);
    let fresh = life.until(number, SOON, |found| found["commit"] == *head && found["status"] != "pending").await;
    assert_ne!(fresh["reason"], "setup_failed", "the failure is the commit's before: {fresh:#}");
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");

    // One that never ends.
    let other = life.open("other", &seed("", "ok")).await;
    life.until(other, SOON, |found| found["status"] == "deploying").await;
    eventually("the seed began", SOON, async || {
        let namespace = text(&life.get(other).await, "namespace").to_owned();
        (!names::<Job>(&life, &namespace).await.is_empty()).then_some(())
    })
    .await;
    push_recipe(&life, other, &seed(", check", "ok")).await;
    let running = life.until_running(other).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_completed_is_done_whoever_took_it_away() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "done", "").await;
    let slow = "never-ready";
    let number = life.open("change", &app(slow, "", "setup: { command: [/shop, check] }\n")).await;
    let found = life.until(number, TO_RUNNING, |found| found["reason"] == "not_ready_in_time").await;
    let namespace = text(&found, "namespace");
    let jobs: Api<Job> = Api::namespaced(life.kube.clone(), namespace);
    let job = jobs.list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    jobs.delete(&job, &DeleteParams::background()).await.unwrap();
    life.until_settled().await;
    let pods: Api<Pod> = Api::namespaced(life.kube.clone(), namespace);
    let pod = pods.list(&ListParams::default().labels("app.kubernetes.io/name=app")).await.unwrap().items.remove(0);
    let address = pod.status.unwrap().pod_ip.unwrap();
    enter(&address, "ok").await;
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");
    assert_eq!(names::<Job>(&life, namespace).await, Vec::<String>::new(), "it is not run again");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_begun_anew_is_not_said_to_run_before_it_does() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "reset", "[triggers]\ndrafts = false\n").await;
    let number = life.open("change", &app("ok", "volumes: { /data: 16Mi }", "")).await;
    let running = life.until_running(number).await;
    let namespace = text(&running, "namespace").to_owned();
    let volume = claim(&life, &namespace, "app-data").await.expect("the volume");
    let held: Api<ConfigMap> = Api::namespaced(life.kube.clone(), &namespace);
    let body = json!({ "metadata": { "name": "held", "finalizers": ["example.com/held"] } });
    held.create(&Default::default(), &serde_json::from_value(body).unwrap()).await.unwrap();

    assert_eq!(command(&life, number, "ann", "/preview reset").await, "+1");
    let going = life.until(number, SOON, |found| found["reason"] == "namespace_terminating").await;
    assert_eq!((&going["status"], &going["serving_commit"]), (&"pending".into(), &Value::Null), "{going:#}");
    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    held.patch("held", &PatchParams::default(), &release).await.unwrap();
    life.until_running(number).await;
    let new = claim(&life, &namespace, "app-data").await.expect("a volume");
    assert_ne!(new, volume, "an empty one");

    // What the recipe or the operator leaves out stays left out.
    life.stand.github.convert_to_draft(&life.repository, number).await.unwrap();
    life.push(number).await;
    life.until(number, SOON, |found| found["reason"] == "draft").await;
    life.finish().await;
}

/// What sleeps answers nobody: a push that does not start wakes the commit that ran.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_does_not_start_wakes_what_slept() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "asleep", "").await;
    let number = life.open("change", &app("ok", "", "sleep_after: 1m\n")).await;
    life.until_running(number).await;
    let first = life.head(number);
    life.fall_asleep();
    life.until(number, TO_RUNNING, |found| found["reason"] == "asleep").await;
    push_recipe(&life, number, "version: [").await;
    let failed = until_put_back(&life, number, &first).await;
    assert_eq!(failed["reason"], "invalid_recipe", "{failed:#}");
    life.finish().await;
}

/// Neither a commit that served nor one that failed answers because something beside its application is ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ready_beside_the_application_does_not_answer() {
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "beside").await;
    // Nothing of it names the commit, and with its volume it is never there twice.
    let shop = |mode: &str| {
        format!(
            "version: 1\napp: {{ image: {IMAGE}, port: 8080, health: /healthz, env: {{ MODE: {mode} }}, volumes: {{ /data: 16Mi }} }}\n\
             services: {{ side: {{ image: {IMAGE}, port: 8080 }} }}\n"
        )
    };
    let number = life.open("change", &shop("ok")).await;
    life.until_running(number).await;
    let first = life.head(number);
    let second = push_recipe(&life, number, &shop("crash")).await;
    let silent = |found: &Value| found["commit"] == second && found["serving_commit"].is_null();
    let found = life.until(number, TO_RUNNING, silent).await;
    assert_eq!(found["status"], "deploying", "{found:#}");
    let is_back = |found: &Value| found["status"] == "failed" && found["serving_commit"] == first;
    let back = life.until(number, TO_RUNNING, is_back).await;
    life.page(&back).await;

    // Where nothing served before, nothing serves.
    let with_commit = app(
        "crash",
        "",
        &format!("services: {{ side: {{ image: {IMAGE}, port: 8080, env: {{ COMMIT: '{{{{ sha }}}}' }} }} }}\n"),
    );
    let number = life.open("other", &with_commit).await;
    let failed = life.until(number, TO_RUNNING, |found| found["status"] == "failed").await;
    assert_eq!((&failed["serving_commit"], &failed["url"]), (&Value::Null, &Value::Null), "{failed:#}");
    life.finish().await;
}

/// What ran and does not any more is not said to run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_down_is_not_said_to_run() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "down", "").await;
    let number = life.open("change", &app("ok", "", "")).await;
    let running = life.until_running(number).await;
    let namespace = text(&running, "namespace");
    let pods: Api<Pod> = Api::namespaced(life.kube.clone(), namespace);
    let address = pods.list(&ListParams::default()).await.unwrap().items.remove(0).status.unwrap().pod_ip.unwrap();
    enter(&address, "never-ready").await;
    life.until(number, TO_RUNNING, |found| found["status"] == "deploying").await;
    enter(&address, "ok").await;
    life.until_running(number).await;
    life.finish().await;
}

/// A set that keeps its data in a claim of its own, in a mode.
fn set(mode: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{ name: shop }}
spec:
  serviceName: shop
  selector: {{ matchLabels: {{ app: shop }} }}
  volumeClaimTemplates:
    - metadata: {{ name: data }}
      spec: {{ accessModes: [ReadWriteOnce], resources: {{ requests: {{ storage: 16Mi }} }} }}
  template:
    metadata: {{ labels: {{ app: shop }} }}
    spec:
      containers:
        - name: shop
          image: {IMAGE}
          ports: [{{ containerPort: 8080 }}]
          env: [{{ name: COMMIT, value: '{{{{ sha }}}}' }}, {{ name: MODE, value: {mode} }}]
          readinessProbe: {{ httpGet: {{ path: /healthz, port: 8080 }}, periodSeconds: 1 }}
          volumeMounts: [{{ name: data, mountPath: /data }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: shop }}
spec: {{ selector: {{ app: shop }}, ports: [{{ port: 80, targetPort: 8080 }}] }}
"
    )
}

/// What has to be made anew is not deleted before it is known that it would be taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_serves_stays_where_what_would_take_its_place_is_denied() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "denied-anew", "").await;
    let new = NewPullRequest::new("A set", "set")
        .file(".preview.yaml", "version: 1\nmanifests: [set.yaml]\nexpose: { service: shop, port: 80 }\n")
        .file("set.yaml", &set("ok"));
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    let running = life.until_running(number).await;
    let (first, namespace) = (life.head(number), text(&running, "namespace").to_owned());
    let pods: Api<Pod> = Api::namespaced(life.kube.clone(), &namespace);
    let pod = pods.get("shop-0").await.unwrap().uid();

    let denial = (StatusCode::FORBIDDEN, "admission webhook \"sets.example.com\" denied the request".to_owned());
    life.proxy.set_refuse(Some(Box::new(move |request| {
        let is_creation = request.method == Method::POST && request.path_and_query.contains("/statefulsets?");
        is_creation.then(|| denial.clone())
    })));
    let changed = set("ok").replace("  serviceName: shop\n", "  serviceName: shop\n  podManagementPolicy: Parallel\n");
    life.stand.github.push(&life.repository, number, &[("set.yaml", &changed)]).await.unwrap();
    let failed = until_put_back(&life, number, &first).await;
    assert_eq!(failed["reason"], "object_refused", "{failed:#}");
    assert_eq!(pods.get("shop-0").await.unwrap().uid(), pod, "the same pod");
    life.finish().await;
}

/// The pod of a commit that crashes stands in the way of whatever comes after it, and the claim is nobody's but the set's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_with_a_claim_of_its_own_goes_back_and_on() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "set", "").await;
    let github = &life.stand.github;
    let new = NewPullRequest::new("A set", "set")
        .file(
            ".preview.yaml",
            "version: 1\nmanifests: [k8s/*.yaml]\nexpose: { service: shop, port: 80, health: /healthz }\n",
        )
        .file("k8s/shop.yaml", &set("ok"));
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    let running = life.until_running(number).await;
    let (first, namespace) = (life.head(number), text(&running, "namespace").to_owned());
    let volume = claim(&life, &namespace, "data-shop-0").await.expect("the set's claim");

    github.push(&life.repository, number, &[("k8s/shop.yaml", &set("crash"))]).await.unwrap();
    life.until(number, TO_RUNNING, |found| found["reason"] == "crash_loop").await;
    github.push(&life.repository, number, &[("k8s/shop.yaml", &set("ok"))]).await.unwrap();
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");
    assert_ne!(life.head(number), first);

    // And back, without another commit.
    github
        .push(
            &life.repository,
            number,
            &[("k8s/shop.yaml", &set("nonsense").replace(IMAGE, "registry.localhost/shop:root"))],
        )
        .await
        .unwrap();
    let good = text(&running, "commit").to_owned();
    until_put_back(&life, number, &good).await;
    assert_eq!(claim(&life, &namespace, "data-shop-0").await.as_ref(), Some(&volume), "the same volume");

    // Its controller would leave the claim as it is, and the commit would be said to run.
    github.push(&life.repository, number, &[("k8s/shop.yaml", &set("ok").replace("16Mi", "32Mi"))]).await.unwrap();
    let failed = life.until(number, TO_RUNNING, |found| found["reason"] == "needs_reset").await;
    assert!(text(&failed, "message").contains("PersistentVolumeClaim data-shop-0"), "{failed:#}");
    until_put_back(&life, number, &good).await;
    life.finish().await;
}

/// What grew stays so, and serves the commit that is gone back to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_that_can_grow_do_and_a_commit_goes_back_to_them() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "growing", "").await;
    let github = &life.stand.github;
    let sized = |size: &str| {
        let class =
            "storageClassName: growing-folders, resources: { requests: { storage: SIZE } }".replace("SIZE", size);
        let set = set("ok").replace("resources: { requests: { storage: 16Mi } }", &class);
        let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: { name: more }\nspec: { accessModes: \
                     [ReadWriteOnce], CLASS }\n";
        format!("{set}---\n{}", claim.replace("CLASS", &class))
    };
    let new = NewPullRequest::new("A set", "set")
        .file(".preview.yaml", "version: 1\nmanifests: [k8s/*.yaml]\nexpose: { service: shop, port: 80 }\n")
        .file("k8s/shop.yaml", &sized("16Mi"));
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    let running = life.until_running(number).await;
    let (first, namespace) = (life.head(number), text(&running, "namespace").to_owned());
    let size = async |name: &str| {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(life.kube.clone(), &namespace);
        let claim = claims.get(name).await.unwrap();
        claim.spec.unwrap().resources.unwrap().requests.unwrap()["storage"].0.clone()
    };
    let broken = sized("32Mi").replace(IMAGE, "registry.localhost/shop:root");
    github.push(&life.repository, number, &[("k8s/shop.yaml", &broken)]).await.unwrap();
    until_put_back(&life, number, &first).await;
    assert_eq!([size("data-shop-0").await, size("more").await], ["32Mi", "32Mi"]);
    github.push(&life.repository, number, &[("k8s/shop.yaml", &sized("32Mi"))]).await.unwrap();
    life.until_running(number).await;
    life.finish().await;
}

/// Its pod holds it, and another of its name does not come before that has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_somebody_deleted_comes_anew_with_the_next_commit() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "deleted-volume", "").await;
    let number = life.open("change", &app("ok", "volumes: { /data: 16Mi }", "")).await;
    let running = life.until_running(number).await;
    let namespace = text(&running, "namespace").to_owned();
    let volume = claim(&life, &namespace, "app-data").await.expect("the volume");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(life.kube.clone(), &namespace);
    let hold = |finalizers: Value| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    let both = json!(["kubernetes.io/pvc-protection", "example.com/held"]);
    claims.patch("app-data", &PatchParams::default(), &hold(both)).await.unwrap();
    claims.delete("app-data", &DeleteParams::default()).await.unwrap();

    let head = life.push(number).await;
    let waits = |found: &Value| found["commit"] == head && found["reason"] == "volume_unavailable";
    let waiting = life.until(number, SOON, waits).await;
    let said = "The PersistentVolumeClaim app-data is still being removed.";
    assert_eq!((text(&waiting, "status"), text(&waiting, "message")), ("deploying", said), "{waiting:#}");
    eventually("its pod let go of it", SOON, async || {
        let left = claims.get("app-data").await.unwrap().metadata.finalizers.unwrap_or_default();
        (left == ["example.com/held"]).then_some(())
    })
    .await;
    claims.patch("app-data", &PatchParams::default(), &hold(Value::Null)).await.unwrap();
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 1, "{running:#}");
    let new = claim(&life, &namespace, "app-data").await.expect("a volume");
    assert_ne!(new, volume, "an empty one");
    life.finish().await;
}

/// Where the cluster can change a volume's size it does; elsewhere the way out is told, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_of_another_size_asks_for_a_reset() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "sizes", "").await;
    let sized = |size: &str| app("ok", &format!("volumes: {{ /data: {size} }}"), "");
    let number = life.open("change", &sized("16Mi")).await;
    let running = life.until_running(number).await;
    let namespace = text(&running, "namespace").to_owned();
    let volume = claim(&life, &namespace, "app-data").await.expect("the volume");
    for size in ["8Mi", "32Mi"] {
        push_recipe(&life, number, &sized(size)).await;
        let head = life.head(number);
        let failed =
            life.until(number, TO_RUNNING, |found| found["commit"] == *head && found["status"] == "failed").await;
        assert_eq!(failed["reason"], "needs_reset", "{size}: {failed:#}");
        assert!(text(&failed, "message").contains("/preview reset"), "{failed:#}");
    }
    push_recipe(&life, number, &sized("16Mi")).await;
    life.until_running(number).await;
    assert_eq!(claim(&life, &namespace, "app-data").await.as_ref(), Some(&volume), "the same volume");
    life.finish().await;
}
