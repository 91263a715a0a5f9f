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
use http::StatusCode;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use previewd::text::mebibytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};
use xtask::{cluster::api_proxy::RecordedRequest, testing::eventually, web};

use super::{
    life::{self, Ground, Life, SOON, recipe},
    names,
    people::{Kubectl, Somebody},
};

/// A sample every half minute, of figures that are half a minute old.
const TO_BE_MEASURED: Duration = Duration::from_secs(180);

/// What the operator gives the repository, and the sample application prints.
const SECRET: &str = "correct-horse-battery";

/// The sample application prints its commit when it starts and every second. Here that is a secret.
fn telltale(mode: &str) -> String {
    recipe(mode).replace("    COMMIT: '{{ sha }}'\n", "") + "secrets: [COMMIT]\n"
}

async fn with_a_secret(ground: &Ground, name: &str) -> Life {
    let mut life = Life::prepare(ground, name, None).await;
    // What crashes does so at once, however long it may take to be ready.
    life.configure(&format!(
        "[secrets]\n\"acme/{name}\" = {{ COMMIT = \"{SECRET}\" }}\n[patience]\nattempt = \"40s\"\n"
    ));
    life.begin().await;
    life
}

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
                assert!(!line.contains(SECRET), "{line}");
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
    let kubectl = Kubectl::of(ground).await;
    let life = with_a_secret(ground, "watched").await;
    let number = life.open("change", &telltale("ok")).await;
    let environment = life.until_running(number).await;
    let watcher = Somebody::of_the_team(&life).await;
    let token = &watcher.token;
    let mut follower = Follower::start(&life, token, number, &[]);
    assert!(follower.until("line ").await.ends_with(" commit *** mode ok"));
    life.post(&environment, "/say", "the needle <b>&amp;</b> \u{1b}[31mred\u{1b}[0m").await;
    assert!(follower.until("the needle").await.ends_with("| the needle <b>&amp;</b> red"));
    life.post(&environment, "/say", vec![b'b', b'a', b'd', b' ', 0xff, 0xfe, b' ', b'b', b'y', b't', b'e', b's']).await;
    assert!(follower.until("bad ").await.ends_with("| bad \u{fffd}\u{fffd} bytes"));

    // The lines are the cluster's own, and no secrets are in them, wherever they are read.
    let (pods, name) = pod(&life, &environment).await;
    let namespace = environment["namespace"].as_str().unwrap();
    let raw = ["logs", "--timestamps", "-n", namespace, &name, "-c", "app"];
    let theirs = kubectl.run(&raw).await.unwrap();
    let theirs = String::from_utf8_lossy(&theirs).replace(SECRET, "***").replace("\u{1b}[31mred\u{1b}[0m", "red");
    let pod_end = name.rsplit('-').next().unwrap();
    let as_ours = |line: &str| line.split_once(' ').map(|(at, text)| format!("{at} app/{pod_end} | {text}")).unwrap();
    let theirs: Vec<String> = theirs.lines().map(as_ours).collect();
    let ours = watcher.run(&["logs", &watcher.reference(number), "--timestamps", "--tail", "1000"]).await;
    let ours: Vec<&str> = ours.lines().take(theirs.len()).collect();
    assert_eq!(ours, theirs);
    assert!(theirs[0].ends_with("shop *** starts") && theirs.iter().any(|line| line.contains("bad ")), "{theirs:#?}");
    for (place, text) in watcher.logs(number).await {
        assert!(text.contains("commit *** mode ok") && !text.contains(SECRET), "{place}: {text}");
    }

    life.post(&environment, "/say", format!("long {}", "y".repeat(1 << 20))).await;
    let long = follower.until("long yyy").await;
    assert!((7_000..20_000).contains(&long.len()), "{} characters of it", long.len());
    life.post(&environment, "/say", "and it goes on").await;
    follower.until("and it goes on").await;

    // Whoever has seen enough ends it.
    let mut piped = Command::new("sh");
    piped.args(["-c", "\"$0\" \"$@\" | head -n 1", env!("CARGO_BIN_EXE_previewd"), "logs", "-f"]);
    piped.args([&watcher.reference(number), "--server", &life.stand.url]).env("PREVIEWD_TOKEN", token);
    let piped = tokio::time::timeout(SOON, piped.kill_on_drop(true).output()).await.expect("it ends").unwrap();
    assert_eq!(String::from_utf8_lossy(&piped.stdout).lines().count(), 1);

    // What is asked for by text alone comes alone, of what was printed and of what comes.
    let mut searcher = Follower::start(&life, token, number, &["--contains", "needle"]);
    assert!(searcher.until("").await.contains("the needle"));
    life.post(&environment, "/say", "nothing of interest").await;
    life.post(&environment, "/say", "another needle").await;
    assert!(searcher.until("").await.contains("another needle"));

    // A tail is what the API server gives of it.
    let mut asked = json!({ "environment": format!("{}#{number}", life.repository), "tail": 5, "timestamps": true });
    let tail = eventually("a tail of a moment without a new line", SOON, async || {
        let raw = LogParams { tail_lines: Some(5), timestamps: true, ..LogParams::default() };
        let before = pods.logs(&name, &raw).await.unwrap();
        let ours = life.ask("get_preview_logs", asked.clone()).await.done().unwrap();
        let ours: Vec<String> = serde_json::from_value(ours["containers"][0]["lines"].clone()).unwrap();
        let theirs = before.replace(SECRET, "***");
        (ours.iter().map(String::as_str).eq(theirs.lines())).then_some(ours)
    })
    .await;
    assert_eq!(tail.len(), 5);
    // The long line is cut, and pushes none out that came before it.
    let theirs = kubectl.run(&raw).await.unwrap();
    let all = life.ask("get_preview_logs", json!({ "environment": asked["environment"], "tail": 1000 })).await;
    let all = all.done().unwrap();
    let lines: Vec<&str> = all["containers"][0]["lines"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(lines[0].ends_with("shop *** starts"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("long yyy") && line.ends_with("yyy…")), "{lines:#?}");
    let counted = lines.len() as u64 + all["lines_left_out"].as_u64().unwrap();
    let theirs = theirs.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!((theirs..theirs + 10).contains(&counted), "{counted} of {theirs}");
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

/// Whether it asks the API server for a log as it is written.
fn follows(request: &RecordedRequest) -> bool {
    request.path_and_query.contains("/log?") && request.path_and_query.contains("follow=true")
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
    let requests = life.proxy.count(follows);
    assert!((1..=3).contains(&requests), "{requests} requests follow one container");
    drop(deaf);
    life.finish().await;
}

/// The numbers that come after a word in lines.
fn numbers(lines: &[String], word: &str) -> Vec<u64> {
    let number = |line: &String| line.split_once(word)?.1.split(' ').next()?.parse().ok();
    lines.iter().filter_map(number).collect()
}

/// However long it takes until a log can be followed: what is printed meanwhile comes too, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_before_the_log_is_followed() {
    const LINES: u64 = 700;
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "late").await;
    let number = life.open("change", &recipe("ok")).await;
    let environment = life.until_running(number).await;
    let watcher = Somebody::of_the_team(&life).await;
    life.proxy.set_refuse(Some(Box::new(|request| {
        follows(request).then(|| (StatusCode::SERVICE_UNAVAILABLE, "not yet".to_owned()))
    })));
    let mut follower = Follower::start(&life, &watcher.token, number, &[]);
    let first = follower.until("line ").await;
    let refused = async || (life.proxy.count(follows) > 0).then_some(());
    eventually("somebody tries to follow", SOON, refused).await;
    let mut said: String = (0..LINES).map(|number| format!("number {number} of many\n")).collect();
    said.push_str("that is all");
    life.post(&environment, "/say", said).await;
    life.proxy.set_refuse(None);

    let mut lines = vec![first];
    while !lines.last().unwrap().ends_with("that is all") {
        lines.push(follower.until("").await);
    }
    assert!(numbers(&lines, "number ").into_iter().eq(0..LINES), "{lines:#?}");
    let own = numbers(&lines, "line ");
    assert!(own.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{own:?}");

    // Nor does anything come twice, where the container is started again.
    life.post(&environment, "/crash", "").await;
    follower.until("on fire").await;
    follower.until("starts").await;
    let mut lines = Vec::new();
    while numbers(&lines, "line ").last().is_none_or(|number| *number < 6) {
        lines.push(follower.until("").await);
    }
    assert_eq!(numbers(&lines, "line "), [1, 2, 3, 4, 5, 6]);
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_commit_said_is_kept() {
    let Some(ground) = life::node().await else { return };
    let life = with_a_secret(ground, "kept-logs").await;
    let number = life.open("change", &telltale("ok")).await;
    let broken = telltale("crash");
    let alone = life.open("alone", &broken).await;
    life.until_running(number).await;
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

    // Nor do pods that are no more.
    let failed = life.until(alone, life::TO_RUNNING * 4, |found| found["status"] == "failed").await;
    let namespace = failed["namespace"].as_str().unwrap();
    Api::<Deployment>::namespaced(life.kube.clone(), namespace).delete("app", &Default::default()).await.unwrap();
    let gone = async || names::<Pod>(&life, namespace).await.is_empty().then_some(());
    eventually("no pod is left", SOON, gone).await;
    let left = life.call("get_preview_logs", alone).await.done().unwrap();
    assert_eq!(left["kept_of"], life.head(alone), "{left:#}");
    let reader = Somebody::of_the_team(&life).await;
    for number in [number, alone] {
        for (place, text) in reader.logs(number).await {
            let has_all = text.contains("shop *** starts") && text.contains("the basket is on fire");
            assert!(has_all && !text.contains(SECRET), "{place}: {text}");
            assert!(place != "the page" || text.contains("which failed."), "{text}");
        }
        let mut follower = Follower::start(&life, &reader.token, number, &[]);
        follower.until("the basket is on fire").await;
    }
    life.finish().await;
}

/// Thousandths of a core and whole MiB of the one container, as `kubectl top` has them.
async fn top(kubectl: &Kubectl, namespace: &str) -> Option<(i64, i64)> {
    let said = kubectl.run(&["top", "pod", "--containers", "--no-headers", "-n", namespace]).await.ok()?;
    let said = String::from_utf8(said).unwrap();
    let [_pod, "app", cpu, memory] = said.split_whitespace().collect::<Vec<_>>()[..] else { return None };
    Some((cpu.strip_suffix('m')?.parse().ok()?, memory.strip_suffix("Mi")?.parse().ok()?))
}

/// Awaits that previewd has the figures of `kubectl top`. Both round what the metrics API says of a window of some
/// seconds; where it has gone on to the next window, so has previewd's next sample.
async fn until_as_kubectl_has_it(kubectl: &Kubectl, life: &Life, number: u64) {
    let mut compared = Vec::new();
    let mut sampled_at = Value::Null;
    let agrees = async || {
        let found = life.get(number).await;
        let (cpu, memory) = found["cpu_millicores"].as_i64().zip(found["memory_bytes"].as_i64())?;
        if std::mem::replace(&mut sampled_at, found["usage"]["sampled_at"].clone()) == found["usage"]["sampled_at"] {
            return None;
        }
        let theirs = top(kubectl, found["namespace"].as_str().unwrap()).await;
        compared.push(((cpu, memory >> 20), theirs));
        println!("{number}: previewd and kubectl top: {:?}", compared.last());
        (theirs == Some((cpu, memory >> 20))).then_some(())
    };
    eventually("the figures of kubectl top", TO_BE_MEASURED, agrees).await;
}

/// One environment at every place that says what it uses, all of one sample.
struct Usage {
    found: Value,
    listed: Value,
    page: String,
    row: String,
    on_the_command_line: [Value; 2],
}

impl Usage {
    async fn seen_by(somebody: &Somebody<'_>, number: u64) -> Self {
        let (life, reference) = (somebody.life, somebody.reference(number));
        let of_list = |list: Value| -> Value {
            let mut rows = list["environments"].as_array().unwrap().iter();
            rows.find(|row| row["environment"] == reference).unwrap().clone()
        };
        eventually("one sample", SOON, async || {
            let found = life.get(number).await;
            let list = somebody.page("/").await;
            let row = list.split("<tr>").find(|row| row.contains(&format!(">{reference}<"))).unwrap();
            let seen = Self {
                listed: of_list(life.ask("list_preview_environments", json!({})).await.done().unwrap()),
                page: somebody.page(&format!("/environments/{}", found["namespace"].as_str().unwrap())).await,
                row: row.to_owned(),
                on_the_command_line: [
                    somebody.run_json(&["get", &reference]).await,
                    of_list(somebody.run_json(&["list"]).await),
                ],
                found,
            };
            (life.get(number).await["usage"] == seen.found["usage"]).then_some(seen)
        })
        .await
    }

    /// The warnings, the same at each place.
    fn warnings(&self) -> Vec<String> {
        let of_answer = |answer: &Value| -> Vec<String> {
            let warnings = answer["warnings"].as_array().into_iter().flatten();
            warnings.map(|warning| warning.as_str().unwrap().to_owned()).collect()
        };
        let of_page = |html: &str| -> Vec<String> {
            let warnings = html.split("class=\"warning\">").skip(1);
            warnings.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
        };
        let Self { found, listed, page, row, on_the_command_line: [got, in_list] } = self;
        let warnings = of_answer(found);
        for answer in [listed, got, in_list] {
            assert_eq!(of_answer(answer), warnings, "{answer:#}");
        }
        for html in [page, row] {
            assert_eq!(of_page(html), warnings, "{html}");
        }
        warnings
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_environments_use_is_measured() {
    let Some(ground) = life::node().await else { return };
    let kubectl = Kubectl::of(ground).await;
    let mut life = Life::prepare(ground, "usage", None).await;
    // So little CPU that a machine with much else to do gives it nevertheless, and so dear that a minute of it shows.
    life.configure(
        "[quota]\ncpu = \"100m\"\n[prices]\ncpu_core_hour = 1000.0\nmemory_gib_hour = 100.0\ncurrency = \"EUR\"\n",
    );
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
    // To the byte, which `kubectl top` does not show.
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", found["namespace"].as_str().unwrap());
    let exactly = eventually("the same figure", TO_BE_MEASURED, async || {
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        let measured: Value = life.kube.request(request).await.unwrap();
        let memory = measured["items"][0]["containers"][0]["usage"]["memory"].as_str()?.to_owned();
        let bytes = memory.parse::<previewd::recipe::Bytes>().unwrap().0;
        (life.get(busy).await["memory_bytes"] == bytes).then_some(())
    });
    let of_quiet = until_as_kubectl_has_it(&kubectl, &life, quiet);
    tokio::join!(exactly, of_quiet, until_as_kubectl_has_it(&kubectl, &life, busy));

    // A line over the day takes two points, which are five minutes apart: as if it had been the same an hour ago.
    life.execute(
        "INSERT INTO usage_buckets (environment_id, bucket, samples, cpu_millicores, memory_bytes, cpu_peak, memory_peak) \
         SELECT environment_id, bucket - 3600000, samples, cpu_millicores, memory_bytes, cpu_peak, memory_peak \
         FROM usage_buckets",
    );
    let viewer = Somebody::of_the_team(&life).await;
    let of_busy = Usage::seen_by(&viewer, busy).await;
    let warnings = of_busy.warnings();
    assert!(matches!(&warnings[..], [one] if one.starts_with("CPU at ")), "{warnings:?}");

    life.until(greedy, TO_BE_MEASURED, |found| has_warning(found, "ran out of memory")).await;
    let of_greedy = Usage::seen_by(&viewer, greedy).await;
    let warnings = of_greedy.warnings();
    let is_told = |memory: &str, restarts: &str| memory.contains("ran out of memory") && restarts.contains("restart");
    assert!(matches!(&warnings[..], [memory, restarts] if is_told(memory, restarts)), "{warnings:?}");
    assert!(of_greedy.found["usage"]["restarts"].as_i64().unwrap() >= 1);

    let of_quiet = Usage::seen_by(&viewer, quiet).await;
    let warnings = of_quiet.warnings();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(of_quiet.found["usage"]["memory_quota_bytes"], 512 << 20);

    // The same figures for people.
    let Usage { found, page, row, .. } = of_busy;
    let cpu = format!("{} m", found["cpu_millicores"]);
    let memory = mebibytes(found["memory_bytes"].as_u64().unwrap());
    assert!(row.contains(&format!(">{cpu}<")) && row.contains(&format!(">{memory}<")), "{cpu}, {memory}: {row}");
    let cost = found["usage"]["cost"]["last_day"].as_f64().unwrap();
    assert!(cost > 0.0 && found["usage"]["cost"]["currency"] == "EUR", "{found:#}");
    let url = found["url"].as_str().unwrap();
    assert!(row.contains(&format!("<a href=\"{url}\">open</a>")), "{url}: {row}");
    for words in ["Seen ready", "<dt>Runs</dt>", "<td>Deployment</td><td><code>app</code></td>", "<h2>Timeline</h2>"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let (_, name) = pod(&life, &found).await;
    assert!(page.contains(&format!("<td><code>{name}</code></td><td>")), "{name}: {page}");
    for words in [format!("{cpu} of 100 m"), format!("{memory} of 512 MiB"), format!("about {cost:.2} EUR")] {
        assert!(page.contains(&words), "{words}: {page}");
    }
    // A thousand for a core in an hour is one for a thousandth of it.
    let total = |name: &str, found: &[Value]| found.iter().map(|one| one[name].as_i64()).sum::<Option<i64>>();
    let operator = Somebody::operating(&life).await;
    eventually("the team's sums, of one sample", TO_BE_MEASURED, async || {
        let found = [life.get(quiet).await, life.get(busy).await, life.get(greedy).await];
        let page = operator.page("/operation").await;
        let (cpu, memory) = (total("cpu_millicores", &found)?, total("memory_bytes", &found)?);
        let cost = cpu as f64 + memory as f64 / f64::from(1 << 30) * 100.0;
        let row = format!(
            "<td>shop</td><td class=\"number\">3</td><td class=\"number\">any</td><td class=\"number\">{cpu} m</td>\
             <td class=\"number\">{}</td><td class=\"number\">{cost:.4} EUR</td>",
            mebibytes(memory.unsigned_abs())
        );
        page.contains(&row).then_some(())
    })
    .await;
    for chart in ["CPU over the last 24 hours: at most ", "Memory over the last 24 hours: at most "] {
        assert!(page.contains(&format!("role=\"img\" aria-label=\"{chart}")), "{chart}: {page}");
    }
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
    let list = life.ask("list_preview_environments", json!({})).await.done().unwrap();
    assert_eq!(list["usage_unavailable"], "the cluster has no metrics API", "{list:#}");
    let viewer = Somebody::of_the_team(&life).await;
    let operator = Somebody::operating(&life).await;
    let page = format!("/environments/{}", found["namespace"].as_str().unwrap());
    for (place, text) in [
        ("list", viewer.run_json(&["list"]).await.to_string()),
        ("get", viewer.run(&["get", &viewer.reference(number)]).await),
        ("the list's page", viewer.page("/").await),
        ("the environment's page", viewer.page(&page).await),
        ("the operators' page", operator.page("/operation").await),
    ] {
        assert!(text.contains("the cluster has no metrics API"), "{place}: {text}");
    }
    life.finish().await;
}
