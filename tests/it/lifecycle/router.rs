//! previewd's own router: what a visitor gets under an environment's host, from a real application.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use futures::{SinkExt, StreamExt};
use k8s_openapi::api::networking::v1::Ingress;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use xtask::{
    github::NewPullRequest,
    testing::{self, eventually},
};

use super::life::{self, Ground, IMAGE, Life, SOON, TO_GONE, TO_RUNNING, recipe};

/// What browsers say that they want.
const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A previewd whose router is on.
async fn start(ground: &Ground, name: &str, reach: &str, lines: &str) -> Life {
    let mut life = Life::prepare(ground, name, None).await;
    // What runs has answered at its URL, and so through the router.
    life.configure_first(&format!("base_domain = \"localhost:{}\"\nprobe_urls = true\n", port_of(&life)));
    life.configure(&format!("[router]\nenabled = true\nreach = \"{reach}\"\n{lines}"));
    life.begin().await;
    life
}

fn port_of(life: &Life) -> u16 {
    life.stand.url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A request for `host`, whatever this machine's resolver says of it.
fn ask(life: &Life, method: Method, host: &str, path: &str) -> RequestBuilder {
    let http = xtask::web::client().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    http.request(method, format!("{}{path}", life.stand.url)).header("host", host)
}

fn host_of(environment: &Value) -> String {
    let host = environment["url"].as_str().unwrap().trim_start_matches("http://");
    host.trim_end_matches('/').to_owned()
}

async fn get(life: &Life, host: &str, path: &str) -> Response {
    ask(life, Method::GET, host, path).send().await.unwrap()
}

async fn open(life: &Life, host: &str) -> Response {
    ask(life, Method::GET, host, "/").header("accept", HTML).send().await.unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_comes_through_the_router_and_follows_each_commit() {
    let Some(ground) = life::node().await else { return };
    for reach in ["port_forward", "direct"] {
        let life = start(ground, &format!("routed-{reach}").replace('_', "-"), reach, "").await;
        let number = life.open("change", &recipe("ok")).await;
        let environment = life.until_running(number).await;
        let host = host_of(&environment);
        assert_eq!(host, format!("{}.localhost:{}", environment["namespace"].as_str().unwrap(), port_of(&life)));
        life.until_commented(number, &format!("http://{host}")).await;
        for is_first in [true, false] {
            let head = if is_first { life.head(number) } else { life.push(number).await };
            life.until_running(number).await;
            let answer = get(&life, &host, "/").await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert!(answer.text().await.unwrap().contains(&head), "the page of {head}");
        }
        let namespace = environment["namespace"].as_str().unwrap();
        assert_eq!(super::names::<Ingress>(&life, namespace).await, Vec::<String>::new());

        life.stand.github.close(&life.repository, number).await.unwrap();
        life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
        eventually("it is gone", SOON, async || (open(&life, &host).await.status() == StatusCode::GONE).then_some(()))
            .await;
        life.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_hears_what_is_its_own_and_previewd_keeps_what_is_not() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "own", "port_forward", "").await;
    let number = life.open("change", &recipe("ok")).await;
    let host = host_of(&life.until_running(number).await);

    let asked =
        ask(&life, Method::GET, &host, "/headers?cookie=a%3D1%3B+Domain%3Dlocalhost&cookie=previewd_session%3Dx")
            .header("cookie", "theme=dark; __Host-previewd-visit=secret; previewd=secret")
            .header("authorization", "Bearer pvd_secret")
            .header("x-forwarded-host", "evil.example.com")
            .header("connection", "keep-alive, x-of-this-hop")
            .header("x-of-this-hop", "1")
            .header("x-shop", "kept");
    let answer = asked.send().await.unwrap();
    let cookies: Vec<&str> = answer.headers().get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
    assert_eq!(cookies, ["a=1"]);
    let heard: Value = answer.json().await.unwrap();
    assert_eq!(heard["Cookie"], serde_json::json!(["theme=dark"]), "{heard}");
    assert_eq!(heard["Host"], serde_json::json!([host]));
    assert_eq!(heard["X-Forwarded-Host"], serde_json::json!([host]));
    assert_eq!(heard["X-Forwarded-Proto"], serde_json::json!(["http"]));
    assert_eq!(heard["X-Forwarded-For"], serde_json::json!(["127.0.0.1"]));
    assert_eq!(heard["X-Shop"], serde_json::json!(["kept"]));
    for kept_here in ["Authorization", "X-Of-This-Hop"] {
        assert!(heard[kept_here].is_null(), "{heard}");
    }
    let basic = ask(&life, Method::GET, &host, "/headers").header("authorization", "Basic c2hvcDpzaG9w");
    let heard: Value = basic.send().await.unwrap().json().await.unwrap();
    assert_eq!(heard["Authorization"], serde_json::json!(["Basic c2hvcDpzaG9w"]));

    // What previewd has under its own host is the application's matter here, and the other way round.
    let mcp = ask(&life, Method::POST, &host, "/mcp").send().await.unwrap();
    assert_eq!(mcp.status(), StatusCode::NOT_FOUND);
    assert_eq!(mcp.text().await.unwrap(), "404 page not found\n");
    for path in ["/metrics", "/readyz"] {
        assert_eq!(get(&life, &host, path).await.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    let delivery = ask(&life, Method::POST, &host, "/webhooks/github").header("x-github-event", "ping").send().await;
    assert_eq!(delivery.unwrap().status(), StatusCode::NOT_FOUND);
    let own = life.stand.url.trim_start_matches("http://");
    assert_eq!(get(&life, own, "/headers").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(ask(&life, Method::POST, own, "/mcp").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);

    let port = port_of(&life);
    let id = life.row(&life.store(), number).await.environment.id;
    for nobody in [format!("pr-999-nothing.localhost:{port}"), format!("a.{host}"), format!("{id}.localhost")] {
        let answer = open(&life, &nobody).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{nobody}");
        assert_eq!(text(answer.headers(), "content-type"), "text/html; charset=utf-8");
        assert!(answer.text().await.unwrap().contains("There is no such preview"), "{nobody}");
    }

    let used_at = async || life.row(&life.store(), number).await.environment.lifetime.used_at;
    let an_hour_ago = used_at().await - 3_600_000;
    // A process that did not see the uses before.
    life.execute(&format!("UPDATE environments SET used_at = {an_hour_ago}"));
    let mut life = life;
    life.stand.server.take().unwrap().stop().await.unwrap();
    life.begin().await;
    get(&life, &host, "/").await;
    eventually("the use is recorded", SOON, async || {
        (life.row(&life.store(), number).await.environment.lifetime.used_at > an_hour_ago).then_some(())
    })
    .await;
    let counted = xtask::web::plain_client()
        .get(format!("{}/metrics", life.stand.url))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(counted.contains("previewd_preview_requests_total{outcome=\"forwarded\"} 1"), "{counted}");
    life.finish().await;
}

/// What of previewd's memory is resident, in bytes.
fn resident(life: &Life) -> usize {
    let id = life.stand.server.as_ref().unwrap().id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways_and_memory_does_not_grow_with_them() {
    const LARGE: usize = 64 << 20;
    /// What buffers of a connection may take, and what an allocator keeps.
    const BUFFERS: usize = 24 << 20;
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "streams", "port_forward", "").await;
    let number = life.open("change", &recipe("ok")).await;
    let host = host_of(&life.until_running(number).await);

    let began = Instant::now();
    let mut answer = get(&life, &host, "/slowly?pieces=5").await;
    let mut came = Vec::new();
    while let Some(piece) = answer.chunk().await.unwrap() {
        came.push((String::from_utf8(piece.to_vec()).unwrap(), began.elapsed()));
    }
    assert_eq!(came.iter().map(|(piece, _)| piece.as_str()).collect::<String>().lines().count(), 5);
    assert!(came.len() >= 4, "pieces come as they are sent: {came:?}");
    let (first, last) = (came[0].1, came[came.len() - 1].1);
    assert!(last - first > Duration::from_millis(800), "{came:?}");

    // Once before it is measured: what the first request needs is there afterwards.
    get(&life, &host, "/bytes?size=4000000").await.bytes().await.unwrap();
    let before = resident(&life);
    let mut most = before;
    let mut answer = get(&life, &host, &format!("/bytes?size={LARGE}")).await;
    let mut received = 0;
    while let Some(piece) = answer.chunk().await.unwrap() {
        received += piece.len();
        most = most.max(resident(&life));
    }
    assert_eq!(received, LARGE);
    assert!(most - before < BUFFERS, "a download took {} MiB", (most - before) >> 20);

    let block = bytes_of_zeros(64 << 10);
    let upload = futures::stream::iter((0..LARGE / block.len()).map(move |_| Ok::<_, std::io::Error>(block.clone())));
    let sent = ask(&life, Method::POST, &host, "/size").body(reqwest::Body::wrap_stream(upload)).send();
    let watched = async {
        let mut most = before;
        loop {
            most = most.max(resident(&life));
            tokio::time::sleep(Duration::from_millis(50)).await;
            if most - before >= BUFFERS {
                return most;
            }
        }
    };
    let answer = tokio::select! {
        answer = sent => answer.unwrap(),
        most = watched => panic!("an upload took {} MiB", (most - before) >> 20),
    };
    assert_eq!(answer.text().await.unwrap().trim(), LARGE.to_string());

    // Those who read nothing hold up nobody.
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(get(&life, &host, &format!("/bytes?size={LARGE}")).await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    assert_eq!(get(&life, &host, "/").await.status(), StatusCode::OK);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let grown = resident(&life).saturating_sub(before);
    assert!(grown < 2 * BUFFERS, "four slow readers took {} MiB", grown >> 20);
    drop(slow);
    life.finish().await;
}

fn bytes_of_zeros(count: usize) -> axum::body::Bytes {
    vec![0; count].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_passes() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "sockets", "port_forward", "").await;
    let number = life.open("change", &recipe("ok")).await;
    let host = host_of(&life.until_running(number).await);

    let stream = TcpStream::connect(("127.0.0.1", port_of(&life))).await.unwrap();
    let request = format!("ws://{host}/echo").into_client_request().unwrap();
    let (mut socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.status().as_u16(), 101);
    let large = Message::binary(vec![7; 500_000]);
    for message in [Message::text("hello"), large, Message::text("ünïcode")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    // It stays while nobody says anything, longer than any ordinary request may take to come.
    tokio::time::sleep(Duration::from_secs(3)).await;
    socket.send(Message::text("still there?")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still there?"));
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}

    // One that the application does not want is an answer like any other.
    let refused = ask(&life, Method::GET, &host, "/")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = refused.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains(&life.head(number)));
    life.finish().await;
}

/// The router knows the way to the pods: without `probe_urls` too, what does not answer there does not run, and a page
/// that nobody named may be anything but broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_router_asks_the_application_before_it_runs() {
    let Some(ground) = life::node().await else { return };
    let mut life = Life::prepare(ground, "asked", None).await;
    life.configure("[router]\nenabled = true\n");
    life.begin().await;
    let manifests = |port: u16, path: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: web }}\nspec:\n  selector: {{ app: web }}\n  ports: [{{ port: 80, \
             targetPort: {port} }}]\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{ name: web }}\nspec:\n  \
             rules:\n    - host: '{{{{ host }}}}'\n      http:\n        paths:\n          - {{ path: {path}, pathType: Prefix, backend: \
             {{ service: {{ name: web, port: {{ number: 80 }} }} }} }}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{ \
             name: web }}\nspec:\n  selector: {{ matchLabels: {{ app: web }} }}\n  template:\n    metadata: {{ labels: {{ app: web \
             }} }}\n    spec:\n      containers:\n        - {{ name: web, image: {IMAGE}, env: [{{ name: COMMIT, value: '{{{{ sha \
             }}}}' }}], resources: {{ limits: {{ cpu: 100m, memory: 64Mi }} }} }}\n"
        )
    };
    let new = NewPullRequest::new("A port", "port")
        .file(".preview.yaml", "version: 1\nmanifests: [web.yaml]\n")
        .file("web.yaml", &manifests(9999, "/"));
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    let found = life.until(number, TO_RUNNING, |found| found["reason"] == "url_unreachable").await;
    assert_eq!(found["status"], "deploying", "{found:#}");
    let said = "nothing answers at / behind port 80 of the Service web; see its targetPort";
    assert!(found["message"].as_str().unwrap().contains(said), "{found:#}");
    // No page of it is at its only path, and the application says so.
    let files = [("web.yaml", &*manifests(8080, "/no/such/page"))];
    life.stand.github.push(&life.repository, number, &files).await.unwrap();
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["readiness"]["url_status"], 404, "{running:#}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_says_how_what_does_not_answer_yet_stands() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "starting", "port_forward", "").await;
    let number = life.open("change", &recipe("never-ready")).await;
    let environment = life.until_status(number, "deploying").await;
    let (host, namespace) = (host_of(&environment), environment["namespace"].as_str().unwrap());

    let answer = open(&life, &host).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(answer.headers(), "retry-after"), "2");
    assert_eq!(text(answer.headers(), "cache-control"), "no-store");
    assert!(text(answer.headers(), "content-security-policy").starts_with("default-src 'none'"));
    let page = answer.text().await.unwrap();
    assert!(page.contains("This preview is starting") && page.contains("http-equiv=\"refresh\""), "{page}");
    assert!(page.contains("deploying"), "{page}");
    let answer = get(&life, &host, "/api/cart").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let line = answer.text().await.unwrap();
    assert!(line.starts_with("This preview is starting: ") && line.lines().count() == 1, "{line}");

    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(life.kube.clone(), namespace);
    let address = eventually("the pod has an address", TO_RUNNING, async || {
        let pod = pods.list(&Default::default()).await.unwrap().items.into_iter().next()?;
        pod.status?.pod_ip
    })
    .await;
    let http = xtask::web::plain_client();
    eventually("the application becomes ready", SOON, async || {
        http.post(format!("http://{address}:8080/ok")).send().await.ok()?.error_for_status().ok()
    })
    .await;
    life.until_running(number).await;
    let answer = open(&life, &host).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let served = life.head(number);
    assert!(answer.text().await.unwrap().contains(&served));

    // A commit that fails leaves the one before it where it is.
    let crash = recipe_of_crash();
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", &crash)]).await.unwrap();
    let mut looks = 0;
    let is_over = async || {
        let answer = get(&life, &host, "/").await;
        let (status, page) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(page.contains(&served), "{page}");
        looks += 1;
        (life.get(number).await["status"] == "failed").then_some(())
    };
    eventually("the commit fails", Duration::from_secs(120), is_over).await;
    assert!(looks > 5);
    let answer = get(&life, &host, "/").await;
    assert!(answer.text().await.unwrap().contains(&served));
    life.finish().await;
}

