//! The dashboard's pages over many environments.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::Full;
use hyper::Request;
use xtask::{previewd::create_token, web};

use super::{
    figure::Figure,
    ground::{Ground, TEAM},
    load::{Blocks, Connections, Limits},
    pull_requests::{PullRequests, is_recorded},
    receiver::Receiver,
};

const ENVIRONMENTS: u64 = 5_000;
const BLOCKS: usize = 8;
const BLOCK: Limits = Limits { requests: 10_000, time: Duration::from_millis(500) };
const WARM_UP: Limits = Limits { requests: 50, time: Duration::from_secs(2) };

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let server = Receiver::start(ground, "dashboard", &ground.sqlite("dashboard.db")).await?;
    let mut connections = Connections::open(server.address).await?;
    let host = server.host();
    let examples = PullRequests::new()?;
    let all = Limits { requests: usize::try_from(ENVIRONMENTS)?, time: Duration::MAX };
    let opened = |number: usize| examples.signed(number as u64 + 1, 0).request(&host);
    connections.run(all, opened, is_recorded).await?;
    let token = create_token(&server.config, "bench", "viewer", &[TEAM]).await?;
    let cookie = sign_in(&host, &token).await?;
    let path = first_environment(&host, &cookie).await?;

    let pages = [
        ("list", "/".to_owned()),
        ("list, one status, sorted by name", "/?status=pending&order=repository".to_owned()),
        ("list, searched", "/?text=4242".to_owned()),
        ("detail", path),
    ];
    let mut measured = pages.map(|(name, path)| (name, path, Blocks::default()));
    for block in 0..=BLOCKS {
        for (name, path, blocks) in &mut measured {
            let limits = if block == 0 { WARM_UP } else { BLOCK };
            let call = |_| {
                let request = Request::get(path.as_str()).header("Host", &host).header("Cookie", &cookie);
                Ok(request.header("Accept", "text/html").body(Full::default())?)
            };
            let done = connections.run(limits, call, |page| page.contains("</html>")).await.with_context(|| *name)?;
            if block > 0 {
                blocks.0.push(done);
            }
        }
    }
    server.stop().await?;
    let mut figures = Vec::new();
    for (name, _, blocks) in measured {
        let [rate, p50, p99] = blocks.figures(&format!("dashboard, {name}"));
        let note = format!("{}; over {ENVIRONMENTS} environments, the cluster out of reach", rate.note);
        figures.extend([rate.note(note), p50, p99]);
    }
    Ok(figures)
}

/// Signs in as a browser does; gives the cookie.
async fn sign_in(host: &str, token: &str) -> Result<String> {
    let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish();
    let client = web::client().redirect(reqwest::redirect::Policy::none()).build()?;
    let request = client.post(format!("http://{host}/login")).header("Origin", format!("http://{host}"));
    let answer = request.header("Content-Type", "application/x-www-form-urlencoded").body(body).send().await?;
    let cookie = answer.headers().get("set-cookie").context("nobody was signed in")?.to_str()?;
    Ok(cookie.split(';').next().unwrap_or_default().to_owned())
}

async fn first_environment(host: &str, cookie: &str) -> Result<String> {
    let request = web::plain_client().get(format!("http://{host}/")).header("Cookie", cookie);
    let page = request.send().await?.text().await?;
    ensure!(page.contains(&format!("{ENVIRONMENTS} environments")), "the list does not show them all");
    let link = page.split("href=\"").find(|rest| rest.starts_with("/environments/"));
    Ok(link.and_then(|rest| rest.split('"').next()).context("the list has no link")?.to_owned())
}
