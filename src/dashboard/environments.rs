//! The list of environments.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use super::{
    Dashboard,
    access::Visitor,
    frame::{Frame, failed, filters, page},
};
use crate::{
    environment::EnvironmentStatus,
    service::{EnvironmentRows, EnvironmentSummary, PageRequest},
    store::EnvironmentOrder,
};

/// The form's fields. One that is not filled in is empty.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    status: Option<String>,
    team: Option<String>,
    repository: Option<String>,
    text: Option<String>,
    order: Option<String>,
    page: Option<u64>,
}

#[derive(Template)]
#[template(path = "environments.html")]
struct EnvironmentsPage {
    frame: Frame,
    filter: Filter,
    statuses: Vec<&'static str>,
    orders: Vec<(&'static str, &'static str)>,
    teams: Vec<String>,
    problem: Option<String>,
    unmeasured: Option<String>,
    is_filtered: bool,
    /// Each with when it was created.
    rows: Vec<(EnvironmentSummary, String)>,
    total: u64,
    page: u64,
    pages: u64,
    previous: Option<String>,
    next: Option<String>,
}

fn filled(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|value| !value.is_empty())
}

impl Filter {
    /// What is asked of the service, and what of it makes no sense.
    fn request(&self) -> (PageRequest, Option<String>) {
        let mut problem = None;
        let mut request = PageRequest { page: self.page.unwrap_or(1), ..PageRequest::default() };
        if let Some(code) = filled(&self.status) {
            match EnvironmentStatus::from_code(code) {
                Some(status) => request.status = Some(status),
                None => problem = Some(format!("There is no status {code}.")),
            }
        }
        if let Some(name) = filled(&self.repository) {
            match name.parse() {
                Ok(name) => request.repository = Some(name),
                Err(_) => problem = Some("A repository is named owner/name.".to_owned()),
            }
        }
        if let Some(code) = filled(&self.order) {
            request.order = EnvironmentOrder::from_code(code).unwrap_or(EnvironmentOrder::Newest);
        }
        request.team = filled(&self.team).map(str::to_owned);
        request.text = filled(&self.text).map(|text| text.chars().take(200).collect());
        (request, problem)
    }

    /// The address of another page of the same list.
    fn address(&self, page: u64) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("status", &self.status),
            ("team", &self.team),
            ("repository", &self.repository),
            ("text", &self.text),
            ("order", &self.order),
        ];
        for (name, value) in fields {
            if let Some(value) = filled(value) {
                query.append_pair(name, value);
            }
        }
        format!("/?{}", query.append_pair("page", &page.to_string()).finish())
    }
}

pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    Visitor(who): Visitor,
    Query(filter): Query<Filter>,
) -> Response {
    let (request, problem) = filter.request();
    let is_filtered = request.is_filtered();
    let frame = Frame::of(&who, "environments");
    let EnvironmentRows { rows, total, page: number, pages, teams, unmeasured } =
        match dashboard.service.page(&who.identity, request).await {
            Ok(found) => found,
            Err(error) => return failed(frame, error),
        };
    let template = EnvironmentsPage {
        frame,
        statuses: EnvironmentStatus::ALL.iter().map(|status| status.code()).collect(),
        orders: EnvironmentOrder::ALL.iter().map(|order| (order.code(), words(*order))).collect(),
        teams,
        problem,
        unmeasured,
        is_filtered,
        rows,
        total,
        page: number,
        pages,
        previous: (number > 1).then(|| filter.address(number - 1)),
        next: (number < pages).then(|| filter.address(number + 1)),
        filter,
    };
    page(StatusCode::OK, &template, "")
}

fn words(order: EnvironmentOrder) -> &'static str {
    match order {
        EnvironmentOrder::Newest => "newest first",
        EnvironmentOrder::Oldest => "oldest first",
        EnvironmentOrder::Changed => "last changed first",
        EnvironmentOrder::Repository => "by repository",
        EnvironmentOrder::Status => "by status",
        EnvironmentOrder::Cpu => "most CPU first",
        EnvironmentOrder::Memory => "most memory first",
    }
}
