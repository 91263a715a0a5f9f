//! What somebody says on a pull request: in its conversation, with a review, or on a line of its changes.

use serde::Deserialize;

use super::{ACTION_NOT_USED, BadPayload, Installation, NOT_A_COMMAND, Parsed};
use crate::{
    environment::{Change, CommandComment, CommentKind},
    github::wire,
    text::storable,
    webhook::comment::command_lines,
};

/// No command is longer, in characters.
const LONGEST_LINE: usize = 200;

#[derive(Deserialize)]
pub(super) struct SaidEvent {
    action: String,
    #[serde(alias = "review")]
    comment: Comment,
    changes: Option<Changes>,
    #[serde(alias = "issue")]
    pull_request: Subject,
    repository: wire::Repository,
    installation: Option<Installation>,
}

#[derive(Deserialize)]
struct Subject {
    number: i64,
    /// Of an issue: only where it is a pull request.
    pull_request: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Comment {
    id: i64,
    /// None for an account that is gone.
    user: Option<Commenter>,
    body: Option<String>,
}

#[derive(Deserialize)]
struct Commenter {
    login: String,
    r#type: String,
}

/// What an edit changed.
#[derive(Deserialize)]
struct Changes {
    body: Option<Before>,
}

#[derive(Deserialize)]
struct Before {
    from: Option<String>,
}

pub(super) fn said(kind: CommentKind, event: SaidEvent) -> Result<Parsed, BadPayload> {
    let SaidEvent { action, comment, changes, pull_request, repository, installation } = event;
    let (subject, spoken) = match kind {
        CommentKind::Comment => ("issue", "comment"),
        CommentKind::Review => ("pull_request", "review"),
        CommentKind::ReviewComment => ("pull_request", "comment"),
    };
    let number = wire::positive(pull_request.number, || format!("{subject}.number"))?;
    let comment_id = wire::positive(comment.id, || format!("{spoken}.id"))?;
    let repository = repository.facts("repository", installation.map(|installation| installation.id))?;

    let lines_of = |body: Option<String>| command_lines(&body.unwrap_or_default());
    let lines = match (kind, action.as_str()) {
        (CommentKind::Comment | CommentKind::ReviewComment, "created") | (CommentKind::Review, "submitted") => {
            Some((lines_of(comment.body), false))
        }
        (_, "edited") => {
            let before = lines_of(changes.and_then(|changes| changes.body).and_then(|body| body.from));
            let is_new = |line: &String| !before.contains(line);
            Some((lines_of(comment.body).into_iter().filter(is_new).collect(), true))
        }
        _ => None,
    };
    let is_of_pull_request = kind != CommentKind::Comment || pull_request.pull_request.is_some();
    // One of a bot may be previewd's own.
    let author = comment.user.filter(|author| author.r#type == "User" && is_of_pull_request);
    let change = match (lines, author) {
        (None, _) => ACTION_NOT_USED,
        (Some((lines, edited)), Some(author)) if !lines.is_empty() => Change::Command(CommandComment {
            kind,
            comment_id,
            repository_id: repository.github_id,
            number,
            author: storable(author.login),
            lines: lines.into_iter().map(|line| storable(line.chars().take(LONGEST_LINE).collect())).collect(),
            edited,
        }),
        (Some(_), _) => NOT_A_COMMAND,
    };
    Ok(Parsed { change, action: Some(action), repository: Some(repository.name), number: Some(number), head_sha: None })
}
