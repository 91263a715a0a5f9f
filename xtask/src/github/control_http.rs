//! The control API over HTTP, for programs that drive a running demo. Bodies are JSON, `{}` where nothing is to say:
//! a web page cannot send those across origins unasked.

use std::collections::BTreeMap;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::opening::NewPullRequest;
use super::shapes::Shapes;
use super::{ControlError, GitHub};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    /// Null removes the file.
    files: BTreeMap<String, Option<String>>,
    sha: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewComment {
    author: String,
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    name: String,
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoRepository(_) | Self::NoPullRequest(..) | Self::NoComment(_) | Self::NoDelivery(_) => {
                StatusCode::NOT_FOUND
            }
            Self::NoWebhook | Self::Refused(_) => StatusCode::CONFLICT,
        };
        (status, Json(json!({ "message": self.to_string() }))).into_response()
    }
}

type Answered = Result<Json<Value>, ControlError>;
type Pull = Path<(String, String, u64)>;

pub fn router() -> Router<GitHub> {
    Router::new()
        .route("/", get(overview))
        .route("/repos/{owner}/{name}/pulls", get(pulls).post(open))
        .route("/repos/{owner}/{name}/pulls/{number}", get(show))
        .route("/repos/{owner}/{name}/pulls/{number}/push", post(push))
        .route("/repos/{owner}/{name}/pulls/{number}/comments", get(comments).post(comment))
        .route("/repos/{owner}/{name}/pulls/{number}/labels", post(label))
        .route("/repos/{owner}/{name}/pulls/{number}/{action}", post(act))
}

fn summary(github: &GitHub, repository: &str, number: u64) -> Result<Value, ControlError> {
    let state = github.state();
    let (found, pull) = (state.repository(repository)?, state.pull(repository, number)?);
    let shapes = Shapes { state: &state, api: github.url(), html: github.url() };
    Ok(shapes.pull_request(found, pull))
}

async fn overview(State(github): State<GitHub>) -> Json<Value> {
    let repositories: Vec<_> = github
        .state()
        .repositories
        .values()
        .map(|found| json!({ "id": found.id, "name": found.full_name() }))
        .collect();
    let attempts = github.attempts();
    let deliveries = attempts.iter().map(super::Attempt::shape).collect::<Vec<_>>();
    Json(json!({
        "repositories": repositories,
        "deliveries": deliveries,
        "requests": github.requests().len(),
        "violations": github.violations(),
    }))
}

async fn pulls(State(github): State<GitHub>, Path((owner, name)): Path<(String, String)>) -> Answered {
    let state = github.state();
    let found = state.repository(&format!("{owner}/{name}"))?;
    let shapes = Shapes { state: &state, api: github.url(), html: github.url() };
    Ok(Json(found.pulls.values().map(|pull| shapes.pull_request(found, pull)).collect()))
}

async fn open(
    State(github): State<GitHub>,
    Path((owner, name)): Path<(String, String)>,
    Json(new): Json<NewPullRequest>,
) -> Answered {
    let repository = format!("{owner}/{name}");
    let number = github.open_pull_request(&repository, new).await?;
    Ok(Json(summary(&github, &repository, number)?))
}

async fn show(State(github): State<GitHub>, Path((owner, name, number)): Pull) -> Answered {
    Ok(Json(summary(&github, &format!("{owner}/{name}"), number)?))
}

async fn push(State(github): State<GitHub>, Path((owner, name, number)): Pull, Json(push): Json<Push>) -> Answered {
    let repository = format!("{owner}/{name}");
    let files = push.files.into_iter().map(|(path, content)| (path, content.map(String::into_bytes))).collect();
    github.push_changes(&repository, number, &files, push.sha.as_deref()).await?;
    Ok(Json(summary(&github, &repository, number)?))
}

async fn comments(State(github): State<GitHub>, Path((owner, name, number)): Pull) -> Answered {
    let state = github.state();
    let repository = format!("{owner}/{name}");
    let (found, _) = (state.repository(&repository)?, state.pull(&repository, number)?);
    let shapes = Shapes { state: &state, api: github.url(), html: github.url() };
    let comments = found.comments.values().filter(|comment| comment.number == number);
    Ok(Json(comments.map(|comment| shapes.comment(found, comment)).collect()))
}

async fn comment(
    State(github): State<GitHub>,
    Path((owner, name, number)): Pull,
    Json(new): Json<NewComment>,
) -> Answered {
    let id = github.comment(&format!("{owner}/{name}"), number, &new.author, &new.body).await?;
    Ok(Json(json!({ "id": id })))
}

async fn label(State(github): State<GitHub>, Path((owner, name, number)): Pull, Json(label): Json<Label>) -> Answered {
    let repository = format!("{owner}/{name}");
    github.label(&repository, number, &label.name).await?;
    Ok(Json(summary(&github, &repository, number)?))
}

async fn act(
    State(github): State<GitHub>,
    Path((owner, name, number, action)): Path<(String, String, u64, String)>,
    Json(_): Json<serde_json::Map<String, Value>>,
) -> Answered {
    let repository = format!("{owner}/{name}");
    match action.as_str() {
        "close" => github.close(&repository, number).await?,
        "reopen" => github.reopen(&repository, number).await?,
        "merge" => github.merge(&repository, number).await?,
        "draft" => github.convert_to_draft(&repository, number).await?,
        "ready" => github.ready_for_review(&repository, number).await?,
        other => {
            return Err(ControlError::Refused(format!("no action {other}: close, reopen, merge, draft or ready")));
        }
    }
    Ok(Json(summary(&github, &repository, number)?))
}
