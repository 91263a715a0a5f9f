//! The operator's page: how the whole of it is.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    Dashboard,
    access::Visitor,
    frame::{Frame, failed, filters, page},
};
use crate::service::{Operation, TeamUsage};

#[derive(Template)]
#[template(path = "operation.html")]
struct OperationPage {
    frame: Frame,
    /// All together last.
    teams: Vec<TeamUsage>,
    operation: Operation,
}

pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, Visitor(who): Visitor) -> Response {
    let frame = Frame::of(&who, "operation");
    match dashboard.service.operation(&who.identity).await {
        Ok(operation) => {
            let teams = operation.teams.iter().chain([&operation.total]).cloned().collect();
            page(StatusCode::OK, &OperationPage { frame, teams, operation }, "")
        }
        Err(error) => failed(frame, error),
    }
}
