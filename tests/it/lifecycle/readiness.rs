//! Running is what was seen: the pods of the commit, the digests of their images, and the URL's answer.

use previewd::environment::DeploymentStatus;
use xtask::stand::free_port;

use super::life::{self, Life, TO_RUNNING, recipe};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_was_seen_to_run() {
    let Some(ground) = life::node().await else { return };
    let mut life = Life::prepare(ground, "proven", None).await;
    life.configure_first("probe_urls = true\n");
    life.begin().await;
    let number = life.open("change", &recipe("ok")).await;
    let running = life.until_running(number).await;
    let proof = &running["deployments"][0]["readiness"];
    assert_eq!((&proof["url_status"], &proof["images"][0]["container"]), (&200.into(), &"app".into()), "{running:#}");
    let digest = proof["images"][0]["digest"].as_str().unwrap_or_default();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{running:#}");
    assert!(proof["pods_seen_at"].is_string() && proof["url_seen_at"].is_string(), "{running:#}");
    life.finish().await;
}

/// Its pods are ready, and whoever follows the link finds nothing: that is not running.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_whose_url_does_not_answer() {
    let Some(ground) = life::node().await else { return };
    let mut life = Life::prepare(ground, "unproven", None).await;
    let nowhere = format!("base_domain = \"localhost:{}\"\nprobe_urls = true\n", free_port().unwrap());
    life.configure_first(&nowhere);
    life.begin().await;
    let number = life.open("change", &recipe("ok")).await;
    let waiting = life.until(number, TO_RUNNING, |found| found["reason"] == "url_unreachable").await;
    assert_eq!(waiting["status"], "deploying", "{waiting:#}");
    assert!(waiting["message"].as_str().unwrap().contains("its URL does not answer"), "{waiting:#}");
    let store = life.store();
    let row = life.row(&store, number).await.environment;
    let deployment = store.deployments_of(&row.id, 1).await.unwrap().remove(0);
    assert_eq!((deployment.status, deployment.readiness), (DeploymentStatus::Deploying, None));
    life.finish().await;
}
