//! Repositories, their files, pull requests and collaborators.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answer::Answer;
use super::auth::Caller;
use super::call::Call;
use crate::github::examples::webhook_examples;
use crate::github::opening::LINK;
use crate::github::shapes::{Shapes, extend};
use crate::github::state::{PullState, Repository, Role, State, object_id};

/// The contents API carries files inline up to this size; larger ones come raw only.
const LARGEST_INLINE: usize = 1024 * 1024;
/// GitHub breaks base64 after so many characters.
const BASE64_LINE: usize = 60;

pub fn get_repository(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let role = match &call.caller {
        Caller::User(login) => state.role(repository, login),
        Caller::App | Caller::Installation(_) | Caller::Nobody => Role::Read,
    };
    Ok(Answer::ok(call.shapes(state).full_repository(repository, role)))
}

pub fn list_pull_requests(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let wanted = call.query("state").unwrap_or("open");
    let mut pulls: Vec<_> = repository
        .pulls
        .values()
        .filter(|pull| match wanted {
            "all" => true,
            "closed" => pull.state != PullState::Open,
            _ => pull.state == PullState::Open,
        })
        .filter(|pull| call.query("base").is_none_or(|base| pull.base_branch == base))
        .filter(|pull| {
            let label = format!("{}:{}", pull.head.owner, pull.head.branch);
            call.query("head").is_none_or(|head| label.eq_ignore_ascii_case(head))
        })
        .collect();
    let sort = call.query("sort").unwrap_or("created");
    match sort {
        "updated" => pulls.sort_by_key(|pull| (pull.updated_at, pull.number)),
        _ => pulls.sort_by_key(|pull| (pull.created_at, pull.number)),
    }
    // Newest first where nothing is asked, oldest first once a sort is named.
    let default = if call.query("sort").is_none_or(|sort| sort == "created") { "desc" } else { "asc" };
    if call.query("direction").unwrap_or(default) == "desc" {
        pulls.reverse();
    }
    let shapes = call.shapes(state);
    Ok(call.page(Some(repository), &pulls, |pull| shapes.pull_request_simple(repository, pull)))
}

pub fn get_pull_request(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let pull = call.params.number("pull_number").and_then(|number| repository.pulls.get(&number));
    let pull = pull.ok_or_else(Answer::not_found)?;
    Ok(Answer::ok(call.shapes(state).pull_request(repository, pull)))
}

/// What a pull request changes: its head's files against its base's.
pub fn list_workflow_runs(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let runs = repository.workflow_runs.iter();
    let found = runs.filter(|(sha, _)| call.query("head_sha").is_none_or(|wanted| wanted == sha.as_str()));
    // The published example of a run, with this one's own facts.
    let examples = webhook_examples("workflow_run");
    let mut examples = examples.iter().map(|payload| &payload["workflow_run"]);
    let example = examples.find(|run| run.get("path").is_some()).cloned().unwrap_or_default();
    let shapes = call.shapes(state);
    let shown: Vec<Value> = found
        .map(|(sha, known)| {
            let mut run = example.clone();
            run["head_sha"] = json!(sha);
            run["status"] = json!(known.status);
            run["conclusion"] = json!(known.conclusion);
            run["repository"] = shapes.repository(repository);
            run["head_repository"] = shapes.repository(repository);
            run
        })
        .collect();
    Ok(Answer::ok(json!({ "total_count": shown.len(), "workflow_runs": shown })))
}

pub fn list_files(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let pull = call.params.number("pull_number").and_then(|number| repository.pulls.get(&number));
    let pull = pull.ok_or_else(Answer::not_found)?;
    let tree = |sha: &str| state.commits.get(sha).map(|commit| commit.tree.clone()).unwrap_or_default();
    let (base, head) = (tree(&pull.base_sha), tree(&pull.head.sha));
    let paths: BTreeSet<&String> = base.keys().chain(head.keys()).collect();
    let changed: Vec<_> = paths.into_iter().filter(|path| base.get(*path) != head.get(*path)).collect();
    Ok(call.page(Some(repository), &changed, |path| {
        let content = head.get(*path).or_else(|| base.get(*path)).map(Vec::as_slice).unwrap_or_default();
        let sha = object_id(content);
        let status = match (base.contains_key(*path), head.contains_key(*path)) {
            (false, _) => "added",
            (true, false) => "removed",
            (true, true) => "modified",
        };
        let root = format!("{}/repos/{}", call.api, repository.full_name());
        json!({
            "sha": sha,
            "filename": path,
            "status": status,
            "additions": 1,
            "deletions": 0,
            "changes": 1,
            "blob_url": format!("{}/{}/blob/{}/{path}", call.html, repository.full_name(), pull.head.sha),
            "raw_url": format!("{}/{}/raw/{}/{path}", call.html, repository.full_name(), pull.head.sha),
            "contents_url": format!("{root}/contents/{path}?ref={}", pull.head.sha),
        })
    }))
}

