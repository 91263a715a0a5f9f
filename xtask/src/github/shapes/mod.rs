//! State as GitHub's JSON: one function per object, complete enough for the published schemas and examples.

mod apps;
mod pulls;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::github::state::{PullState, Repository, Role, State, User, UserKind, iso};

/// Whom GitHub shows where an account is gone.
const GHOST: (u64, &str) = (10137, "ghost");

pub struct Shapes<'a> {
    pub state: &'a State,
    /// Root of API addresses, `/api/v3` included where the client came that way.
    pub api: &'a str,
    /// Root of addresses for people.
    pub html: &'a str,
}

/// GitHub's opaque global id; its content means nothing here either.
pub fn node_id(kind: &str, id: u64) -> String {
    STANDARD.encode(format!("{kind}{id}"))
}

/// Adds the members of one object to another.
pub fn extend(target: &mut Value, more: Value) {
    if let (Value::Object(target), Value::Object(more)) = (target, more) {
        target.extend(more);
    }
}

impl Shapes<'_> {
    pub fn user(&self, login: &str) -> Value {
        let ghost = User { id: GHOST.0, login: GHOST.1.to_owned(), kind: UserKind::User };
        let user = self.state.user(login).unwrap_or(&ghost);
        let (api, html, login) = (self.api, self.html, &user.login);
        let path = format!("{api}/users/{}", login.replace('[', "%5B").replace(']', "%5D"));
        let page = match user.kind {
            UserKind::Bot => format!("{html}/apps/{}", login.trim_end_matches("[bot]")),
            UserKind::User | UserKind::Organization => format!("{html}/{login}"),
        };
        json!({
            "login": login,
            "id": user.id,
            "node_id": node_id("User", user.id),
            "avatar_url": format!("{html}/avatars/u/{}?v=4", user.id),
            "gravatar_id": "",
            "url": path,
            "html_url": page,
            "followers_url": format!("{path}/followers"),
            "following_url": format!("{path}/following{{/other_user}}"),
            "gists_url": format!("{path}/gists{{/gist_id}}"),
            "starred_url": format!("{path}/starred{{/owner}}{{/repo}}"),
            "subscriptions_url": format!("{path}/subscriptions"),
            "organizations_url": format!("{path}/orgs"),
            "repos_url": format!("{path}/repos"),
            "events_url": format!("{path}/events{{/privacy}}"),
            "received_events_url": format!("{path}/received_events"),
            "type": match user.kind {
                UserKind::User => "User",
                UserKind::Organization => "Organization",
                UserKind::Bot => "Bot",
            },
            "user_view_type": "public",
            "site_admin": false,
        })
    }

    pub fn organization(&self, login: &str) -> Value {
        let id = self.state.user(login).map_or(GHOST.0, |user| user.id);
        let path = format!("{}/orgs/{login}", self.api);
        json!({
            "login": login,
            "id": id,
            "node_id": node_id("Organization", id),
            "url": path,
            "repos_url": format!("{path}/repos"),
            "events_url": format!("{path}/events"),
            "hooks_url": format!("{path}/hooks"),
            "issues_url": format!("{path}/issues"),
            "members_url": format!("{path}/members{{/member}}"),
            "public_members_url": format!("{path}/public_members{{/member}}"),
            "avatar_url": format!("{}/avatars/u/{id}?v=4", self.html),
            "description": "",
        })
    }

    pub fn repository_url(&self, repository: &Repository) -> String {
        format!("{}/repos/{}", self.api, repository.full_name())
    }

    fn page(&self, repository: &Repository) -> String {
        format!("{}/{}", self.html, repository.full_name())
    }

    pub fn repository(&self, repository: &Repository) -> Value {
        let (url, page) = (self.repository_url(repository), self.page(repository));
        let forks = self.state.repositories.values().filter(|other| other.fork_of == Some(repository.id)).count();
        let open = repository.pulls.values().filter(|pull| pull.state == PullState::Open).count();
        let mut shape = json!({
            "id": repository.id,
            "node_id": node_id("Repository", repository.id),
            "name": repository.name,
            "full_name": repository.full_name(),
            "private": repository.private,
            "owner": self.user(&repository.owner),
            "html_url": page,
            "description": null,
            "fork": repository.fork_of.is_some(),
            "url": url,
            "created_at": iso(repository.created_at),
            "updated_at": iso(repository.updated_at),
            "pushed_at": iso(repository.pushed_at),
            "git_url": format!("{}.git", page.replacen("http", "git", 1)),
            "ssh_url": format!("git@127.0.0.1:{}.git", repository.full_name()),
            "clone_url": format!("{page}.git"),
            "svn_url": page,
            "homepage": null,
            "size": 1,
            "language": null,
            "mirror_url": null,
            "license": null,
            "forks": forks,
            "forks_count": forks,
            "open_issues": open,
            "open_issues_count": open,
            "default_branch": repository.default_branch,
            "topics": [],
            "custom_properties": {},
            "visibility": if repository.private { "private" } else { "public" },
        });
        let templates = [
            ("forks_url", "/forks"),
            ("keys_url", "/keys{/key_id}"),
            ("collaborators_url", "/collaborators{/collaborator}"),
            ("teams_url", "/teams"),
            ("hooks_url", "/hooks"),
            ("issue_events_url", "/issues/events{/number}"),
            ("events_url", "/events"),
            ("assignees_url", "/assignees{/user}"),
            ("branches_url", "/branches{/branch}"),
            ("tags_url", "/tags"),
            ("blobs_url", "/git/blobs{/sha}"),
            ("git_tags_url", "/git/tags{/sha}"),
            ("git_refs_url", "/git/refs{/sha}"),
            ("trees_url", "/git/trees{/sha}"),
            ("statuses_url", "/statuses/{sha}"),
            ("languages_url", "/languages"),
            ("stargazers_url", "/stargazers"),
            ("contributors_url", "/contributors"),
            ("subscribers_url", "/subscribers"),
            ("subscription_url", "/subscription"),
            ("commits_url", "/commits{/sha}"),
            ("git_commits_url", "/git/commits{/sha}"),
            ("comments_url", "/comments{/number}"),
            ("issue_comment_url", "/issues/comments{/number}"),
            ("contents_url", "/contents/{+path}"),
            ("compare_url", "/compare/{base}...{head}"),
            ("merges_url", "/merges"),
            ("archive_url", "/{archive_format}{/ref}"),
            ("downloads_url", "/downloads"),
            ("issues_url", "/issues{/number}"),
            ("pulls_url", "/pulls{/number}"),
            ("milestones_url", "/milestones{/number}"),
            ("notifications_url", "/notifications{?since,all,participating}"),
            ("labels_url", "/labels{/name}"),
            ("releases_url", "/releases{/id}"),
            ("deployments_url", "/deployments"),
        ];
        let flags = [
            ("has_issues", true),
            ("has_projects", true),
            ("has_downloads", true),
            ("has_wiki", true),
            ("has_pages", false),
            ("has_discussions", false),
            ("archived", false),
            ("disabled", false),
            ("is_template", false),
            ("allow_forking", true),
            ("web_commit_signoff_required", false),
        ];
        let mut more = Map::new();
        more.extend(templates.iter().map(|(key, rest)| ((*key).to_owned(), json!(format!("{url}{rest}")))));
        more.extend(flags.iter().map(|(key, flag)| ((*key).to_owned(), json!(flag))));
        more.extend(["stargazers_count", "watchers_count", "watchers"].map(|key| (key.to_owned(), json!(0))));
        extend(&mut shape, Value::Object(more));
        shape
    }

    /// As `GET /repos/{owner}/{repo}` has it.
    pub fn full_repository(&self, repository: &Repository, role: Role) -> Value {
        let mut shape = self.repository(repository);
        extend(&mut shape, merge_settings());
        extend(
            &mut shape,
            json!({
                "network_count": 0,
                "subscribers_count": 0,
                "permissions": {
                    "admin": role >= Role::Admin,
                    "maintain": role >= Role::Maintain,
                    "push": role >= Role::Write,
                    "triage": role >= Role::Triage,
                    "pull": role >= Role::Read,
                },
            }),
        );
        if let Some(parent) = repository.fork_of.and_then(|id| self.state.repositories.get(&id)) {
            let parent = self.repository(parent);
            extend(&mut shape, json!({ "parent": parent, "source": parent }));
        }
        shape
    }
}

fn merge_settings() -> Value {
    json!({
        "allow_squash_merge": true,
        "allow_merge_commit": true,
        "allow_rebase_merge": true,
        "allow_auto_merge": false,
        "delete_branch_on_merge": false,
        "allow_update_branch": false,
        "use_squash_pr_title_as_default": false,
        "squash_merge_commit_message": "COMMIT_MESSAGES",
        "squash_merge_commit_title": "COMMIT_OR_PR_TITLE",
        "merge_commit_message": "PR_TITLE",
        "merge_commit_title": "MERGE_MESSAGE",
    })
}
