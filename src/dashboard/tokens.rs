//! Tokens of agents and people: made, listed and revoked by operators.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{
    Dashboard,
    access::{NoFields, OwnForm, Visitor},
    frame::{Frame, failed, page},
};
use crate::{
    environment::parse_duration,
    identity::Role,
    service::{ErrorCode, NewTokenRequest, ServiceError, TokenSummary},
    sessions::SignedIn,
};

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    frame: Frame,
    csrf: String,
    roles: Vec<&'static str>,
    teams: Vec<String>,
    tokens: Vec<TokenSummary>,
    /// The one that was just made, this one time.
    made: Option<String>,
    complaint: String,
}

/// The form's fields. One that is not filled in is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    subject: String,
    role: String,
    teams: String,
    only: String,
    expires: String,
}

impl Dashboard {
    async fn tokens_page(
        &self,
        who: &SignedIn,
        status: StatusCode,
        made: Option<String>,
        complaint: String,
    ) -> Response {
        let frame = Frame::of(who, "tokens");
        let tokens = match self.service.tokens(&who.identity).await {
            Ok(tokens) => tokens,
            Err(error) => return failed(frame, error),
        };
        let template = TokensPage {
            frame,
            csrf: who.csrf.clone(),
            roles: Role::ALL.iter().map(|role| role.code()).collect(),
            teams: self.service.team_names(),
            tokens,
            made,
            complaint,
        };
        page(status, &template, "")
    }
}

fn request(fields: &Fields) -> Result<NewTokenRequest, ServiceError> {
    let Fields { subject, role, teams, only, expires } = fields;
    let is_filled = |text: &&str| !text.is_empty();
    Ok(NewTokenRequest {
        subject: subject.trim().parse()?,
        role: Role::from_code(role).ok_or_else(|| ServiceError::invalid("role", "is none that there is"))?,
        teams: teams.split(',').map(str::trim).filter(is_filled).map(str::to_owned).collect(),
        only: Some(only.trim()).filter(is_filled).map(str::parse).transpose()?,
        expires: Some(expires.trim())
            .filter(is_filled)
            .map(parse_duration)
            .transpose()
            .map_err(|rule| ServiceError::invalid("expires", rule))?,
    })
}

pub(super) async fn show(State(dashboard): State<Arc<Dashboard>>, Visitor(who): Visitor) -> Response {
    dashboard.tokens_page(&who, StatusCode::OK, None, String::new()).await
}

pub(super) async fn create(
    State(dashboard): State<Arc<Dashboard>>,
    OwnForm { who, fields }: OwnForm<Fields>,
) -> Response {
    let made = match request(&fields) {
        Ok(request) => dashboard.service.create_token(&who.identity, request).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(issued) => {
            let secret = issued.token.expose_secret().to_owned();
            dashboard.tokens_page(&who, StatusCode::CREATED, Some(secret), String::new()).await
        }
        Err(error) if error.code == ErrorCode::InvalidInput => {
            dashboard.tokens_page(&who, StatusCode::BAD_REQUEST, None, error.message).await
        }
        Err(error) => failed(Frame::of(&who, "tokens"), error),
    }
}

pub(super) async fn revoke(
    State(dashboard): State<Arc<Dashboard>>,
    Path(id): Path<String>,
    OwnForm { who, fields: NoFields {} }: OwnForm<NoFields>,
) -> Response {
    match dashboard.service.revoke_token(&who.identity, &id).await {
        Ok(()) => Redirect::to("/tokens").into_response(),
        Err(error) => failed(Frame::of(&who, "tokens"), error),
    }
}
