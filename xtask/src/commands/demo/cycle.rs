//! The whole life of a pull request, each step checked where its user would look.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use serde_json::{Value, json};
use xtask::{
    agent::{Agent, Answer},
    cluster,
    github::NewPullRequest,
    stand::Stand,
};

use super::{
    Ground, REPOSITORY, recipes,
    show::{TO_FAILED, TO_GONE, TO_RUNNING, say},
};

const LOOK: Duration = Duration::from_millis(100);
const QUICK: Duration = Duration::from_secs(30);

struct Step {
    name: &'static str,
    ok: bool,
    seconds: f64,
}

/// Runs the cycle and prints its line of JSON. An error where any step fell short.
pub async fn run(stand: &mut Stand, ground: &Ground) -> Result<()> {
    let began = Instant::now();
    let mut cycle = Cycle::prepare(stand, ground).await?;
    let outcome = cycle.all_steps().await;
    let ok = outcome.is_ok();
    let steps: Vec<Value> = cycle
        .steps
        .iter()
        .map(|Step { name, ok, seconds }| json!({ "name": name, "ok": ok, "seconds": round(*seconds) }))
        .collect();
    // A failure tells what happened before the line, which stays the last.
    if let Err(error) = &outcome {
        say(&format!("\nThe cycle fell short: {error:#}\n"));
    }
    println!("{}", json!({ "ok": ok, "steps": steps, "seconds": round(began.elapsed().as_secs_f64()) }));
    outcome
}

fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

struct Cycle<'a> {
    stand: &'a Stand,
    ground: &'a Ground,
    kube: kube::Client,
    http: reqwest::Client,
    admin: Agent,
    member: Agent,
    stdio: Agent,
    number: u64,
    steps: Vec<Step>,
}

