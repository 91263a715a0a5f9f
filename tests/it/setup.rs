//! `previewd github setup`, as somebody uses it: one page, one click, and a configuration that works.

use std::{path::Path, process::Stdio, time::Duration};

use previewd::config::{Config, Login};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use xtask::{
    github::{GitHub, Options},
    stand::free_port,
};

fn start(config: &Path, port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_previewd"))
        .args(["github", "setup", "--organization", "acme", "--name", "previewd-of-acme"])
        .args(["--port", &port.to_string(), "--config"])
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The value of an attribute in a page, as a browser reads it.
fn attribute(page: &str, before: &str) -> String {
    let begin = page.find(before).unwrap_or_else(|| panic!("no {before} in {page}")) + before.len();
    let text = &page[begin..begin + page[begin..].find('"').unwrap()];
    text.replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">").replace("&#38;", "&")
}

#[tokio::test]
async fn an_app_is_made_with_one_click() {
    let github = GitHub::start(Options { tokens: Vec::new(), ..Options::default() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("previewd.toml");
    let given = format!(
        "public_url = \"https://previewd.example.com\" # ours\n[github]\napi_url = \"{}\"\n[teams.shop]\nmembers = [\"ann\"]\n",
        github.url()
    );
    std::fs::write(&path, &given).unwrap();
    let port = free_port().unwrap();
    let mut setup = start(&path, port);
    let mut said = BufReader::new(setup.stdout.take().unwrap()).lines();
    let first = said.next_line().await.unwrap().unwrap();
    assert!(first.contains(&format!("http://127.0.0.1:{port}/")), "{first}");

    let browser = xtask::web::client().build().unwrap();
    let page = browser.get(format!("http://127.0.0.1:{port}/")).send().await.unwrap().text().await.unwrap();
    let (address, manifest) = (attribute(&page, "action=\""), attribute(&page, "name=\"manifest\" value=\""));
    assert!(address.starts_with(&format!("{}/organizations/acme/settings/apps/new?state=", github.url())), "{address}");
    let asked: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(asked["hook_attributes"]["url"], "https://previewd.example.com/webhooks/github");
    assert_eq!(asked["public"], false);

    // A name of another site that leads to this machine.
    let rebound = browser.get(format!("http://127.0.0.1:{port}/")).header("host", format!("evil.example:{port}"));
    assert_eq!(rebound.send().await.unwrap().status(), 421);

    // Somebody else's code, for a page that they did not open.
    let forged = format!("http://127.0.0.1:{port}/created?code=abc&state=guessed");
    assert_eq!(browser.get(forged).send().await.unwrap().status(), 400);

    let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("manifest", &manifest).finish();
    let clicked = browser.post(address).header("content-type", "application/x-www-form-urlencoded").body(body);
    let answer = clicked.send().await.unwrap();
    assert_eq!(answer.status(), 200, "GitHub leads back");
    let page = answer.text().await.unwrap();
    assert!(page.contains("/apps/previewd-of-acme/installations/new"), "{page}");
    let ended = tokio::time::timeout(Duration::from_secs(20), setup.wait()).await.expect("it ends by itself").unwrap();
    assert!(ended.success());

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("# ours"), "{text}");
    let config = Config::load(Some(&path), previewd::config::Unnamed::OfTheUser, std::iter::empty()).unwrap();
    assert_eq!(config.teams["shop"].members, ["ann".parse::<Login>().unwrap()]);
    assert_eq!(config.github.webhook_secrets.len(), 1);
    for file in ["previewd.toml", "previewd-app.pem"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    // GitHub takes what was written.
    let doctor = Command::new(env!("CARGO_BIN_EXE_previewd"))
        .args(["doctor", "--output", "json", "--config"])
        .arg(&path)
        .output()
        .await
        .unwrap();
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let check = checks.iter().find(|check| check["name"] == "GitHub").unwrap();
    assert_eq!(check["result"], "ok", "{check}");
    assert_eq!(github.violations(), [""; 0]);

    // What is there is not written over.
    let again = start(&path, port).wait_with_output().await.unwrap();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("has credentials for GitHub already"));
}
