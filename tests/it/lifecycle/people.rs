//! Who looks at a preview: somebody of its team, in a browser and in a terminal, and the cluster's administrator.

use std::{path::PathBuf, process::Stdio};

use serde_json::Value;
use tokio::process::Command;
use xtask::cluster;

use super::life::{Ground, Life};
use crate::dashboard::Person;

/// What a command printed; or what it said on stderr, where it failed.
async fn printed(command: &mut Command) -> Result<Vec<u8>, String> {
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    if ended.status.success() { Ok(ended.stdout) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
}

/// Somebody with a token, a browser, and a terminal.
pub struct Somebody<'a> {
    pub life: &'a Life,
    pub token: String,
    browser: Person,
}

impl<'a> Somebody<'a> {
    pub async fn of_the_team(life: &'a Life) -> Self {
        Self::with_token(life, life.stand.create_token("watcher", "viewer", &["shop"]).await.unwrap()).await
    }

    pub async fn operating(life: &'a Life) -> Self {
        Self::with_token(life, life.stand.create_token("operator", "operator", &[]).await.unwrap()).await
    }

    async fn with_token(life: &'a Life, token: String) -> Self {
        Self { life, browser: Person::at(&life.stand.url, &token).await, token }
    }

    pub fn reference(&self, number: u64) -> String {
        format!("{}#{number}", self.life.repository)
    }

    /// What `previewd` prints.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_previewd"));
        command.args(arguments).args(["--server", &self.life.stand.url]).env("PREVIEWD_TOKEN", &self.token);
        String::from_utf8(printed(&mut command).await.unwrap()).unwrap()
    }

    pub async fn run_json(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[arguments, &["--output", "json"]].concat()).await;
        serde_json::from_str(&said).unwrap()
    }

    pub async fn page(&self, path: &str) -> String {
        let page = self.browser.open(path).await;
        assert_eq!(page.status, 200, "{path}");
        page.body
    }

    /// The log at every place that has it, but for those that follow it.
    pub async fn logs(&self, number: u64) -> Vec<(&'static str, String)> {
        let environment = self.life.get(number).await;
        let path = format!("/environments/{}", environment["namespace"].as_str().unwrap());
        vec![
            ("MCP", self.life.call("get_preview_logs", number).await.done().unwrap().to_string()),
            ("the command line", self.run(&["logs", &self.reference(number)]).await),
            ("the page", self.page(&path).await),
            ("the file", self.page(&format!("{path}/logs.txt?tail=1000")).await),
        ]
    }
}

/// `kubectl`, as the cluster's administrator has it.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// To begin with: it may have to be built.
    pub async fn of(ground: &Ground) -> Self {
        let program = tokio::task::spawn_blocking(cluster::kubectl).await.unwrap().unwrap();
        Self { program, kubeconfig: ground.cluster.kubeconfig().to_owned() }
    }

    /// What it prints; or what it says on stderr, where it fails.
    pub async fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        // Not among the files of whoever runs the tests.
        command.arg("--cache-dir").arg(self.kubeconfig.with_file_name("kubectl"));
        printed(command.args(arguments)).await
    }
}
