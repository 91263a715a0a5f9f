//! What the demo says.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use xtask::{agent::Agent, stand::Stand};

use super::REPOSITORY;

/// T086: deployed within three minutes.
pub const TO_RUNNING: Duration = Duration::from_secs(180);
/// Three attempts, each of which may take as long, and the waits between them.
pub const TO_FAILED: Duration = Duration::from_secs(600);
/// T087: cleaned up within five minutes.
pub const TO_GONE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(200);

pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Shows each status of a pull request's environment as it comes, until it is `awaited`. Gives its URL.
pub async fn until(stand: &Stand, token: &str, number: u64, awaited: &str) -> Result<String> {
    let began = Instant::now();
    let agent = Agent::over_http(&stand.mcp_url(), token).await?;
    let reference = json!({ "environment": format!("{REPOSITORY}#{number}") });
    let mut shown = (Value::Null, Value::Null);
    let limit = if awaited == "running" { TO_RUNNING } else { TO_FAILED };
    let url = loop {
        let environment = agent.call("get_preview_environment", reference.clone()).await?.done()?;
        let now = (environment["status"].clone(), environment["reason"].clone());
        if now != shown {
            shown = now;
            let message = environment["message"].as_str().map(|message| format!(" — {message}")).unwrap_or_default();
            say(&format!("{:>6.1} s  {}{message}", began.elapsed().as_secs_f64(), shown.0.as_str().unwrap_or("?")));
        }
        match shown.0.as_str() {
            Some(status) if status == awaited => break environment["url"].as_str().unwrap_or_default().to_owned(),
            Some("failed") => bail!("the environment failed: {environment}"),
            _ if began.elapsed() > limit => bail!("not {awaited} after {} s: {environment}", limit.as_secs()),
            _ => tokio::time::sleep(LOOK).await,
        }
    };
    agent.close().await?;
    Ok(url)
}

/// As [`until`] for what is to run, and shows the comment then.
pub async fn until_running(stand: &Stand, token: &str, repository: &str, number: u64) -> Result<String> {
    let began = Instant::now();
    let url = until(stand, token, number, "running").await?;
    // The comment follows the status by a request to GitHub.
    while began.elapsed() < TO_RUNNING {
        let comments = stand.github.comments(repository, number);
        if let Some(comment) = comments.iter().find(|comment| comment.body.contains(&url)) {
            say("\nThe comment on the pull request:\n");
            for line in comment.body.lines().filter(|line| !line.starts_with("<!--")) {
                say(&format!("    {line}"));
            }
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(url)
}

/// Where everything is.
pub fn addresses(stand: &Stand, url: &str, token: &str, repository: &str, number: u64) {
    let github = stand.github.url();
    let (server, mcp) = (&stand.url, stand.mcp_url());
    say(&format!(
        "
    preview       {url}
    pull request  {github}/{repository}/pull/{number}
    server        {server}
    MCP           {mcp}
    token         {token}   (admin of the team shop)
    config        {}

    claude mcp add --transport http previewd {mcp} --header \"Authorization: Bearer {token}\"
    PREVIEWD_SERVER={server} PREVIEWD_TOKEN={token} target/debug/previewd list

The server's address is the dashboard: sign in with the token.
",
        stand.config.display()
    ));
}
