//! What people do with an environment. Each goes back to its page.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Dashboard,
    frame::{Frame, failed, page},
};
use crate::{
    environment::CommitSha,
    http::Client,
    service::{
        ChangeRequest, CreateRequest, EnvironmentDetail, EnvironmentReference, EnvironmentSummary, GetRequest,
        KeepRequest, ServiceError,
    },
    sessions::SignedIn,
};

/// The fields of every form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    csrf: String,
    expected_commit: Option<String>,
    duration: Option<String>,
    commit: Option<String>,
    confirm: String,
}

type Answer = Result<EnvironmentSummary, ServiceError>;

impl Dashboard {
    /// Does something for whoever sent the form, and leads back to the environment's page.
    async fn act(
        &self,
        (client, headers): (Client, &HeaderMap),
        environment: &str,
        fields: &Fields,
        action: impl AsyncFnOnce(&SignedIn, EnvironmentReference) -> Answer,
    ) -> Response {
        let who = match self.author(headers, client, &fields.csrf).await {
            Ok(who) => who,
            Err(refused) => return refused,
        };
        let done = match environment.parse::<EnvironmentReference>() {
            Ok(reference) => action(&who, reference).await,
            Err(invalid) => Err(invalid.into()),
        };
        match done {
            Ok(summary) => Redirect::to(&format!("/environments/{}", summary.namespace)).into_response(),
            Err(error) => failed(Frame::of(&who, "environments"), error),
        }
    }
}

/// A request as the tools take it, so that its rules are theirs.
fn parsed<Request: serde::de::DeserializeOwned>(fields: Value) -> Result<Request, ServiceError> {
    serde_path_to_error::deserialize(fields)
        .map_err(|error| ServiceError::invalid(&error.path().to_string(), error.inner()))
}

pub(super) async fn retry(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Path(environment): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let action = async |who: &SignedIn, reference: EnvironmentReference| {
        let request: ChangeRequest = parsed(json!({
            "environment": reference.to_string(),
            "expected_commit": fields.expected_commit,
        }))?;
        dashboard.service.retry(&who.identity, request).await
    };
    dashboard.act((client, &headers), &environment, &fields, action).await
}

pub(super) async fn create(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Path(environment): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let action = async |who: &SignedIn, environment: EnvironmentReference| {
        let detail = dashboard.service.get(&who.identity, GetRequest { environment }).await?;
        let (repository, number) = named(&detail)?;
        let request: CreateRequest = parsed(json!({ "repository": repository, "pull_request": number }))?;
        dashboard.service.create(&who.identity, request).await
    };
    dashboard.act((client, &headers), &environment, &fields, action).await
}

fn named(detail: &EnvironmentDetail) -> Result<(String, i64), ServiceError> {
    match detail.summary.environment.parse::<EnvironmentReference>()? {
        EnvironmentReference::PullRequest { repository, number } => Ok((repository.to_string(), number)),
        EnvironmentReference::IdOrNamespace(_) => Err(ServiceError::invalid("environment", "has no pull request")),
    }
}

pub(super) async fn keep(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Path(environment): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let action = async |who: &SignedIn, reference: EnvironmentReference| {
        let duration = fields.duration.as_deref().unwrap_or("48h");
        let request: KeepRequest = parsed(json!({ "environment": reference.to_string(), "duration": duration }))?;
        dashboard.service.keep(&who.identity, request).await
    };
    dashboard.act((client, &headers), &environment, &fields, action).await
}

pub(super) async fn approve(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Path(environment): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let action = async |who: &SignedIn, reference: EnvironmentReference| {
        let commit: CommitSha = fields.commit.as_deref().unwrap_or_default().parse()?;
        dashboard.service.approve(&who.identity, reference, commit).await
    };
    dashboard.act((client, &headers), &environment, &fields, action).await
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

/// Asks for the name of what is to go.
pub(super) async fn confirm(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Path(environment): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let who = match dashboard.visitor(&uri, &headers, client).await {
        Ok(who) => who,
        Err(led_away) => return led_away,
    };
    let found = match environment.parse() {
        Ok(environment) => dashboard.service.get(&who.identity, GetRequest { environment }).await,
        Err(invalid) => Err(ServiceError::from(invalid)),
    };
    match found {
        Ok(detail) => page(StatusCode::OK, &DeletePage::of(&who, detail, ""), ""),
        Err(error) => failed(Frame::of(&who, "environments"), error),
    }
}

pub(super) async fn delete(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    Path(environment): Path<String>,
    headers: HeaderMap,
    Form(fields): Form<Fields>,
) -> Response {
    let who = match dashboard.author(&headers, client, &fields.csrf).await {
        Ok(who) => who,
        Err(refused) => return refused,
    };
    let found = match environment.parse() {
        Ok(environment) => dashboard.service.get(&who.identity, GetRequest { environment }).await,
        Err(invalid) => Err(ServiceError::from(invalid)),
    };
    let detail = match found {
        Ok(detail) => detail,
        Err(error) => return failed(Frame::of(&who, "environments"), error),
    };
    if fields.confirm.trim() != detail.summary.environment {
        let page_of = DeletePage::of(&who, detail, "That is not its name. Nothing was deleted.");
        return page(StatusCode::BAD_REQUEST, &page_of, "");
    }
    let id = detail.id;
    let action = async |who: &SignedIn, environment: EnvironmentReference| {
        let request = ChangeRequest { environment, expected_commit: None, idempotency_key: None };
        dashboard.service.delete(&who.identity, request).await
    };
    dashboard.act((client, &headers), &id, &fields, action).await
}
