//! Webhook payloads in GitHub's full shape.

use serde_json::{Value, json};

use super::examples::webhook_examples;
use super::shapes::{Shapes, extend, node_id};
use super::state::{Comment, Installation, PullRequest, Repository, UserKind};

/// The members every event carries beside its own: repository, sender, and where they apply organization and
/// installation.
fn envelope(shapes: &Shapes<'_>, repository: &Repository, sender: &str) -> Value {
    let mut shape = json!({ "repository": shapes.repository(repository), "sender": shapes.user(sender) });
    let state = shapes.state;
    if state.user(&repository.owner).is_some_and(|owner| owner.kind == UserKind::Organization) {
        extend(&mut shape, json!({ "organization": shapes.organization(&repository.owner) }));
    }
    if let Some(id) = repository.installation.filter(|_| state.app.is_some()) {
        extend(&mut shape, json!({ "installation": { "id": id, "node_id": node_id("IntegrationInstallation", id) } }));
    }
    shape
}

/// `more` holds what only this action has: before and after, label, changes.
pub fn pull_request(
    shapes: &Shapes<'_>,
    repository: &Repository,
    pull: &PullRequest,
    action: &str,
    sender: &str,
    more: Value,
) -> Value {
    let mut shape = json!({
        "action": action,
        "number": pull.number,
        "pull_request": shapes.pull_request(repository, pull),
    });
    extend(&mut shape, more);
    extend(&mut shape, envelope(shapes, repository, sender));
    shape
}

pub fn issue_comment(
    shapes: &Shapes<'_>,
    repository: &Repository,
    pull: &PullRequest,
    comment: &Comment,
    action: &str,
    sender: &str,
    more: Value,
) -> Value {
    let mut shape = json!({
        "action": action,
        "issue": shapes.issue(repository, pull),
        "comment": shapes.comment(repository, comment),
    });
    extend(&mut shape, more);
    extend(&mut shape, envelope(shapes, repository, sender));
    shape
}

/// An event of reviews as GitHub publishes one, with these words.
pub fn in_review(
    shapes: &Shapes<'_>,
    repository: &Repository,
    pull: &PullRequest,
    comment: &Comment,
    event: &str,
) -> Value {
    let (action, said) = if event == "pull_request_review" { ("submitted", "review") } else { ("created", "comment") };
    let mut examples = webhook_examples(event).into_iter();
    let mut shape = examples.find(|example| example["action"] == action).unwrap_or_default();
    if let Some(members) = shape.as_object_mut() {
        members.retain(|name, _| name != "organization" && name != "installation");
    }
    extend(&mut shape[said], json!({ "id": comment.id, "user": shapes.user(&comment.author), "body": comment.body }));
    extend(&mut shape["pull_request"], json!({ "id": pull.id, "number": pull.number }));
    extend(&mut shape, envelope(shapes, repository, &comment.author));
    shape
}

pub fn repository(shapes: &Shapes<'_>, repository: &Repository, action: &str, sender: &str, changes: Value) -> Value {
    let mut shape = json!({ "action": action, "changes": changes });
    extend(&mut shape, envelope(shapes, repository, sender));
    shape
}

/// The few facts that installation events carry of a repository.
fn brief(repositories: &[&Repository]) -> Value {
    let brief = repositories.iter().map(|repository| {
        json!({
            "id": repository.id,
            "node_id": node_id("Repository", repository.id),
            "name": repository.name,
            "full_name": repository.full_name(),
            "private": repository.private,
        })
    });
    brief.collect()
}

pub fn installation(
    shapes: &Shapes<'_>,
    installation: &Installation,
    repositories: &[&Repository],
    action: &str,
) -> Value {
    let mut shape = json!({
        "action": action,
        "installation": shapes.installation(installation),
        "sender": shapes.user(&installation.account),
    });
    match action {
        "created" => extend(&mut shape, json!({ "repositories": brief(repositories), "requester": null })),
        "deleted" => extend(&mut shape, json!({ "repositories": brief(repositories) })),
        _ => {}
    }
    shape
}

pub fn installation_repositories(
    shapes: &Shapes<'_>,
    installation: &Installation,
    added: &[&Repository],
    removed: &[&Repository],
) -> Value {
    let mut shape = shapes.installation(installation);
    // This event alone has them as Unix seconds.
    extend(&mut shape, json!({ "created_at": installation.created_at, "updated_at": installation.created_at }));
    json!({
        "action": if added.is_empty() { "removed" } else { "added" },
        "installation": shape,
        "repository_selection": "selected",
        "repositories_added": brief(added),
        "repositories_removed": brief(removed),
        "requester": null,
        "sender": shapes.user(&installation.account),
    })
}

/// What GitHub sends when a webhook is set. An App's has no repository; a repository's own has.
pub fn ping(shapes: &Shapes<'_>, hook_id: u64, url: &str, events: &[&str], repository: Option<&Repository>) -> Value {
    let mut shape = json!({
        "zen": "Practicality beats purity.",
        "hook_id": hook_id,
        "hook": {
            "type": if repository.is_some() { "Repository" } else { "App" },
            "id": hook_id,
            "name": "web",
            "active": true,
            "events": events,
            "config": { "content_type": "json", "insecure_ssl": "0", "secret": "********", "url": url },
            "updated_at": "2026-01-01T00:00:00Z",
            "created_at": "2026-01-01T00:00:00Z",
        },
    });
    if let Some(app) = shapes.state.app.as_ref().filter(|_| repository.is_none())
        && let Some(hook) = shape.get_mut("hook")
    {
        let deliveries = format!("{}/app/hook/deliveries", shapes.api);
        extend(hook, json!({ "app_id": app.id, "deliveries_url": deliveries }));
    }
    if let Some(repository) = repository {
        let url = format!("{}/hooks/{hook_id}", shapes.repository_url(repository));
        if let Some(hook) = shape.get_mut("hook") {
            extend(
                hook,
                json!({
                    "url": url,
                    "test_url": format!("{url}/test"),
                    "ping_url": format!("{url}/pings"),
                    "deliveries_url": format!("{url}/deliveries"),
                    "last_response": { "code": null, "status": "unused", "message": null },
                }),
            );
        }
        extend(&mut shape, envelope(shapes, repository, &repository.owner));
    }
    shape
}
