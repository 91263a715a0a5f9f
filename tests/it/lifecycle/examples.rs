//! Every example of `examples/`: opened, changed twice, broken, and closed.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::{Api, ResourceExt};
use serde_json::Value;
use xtask::{cluster::POSTGRES_VERSION, github::NewPullRequest};

use super::{
    life::{self, IMAGE, Life, TO_GONE, TO_RUNNING},
    recipes::start,
};

/// The example's files, with an image that is there in place of the one that a CI would have pushed.
fn files(example: &str, image: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let here = |text: String| {
        text.replace("ghcr.io/acme/shop:{{ sha }}", image)
            .replace("ghcr.io/acme/site:{{ sha }}", image)
            .replace("version: 16", &format!("version: {POSTGRES_VERSION}"))
    };
    found.into_iter().map(|(path, text)| (path, here(text))).collect()
}

async fn push(life: &Life, number: u64, files: &[(String, String)]) -> String {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    life.stand.github.push(&life.repository, number, &files).await.unwrap()
}

/// Lives an example's life. `at_each` looks at the environment each time it runs.
async fn live(example: &str, at_each: impl AsyncFn(&Life, &Value)) {
    let Some(ground) = life::node().await else { return };
    let life = start(ground, example).await;
    let mut new = NewPullRequest::new("An example", "example");
    for (path, text) in files(example, IMAGE) {
        new = new.file(&path, &text);
    }
    let number = life.stand.github.open_pull_request(&life.repository, new).await.unwrap();
    at_each(&life, &life.until_running(number).await).await;
    let mut served = String::new();
    for change in ["once", "twice"] {
        served = push(&life, number, &[("shop/change.txt".to_owned(), change.to_owned())]).await;
        at_each(&life, &life.until_running(number).await).await;
    }

    // An image that wants to be root, which nothing is here.
    push(&life, number, &files(example, "registry.localhost/shop:root")).await;
    life.until_status(number, "failed").await;
    let back = |found: &Value| found["serving_commit"] == served.as_str();
    let failed = life.until(number, TO_RUNNING, back).await;
    assert_eq!(failed["status"], "failed", "{failed:#}");
    life.page(&failed).await;

    life.stand.github.close(&life.repository, number).await.unwrap();
    life.until(number, TO_GONE, |found| found["status"] == "deleted").await;
    assert!(life.namespaces().await.is_empty(), "nothing is left");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_site() {
    live("static-site", async |life, running| drop(life.page(running).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_with_postgres() {
    live("web-with-postgres", async |life, running| {
        let visits: u32 = life.get_path(running, "/visits").await.trim().parse().unwrap();
        assert!(visits >= 2, "the seed's and this one at least: {visits}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monorepo_with_manifests() {
    live("monorepo", async |life, running| {
        let commit = running["commit"].as_str().unwrap();
        assert!(life.page(running).await.contains(commit), "the page of {commit}");
    })
    .await;
}

/// T013: a real chart, the real helm, and values that carry commit, branch and image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helm_chart_with_a_hook() {
    let keys = std::sync::Mutex::new(Vec::new());
    live("helm-chart", async |life, running| {
        let commit = running["commit"].as_str().unwrap();
        let page = life.page(running).await;
        assert!(page.contains(commit) && page.contains("hello from example"), "{page}");
        let namespace = running["namespace"].as_str().unwrap();
        let secret = Api::<Secret>::namespaced(life.kube.clone(), namespace).get("preview-session").await.unwrap();
        keys.lock().unwrap().push(secret.data.unwrap()["key"].clone());
        let hook = Api::<Job>::namespaced(life.kube.clone(), namespace).get("preview-before").await.unwrap();
        assert_eq!(hook.annotations()["previewd.dev/run"], commit, "the hook ran for this commit");
        assert_eq!(hook.status.unwrap().succeeded, Some(1));
    })
    .await;
    let keys = keys.into_inner().unwrap();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "what the chart makes up stays as it is");
}