pub fn get_permission(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    if let Caller::User(login) = &call.caller
        && state.role(repository, login) < Role::Write
    {
        return Err(Answer::error(403, "Must have push access to view collaborator permission."));
    }
    let login = call.params.get("username");
    let user = state.user(login).ok_or_else(|| Answer::error(404, format!("{login} is not a user")))?;
    let role = state.role(repository, login);
    let mut shape = call.shapes(state).user(&user.login);
    extend(
        &mut shape,
        json!({
            "role_name": role.name(),
            "permissions": {
                "admin": role >= Role::Admin,
                "maintain": role >= Role::Maintain,
                "push": role >= Role::Write,
                "triage": role >= Role::Triage,
                "pull": role >= Role::Read,
            },
        }),
    );
    Ok(Answer::ok(json!({ "permission": role.legacy_name(), "role_name": role.name(), "user": shape })))
}

pub fn get_contents(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let reference = call.query("ref").filter(|reference| !reference.is_empty());
    let reference = reference.unwrap_or(&repository.default_branch);
    let commit = state.resolve(repository, reference);
    let commit = commit.ok_or_else(|| Answer::error(404, format!("No commit found for the ref {reference}")))?;
    let path = call.params.get("path").trim_matches('/');
    let shapes = call.shapes(state);
    if let Some(content) = commit.tree.get(path) {
        if call.accept.contains("raw") {
            return Ok(Answer::raw(content.clone(), "application/vnd.github.raw; charset=utf-8"));
        }
        let mut shape = entry(&shapes, repository, path, reference, Some(content));
        let (encoding, encoded) =
            if content.len() > LARGEST_INLINE { ("none", String::new()) } else { ("base64", wrapped(content)) };
        extend(&mut shape, json!({ "content": encoded, "encoding": encoding }));
        return Ok(Answer::ok(shape));
    }
    let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
    let below = commit.tree.iter().filter_map(|(file, content)| Some((file.strip_prefix(&inside)?, content)));
    let mut entries: Vec<Value> = Vec::new();
    let mut known = "";
    for (rest, content) in below {
        let (name, is_file) = rest.split_once('/').map_or((rest, true), |(name, _)| (name, false));
        if name != known {
            let path = format!("{inside}{name}");
            entries.push(entry(&shapes, repository, &path, reference, is_file.then_some(content)));
            known = name;
        }
    }
    if entries.is_empty() { Err(Answer::not_found()) } else { Ok(Answer::ok(Value::Array(entries))) }
}

/// One file, or without content one directory.
fn entry(
    shapes: &Shapes<'_>,
    repository: &Repository,
    path: &str,
    reference: &str,
    content: Option<&Vec<u8>>,
) -> Value {
    let sha = object_id(content.map_or(path.as_bytes(), Vec::as_slice));
    let root = shapes.repository_url(repository);
    let url = format!("{root}/contents/{path}?ref={reference}");
    let (kind, page) = if content.is_some() { ("blob", "blob") } else { ("tree", "tree") };
    let listed = match content {
        Some(content) if content.starts_with(LINK.as_bytes()) => "symlink",
        Some(_) => "file",
        None => "dir",
    };
    let git = format!("{root}/git/{kind}s/{sha}");
    let full_name = repository.full_name();
    let html = format!("{}/{full_name}/{page}/{reference}/{path}", shapes.html);
    json!({
        "type": listed,
        "size": content.map_or(0, Vec::len),
        "name": path.rsplit('/').next(),
        "path": path,
        "sha": sha,
        "url": url,
        "git_url": git,
        "html_url": html,
        "download_url": content.map(|_| format!("{}/raw/{full_name}/{reference}/{path}", shapes.html)),
        "_links": { "self": url, "git": git, "html": html },
    })
}

fn wrapped(content: &[u8]) -> String {
    let encoded = STANDARD.encode(content);
    let mut wrapped = String::with_capacity(encoded.len() + encoded.len() / BASE64_LINE + 1);
    for (index, character) in encoded.chars().enumerate() {
        if index > 0 && index % BASE64_LINE == 0 {
            wrapped.push('\n');
        }
        wrapped.push(character);
    }
    wrapped.push('\n');
    wrapped
}
