//! What the demo says.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use xtask::{agent::Agent, stand::Stand};

/// T086: deployed within three minutes.
pub const TO_RUNNING: Duration = Duration::from_secs(180);
/// T087: cleaned up within five minutes.
pub const TO_GONE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(200);

pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Shows each status of the environment as it comes, and the comment, until it runs. Gives its URL.
pub async fn until_running(stand: &Stand, token: &str, repository: &str, number: u64) -> Result<String> {
    let began = Instant::now();
    let agent = Agent::over_http(&stand.mcp_url(), token).await?;
    let mut shown = Value::Null;
    let url = loop {
        let reference = format!("{repository}#{number}");
        let environment = agent.call("get_preview_environment", json!({ "environment": reference })).await?.done()?;
        if environment["status"] != shown {
            shown = environment["status"].clone();
            let message = environment["message"].as_str().map(|message| format!(" — {message}")).unwrap_or_default();
            say(&format!("{:>6.1} s  {}{message}", began.elapsed().as_secs_f64(), shown.as_str().unwrap_or("?")));
        }
        match shown.as_str() {
            Some("running") => break environment["url"].as_str().unwrap_or_default().to_owned(),
            Some("failed") => bail!("the environment failed: {environment}"),
            _ if began.elapsed() > TO_RUNNING => bail!("not running after {} s: {environment}", TO_RUNNING.as_secs()),
            _ => tokio::time::sleep(LOOK).await,
        }
    };
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
    agent.close().await?;
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
