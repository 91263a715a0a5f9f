//! Applications that do not come up, on a real node: each failure by its own name, to the agent and in the comment.

use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::{
    cluster::{architecture, sample_image_of_any_commit},
    github::NewPullRequest,
    testing::eventually,
};

use super::{
    life::{IMAGE, Life, SOON, node, recipe, recipe_of},
    objects::{in_the_cluster, in_the_inventory},
    recipes::start_with,
};

/// Three attempts that fail of what they stumble over, with their waits, on a machine with much else to do.
const THREE_ATTEMPTS: Duration = Duration::from_secs(600);

/// So that three attempts that last until their ends are two minutes: a container starts within half of it.
const PATIENCE: &str = "[patience]\nattempt = \"30s\"\n";

async fn fails(life: &Life, branch: &str, recipe: &str, reason: &str, sentence: &str, attempts: i64) -> Value {
    let number = life.open(branch, recipe).await;
    if attempts > 1 {
        let stumbles = |found: &Value| found["status"] == "deploying" && found["reason"] == reason;
        let seen = life.until(number, TO_STUMBLE, stumbles).await;
        assert!(seen["message"].as_str().unwrap().contains(sentence), "{seen:#}");
    }
    let failed = life.until(number, THREE_ATTEMPTS, |found| found["status"] == "failed").await;
    assert_eq!(failed["reason"], reason, "{failed:#}");
    assert_eq!(failed["deployments"][0]["attempt"], attempts, "{failed:#}");
    assert!(failed["message"].as_str().unwrap().contains(sentence), "{failed:#}");
    let comment = life.until_commented(number, "Preview failed").await;
    assert!(comment.contains(sentence), "{comment}");
    assert_eq!(comment.contains("(attempt 3 of 3)"), attempts == 3, "{comment}");
    failed
}

const TO_STUMBLE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_ends_is_tried_three_times() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "ends").await;
    // With so little that it ends before it can have been ready, however slow the machine is.
    let (crash, oom) = (recipe("crash"), recipe("oom").replace("64Mi", "24Mi"));
    tokio::join!(
        async {
            let failed = fails(&life, "crash", &crash, "crash_loop", "Container app keeps crashing", 3).await;
            let number = failed["environment"].as_str().unwrap().rsplit_once('#').unwrap().1.parse().unwrap();
            let comment = life.until_commented(number, "The end of the log of app").await;
            assert!(comment.contains("panic: the basket is on fire"), "{comment}");
        },
        fails(&life, "oom", &oom, "out_of_memory", "Container app ran out of memory at its limit of 24Mi", 3),
    );
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_run_is_named() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "images").await;
    let missing = async {
        let absent = format!("{}report: both\n", recipe_of("127.0.0.1:1/absent:1", "ok"));
        let number = life.open("missing", &absent).await;
        let stumbles = |found: &Value| found["status"] == "deploying" && found["reason"] == "image_pull_failed";
        let seen = life.until(number, TO_STUMBLE, stumbles).await;
        // Whoever looks at the pull request knows it soon after, and what to do, while it is still tried.
        let known = Instant::now();
        let why = "cannot be pulled: its registry cannot be reached";
        let comment = life.until_commented(number, why).await;
        assert!(known.elapsed() < Duration::from_secs(30), "{:?}", known.elapsed());
        assert!(comment.contains("is being deployed") && comment.contains("Push the image"), "{comment}");
        eventually("GitHub's deployment says it", SOON, async || {
            let told =
                life.stand.github.deployments(&life.repository).into_iter().find(|it| it.sha == life.head(number))?;
            let newest = told.statuses.last()?;
            (newest.state == "in_progress" && newest.description.contains("127.0.0.1:1/absent:1")).then_some(())
        })
        .await;
        assert!(seen["message"].as_str().unwrap().contains("127.0.0.1:1/absent:1"), "{seen:#}");
        // A commit that runs takes over from one that never did.
        life.stand.github.push(&life.repository, number, &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
        let running = life.until_running(number).await;
        assert_eq!(running["deployments"][1]["status"], "superseded", "{running:#}");
    };
    // Not a branch that is called as the tag is: that would be pulled anew.
    let root = recipe_of("registry.localhost/shop:root", "ok");
    tokio::join!(missing, fails(&life, "privileged", &root, "runs_as_root", "runs as root", 1));
    life.finish().await;
}

/// It stumbles for this reason, and a push of what runs takes over.
async fn stumbles(life: &Life, branch: &str, bad: &str, reason: &str, sentence: &str) {
    let number = life.open(branch, bad).await;
    let stumbles = |found: &Value| found["status"] == "deploying" && found["reason"] == reason;
    let seen = life.until(number, TO_STUMBLE, stumbles).await;
    assert!(seen["message"].as_str().unwrap().contains(sentence), "{seen:#}");
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][1]["status"], "superseded", "{running:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_machines_image_and_a_port_that_nobody_listens_on_are_named() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "elsewhere").await;
    let registry = ground.cluster.start_registry(false).await.unwrap();
    let mut image = sample_image_of_any_commit(&format!("{}/shop:other-machine", registry.host())).unwrap();
    image.architecture = if architecture() == "arm64" { "amd64".to_owned() } else { "arm64".to_owned() };
    registry.push(&image).await.unwrap();
    let nobody = recipe("ok").replace("port: 8080", "port: 8081");
    let other = recipe_of(&image.name, "ok");
    tokio::join!(
        stumbles(&life, "machine", &other, "image_pull_failed", &image.name),
        stumbles(
            &life,
            "nobody",
            &nobody,
            "not_ready_in_time",
            "(GET /healthz on port 8081) is refused the connection"
        ),
    );
    life.finish().await;
}

