//! Applications that do not come up, on a real node: each failure by its own name, to the agent and in the comment.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::life::{Life, SOON, node, recipe, recipe_of};

/// Three attempts that fail of what they stumble over, with their waits, on a machine with much else to do.
const THREE_ATTEMPTS: Duration = Duration::from_secs(600);

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
        fails(&life, "crash", &crash, "crash_loop", "Container app keeps crashing", 3),
        fails(&life, "oom", &oom, "out_of_memory", "Container app ran out of memory at its limit of 24Mi", 3),
    );
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_run_is_named() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "images").await;
    let missing = async {
        let number = life.open("missing", &recipe_of("127.0.0.1:1/absent:1", "ok")).await;
        let stumbles = |found: &Value| found["status"] == "deploying" && found["reason"] == "image_pull_failed";
        let seen = life.until(number, TO_STUMBLE, stumbles).await;
        assert!(seen["message"].as_str().unwrap().contains("127.0.0.1:1/absent:1"), "{seen:#}");
        // A commit that runs takes over from one that never did.
        life.stand.github.push(&life.repository, number, &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
        let running = life.until_running(number).await;
        assert_eq!(running["deployments"][1]["status"], "superseded", "{running:#}");
    };
    let root = recipe_of("registry.localhost/shop:root", "ok");
    tokio::join!(missing, fails(&life, "root", &root, "runs_as_root", "runs as root", 1));
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_is_never_ready_fails_after_three_attempts_within_ten_minutes() {
    let Some(ground) = node().await else { return };
    let life = Life::start(ground, "never").await;
    let began = Instant::now();
    let sentence = "was not ready within";
    let failed = fails(&life, "never", &recipe("never-ready"), "not_ready_in_time", sentence, 3).await;
    assert!(began.elapsed() < SOON * 10, "{:?}", began.elapsed());
    let namespace = failed["namespace"].as_str().unwrap();
    let steps = life.steps(namespace);
    let attempt = ["deploying", "attempt_failed"];
    let expected: Vec<&str> =
        ["created"].into_iter().chain(attempt).chain(attempt).chain(["deploying", "failed"]).collect();
    assert_eq!(steps, expected);
    life.finish().await;
}
