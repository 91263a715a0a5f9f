//! Repositories that ask for too much, or keep what previewd does not take: each fails at once, can be retried, and a push
//! of something better is deployed.

use std::time::Duration;

use serde_json::Value;
use xtask::{
    github::{NewPullRequest, link_to},
    testing::eventually,
};

use super::life::{self, Life, recipe};

const CHART: &str = "version: 1\nhelm: { chart: ./chart }\nexpose: { service: web, port: 80 }\n";
const METADATA: &str = "{ apiVersion: v2, name: web, version: 1.0.0 }\n";
const MIB: usize = 1 << 20;

/// A repository with a chart that has these files besides.
fn chart(branch: &str, files: impl IntoIterator<Item = (String, String)>) -> NewPullRequest {
    let new = NewPullRequest::new("A chart", branch).file(".preview.yaml", CHART).file("chart/Chart.yaml", METADATA);
    files.into_iter().fold(new, |new, (path, text)| new.file(&format!("chart/{path}"), &text))
}

/// All of them at once, with hundreds of files and megabytes of JSON.
const TO_FAIL: Duration = Duration::from_secs(180);

/// It fails in its own words, fails once more when it is retried, and a push helps.
async fn fails_and_is_mended(life: &Life, new: NewPullRequest, reason: &str, sentence: &str) {
    let github = &life.stand.github;
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    let failed = life.until(number, TO_FAIL, |found| found["status"] == "failed").await;
    let words = |found: &Value| (found["reason"].as_str().unwrap().to_owned(), found["message"].to_string());
    assert_eq!(words(&failed), (reason.to_owned(), Value::from(sentence).to_string()), "{failed:#}");
    life.until_commented(number, "Preview failed").await;

    life.call("retry_preview_deployment", number).await.done().unwrap();
    let store = life.store();
    let row = life.row(&store, number).await.environment;
    eventually("a second round that fails", TO_FAIL, async || {
        let newest = store.deployments_of(&row.id, 1).await.unwrap().remove(0);
        let found = life.get(number).await;
        (newest.round == 2 && found["status"] == "failed" && words(&found) == words(&failed)).then_some(())
    })
    .await;
    github.push(&life.repository, number, &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
    life.until_applied(number).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_leads_elsewhere_fails_and_can_be_retried() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "bad-input").await;
    let file = |name: &str, size: usize| (name.to_owned(), "#".repeat(size));
    let too_large = ".preview.yaml, line 2: helm.chart names more than 1 MiB in a file, or 4 MiB in all.";
    let deep: String = (0..9).map(|depth| format!("{depth}/")).collect();
    let asks = recipe("ok").replace("memory: 64Mi", "memory: 2Gi");
    tokio::join!(
        // More of it is never read: a repository may be as large as it likes.
        fails_and_is_mended(&life, chart("giant", [file("a.bin", 8 * MIB)]), "invalid_recipe", too_large),
        fails_and_is_mended(&life, chart("byte", [file("a.bin", MIB + 1)]), "invalid_recipe", too_large),
        fails_and_is_mended(
            &life,
            chart("giants", (0..5).map(|number| file(&format!("{number}.bin"), MIB))),
            "invalid_recipe",
            too_large
        ),
        fails_and_is_mended(
            &life,
            chart("many", (0..201).map(|number| file(&format!("templates/{number}.yaml"), 1))),
            "invalid_recipe",
            ".preview.yaml, line 2: helm.chart has more than 200 files."
        ),
        fails_and_is_mended(
            &life,
            chart("deep", [file(&format!("{deep}a.yaml"), 1)]),
            "invalid_recipe",
            ".preview.yaml, line 2: helm.chart has folders in folders in folders, too many of them."
        ),
        fails_and_is_mended(
            &life,
            chart("link", [("values.yaml".to_owned(), link_to("/etc/passwd"))]),
            "invalid_recipe",
            ".preview.yaml, line 2: helm.chart has a link or a submodule in it; a chart must be files and folders."
        ),
        fails_and_is_mended(
            &life,
            NewPullRequest::new("A link", "link-among-manifests")
                .file(".preview.yaml", "version: 1\nmanifests: [k8s/*.yaml]\n")
                .file("k8s/a.yaml", &link_to("../../other/secret.yaml")),
            "invalid_recipe",
            ".preview.yaml, line 2: manifests name a link or a submodule among their files."
        ),
        fails_and_is_mended(
            &life,
            NewPullRequest::new("Nowhere", "nowhere")
                .file(".preview.yaml", "version: 1\nmanifests: [k8s/*.yaml]\nexpose: { service: web, port: 80 }\n")
                .file(
                    "k8s/web.yaml",
                    "{ apiVersion: v1, kind: Service, metadata: { name: web }, spec: { selector: { app: web }, ports: [{ port: 80 }] } }\n"
                ),
            "object_refused",
            "Service web was refused: spec.selector selects no pods: the recipe makes none."
        ),
        fails_and_is_mended(
            &life,
            NewPullRequest::new("Much memory", "memory").file(".preview.yaml", &asks),
            "quota_exceeded",
            "The recipe asks for 2Gi of memory, and an environment may have 512Mi."
        ),
    );
    life.finish().await;
}
