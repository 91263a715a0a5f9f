//! Comments on pull requests, and reactions to them.

use std::collections::BTreeMap;

use serde_json::json;

use super::answer::Answer;
use super::auth::Caller;
use super::call::Call;
use crate::github::GitHub;
use crate::github::conversation::{add_comment, comment_event};
use crate::github::error::ControlError;
use crate::github::state::{Comment, Repository, Role, State};

/// GitHub's bound on a comment, in characters.
const LONGEST_COMMENT: usize = 65_536;

pub fn list(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let number = call.params.number("issue_number").filter(|number| repository.pulls.contains_key(number));
    let number = number.ok_or_else(Answer::not_found)?;
    let since = call.query("since").and_then(|since| since.parse::<k8s_openapi::jiff::Timestamp>().ok());
    let comments = repository.comments.values().filter(|comment| comment.number == number);
    let comments: Vec<_> =
        comments.filter(|comment| since.is_none_or(|since| comment.updated_at >= since.as_second())).collect();
    let shapes = call.shapes(state);
    Ok(call.page(Some(repository), &comments, |comment| shapes.comment(repository, comment)))
}

pub fn get(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let comment = find(repository, call)?;
    Ok(Answer::ok(call.shapes(state).comment(repository, comment)))
}

pub fn create(github: &GitHub, state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let name = repository.full_name();
    let number = call.params.number("issue_number").filter(|number| repository.pulls.contains_key(number));
    let number = number.ok_or_else(Answer::not_found)?;
    let body = checked_body(call)?.to_owned();
    let login = call.caller.login(state);
    let locked = repository.pulls.get(&number).is_some_and(|pull| pull.locked);
    if locked && !may_write(state, repository, &call.caller) {
        return Err(Answer::error(403, "Unable to create comment because issue is locked."));
    }
    let id = add_comment(state, &name, number, &login, &body, call.caller.is_app()).map_err(refused)?;
    let event = comment_event(github, state, &name, id, "created", &login, json!({})).map_err(refused)?;
    let repository = call.repository(state)?;
    let comment = repository.comments.get(&id).ok_or_else(Answer::not_found)?;
    let shape = call.shapes(state).comment(repository, comment);
    let url = format!("{}/issues/comments/{id}", call.shapes(state).repository_url(repository));
    Ok(Answer::json(201, shape).header("location", url).event(Some(event)).wrote(id))
}

pub fn update(github: &GitHub, state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let (name, comment) = (repository.full_name(), find(repository, call)?);
    let (id, number, from) = (comment.id, comment.number, comment.body.clone());
    owned(state, repository, call, comment)?;
    let body = checked_body(call)?.to_owned();
    let (login, now) = (call.caller.login(state), state.now());
    let changed = state.repository_mut(&name).map_err(refused)?;
    if let Some(comment) = changed.comments.get_mut(&id) {
        comment.body = body;
        comment.updated_at = now;
    }
    if let Some(pull) = changed.pulls.get_mut(&number) {
        pull.updated_at = now;
    }
    let more = json!({ "changes": { "body": { "from": from } } });
    let event = comment_event(github, state, &name, id, "edited", &login, more).map_err(refused)?;
    let repository = call.repository(state)?;
    let comment = find(repository, call)?;
    Ok(Answer::ok(call.shapes(state).comment(repository, comment)).event(Some(event)).wrote(id))
}

pub fn delete(github: &GitHub, state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let (name, comment) = (repository.full_name(), find(repository, call)?);
    let id = comment.id;
    owned(state, repository, call, comment)?;
    let login = call.caller.login(state);
    let event = comment_event(github, state, &name, id, "deleted", &login, json!({})).map_err(refused)?;
    state.repository_mut(&name).map_err(refused)?.comments.remove(&id);
    Ok(Answer::empty(204).event(Some(event)).wrote(id))
}

pub fn react(
    state: &mut State,
    call: &Call,
    comments: impl Fn(&mut Repository) -> &mut BTreeMap<u64, Comment>,
) -> Result<Answer, Answer> {
    let name = call.repository(state)?.full_name();
    let id = call.params.number("comment_id").ok_or_else(Answer::not_found)?;
    let wanted = (call.caller.login(state), call.text("content").unwrap_or_default().to_owned());
    let changed = state.repository_mut(&name).map_err(refused)?;
    let comment = comments(changed).get_mut(&id).ok_or_else(Answer::not_found)?;
    let known = comment.reactions.iter().position(|reaction| *reaction == wanted);
    let index = known.unwrap_or(comment.reactions.len());
    if known.is_none() {
        comment.reactions.push(wanted);
    }
    let comment = comment.clone();
    let shape = call.shapes(state).reaction(&comment, index);
    Ok(Answer::json(if known.is_some() { 200 } else { 201 }, shape).wrote(id))
}

fn find<'a>(repository: &'a Repository, call: &Call) -> Result<&'a Comment, Answer> {
    let id = call.params.number("comment_id");
    id.and_then(|id| repository.comments.get(&id)).ok_or_else(Answer::not_found)
}

fn checked_body(call: &Call) -> Result<&str, Answer> {
    let body = call.text("body").unwrap_or_default();
    if body.trim().is_empty() {
        return Err(Answer::invalid("IssueComment", "body", "custom", "body can't be blank"));
    }
    if body.chars().count() > LONGEST_COMMENT {
        let message = "body is too long (maximum is 65536 characters)";
        return Err(Answer::invalid("IssueComment", "body", "custom", message));
    }
    Ok(body)
}

fn may_write(state: &State, repository: &Repository, caller: &Caller) -> bool {
    match caller {
        Caller::User(login) => state.role(repository, login) >= Role::Write,
        Caller::Nobody => false,
        // What an installation may do was looked at by its permissions.
        Caller::App | Caller::Installation(_) => true,
    }
}

/// Comments are changed by their authors, and by those who may write to the repository.
fn owned(state: &State, repository: &Repository, call: &Call, comment: &Comment) -> Result<(), Answer> {
    let author = comment.author.eq_ignore_ascii_case(&call.caller.login(state));
    if author || may_write(state, repository, &call.caller) {
        Ok(())
    } else {
        Err(Answer::error(403, "Must have admin rights to Repository."))
    }
}

fn refused(error: ControlError) -> Answer {
    Answer::error(404, error.to_string())
}
