//! Watching an environment: its logs as they are written, what is kept of them, and what it uses.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use xtask::{testing::eventually, web};

use super::life::{self, Life, SOON, recipe};

/// A sample every half minute, of figures that are half a minute old.
const TO_BE_MEASURED: Duration = Duration::from_secs(180);

/// `previewd logs -f`, as somebody has it in a terminal.
struct Follower {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(life: &Life, token: &str, number: u64, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_previewd"));
        let reference = format!("{}#{number}", life.repository);
        command.args(["logs", "-f", &reference, "--server", &life.stand.url]).args(options);
        command.env("PREVIEWD_TOKEN", token).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    /// The next line with this text.
    async fn until(&mut self, wanted: &str) -> String {
        let reading = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it goes on");
                if line.contains(wanted) {
                    return line;
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.unwrap_or_else(|_| panic!("nobody said {wanted}"))
    }
}

async fn pod(life: &Life, environment: &Value) -> (Api<Pod>, String) {
    let pods: Api<Pod> = Api::namespaced(life.kube.clone(), environment["namespace"].as_str().unwrap());
    let mut found = pods.list(&ListParams::default()).await.unwrap().items;
    found.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let name = found.first().and_then(|pod| pod.metadata.name.clone()).unwrap_or_default();
    (pods, name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_appear_while_they_are_written() {
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "watched").await;
    let number = life.open("change", &recipe("ok")).await;
    let environment = life.until_running(number).await;
    let token = life.stand.create_token("watcher", "viewer", &["shop"]).await.unwrap();
    let mut follower = Follower::start(&life, &token, number, &[]);
    follower.until("line ").await;
    life.post(&environment, "/say", "the needle <b>&amp;</b> \u{1b}[31mred\u{1b}[0m").await;
    assert!(follower.until("the needle").await.ends_with("| the needle <b>&amp;</b> red"));
    life.post(&environment, "/say", vec![b'b', b'a', b'd', b' ', 0xff, 0xfe, b' ', b'b', b'y', b't', b'e', b's']).await;
    assert!(follower.until("bad ").await.ends_with("| bad \u{fffd}\u{fffd} bytes"));
    life.post(&environment, "/say", format!("long {}", "y".repeat(1 << 20))).await;
    let long = follower.until("long yyy").await;
    assert!((7_000..20_000).contains(&long.len()), "{} characters of it", long.len());
    life.post(&environment, "/say", "and it goes on").await;
    follower.until("and it goes on").await;

    // What is asked for by text alone comes alone, of what was printed and of what comes.
    let mut searcher = Follower::start(&life, &token, number, &["--contains", "needle"]);
    assert!(searcher.until("").await.contains("the needle"));
    life.post(&environment, "/say", "nothing of interest").await;
    life.post(&environment, "/say", "another needle").await;
    assert!(searcher.until("").await.contains("another needle"));

    // A tail is what the API server gives of it.
    let (pods, name) = pod(&life, &environment).await;
    let mut asked = json!({ "environment": format!("{}#{number}", life.repository), "tail": 5, "timestamps": true });
    let tail = eventually("a tail of a moment without a new line", SOON, async || {
        let raw = LogParams { tail_lines: Some(5), timestamps: true, ..LogParams::default() };
        let before = pods.logs(&name, &raw).await.unwrap();
        let ours = life.ask("get_preview_logs", asked.clone()).await.done().unwrap();
        let ours: Vec<String> = serde_json::from_value(ours["containers"][0]["lines"].clone()).unwrap();
        let theirs: Vec<&str> = before.lines().collect();
        (ours == theirs).then_some(ours)
    })
    .await;
    assert_eq!(tail.len(), 5);
    asked["contains"] = "needle".into();
    let found = life.ask("get_preview_logs", asked.clone()).await.done().unwrap();
    assert_eq!(found["containers"][0]["lines"].as_array().unwrap().len(), 2, "{found:#}");
    // Whoever looks for a piece of a secret does not learn whether it is there.
    life.post(&environment, "/say", "leaked ghp_0123456789abcdefghijABCDEFGHIJ012345").await;
    assert!(follower.until("leaked").await.ends_with("| leaked ***"));
    for (piece, lines) in [("leaked ***", 1), ("ghp_0123", 0), ("leaked ghp", 0)] {
        let search = json!({ "environment": asked["environment"], "contains": piece, "timestamps": true });
        let found = life.ask("get_preview_logs", search).await.done().unwrap();
        assert_eq!(found["containers"][0]["lines"].as_array().unwrap().len(), lines, "{piece}: {found:#}");
    }
    asked["since"] = "1s".into();
    let found = eventually("what is older goes", SOON, async || {
        let found = life.ask("get_preview_logs", asked.clone()).await.done().unwrap();
        found["containers"][0]["lines"].as_array().unwrap().is_empty().then_some(found)
    })
    .await;
    assert_eq!(found["lines_left_out"], 0);

    // A pod that goes while it is followed, and the next one.
    pods.delete(&name, &Default::default()).await.unwrap();
    let other = eventually("another pod", SOON, async || {
        let (_, other) = pod(&life, &environment).await;
        (!other.is_empty() && other != name).then_some(other)
    })
    .await;
    let end = other.rsplit('-').next().unwrap().to_owned();
    follower.until(&format!("/{end} | ")).await;
    life.finish().await;
}

/// However many read, each container is read once, and nobody who does not read holds anybody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_follow_one_environment() {
    const READERS: usize = 500;
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "crowd").await;
    let number = life.open("change", &recipe("ok")).await;
    let environment = life.until_running(number).await;
    let token = life.stand.create_token("watcher", "viewer", &["shop"]).await.unwrap();
    let url = format!("{}/environments/{}/logs?tail=1", life.stand.url, environment["id"].as_str().unwrap());
    let http = web::plain_client();
    let heard = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let answer = http.get(&url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let heard = heard.clone();
        readers.push(tokio::spawn(async move {
            let (mut bytes, mut said) = (answer.bytes_stream(), String::new());
            while let Some(Ok(piece)) = bytes.next().await {
                said.push_str(&String::from_utf8_lossy(&piece));
                if said.contains("everybody hears this") {
                    heard.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                said = said.split_off(said.len().saturating_sub(200));
            }
        }));
    }
    // One that never reads a byte.
    let deaf = http.get(&url).bearer_auth(&token).send().await.unwrap();
    life.post(&environment, "/chatter?lines=700&size=200", "").await;
    life.post(&environment, "/say", "everybody hears this").await;
    let all = async || (heard.load(Ordering::Relaxed) == READERS).then_some(());
    eventually("all of them hear it", SOON * 2, all).await;
    let follows = life
        .proxy
        .count(|request| request.path_and_query.contains("/log?") && request.path_and_query.contains("follow=true"));
    assert!((1..=3).contains(&follows), "{follows} requests follow one container");
    drop(deaf);
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_commit_said_is_kept() {
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "kept-logs").await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_running(number).await;
    let broken = recipe("crash");
    let head = life.stand.github.push(&life.repository, number, &[(".preview.yaml", &broken)]).await.unwrap();
    life.until(number, life::TO_RUNNING * 4, |found| {
        found["status"] == "failed" && found["serving_commit"] != found["commit"]
    })
    .await;
    // The commit before serves again, and its pods say nothing of the failure.
    let asked = json!({ "environment": format!("{}#{number}", life.repository) });
    let logs = eventually("what was kept", SOON, async || {
        let logs = life.ask("get_preview_logs", asked.clone()).await.done().unwrap();
        (logs["kept_of"] == head.as_str()).then_some(logs)
    })
    .await;
    assert!(logs.to_string().contains("the basket is on fire"), "{logs:#}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_environments_use_is_measured() {
    let Some(ground) = life::node().await else { return };
    let mut life = Life::prepare(ground, "usage", None).await;
    // So little that a machine with much else to do gives it nevertheless.
    life.configure("[quota]\ncpu = \"100m\"\n");
    life.begin().await;
    let large = |mode: &str| recipe(mode).replace("cpu: 100m, memory: 64Mi", "cpu: 90m, memory: 64Mi");
    let quiet = life.open("quiet", &recipe("ok")).await;
    let busy = life.open("busy", &large("burn")).await;
    let greedy = life.open("greedy", &recipe("ok")).await;
    for number in [quiet, busy, greedy] {
        life.until_running(number).await;
    }
    life.post(&life.get(greedy).await, "/oom", "").await;
    let has_warning = |found: &Value, words: &str| {
        found["warnings"].as_array().is_some_and(|all| all.iter().any(|one| one.as_str().unwrap().contains(words)))
    };
    let found = life.until(busy, TO_BE_MEASURED, |found| has_warning(found, "CPU at ")).await;
    assert!(found["cpu_millicores"].as_i64().unwrap() >= 80, "{found:#}");
    let found = life.until(greedy, TO_BE_MEASURED, |found| has_warning(found, "ran out of memory")).await;
    assert!(has_warning(&found, "restarted") && found["usage"]["restarts"].as_i64().unwrap() >= 1, "{found:#}");
    let found = life.until(quiet, TO_BE_MEASURED, |found| found["memory_bytes"].as_i64() > Some(0)).await;
    assert_eq!(found.get("warnings"), None, "{found:#}");
    assert_eq!(found["usage"]["memory_quota_bytes"], 512 << 20);
    let list = life.ask("list_preview_environments", json!({})).await.done().unwrap();
    let row = list["environments"].as_array().unwrap().iter();
    let row = row.into_iter().find(|row| row["environment"].as_str().unwrap().ends_with(&format!("#{busy}"))).unwrap();
    assert!(has_warning(row, "CPU at "), "{list:#}");

    // The figures are the metrics API's own, as `kubectl top` has them.
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", found["namespace"].as_str().unwrap());
    eventually("the same figure", TO_BE_MEASURED, async || {
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        let measured: Value = life.kube.request(request).await.unwrap();
        let memory = measured["items"][0]["containers"][0]["usage"]["memory"].as_str()?.to_owned();
        let bytes = memory.parse::<previewd::recipe::Bytes>().unwrap().0;
        (life.get(quiet).await["memory_bytes"] == bytes).then_some(())
    })
    .await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_metrics_api_it_is_said() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "unmeasured").await;
    let number = life.open("change", &recipe("ok")).await;
    let found = life
        .until(number, TO_BE_MEASURED, |found| found["usage"]["unavailable"] == "the cluster has no metrics API")
        .await;
    assert_eq!(found.get("cpu_millicores"), None, "{found:#}");
    life.finish().await;
}
