//! What people do with an environment. Each goes back to its page.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    Dashboard,
    access::{NoFields, OwnForm, Visitor},
    frame::{Frame, failed, filters, page},
};
use crate::{
    service::{
        ChangeRequest, EnvironmentDetail, EnvironmentSummary, ExpectedCommit, GetRequest, KeepDuration, KeepRequest,
        ServiceError,
    },
    sessions::SignedIn,
    store::EventKind,
};

#[derive(Deserialize)]
pub(super) struct Retry {
    expected_commit: Option<ExpectedCommit>,
}

#[derive(Deserialize)]
pub(super) struct Keep {
    duration: Option<KeepDuration>,
}

#[derive(Deserialize)]
pub(super) struct Approve {
    commit: ExpectedCommit,
}

#[derive(Deserialize)]
pub(super) struct Delete {
    #[serde(default)]
    confirm: String,
}

type Answer = Result<EnvironmentSummary, ServiceError>;

/// Back to the environment's page, or what kept it from being done.
fn done(who: &SignedIn, answer: Answer) -> Response {
    match answer {
        Ok(summary) => Redirect::to(&format!("/environments/{}", summary.namespace)).into_response(),
        Err(error) => failed(Frame::of(who, "environments"), error),
    }
}

fn change(environment: &str, expected_commit: Option<ExpectedCommit>) -> Result<ChangeRequest, ServiceError> {
    Ok(ChangeRequest { environment: environment.parse()?, expected_commit, idempotency_key: None })
}

pub(super) async fn retry(
    State(dashboard): State<Arc<Dashboard>>,
    Path(environment): Path<String>,
    OwnForm { who, fields: Retry { expected_commit } }: OwnForm<Retry>,
) -> Response {
    let answer = async { dashboard.service.retry(&who.identity, change(&environment, expected_commit)?).await };
    done(&who, answer.await)
}

pub(super) async fn create(
    State(dashboard): State<Arc<Dashboard>>,
    Path(environment): Path<String>,
    OwnForm { who, fields: NoFields {} }: OwnForm<NoFields>,
) -> Response {
    let answer = async { dashboard.service.create_again(&who.identity, environment.parse()?).await };
    done(&who, answer.await)
}

pub(super) async fn keep(
    State(dashboard): State<Arc<Dashboard>>,
    Path(environment): Path<String>,
    OwnForm { who, fields: Keep { duration } }: OwnForm<Keep>,
) -> Response {
    let answer = async {
        let ChangeRequest { environment, expected_commit, idempotency_key } = change(&environment, None)?;
        let request = KeepRequest { environment, duration, expected_commit, idempotency_key };
        dashboard.service.keep(&who.identity, request).await.map(|kept| kept.summary)
    };
    done(&who, answer.await)
}

#[derive(Template)]
#[template(path = "approve.html")]
struct ApprovePage {
    frame: Frame,
    csrf: String,
    id: String,
    name: String,
    /// The pull request's.
    url: String,
    author: String,
    commit: String,
}

/// Names the commit that is to run. A page of its own, which no push changes before somebody's eyes.
pub(super) async fn confirm_approval(
    State(dashboard): State<Arc<Dashboard>>,
    Visitor(who): Visitor,
    Path(environment): Path<String>,
) -> Response {
    let frame = Frame::of(&who, "environments");
    match dashboard.find(&who, &environment).await {
        Ok(EnvironmentDetail { id, summary, .. }) => {
            let approval = ApprovePage {
                frame,
                csrf: who.csrf.clone(),
                id,
                name: summary.environment,
                url: summary.pull_request.url,
                author: summary.pull_request.author,
                commit: summary.commit,
            };
            page(StatusCode::OK, &approval, "")
        }
        Err(error) => failed(frame, error),
    }
}

pub(super) async fn approve(
    State(dashboard): State<Arc<Dashboard>>,
    Path(environment): Path<String>,
    OwnForm { who, fields: Approve { commit: ExpectedCommit(commit) } }: OwnForm<Approve>,
) -> Response {
    let answer = async { dashboard.service.approve(&who.identity, environment.parse()?, commit).await };
    done(&who, answer.await)
}

#[derive(Template)]
#[template(path = "delete.html")]
struct DeletePage {
    frame: Frame,
    csrf: String,
    id: String,
    name: String,
    namespace: String,
    complaint: &'static str,
}

impl DeletePage {
    fn of(who: &SignedIn, detail: EnvironmentDetail, complaint: &'static str) -> Self {
        Self {
            frame: Frame::of(who, "environments"),
            csrf: who.csrf.clone(),
            id: detail.id,
            name: detail.summary.environment,
            namespace: detail.summary.namespace,
            complaint,
        }
    }
}

impl Dashboard {
    async fn find(&self, who: &SignedIn, environment: &str) -> Result<EnvironmentDetail, ServiceError> {
        self.service.get(&who.identity, GetRequest { environment: environment.parse()? }).await
    }
}

/// Asks for the name of what is to go.
pub(super) async fn confirm_deletion(
    State(dashboard): State<Arc<Dashboard>>,
    Visitor(who): Visitor,
    Path(environment): Path<String>,
) -> Response {
    match dashboard.find(&who, &environment).await {
        Ok(detail) => page(StatusCode::OK, &DeletePage::of(&who, detail, ""), ""),
        Err(error) => failed(Frame::of(&who, "environments"), error),
    }
}

pub(super) async fn delete(
    State(dashboard): State<Arc<Dashboard>>,
    Path(environment): Path<String>,
    OwnForm { who, fields: Delete { confirm } }: OwnForm<Delete>,
) -> Response {
    let detail = match dashboard.find(&who, &environment).await {
        Ok(detail) => detail,
        Err(error) => {
            // It was asked for, though not of the service yet.
            if let Ok(reference) = environment.parse() {
                let kind = EventKind::DeletionRequested;
                dashboard.service.note_refusal(&who.identity, kind, &reference, &error).await;
            }
            return failed(Frame::of(&who, "environments"), error);
        }
    };
    if confirm.trim() != detail.summary.environment {
        let page_of = DeletePage::of(&who, detail, "That is not its name. Nothing was deleted.");
        return page(StatusCode::BAD_REQUEST, &page_of, "");
    }
    let answer = async { dashboard.service.delete(&who.identity, change(&detail.id, None)?).await };
    done(&who, answer.await)
}
