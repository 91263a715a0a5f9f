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
use xtask::testing::{self, eventually};

use super::life::{self, Ground, Life, SOON, TO_GONE, TO_RUNNING, recipe};

/// What browsers say that they want.
const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A previewd whose router is on.
async fn start(ground: &Ground, name: &str, reach: &str, lines: &str) -> Life {
    let mut life = Life::prepare(ground, name, None).await;
    life.configure_first(&format!("base_domain = \"localhost:{}\"\n", port_of(&life)));
    life.configure(&format!("[router]\nenabled = true\nreach = \"{reach}\"\n{lines}"));
    life.begin().await;
    life
}

fn port_of(life: &Life) -> u16 {
    life.stand.url.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A request for `host`, whatever this machine's resolver says of it.
fn ask(life: &Life, method: Method, host: &str, path: &str) -> RequestBuilder {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
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
        eventually("it is gone", SOON, async || (open(&life, &host).await.status() == StatusCode::GONE).then_some(())).await;
        life.finish().await;
    }
}
