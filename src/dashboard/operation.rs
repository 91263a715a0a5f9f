//! The operator's page: how the whole of it is.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};

use super::{
    Dashboard,
    frame::{Frame, failed, filters, page},
};
use crate::{
    http::Client,
    service::{Operation, TeamUsage},
};

#[derive(Template)]
#[template(path = "operation.html")]
struct OperationPage {
    frame: Frame,
    /// All together last.
    teams: Vec<TeamUsage>,
    operation: Operation,
}

pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    Extension(client): Extension<Client>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let who = match dashboard.visitor(&uri, &headers, client).await {
        Ok(who) => who,
        Err(led_away) => return led_away,
    };
    let frame = Frame::of(&who, "operation");
    match dashboard.service.operation(&who.identity).await {
        Ok(operation) => {
            let teams = operation.teams.iter().chain([&operation.total]).cloned().collect();
            page(StatusCode::OK, &OperationPage { frame, teams, operation }, "")
        }
        Err(error) => failed(frame, error),
    }
}
