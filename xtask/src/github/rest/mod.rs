//! A request's way: recognised, made to fail where that was asked for, authenticated, counted, checked against the
//! published description, carried out under one lock, checked again, logged, answered.

pub mod answer;
mod app;
pub mod auth;
mod call;
mod comments;
mod deployments;
pub mod limits;
mod registration;
mod repositories;

use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Query, State as Extract};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use self::answer::{Answer, Body};
use self::auth::{Caller, permitted};
use self::call::Call;
use super::faults::Fault;
use super::line::Cut;
use super::log::{LoggedRequest, Write};
use super::operation::{Access, Operation, Params};
use super::webhooks::Attempt;
use super::{GitHub, page};

/// GitHub Enterprise Server serves its API below this path.
const ENTERPRISE: &str = "/api/v3";

struct Incoming {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    cut: Cut,
}

impl Incoming {
    fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Answers everything that is not the control API.
pub async fn serve(
    Extract(github): Extract<GitHub>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let incoming = Incoming { method, uri, headers, body, cut };
    // A client that goes away mid-request must not undo what took effect, nor its place in the log.
    let answered = tokio::spawn(async move { process(&github, incoming).await }).await;
    answered.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// As [`serve`], without a socket. None: the connection was reset.
pub async fn exchange(github: &GitHub, request: Request<Bytes>) -> Option<Response> {
    let (Parts { method, uri, headers, .. }, body) = request.into_parts();
    let cut = Cut(CancellationToken::new());
    let incoming = Incoming { method, uri, headers, body, cut: cut.clone() };
    let answered = process(github, incoming).await;
    (!cut.0.is_cancelled()).then_some(answered)
}

async fn process(github: &GitHub, incoming: Incoming) -> Response {
    let started = Instant::now();
    let (path, api) = match incoming.uri.path().strip_prefix(ENTERPRISE) {
        Some(rest) => (rest.to_owned(), format!("{}{ENTERPRISE}", github.url())),
        None => (incoming.uri.path().to_owned(), github.url().to_owned()),
    };
    if incoming.method == Method::GET
        && let Some(page) = page::pull_request(github, &path)
    {
        return page;
    }
    let path = by_name(github, path);
    let Some((operation, params)) = Operation::recognise(incoming.method.as_str(), &path) else {
        let answer = Answer::not_found();
        github.log(LoggedRequest::new(&incoming.method, &incoming.uri, None, answer.status, None));
        return answer.respond();
    };
    let fault = github.faults().take(operation);
    let mut answer = match before(fault.as_ref(), &incoming).await {
        Some(answer) => answer,
        None => carry_out(github, operation, params.clone(), &api, &incoming),
    };
    if let Some(id) = answer.written {
        let written = Write { operation, repository: params.full_name(), number: params.number("issue_number"), id };
        github.after_write(written).await;
    }
    let events = std::mem::take(&mut answer.events);
    if !events.is_empty() {
        let github = github.clone();
        tokio::spawn(async move { github.report(events).await });
    }
    let took_effect = answer.written.is_some();
    match fault {
        Some(Fault::CommitThenBadGateway) => answer = Answer::bad_gateway(),
        Some(Fault::CommitThenReset) => {
            incoming.cut.0.cancel();
            answer = Answer::bad_gateway();
        }
        _ => {}
    }
    let mut logged = LoggedRequest::new(&incoming.method, &incoming.uri, Some(operation), answer.status, Some(&path));
    logged.took_effect = took_effect;
    logged.duration = started.elapsed();
    github.log(logged);
    answer.respond()
}

/// `/repositories/{id}/…`, where redirects and Link headers lead, as `/repos/{owner}/{repo}/…`.
fn by_name(github: &GitHub, path: String) -> String {
    let Some(rest) = path.strip_prefix("/repositories/") else {
        return path;
    };
    let (id, rest) = rest.split_once('/').map_or((rest, String::new()), |(id, rest)| (id, format!("/{rest}")));
    let state = github.state();
    let repository = id.parse::<u64>().ok().and_then(|id| state.repositories.get(&id));
    repository.map(|repository| format!("/repos/{}{rest}", repository.full_name())).unwrap_or(path)
}

/// Faults that leave nothing done.
async fn before(fault: Option<&Fault>, incoming: &Incoming) -> Option<Answer> {
    match fault? {
        Fault::Slow(wait) => {
            tokio::time::sleep(*wait).await;
            None
        }
        Fault::CommitThenBadGateway | Fault::CommitThenReset => None,
        Fault::Reset => {
            incoming.cut.0.cancel();
            Some(Answer::bad_gateway())
        }
        Fault::BadGateway => Some(Answer::bad_gateway()),
        Fault::ServerError => Some(Answer::error(500, "Server Error")),
        Fault::SecondaryLimit { retry_after } => {
            let message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
            Some(Answer::error(403, message).header("retry-after", retry_after.as_secs().to_string()))
        }
        Fault::PrimaryLimit { reset_in } => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let reset = now.saturating_add(*reset_in).as_secs().cast_signed();
            Some(limited(limits::Rate { limit: 5000, used: 5000, reset }))
        }
        Fault::Locked => Some(Answer::error(403, "Unable to create comment because issue is locked.")),
        Fault::Forbidden => Some(auth::not_accessible()),
        Fault::BadCredentials => Some(Answer::error(401, "Bad credentials")),
        Fault::NotFound => Some(Answer::not_found()),
        Fault::Refused { status, message } => Some(Answer::error(*status, message)),
        Fault::NotJson => Some(Answer::raw(b"<html><body>Unicorn!</body></html>".to_vec(), "text/html")),
        Fault::EmptyList => Some(Answer::ok(serde_json::json!([]))),
    }
}

fn limited(rate: limits::Rate) -> Answer {
    let mut answer = Answer::error(403, "API rate limit exceeded.");
    answer.headers.extend(rate.headers());
    answer
}

fn carry_out(github: &GitHub, operation: Operation, params: Params, api: &str, incoming: &Incoming) -> Answer {
    if incoming.header(header::USER_AGENT).is_none_or(str::is_empty) {
        let message =
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
        return Answer::error(403, message);
    }
    let identified = {
        let state = github.state();
        let caller = match operation.access() {
            Access::Nobody => Ok(Caller::Nobody),
            Access::App | Access::User | Access::Anyone | Access::Permission(..) => {
                github.credentials().identify(incoming.header(header::AUTHORIZATION), &state)
            }
        };
        caller.map(|caller| (state.now(), caller))
    };
    let (now, caller) = match identified {
        Ok(identified) => identified,
        Err(refusal) => return refusal,
    };
    let subject = caller.subject();
    let rate = match github.limits().count(&subject, now, operation != Operation::GetRateLimit) {
        Ok(rate) => rate,
        Err(rate) => return limited(rate),
    };
    let answered = match read(github, operation, params, api, incoming, caller) {
        Ok(call) => answer(github, &call, rate),
        Err(refusal) => refusal,
    };
    let mut answered = with_etag(answered, incoming);
    let rate = if answered.status == 304 { github.limits().give_back(&subject).unwrap_or(rate) } else { rate };
    answered.headers.extend(rate.headers());
    answered
}

/// The request as a call, once the published description and the caller's rights allow it.
fn read(
    github: &GitHub,
    operation: Operation,
    params: Params,
    api: &str,
    incoming: &Incoming,
    caller: Caller,
) -> Result<Call, Answer> {
    permitted(&caller, operation)?;
    let query = Query::<Vec<(String, String)>>::try_from_uri(&incoming.uri).map(|query| query.0).unwrap_or_default();
    let body = if incoming.body.is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_slice(&incoming.body).map_err(|_| Answer::error(400, "Problems parsing JSON"))?
    };
    if let Some(reason) = github.description().check_request(operation, &params, &query, &body) {
        return Err(github.violated(operation, "request", &reason));
    }
    let accept = incoming.header(header::ACCEPT).unwrap_or_default().to_owned();
    Ok(Call { operation, params, query, accept, body, caller, api: api.to_owned(), html: github.url().to_owned() })
}

