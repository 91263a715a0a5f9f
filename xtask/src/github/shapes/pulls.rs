//! Pull requests and what is said on them.

use serde_json::{Value, json};

use super::{Shapes, extend, merge_settings, node_id};
use crate::github::state::{Comment, PullRequest, PullState, Repository, iso};

impl Shapes<'_> {
    pub fn label(&self, repository: &Repository, name: &str) -> Value {
        let id = repository.labels.get(name).copied().unwrap_or_default();
        json!({
            "id": id,
            "node_id": node_id("Label", id),
            "url": format!("{}/labels/{name}", self.repository_url(repository)),
            "name": name,
            "color": "ededed",
            "default": false,
            "description": "",
        })
    }

    pub fn association(&self, repository: &Repository, login: &str) -> &'static str {
        if repository.owner.eq_ignore_ascii_case(login) {
            "OWNER"
        } else if repository.collaborators.contains_key(&login.to_lowercase()) {
            "COLLABORATOR"
        } else {
            "NONE"
        }
    }

    /// As a list of pull requests has it.
    pub fn pull_request_simple(&self, repository: &Repository, pull: &PullRequest) -> Value {
        let (root, number) = (self.repository_url(repository), pull.number);
        let (url, issue) = (format!("{root}/pulls/{number}"), format!("{root}/issues/{number}"));
        let page = format!("{}/pull/{number}", self.page(repository));
        let statuses = format!("{root}/statuses/{}", pull.head.sha);
        let head = pull.head.repository.and_then(|id| self.state.repositories.get(&id));
        let mut shape = json!({
            "url": url,
            "id": pull.id,
            "node_id": node_id("PullRequest", pull.id),
            "html_url": page,
            "diff_url": format!("{page}.diff"),
            "patch_url": format!("{page}.patch"),
            "issue_url": issue,
            "number": number,
            "state": if pull.state == PullState::Open { "open" } else { "closed" },
            "locked": pull.locked,
            "title": pull.title,
            "user": self.user(&pull.author),
            "body": pull.body,
            "created_at": iso(pull.created_at),
            "updated_at": iso(pull.updated_at),
            "closed_at": pull.closed_at.map(iso),
            "merged_at": pull.merged_at.map(iso),
            "merge_commit_sha": pull.merge_commit,
            "assignee": null,
            "assignees": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "labels": pull.labels.iter().map(|name| self.label(repository, name)).collect::<Vec<_>>(),
            "milestone": null,
            "draft": pull.draft,
            "author_association": self.association(repository, &pull.author),
            "auto_merge": null,
            "active_lock_reason": null,
        });
        let references = json!({
            "commits_url": format!("{url}/commits"),
            "review_comments_url": format!("{url}/comments"),
            "review_comment_url": format!("{root}/pulls/comments{{/number}}"),
            "comments_url": format!("{issue}/comments"),
            "statuses_url": statuses,
            "head": {
                "label": format!("{}:{}", pull.head.owner, pull.head.branch),
                "ref": pull.head.branch,
                "sha": pull.head.sha,
                "user": self.user(&pull.head.owner),
                "repo": head.map(|head| self.repository_with_settings(head)),
            },
            "base": {
                "label": format!("{}:{}", repository.owner, pull.base_branch),
                "ref": pull.base_branch,
                "sha": pull.base_sha,
                "user": self.user(&repository.owner),
                "repo": self.repository_with_settings(repository),
            },
            "_links": {
                "self": { "href": url },
                "html": { "href": page },
                "issue": { "href": issue },
                "comments": { "href": format!("{issue}/comments") },
                "review_comments": { "href": format!("{url}/comments") },
                "review_comment": { "href": format!("{root}/pulls/comments{{/number}}") },
                "commits": { "href": format!("{url}/commits") },
                "statuses": { "href": statuses },
            },
        });
        extend(&mut shape, references);
        shape
    }

    fn repository_with_settings(&self, repository: &Repository) -> Value {
        let mut shape = self.repository(repository);
        extend(&mut shape, merge_settings());
        shape
    }

    pub fn pull_request(&self, repository: &Repository, pull: &PullRequest) -> Value {
        let mut shape = self.pull_request_simple(repository, pull);
        let merged = pull.state == PullState::Merged;
        let comments = repository.comments.values().filter(|comment| comment.number == pull.number).count();
        extend(
            &mut shape,
            json!({
                "merged": merged,
                "mergeable": (pull.state == PullState::Open).then_some(true),
                "rebaseable": (pull.state == PullState::Open).then_some(true),
                "mergeable_state": match (pull.state, pull.draft) {
                    (PullState::Open, true) => "draft",
                    (PullState::Open, false) => "clean",
                    (PullState::Closed | PullState::Merged, _) => "unknown",
                },
                "merged_by": pull.merged_by.as_deref().map(|login| self.user(login)),
                "comments": comments,
                "review_comments": 0,
                "maintainer_can_modify": false,
                "commits": pull.commits.len(),
                "additions": 1,
                "deletions": 0,
                "changed_files": 1,
            }),
        );
        shape
    }

    /// The issue that every pull request is, as `issue_comment` events carry it.
    pub fn issue(&self, repository: &Repository, pull: &PullRequest) -> Value {
        let (root, page) = (self.repository_url(repository), self.page(repository));
        let url = format!("{root}/issues/{}", pull.number);
        let page = format!("{page}/pull/{}", pull.number);
        let comments = repository.comments.values().filter(|comment| comment.number == pull.number).count();
        json!({
            "url": url,
            "repository_url": root,
            "labels_url": format!("{url}/labels{{/name}}"),
            "comments_url": format!("{url}/comments"),
            "events_url": format!("{url}/events"),
            "html_url": page,
            // The issue's id and its pull request's id differ on GitHub: mixing them up should show.
            "id": pull.id + 1_000_000_000,
            "node_id": node_id("Issue", pull.id),
            "number": pull.number,
            "title": pull.title,
            "user": self.user(&pull.author),
            "labels": pull.labels.iter().map(|name| self.label(repository, name)).collect::<Vec<_>>(),
            "state": if pull.state == PullState::Open { "open" } else { "closed" },
            "locked": pull.locked,
            "assignee": null,
            "assignees": [],
            "milestone": null,
            "comments": comments,
            "created_at": iso(pull.created_at),
            "updated_at": iso(pull.updated_at),
            "closed_at": pull.closed_at.map(iso),
            "author_association": self.association(repository, &pull.author),
            "active_lock_reason": null,
            "draft": pull.draft,
            "pull_request": {
                "url": format!("{root}/pulls/{}", pull.number),
                "html_url": page,
                "diff_url": format!("{page}.diff"),
                "patch_url": format!("{page}.patch"),
                "merged_at": pull.merged_at.map(iso),
            },
            "body": pull.body,
            "reactions": rollup(&url, &[]),
            "timeline_url": format!("{url}/timeline"),
            "performed_via_github_app": null,
            "state_reason": null,
        })
    }

    pub fn comment(&self, repository: &Repository, comment: &Comment) -> Value {
        let root = self.repository_url(repository);
        let url = format!("{root}/issues/comments/{}", comment.id);
        let page = format!("{}/pull/{}#issuecomment-{}", self.page(repository), comment.number, comment.id);
        json!({
            "url": url,
            "html_url": page,
            "issue_url": format!("{root}/issues/{}", comment.number),
            "id": comment.id,
            "node_id": node_id("IssueComment", comment.id),
            "user": self.user(&comment.author),
            "created_at": iso(comment.created_at),
            "updated_at": iso(comment.updated_at),
            "author_association": self.association(repository, &comment.author),
            "body": comment.body,
            "reactions": rollup(&url, &comment.reactions),
            "performed_via_github_app": self.via_app(comment.via_app),
        })
    }

    pub fn reaction(&self, comment: &Comment, index: usize) -> Value {
        let (login, content) = comment.reactions.get(index).cloned().unwrap_or_default();
        let id = comment.id + 1 + index as u64;
        json!({
            "id": id,
            "node_id": node_id("Reaction", id),
            "user": self.user(&login),
            "content": content,
            "created_at": iso(comment.updated_at),
        })
    }
}

/// The words of GitHub's reactions.
pub const REACTIONS: [&str; 8] = ["+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"];

fn rollup(url: &str, reactions: &[(String, String)]) -> Value {
    let mut shape = json!({ "url": format!("{url}/reactions"), "total_count": reactions.len() });
    let counts = REACTIONS.map(|word| {
        let count = reactions.iter().filter(|(_, content)| content == word).count();
        (word.to_owned(), json!(count))
    });
    extend(&mut shape, Value::Object(counts.into_iter().collect()));
    shape
}
