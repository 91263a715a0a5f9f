//! The App's own operations, and those about the caller.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::answer::{Answer, Body};
use super::auth::{Caller, Credentials, Grant, not_accessible};
use super::call::Call;
use super::limits::Rate;
use crate::github::shapes::extend;
use crate::github::state::{Repository, State, iso};
use crate::github::webhooks::Attempt;

pub fn get_app(state: &State, call: &Call) -> Answer {
    let mut shape = call.shapes(state).app();
    extend(&mut shape, json!({ "installations_count": state.installations.len() }));
    Answer::ok(shape)
}

pub fn list_installations(state: &State, call: &Call) -> Answer {
    let installations: Vec<_> = state.installations.values().collect();
    call.page(None, &installations, |installation| call.shapes(state).installation(installation))
}

pub fn repository_installation(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let installation = repository.installation.and_then(|id| state.installations.get(&id));
    let installation = installation.ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(call.shapes(state).installation(installation)))
}

pub fn list_repositories(state: &State, call: &Call) -> Result<Answer, Answer> {
    let Caller::Installation(grant) = &call.caller else {
        return Err(not_accessible());
    };
    let is_chosen = |id: u64| grant.repositories.as_ref().is_none_or(|chosen| chosen.contains(&id));
    let is_its =
        |repository: &&Repository| repository.installation == Some(grant.installation) && is_chosen(repository.id);
    let repositories: Vec<_> = state.repositories.values().filter(is_its).collect();
    let mut answer = call.page(None, &repositories, |repository| call.shapes(state).repository(repository));
    if let Body::Json(page) = &mut answer.body {
        let selection = if grant.repositories.is_some() { "selected" } else { "all" };
        *page = json!({
            "total_count": repositories.len(),
            "repository_selection": selection,
            "repositories": page.take(),
        });
    }
    Ok(answer)
}

pub fn create_token(state: &State, call: &Call, credentials: &mut Credentials) -> Result<Answer, Answer> {
    let installation = call.params.number("installation_id").and_then(|id| state.installations.get(&id));
    let installation = installation.ok_or_else(Answer::not_found)?;
    if installation.suspended_at.is_some() {
        return Err(Answer::error(403, "This installation has been suspended"));
    }
    let app = state.app.as_ref().ok_or_else(Answer::not_found)?;
    let mut permissions = app.permissions.clone();
    if let Some(asked) = call.body.get("permissions").and_then(Value::as_object) {
        let asked: BTreeMap<_, _> =
            asked.iter().filter_map(|(name, level)| Some((name.clone(), level.as_str()?.to_owned()))).collect();
        let granted = |name: &str, level: &str| match app.permissions.get(name).map(String::as_str) {
            Some("write") => true,
            Some(given) => given == level,
            None => false,
        };
        if !asked.iter().all(|(name, level)| granted(name, level)) {
            return Err(Answer::error(422, "The permissions requested are not granted to this installation."));
        }
        permissions = asked;
    }
    let names = call.body.get("repositories").and_then(Value::as_array);
    let ids = call.body.get("repository_ids").and_then(Value::as_array);
    let chosen = |wanted: &Value| {
        state.repositories.values().find(|repository| {
            let same = Some(repository.id) == wanted.as_u64()
                || wanted.as_str().is_some_and(|name| repository.name.eq_ignore_ascii_case(name));
            same && repository.installation == Some(installation.id)
        })
    };
    let mut repositories = None;
    if names.is_some() || ids.is_some() {
        let wanted = names.into_iter().chain(ids).flatten();
        let found: Option<Vec<_>> = wanted.map(chosen).collect();
        repositories = Some(found.ok_or_else(|| {
            Answer::error(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            )
        })?);
    }
    let grant = Grant {
        installation: installation.id,
        repositories: repositories.as_ref().map(|chosen| chosen.iter().map(|repository| repository.id).collect()),
        permissions: permissions.clone(),
    };
    let (token, until) = credentials.issue(grant);
    let until = until.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let mut shape = json!({
        "token": token,
        "expires_at": iso(until),
        "permissions": permissions,
        "repository_selection": "selected",
    });
    if let Some(repositories) = repositories {
        let shapes = call.shapes(state);
        let repositories: Vec<_> = repositories.iter().map(|repository| shapes.repository(repository)).collect();
        extend(&mut shape, json!({ "repositories": repositories }));
    }
    Ok(Answer::json(201, shape).wrote(installation.id))
}

pub fn get_user(state: &State, call: &Call) -> Result<Answer, Answer> {
    let Caller::User(login) = &call.caller else {
        return Err(Answer::not_found());
    };
    let mut shape = call.shapes(state).user(login);
    let owned = state.repositories.values().filter(|repository| repository.owner.eq_ignore_ascii_case(login));
    extend(
        &mut shape,
        json!({
            "user_view_type": "private",
            "name": login,
            "company": null,
            "blog": "",
            "location": null,
            "email": null,
            "hireable": null,
            "bio": null,
            "twitter_username": null,
            "notification_email": null,
            "public_repos": owned.count(),
            "public_gists": 0,
            "followers": 0,
            "following": 0,
            "created_at": "2020-01-01T00:00:00Z",
            "updated_at": "2020-01-01T00:00:00Z",
            "private_gists": 0,
            "total_private_repos": 0,
            "owned_private_repos": 0,
            "disk_usage": 0,
            "collaborators": 0,
            "two_factor_authentication": true,
        }),
    );
    Ok(Answer::ok(shape))
}

pub fn rate_limit(rate: Rate) -> Answer {
    let core = json!({ "limit": rate.limit, "used": rate.used, "remaining": rate.remaining(), "reset": rate.reset });
    let search = json!({ "limit": 30, "used": 0, "remaining": 30, "reset": rate.reset });
    Answer::ok(json!({ "resources": { "core": core, "search": search }, "rate": core }))
}

/// Newest first, by cursor.
pub fn list_deliveries(call: &Call, attempts: &[Attempt]) -> Answer {
    let before = call.query("cursor").and_then(|cursor| cursor.parse::<u64>().ok()).unwrap_or(u64::MAX);
    let wanted = |attempt: &&Attempt| match call.query("status") {
        Some("success") => attempt.succeeded(),
        Some("failure") => !attempt.succeeded(),
        _ => true,
    };
    let mut found = attempts.iter().rev().filter(|attempt| attempt.id < before).filter(wanted);
    let page: Vec<_> = found.by_ref().take(call.per_page()).collect();
    let mut answer = Answer::ok(page.iter().map(|attempt| attempt.shape()).collect());
    if let (Some(last), Some(_)) = (page.last(), found.next()) {
        answer = answer.header("link", call.next_cursor(last.id));
    }
    answer
}