fn answer(github: &GitHub, call: &Call, rate: limits::Rate) -> Answer {
    let about_deliveries = matches!(call.operation, Operation::ListDeliveries | Operation::Redeliver);
    let attempts = if about_deliveries { github.attempts() } else { Vec::new() };
    let mut state = github.state();
    let answered = match call.operation {
        Operation::ConvertManifest => registration::convert(github, &mut state, call),
        Operation::GetApp => Ok(app::get_app(&state, call)),
        Operation::ListInstallations => Ok(app::list_installations(&state, call)),
        Operation::CreateInstallationToken => app::create_token(&state, call, &mut github.credentials()),
        Operation::ListDeliveries => Ok(app::list_deliveries(call, &attempts)),
        Operation::Redeliver => redeliver(github, call, attempts),
        Operation::GetRepositoryInstallation => app::repository_installation(&state, call),
        Operation::ListInstallationRepositories => app::list_repositories(&state, call),
        Operation::GetUser => app::get_user(&state, call),
        Operation::GetRateLimit => Ok(app::rate_limit(rate)),
        Operation::GetRepository => repositories::get_repository(&state, call),
        Operation::ListPullRequests => repositories::list_pull_requests(&state, call),
        Operation::GetPullRequest => repositories::get_pull_request(&state, call),
        Operation::ListFiles => repositories::list_files(&state, call),
        Operation::GetContents => repositories::get_contents(&state, call),
        Operation::GetPermission => repositories::get_permission(&state, call),
        Operation::ListComments => comments::list(&state, call),
        Operation::CreateComment => comments::create(github, &mut state, call),
        Operation::GetComment => comments::get(&state, call),
        Operation::UpdateComment => comments::update(github, &mut state, call),
        Operation::DeleteComment => comments::delete(github, &mut state, call),
        Operation::CreateReaction => comments::react(&mut state, call, |repository| &mut repository.comments),
        Operation::CreateReviewCommentReaction => {
            comments::react(&mut state, call, |repository| &mut repository.review_comments)
        }
        Operation::ListWorkflowRuns => repositories::list_workflow_runs(&state, call),
        Operation::ListDeployments => deployments::list(&state, call),
        Operation::CreateDeployment => deployments::create(&mut state, call),
        Operation::ListDeploymentStatuses => deployments::list_statuses(&state, call),
        Operation::CreateDeploymentStatus => deployments::create_status(&mut state, call),
    };
    drop(state);
    let answered = answered.unwrap_or_else(|refusal| refusal);
    match github.description().check_answer(call.operation, &answered) {
        Some(reason) => github.violated(call.operation, &format!("answer {}", answered.status), &reason),
        None => answered,
    }
}