/// What cannot heal by waiting, and so fails at once: it wants to be root.
fn recipe_of_crash() -> String {
    life::recipe_of("registry.localhost/shop:root", "ok")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_what_sleeps_wakes_it() {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, "woken", "port_forward", "[lifetime]\nsleep_after = \"1m\"\n").await;
    let number = life.open("change", &recipe("ok")).await;
    let is_asleep = |found: &Value| found["status"] == "running" && found["reason"] == "asleep";
    life.until_running(number).await;
    life.fall_asleep();
    let host = host_of(&life.until(number, TO_RUNNING + SOON, is_asleep).await);

    // What the router knows of it may be a second old.
    eventually("it has no pods to answer", SOON, async || {
        (get(&life, &host, "/").await.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    // Whatever looks for something else than a page leaves it asleep.
    let head = ask(&life, Method::HEAD, &host, "/").header("accept", HTML);
    let icon = ask(&life, Method::GET, &host, "/favicon.ico").header("accept", "image/avif,image/webp,*/*;q=0.8");
    let robot = ask(&life, Method::GET, &host, "/").header("accept", HTML).header("user-agent", "Examplebot/1.0");
    for request in [head, icon, robot, ask(&life, Method::GET, &host, "/")] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(is_asleep(&life.get(number).await));

    let answer = open(&life, &host).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(answer.headers(), "retry-after"), "2");
    assert!(answer.text().await.unwrap().contains("waking up"));
    let page = eventually("the page is back", TO_RUNNING, async || {
        let answer = open(&life, &host).await;
        if answer.status() == StatusCode::OK { answer.text().await.ok() } else { None }
    })
    .await;
    assert!(page.contains(&life.head(number)), "{page}");
    let asked = serde_json::json!({ "repository": life.repository, "pull_request": number });
    let explained = life.ask("explain_preview_environment", asked).await.done().unwrap();
    assert!(explained.to_string().contains("\"visitor\""), "{explained:#}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_goes_leaves_its_visitors_to_the_others() {
    let Some(ground) = life::node().await else { return };
    for reach in ["port_forward", "direct"] {
        let life = start(ground, &format!("replicas-{reach}").replace('_', "-"), reach, "").await;
        let number = life.open("change", &recipe("ok").replace("  env:", "  replicas: 2\n  env:")).await;
        let environment = life.until_running(number).await;
        let (host, namespace) = (host_of(&environment), environment["namespace"].as_str().unwrap());
        let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(life.kube.clone(), namespace);
        for _ in 0..2 {
            eventually("both pods are ready", TO_RUNNING, async || {
                let pods = pods.list(&Default::default()).await.unwrap().items;
                let is_ready = |pod: &k8s_openapi::api::core::v1::Pod| {
                    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
                    pod.metadata.deletion_timestamp.is_none() && statuses.into_iter().any(|status| status.ready)
                };
                (pods.iter().filter(|pod| is_ready(pod)).count() == 2).then_some(())
            })
            .await;
            for _ in 0..10 {
                assert_eq!(get(&life, &host, "/").await.status(), StatusCode::OK);
            }
            let first = pods.list(&Default::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
            pods.delete(&first, &Default::default()).await.unwrap();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(3) {
                let answer = get(&life, &host, "/").await;
                let (status, page) = (answer.status(), answer.text().await.unwrap());
                assert_eq!(status, StatusCode::OK, "{:?} after {first} went: {page}", began.elapsed());
            }
        }
        life.finish().await;
    }
}

/// The page as a real browser has it, from the address in the comment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_opens_the_preview() {
    let Some(ground) = life::node().await else { return };
    let Some(browser) = testing::browser() else { return };
    let life = start(ground, "browser", "port_forward", "").await;
    let number = life.open("change", &recipe("ok")).await;
    let environment = life.until_running(number).await;
    let page = dom(browser.clone(), environment["url"].as_str().unwrap()).await;
    assert!(page.contains(&life.head(number)), "{page}");
    life.stand.github.close(&life.repository, number).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    let page = dom(browser, environment["url"].as_str().unwrap()).await;
    assert!(page.contains("This preview is gone"), "{page}");
    life.finish().await;
}

/// What a browser makes of a page.
async fn dom(browser: PathBuf, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let command = tokio::process::Command::new(browser)
        // As root it has no sandbox; it loads nothing here but the page.
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(SOON, command).await.expect("the browser ends").unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