/// A chart whose hook waits for what never comes.
fn endless_hook(pod: &str) -> Vec<(String, String)> {
    let hook = format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{ name: waits, annotations: {{ helm.sh/hook: pre-install }} }}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{{ name: waits, image: {IMAGE}, {pod} }}]
"
    );
    let web = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{ name: app }}
spec:
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec: {{ containers: [{{ name: web, image: {IMAGE} }}] }}
---
apiVersion: v1
kind: Service
metadata: {{ name: web }}
spec: {{ selector: {{ app: web }}, ports: [{{ port: 80, targetPort: 8080 }}] }}
"
    );
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    vec![
        file(".preview.yaml", "version: 1\nhelm: { chart: ./chart }\nexpose: { service: web, port: 80 }\n"),
        file("chart/Chart.yaml", "{ apiVersion: v2, name: web, version: 1.0.0 }\n"),
        file("chart/templates/hook.yaml", &hook),
        file("chart/templates/web.yaml", &web),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_never_ends_fails_after_three_attempts() {
    let Some(ground) = node().await else { return };
    let life = start_with(ground, "endless-hook", PATIENCE).await;
    let files = endless_hook("env: [{ name: MODE, value: ok }]");
    let new = files.iter().fold(NewPullRequest::new("A hook", "hook"), |new, (path, text)| new.file(path, text));
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    let failed = life.until(number, THREE_ATTEMPTS + SOON, |found| found["status"] == "failed").await;
    assert_eq!(
        (&failed["reason"], &failed["deployments"][0]["attempt"]),
        (&"hook_failed".into(), &3.into()),
        "{failed:#}"
    );
    let said = failed["message"].as_str().unwrap();
    assert!(said.starts_with("The job waits did not end within the "), "{failed:#}");
    life.until_commented(number, "The job waits did not end within the ").await;
    // It can be tried once more, and a hook that ends lets the rest begin.
    life.call("retry_preview_deployment", number).await.done().unwrap();
    life.until(number, SOON, |found| found["status"] == "deploying").await;
    let mended = endless_hook("command: [/shop, check]");
    let mended: Vec<(&str, &str)> = mended.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    life.stand.github.push(&life.repository, number, &mended).await.unwrap();
    life.until_running(number).await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_push_the_last_good_commit_serves_again() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "rollback").await;
    // Two of them do not fit into the quota: the first goes before the second comes.
    let large = |recipe: String| recipe.replace("cpu: 100m", "cpu: 300m");
    let number = life.open("change", &large(recipe("ok"))).await;
    let running = life.until_running(number).await;
    let first = life.head(number);

    let root = large(recipe_of("registry.localhost/shop:root", "ok"));
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", &root)]).await.unwrap();
    let second = life.head(number);
    let back = |found: &Value| found["status"] == "failed" && found["serving_commit"] == *first;
    let failed = life.until(number, THREE_ATTEMPTS, back).await;
    assert_eq!((&failed["commit"], &failed["reason"]), (&second.as_str().into(), &"runs_as_root".into()), "{failed:#}");
    assert!(life.page(&running).await.contains(&first), "the page is the first commit's");
    let comment = life.until_commented(number, "still answers").await;
    assert!(comment.contains(&first[..7]) && comment.contains(&second[..7]) && comment.contains("runs as root"));
    let store = life.store();
    let row = life.row(&store, number).await.environment;
    assert_eq!(in_the_cluster(&life, &row).await, in_the_inventory(&store, &row).await);
    let steps = life.steps(row.namespace.as_str());
    assert_eq!(steps, ["created", "deploying", "running", "deploying", "failed", "rolled_back"]);

    // A retry fails again, and goes back again; a commit that runs takes over.
    life.call("retry_preview_deployment", number).await.done().unwrap();
    eventually("a second round that goes back", THREE_ATTEMPTS, async || {
        let newest = store.deployments_of(&row.id, 1).await.unwrap().remove(0);
        (newest.round == 2 && back(&life.get(number).await)).then_some(())
    })
    .await;
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", &large(recipe("ok")))]).await.unwrap();
    let running = life.until_running(number).await;
    assert!(life.page(&running).await.contains(&life.head(number)));
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_is_never_ready_fails_after_three_attempts() {
    let Some(ground) = node().await else { return };
    let mut life = Life::prepare(ground, "never", None).await;
    life.configure(PATIENCE);
    life.begin().await;
    let began = Instant::now();
    let sentence = "probe (GET /healthz on port 8080) is answered with 503";
    let failed = fails(&life, "never", &recipe("never-ready"), "not_ready_in_time", sentence, 3).await;
    // Three times thirty seconds, and the waits between them: ten and thirty.
    assert!((SOON * 2..SOON * 4).contains(&began.elapsed()), "{:?}", began.elapsed());
    let namespace = failed["namespace"].as_str().unwrap();
    let steps = life.steps(namespace);
    let attempt = ["deploying", "attempt_failed"];
    let expected: Vec<&str> =
        ["created"].into_iter().chain(attempt).chain(attempt).chain(["deploying", "failed"]).collect();
    assert_eq!(steps, expected);
    life.finish().await;
}