fn redeliver(github: &GitHub, call: &Call, attempts: Vec<Attempt>) -> Result<Answer, Answer> {
    let id = call.params.number("delivery_id");
    let found = attempts.into_iter().find(|attempt| Some(attempt.id) == id).ok_or_else(Answer::not_found)?;
    let (github, delivery) = (github.clone(), found.delivery);
    tokio::spawn(async move {
        if let Err(error) = github.attempt(&delivery, true).await {
            tracing::debug!(%error, "delivery not sent again");
        }
    });
    Ok(Answer::json(202, serde_json::json!({})).wrote(found.id))
}

/// Answers to GET carry an ETag; one that the client has already is not sent again.
fn with_etag(answer: Answer, incoming: &Incoming) -> Answer {
    if incoming.method != Method::GET || answer.status != 200 {
        return answer;
    }
    let digest = match &answer.body {
        Body::Json(body) => Sha256::digest(body.to_string()),
        Body::Raw(body, _) => Sha256::digest(body),
        Body::Empty => return answer,
    };
    let etag = format!("W/\"{}\"", hex::encode(digest));
    let known = incoming.header(header::IF_NONE_MATCH).unwrap_or_default();
    let same = known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag.trim_start_matches("W/"));
    if same {
        let mut unchanged = Answer::empty(304).header("etag", etag);
        unchanged.headers.extend(answer.headers);
        unchanged
    } else {
        answer.header("etag", etag).header("cache-control", "private, max-age=60, s-maxage=60")
    }
}
