//! What browsers do at GitHub: sign in to an application, and register an App from a manifest. The pages here ask nothing.
//! <https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app>

use std::collections::HashMap;

use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::GitHub;
use super::state::UserKind;

/// Who is signed in at GitHub in the browser that comes, and the codes that were given.
#[derive(Default)]
pub(super) struct Browser {
    login: Option<String>,
    codes: HashMap<String, Code>,
    /// Manifests of Apps that somebody wants, by the code that was given for each.
    manifests: HashMap<String, Value>,
}

impl Browser {
    /// Each is good once.
    pub(super) fn take_manifest(&mut self, code: &str) -> Option<Value> {
        self.manifests.remove(code)
    }
}

#[derive(Deserialize)]
struct NewApp {
    manifest: String,
}

#[derive(Deserialize)]
struct Stated {
    #[serde(default)]
    state: String,
}

struct Code {
    login: String,
    redirect_uri: String,
    challenge: String,
}

#[derive(Deserialize)]
struct Authorize {
    client_id: String,
    redirect_uri: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
}

#[derive(Deserialize)]
struct Exchange {
    client_id: String,
    client_secret: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
}

impl GitHub {
    /// The client of the application that people sign in to.
    pub const CLIENT_ID: &str = "Iv23liloopback";
    pub const CLIENT_SECRET: &str = "a-client-secret-of-the-loopback";

    /// Who is signed in in the browser that comes next. None: somebody who does not let the application know them.
    pub fn browse_as(&self, login: Option<&str>) {
        if let Some(login) = login {
            self.state().ensure_user(login, UserKind::User);
        }
        self.browser().login = login.map(str::to_owned);
    }
}

pub(super) fn router() -> Router<GitHub> {
    Router::new()
        .route("/login/oauth/authorize", get(authorize))
        .route("/login/oauth/access_token", post(exchange))
        .route("/settings/apps/new", post(register))
        .route("/organizations/{organization}/settings/apps/new", post(register))
}

async fn register(State(github): State<GitHub>, Query(stated): Query<Stated>, Form(new): Form<NewApp>) -> Response {
    let Ok(manifest) = serde_json::from_str::<Value>(&new.manifest) else {
        return (StatusCode::UNPROCESSABLE_ENTITY, "the manifest is not JSON").into_response();
    };
    let Some(back) = manifest.get("redirect_url").and_then(Value::as_str).map(str::to_owned) else {
        return (StatusCode::UNPROCESSABLE_ENTITY, "the manifest has no redirect_url").into_response();
    };
    let code = hex::encode(rand::random::<[u8; 20]>());
    github.browser().manifests.insert(code.clone(), manifest);
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("code", &code)
        .append_pair("state", &stated.state)
        .finish();
    Redirect::to(&format!("{back}?{query}")).into_response()
}

async fn authorize(State(github): State<GitHub>, Query(asked): Query<Authorize>) -> Response {
    let Authorize { client_id, redirect_uri, state, code_challenge, code_challenge_method } = asked;
    if client_id != GitHub::CLIENT_ID || code_challenge_method != "S256" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut browser = github.browser();
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    match browser.login.clone() {
        Some(login) => {
            let code = hex::encode(rand::random::<[u8; 10]>());
            query.append_pair("code", &code);
            let redirect_uri = redirect_uri.clone();
            browser.codes.insert(code, Code { login, redirect_uri, challenge: code_challenge });
        }
        None => {
            query.append_pair("error", "access_denied");
        }
    }
    query.append_pair("state", &state);
    Redirect::to(&format!("{redirect_uri}?{}", query.finish())).into_response()
}

/// GitHub answers refusals with 200 too.
async fn exchange(State(github): State<GitHub>, Form(asked): Form<Exchange>) -> Response {
    let Exchange { client_id, client_secret, code, redirect_uri, code_verifier } = asked;
    let refused =
        |error: &str| Json(json!({ "error": error, "error_description": "It is not taken." })).into_response();
    if client_id != GitHub::CLIENT_ID || client_secret != GitHub::CLIENT_SECRET {
        return refused("incorrect_client_credentials");
    }
    let Some(given) = github.browser().codes.remove(&code) else { return refused("bad_verification_code") };
    if given.redirect_uri != redirect_uri {
        return refused("redirect_uri_mismatch");
    }
    if URL_SAFE_NO_PAD.encode(Sha256::digest(&code_verifier)) != given.challenge {
        return refused("bad_verification_code");
    }
    let token = github.credentials().issue_to(&given.login);
    Json(json!({ "access_token": token, "scope": "", "token_type": "bearer" })).into_response()
}