impl<'a> Cycle<'a> {
    async fn prepare(stand: &'a Stand, ground: &'a Ground) -> Result<Cycle<'a>> {
        let admin = stand.create_token("cycle-admin", "admin", &["shop"]).await?;
        let member = stand.create_token("cycle-member", "member", &["shop"]).await?;
        Ok(Self {
            stand,
            ground,
            kube: cluster::client(&ground.kubeconfig()).await?,
            http: xtask::web::plain_client(),
            admin: Agent::over_http(&stand.mcp_url(), &admin).await?,
            member: Agent::over_http(&stand.mcp_url(), &member).await?,
            stdio: Agent::over_stdio(&stand.config, Some(&admin)).await?,
            number: 0,
            steps: Vec::new(),
        })
    }

    async fn all_steps(&mut self) -> Result<()> {
        let stand = self.stand;
        let github = &stand.github;

        let recipe = self.ground.recipe("first");
        let new = NewPullRequest::new("Say hello", "say-hello")
            .file(".preview.yaml", &recipe)
            .sha(&self.ground.built_commit().await?);
        let began = Instant::now();
        self.number = github.open_pull_request(REPOSITORY, new).await?;
        self.until("opened to running", began, TO_RUNNING, "running").await?;
        let first = self.head().await?;
        self.page("page of the first commit", &first).await?;
        self.comment("one comment with the URL", &first).await?;

        self.reads_over("list, get and logs over HTTP, retry refused", true).await?;
        self.reads_over("list, get and logs over stdio, retry refused", false).await?;

        let second = self.ground.built_commit().await?;
        let recipe = self.ground.recipe("second");
        let began = Instant::now();
        github.push_as(REPOSITORY, self.number, &[(".preview.yaml", recipe.as_str())], &second).await?;
        self.until("pushed to running", began, TO_RUNNING, "running").await?;
        self.page("page of the new commit", &second).await?;

        let began = Instant::now();
        let refused = self.member.call("delete_preview_environment", self.arguments()).await?;
        let checked = match refused.code() {
            Some("UNAUTHORIZED") => Ok(()),
            other => bail!("a member's deletion was answered with {other:?}"),
        };
        self.note("member's deletion refused", began, checked)?;
        let began = Instant::now();
        self.admin.call("delete_preview_environment", self.arguments()).await?.done()?;
        self.until("deleted by an admin to gone", began, TO_GONE, "deleted").await?;
        self.namespace_gone("nothing left after the deletion").await?;

        let began = Instant::now();
        let last = github.attempts().last().map(|attempt| attempt.delivery.guid.clone()).context("no delivery")?;
        github.redeliver(&last).await?;
        let again = github.delivery_for(REPOSITORY, self.number, "synchronize")?;
        github.send(&again).await?;
        let stays = self.stays_deleted().await;
        self.note("stays deleted when redelivered", began, stays)?;

        let third = self.ground.built_commit().await?;
        let recipe = self.ground.recipe("third");
        let began = Instant::now();
        github.push_as(REPOSITORY, self.number, &[(".preview.yaml", recipe.as_str())], &third).await?;
        self.until("pushed again to running", began, TO_RUNNING, "running").await?;
        self.page("page of the third commit", &third).await?;

        for (running, gone, left) in [
            (None, "closed to gone", "nothing left after closing"),
            (Some("reopened to running"), "closed again to gone", "nothing left after closing again"),
        ] {
            if let Some(name) = running {
                let began = Instant::now();
                github.reopen(REPOSITORY, self.number).await?;
                self.until(name, began, TO_RUNNING, "running").await?;
                self.page("page of the reopened commit", &third).await?;
            }
            let began = Instant::now();
            github.close(REPOSITORY, self.number).await?;
            self.until(gone, began, TO_GONE, "deleted").await?;
            self.namespace_gone(left).await?;
        }

        if let Ground::Local(_) = self.ground {
            self.keeps_rows().await?;
            self.runs_a_chart().await?;
        }

        let began = Instant::now();
        let violations = github.violations();
        let honest = if violations.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("{}", violations.join("\n"))) };
        self.note("every request as GitHub describes it", began, honest)
    }

    /// A database, its seed, its setup and a worker; and what a commit that does not run changes of it: nothing.
    async fn keeps_rows(&mut self) -> Result<()> {
        let github = &self.stand.github;
        let new = NewPullRequest::new("Count visits", "count-visits").sha(&self.ground.built_commit().await?);
        let began = Instant::now();
        let new = new.file(".preview.yaml", &recipes::with_database("ok"));
        self.number = github.open_pull_request(REPOSITORY, new).await?;
        self.until("opened with worker, database, seed and setup to running", began, TO_RUNNING, "running").await?;
        let good = self.head().await?;
        self.visits("the seed's visit and this one are in the database", "2").await?;

        let broken = self.ground.built_commit().await?;
        let began = Instant::now();
        let files = [(".preview.yaml", &*recipes::with_database("crash"))];
        github.push_as(REPOSITORY, self.number, &files, &broken).await?;
        self.until("pushed a commit that crashes to failed", began, TO_FAILED, "failed").await?;
        let began = Instant::now();
        let back = within(began, TO_RUNNING, async || {
            let environment = self.get().await?;
            Ok((environment["serving_commit"] == *good).then_some(()))
        })
        .await;
        self.note("the good commit is put back", began, back)?;
        self.page("its page", &good).await?;
        self.visits("its rows are all there", "3").await?;
        self.ends("closed with its database to gone").await
    }

    async fn runs_a_chart(&mut self) -> Result<()> {
        let mut new = NewPullRequest::new("Use a chart", "use-a-chart").sha(&self.ground.built_commit().await?);
        for (path, text) in recipes::with_chart()? {
            new = new.file(&path, &text);
        }
        let began = Instant::now();
        self.number = self.stand.github.open_pull_request(REPOSITORY, new).await?;
        self.until("opened with a chart to running", began, TO_RUNNING, "running").await?;
        let head = self.head().await?;
        self.page("the chart's page", &head).await?;
        self.ends("closed with its chart to gone").await
    }

    async fn ends(&mut self, name: &'static str) -> Result<()> {
        let began = Instant::now();
        self.stand.github.close(REPOSITORY, self.number).await?;
        self.until(name, began, TO_GONE, "deleted").await
    }

    async fn visits(&mut self, name: &'static str, expected: &str) -> Result<()> {
        let began = Instant::now();
        let environment = self.get().await?;
        let url = environment["url"].as_str().context("no url")?;
        let outcome = async {
            let visits = fetch(&self.http, url, "/visits").await?;
            ensure!(visits.trim() == expected, "{} visits instead of {expected}", visits.trim());
            Ok(())
        }
        .await;
        self.note(name, began, outcome)
    }

    fn arguments(&self) -> Value {
        json!({ "environment": format!("{REPOSITORY}#{}", self.number) })
    }

    async fn get(&self) -> Result<Value> {
        self.admin.call("get_preview_environment", self.arguments()).await?.done()
    }

    async fn head(&self) -> Result<String> {
        Ok(self.get().await?["commit"].as_str().context("no commit")?.to_owned())
    }

    /// Records a step that began at `began`, and passes its failure on.
    fn note(&mut self, name: &'static str, began: Instant, outcome: Result<()>) -> Result<()> {
        let (ok, seconds) = (outcome.is_ok(), began.elapsed().as_secs_f64());
        say(&format!("{} {name} ({seconds:.1} s)", if ok { "ok  " } else { "FAIL" }));
        self.steps.push(Step { name, ok, seconds });
        outcome.context(name)
    }

    /// Waits until the environment has this status for the head commit.
    async fn until(&mut self, name: &'static str, began: Instant, limit: Duration, status: &str) -> Result<()> {
        let outcome = within(began, limit, async || {
            let environment = self.get().await?;
            if environment["status"] == "failed" && status != "failed" {
                bail!("it failed: {environment}");
            }
            Ok((environment["status"] == status).then_some(()))
        })
        .await;
        self.note(name, began, outcome)
    }

    /// Fetches the preview's page from the URL that the comment has.
    async fn page(&mut self, name: &'static str, commit: &str) -> Result<()> {
        let began = Instant::now();
        let environment = self.get().await?;
        let url = environment["url"].as_str().context("no url")?;
        let outcome = async {
            let page = fetch(&self.http, url, "/").await?;
            ensure!(page.contains(commit), "{url} answered with another commit: {page}");
            Ok(())
        }
        .await;
        self.note(name, began, outcome)
    }

    async fn comment(&mut self, name: &'static str, commit: &str) -> Result<()> {
        let began = Instant::now();
        let url = self.get().await?["url"].as_str().context("no url")?.to_owned();
        let outcome = within(began, QUICK, async || {
            let comments = self.stand.github.comments(REPOSITORY, self.number);
            ensure!(comments.len() <= 1, "{} comments", comments.len());
            Ok(comments
                .first()
                .filter(|comment| comment.body.contains(&url) && comment.body.contains(&commit[..7]))
                .map(drop))
        })
        .await;
        self.note(name, began, outcome)
    }

    async fn reads_over(&mut self, name: &'static str, over_http: bool) -> Result<()> {
        let began = Instant::now();
        let agent = if over_http { &self.admin } else { &self.stdio };
        let outcome = read_everything(agent, self.arguments()).await;
        self.note(name, began, outcome)
    }

    async fn namespace_gone(&mut self, name: &'static str) -> Result<()> {
        let began = Instant::now();
        let environment = self.get().await?;
        let namespace = environment["namespace"].as_str().context("no namespace")?;
        let namespaces: Api<Namespace> = Api::all(self.kube.clone());
        let outcome = match namespaces.get_opt(namespace).await? {
            None => Ok(()),
            Some(_) => Err(anyhow::anyhow!("the namespace {namespace} is still there")),
        };
        self.note(name, began, outcome)
    }

    /// Looks for as long as a pass and its first retry take.
    async fn stays_deleted(&self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            let environment = self.get().await?;
            ensure!(environment["status"] == "deleted", "it came back: {environment}");
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

async fn read_everything(agent: &Agent, arguments: Value) -> Result<()> {
    let list = agent.call("list_preview_environments", json!({ "repository": REPOSITORY })).await?.done()?;
    let listed = list["environments"].as_array().context("no list")?;
    ensure!(listed.iter().any(|item| item["environment"] == arguments["environment"]), "not in the list: {list}");
    let one = agent.call("get_preview_environment", arguments.clone()).await?.done()?;
    ensure!(one["status"] == "running", "get says {one}");
    within(Instant::now(), QUICK, async || {
        let mut wanted = arguments.clone();
        wanted["tail"] = json!(5);
        let logs = agent.call("get_preview_logs", wanted).await?.done()?;
        // The application writes a line a second, which names its commit.
        Ok(logs.to_string().contains(one["commit"].as_str().unwrap_or("?")).then_some(()))
    })
    .await
    .context("the application's own lines")?;
    match agent.call("retry_preview_deployment", arguments).await? {
        Answer::Refused(error) if error["code"] == "INVALID_INPUT" => Ok(()),
        other => bail!("a retry of a running environment was answered with {other:?}"),
    }
}

/// Tries until it gives something, for as long as `limit` from `began`.
async fn within<T, F: Future<Output = Result<Option<T>>>>(
    began: Instant,
    limit: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    loop {
        if let Some(found) = attempt().await? {
            return Ok(found);
        }
        ensure!(began.elapsed() < limit, "not within {} s", limit.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}

/// Fetches what a preview answers at a path. Names under localhost are this machine, whatever its resolver says.
async fn fetch(http: &reqwest::Client, url: &str, path: &str) -> Result<String> {
    let (scheme_and_host, port) = url.rsplit_once(':').context("a port")?;
    let (host, port) = (scheme_and_host.trim_start_matches("http://"), port.trim_end_matches('/'));
    let asked = http.get(format!("http://127.0.0.1:{port}{path}")).header("host", format!("{host}:{port}"));
    let answer = asked.send().await?;
    Ok(answer.error_for_status()?.text().await?)
}
