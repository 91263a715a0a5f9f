//! What previewd asks GitHub for.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    GitHub, GitHubError, RepositoryAccess,
    connection::{Actor, Answer, Call},
    manifest::EVENTS,
    wire,
};
use crate::{
    environment::{CommentKind, CommitSha, GitHubState, Namespace, PullRequestFacts, RepositoryFacts, RepositoryName},
    text::storable,
};

/// The longest recipe in bytes; one that is longer is read no further.
pub const RECIPE_LIMIT: usize = 64 << 10;

/// Previews of a repository are deployments to one environment of this name: environments stay on GitHub for ever, and
/// only a repository's administrators may delete them.
const ENVIRONMENT: &str = "preview";
/// What of a deployment says which preview it is of.
const PAYLOAD: &str = "preview";

/// "The number of results per page (max 100)".
const PER_PAGE: usize = 100;
/// "Responses include a maximum of 3000 files."
const FILES_AT_MOST: usize = 3_000;

/// Where in a repository's history something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitRef<'a> {
    Commit(&'a CommitSha),
    /// What the branch is at now.
    Branch(&'a str),
}

/// What is at a path of a repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryFile {
    Text(String),
    /// Nothing has this path at this commit. GitHub showed that the repository itself is there.
    Missing,
    /// Longer than [`RECIPE_LIMIT`].
    TooLong,
    /// Not UTF-8.
    NotText,
}

/// What was looked for on one page of a list. One page at a time, because a list can be long, and whoever looks may have
/// to stop between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<T> {
    pub found: Option<T>,
    /// There is a next page.
    pub more: bool,
}

/// The open pull requests of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// They are as they were when the tag was given.
    Unchanged,
    Listed {
        pull_requests: Vec<PullRequestFacts>,
        etag: Option<String>,
    },
}

/// A webhook that could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FailedDelivery {
    pub id: i64,
    pub guid: String,
    pub event: String,
}

/// What was made, by its number.
#[derive(Deserialize)]
struct Created {
    id: i64,
}

/// A webhook that GitHub tried to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentDelivery {
    /// RFC 3339.
    pub at: String,
    pub arrived: bool,
    /// The answer's status, or why there was none.
    pub status: String,
}

impl GitRef<'_> {
    /// As the value of `ref` in a query.
    fn query(&self) -> String {
        match self {
            Self::Commit(commit) => commit.to_string(),
            Self::Branch(branch) => query_value(branch),
        }
    }
}

/// Something in a folder of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// From the root of the repository.
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum EntryKind {
    #[serde(rename = "file")]
    File,
    #[serde(rename = "dir")]
    Folder,
    /// A link, or a submodule.
    #[serde(other)]
    Other,
}

/// How far a commit's workflows of GitHub Actions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workflows {
    /// previewd may not know.
    Unknown,
    None,
    UnderWay,
    /// None is under way, and none failed when it ran last.
    Over,
    /// None is under way, and of those that did anything some failed, and some ended well.
    SomeFailed,
    /// None is under way, and each that did anything failed.
    Failed,
}

/// A run of a workflow.
#[derive(Debug, Deserialize)]
struct Run {
    id: i64,
    #[serde(default)]
    workflow_id: i64,
    /// What started it.
    #[serde(default)]
    event: String,
    status: Option<String>,
    conclusion: Option<String>,
}

impl Run {
    /// What waits for a person builds nothing meanwhile.
    fn is_over(&self) -> bool {
        matches!(self.status.as_deref(), Some("completed" | "waiting" | "action_required"))
    }

    fn has_failed(&self) -> bool {
        matches!(self.conclusion.as_deref(), Some("failure" | "timed_out" | "startup_failure"))
    }

    /// What was cancelled or skipped did nothing, well or not.
    fn has_ended_well(&self) -> bool {
        self.conclusion.as_deref() == Some("success")
    }
}

/// What the runs of one commit say. Of several of one workflow the newest counts: it was started anew, and may have
/// cancelled the one before.
fn workflows_of(runs: &[Run]) -> Workflows {
    if runs.is_empty() {
        return Workflows::None;
    }
    if !runs.iter().all(Run::is_over) {
        return Workflows::UnderWay;
    }
    let mut newest: BTreeMap<(i64, &str), &Run> = BTreeMap::new();
    for run in runs {
        let known = newest.entry((run.workflow_id, run.event.as_str())).or_insert(run);
        if known.id < run.id {
            *known = run;
        }
    }
    let some_failed = newest.values().any(|run| run.has_failed());
    match (some_failed, newest.values().any(|run| run.has_ended_well())) {
        (false, _) => Workflows::Over,
        (true, true) => Workflows::SomeFailed,
        (true, false) => Workflows::Failed,
    }
}

impl GitHub {
    /// A pull request as GitHub has it now. The repository's name in it is today's, whatever name it was asked for by,
    /// and with an App its installation is in it.
    pub async fn pull_request(&self, access: &RepositoryAccess, number: i64) -> Result<PullRequestFacts, GitHubError> {
        let name = &access.name;
        let tried = &format!("reading {name}#{number}");
        let call = Call::get(tried, format!("/repos/{name}/pulls/{number}"));
        let app_installation_id = if self.is_app() { Some(self.installation_id(access, tried).await?) } else { None };
        let access = &RepositoryAccess { app_installation_id, ..access.clone() };
        let answer: wire::PullRequest = self.call(Actor::On(access), call).await?.json(tried)?;
        answer.facts("pull_request", app_installation_id).map_err(|field| GitHubError::Other {
            tried: tried.clone(),
            what: format!("a pull request that previewd does not understand ({field})"),
        })
    }

    /// The file at `path`, as `.preview.yaml`, at `place`.
    pub async fn file(
        &self,
        access: &RepositoryAccess,
        path: &str,
        place: GitRef<'_>,
    ) -> Result<RepositoryFile, GitHubError> {
        match self.content(access, path, place, RECIPE_LIMIT).await? {
            None => Ok(RepositoryFile::Missing),
            Some(content) if content.len() > RECIPE_LIMIT => Ok(RepositoryFile::TooLong),
            Some(content) => Ok(String::from_utf8(content).map_or(RepositoryFile::NotText, RepositoryFile::Text)),
        }
    }

    /// The first `limit` bytes of a file of the repository, and one more where it is longer. None where there is no such
    /// file.
    pub async fn content(
        &self,
        access: &RepositoryAccess,
        path: &str,
        place: GitRef<'_>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>, GitHubError> {
        let name = &access.name;
        let shown = match place {
            GitRef::Commit(commit) => commit.short(),
            GitRef::Branch(_) => "its base branch",
        };
        let tried = &format!("reading {path} of {name} at {shown}");
        let call = Call {
            accept: "application/vnd.github.raw+json",
            limit: limit + 1,
            ..Call::get(tried, format!("/repos/{name}/contents/{}?ref={}", encoded(path), place.query()))
        };
        match self.call(Actor::On(access), call).await {
            Ok(answer) => Ok(Some(answer.body)),
            // The same 404 stands for a repository that is gone, or that previewd may no longer see: only one that is
            // there shows that the file is not.
            Err(GitHubError::NotFound { .. }) => {
                self.call(Actor::On(access), Call::get(tried, format!("/repos/{name}"))).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What is in a folder of the repository, what is in folders below it not. Empty where there is no such folder.
    pub async fn folder(
        &self,
        access: &RepositoryAccess,
        path: &str,
        place: GitRef<'_>,
    ) -> Result<Vec<Entry>, GitHubError> {
        let name = &access.name;
        let place = place.query();
        let tried = &format!("listing the files in a folder of {name}");
        let call = Call::get(tried, format!("/repos/{name}/contents/{}?ref={place}", encoded(path)));
        match self.call(Actor::On(access), call).await {
            Ok(answer) => {
                // A path that names a file has one entry, which is no list.
                Ok(answer.json(tried).unwrap_or_default())
            }
            Err(GitHubError::NotFound { .. }) => {
                self.call(Actor::On(access), Call::get(tried, format!("/repos/{name}"))).await?;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// The open pull requests of a repository, all of them or none: a list that is cut short would say of the rest that
    /// they are closed. `known_etag`: GitHub's tag of the list that is known.
    pub async fn open_pull_requests(
        &self,
        access: &RepositoryAccess,
        known_etag: Option<&str>,
    ) -> Result<Listing, GitHubError> {
        let name = &access.name;
        let tried = &format!("listing the open pull requests of {name}");
        let app_installation_id = if self.is_app() { Some(self.installation_id(access, tried).await?) } else { None };
        let access = &RepositoryAccess { app_installation_id, ..access.clone() };
        let (mut listed, mut etag) = (Vec::new(), None);
        for page in 1.. {
            // What changed last is on the first page, so that its tag stands for the whole list.
            let path =
                format!("/repos/{name}/pulls?state=open&sort=updated&direction=desc&per_page={PER_PAGE}&page={page}");
            let known_etag = known_etag.filter(|_| page == 1).map(ToOwned::to_owned);
            let answer = self.call(Actor::On(access), Call { known_etag, ..Call::get(tried, path) }).await?;
            if answer.status == StatusCode::NOT_MODIFIED {
                return Ok(Listing::Unchanged);
            }
            if page == 1 {
                etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(ToOwned::to_owned);
            }
            for pull_request in answer.json::<Vec<wire::PullRequest>>(tried)? {
                let facts = pull_request.facts("pull_request", app_installation_id);
                listed.push(facts.map_err(|field| GitHubError::Other {
                    tried: tried.clone(),
                    what: format!("a pull request that previewd does not understand ({field})"),
                })?);
            }
            if !has_next_page(&answer) {
                break;
            }
            // The first page's tag says nothing of the others.
            etag = None;
        }
        Ok(Listing::Listed { pull_requests: listed, etag })
    }

    /// The App's installations that are not suspended, by their ids. None with a token.
    pub async fn installations(&self) -> Result<Vec<i64>, GitHubError> {
        #[derive(Deserialize)]
        struct Installation {
            id: i64,
            suspended_at: Option<String>,
        }
        if !self.is_app() {
            return Ok(Vec::new());
        }
        let tried = "listing the App's installations";
        let mut ids = Vec::new();
        for page in 1.. {
            let path = format!("/app/installations?per_page={PER_PAGE}&page={page}");
            let answer = self.call(Actor::Own, Call::get(tried, path)).await?;
            let found = answer.json::<Vec<Installation>>(tried)?.into_iter();
            ids.extend(found.filter(|found| found.suspended_at.is_none()).map(|found| found.id));
            if !has_next_page(&answer) {
                break;
            }
        }
        Ok(ids)
    }

    /// The repositories on a page, from 1, of those that an installation of the App gives access to; and whether there is
    /// another page. Those that are archived take no pull requests and are left out.
    pub async fn repositories_of(
        &self,
        app_installation_id: i64,
        page: usize,
    ) -> Result<(Vec<RepositoryFacts>, bool), GitHubError> {
        #[derive(Deserialize)]
        struct Found {
            repositories: Vec<Listed>,
        }
        #[derive(Deserialize)]
        struct Listed {
            #[serde(default)]
            archived: bool,
            #[serde(flatten)]
            repository: wire::Repository,
        }
        let tried = "listing the repositories of an installation of the App";
        let path = format!("/installation/repositories?per_page={PER_PAGE}&page={page}");
        let answer = self.call(Actor::Installation(app_installation_id), Call::get(tried, path)).await?;
        let found = answer.json::<Found>(tried)?.repositories.into_iter().filter(|found| !found.archived);
        let facts = found.map(|found| {
            found.repository.facts("repository", Some(app_installation_id)).map_err(|field| GitHubError::Other {
                tried: tried.to_owned(),
                what: format!("a repository that previewd does not understand ({field})"),
            })
        });
        Ok((facts.collect::<Result<_, _>>()?, has_next_page(&answer)))
    }

    /// The App's webhooks that could not be delivered lately. None with a token, which sees no deliveries.
    pub async fn failed_deliveries(&self) -> Result<Vec<FailedDelivery>, GitHubError> {
        if !self.is_app() {
            return Ok(Vec::new());
        }
        let tried = "listing the App's failed deliveries";
        let path = format!("/app/hook/deliveries?status=failure&per_page={PER_PAGE}");
        self.call(Actor::Own, Call::get(tried, path)).await?.json(tried)
    }

    /// Has a webhook of the App's delivered again.
    pub async fn redeliver(&self, id: i64) -> Result<(), GitHubError> {
        let tried = "asking for a delivery again";
        let path = format!("/app/hook/deliveries/{id}/attempts");
        self.call(Actor::Own, Call { method: Method::POST, ..Call::get(tried, path) }).await.map(drop)
    }

    /// Whether a page of the files that a pull request changes, from 1, has one that `is_wanted`. GitHub lists 3,000 files
    /// at most; of what changes more nobody knows all files, and it is taken for one that does.
    pub async fn changes_file(
        &self,
        access: &RepositoryAccess,
        number: i64,
        is_wanted: impl Fn(&str) -> bool,
        page: usize,
    ) -> Result<Page<()>, GitHubError> {
        #[derive(Deserialize)]
        struct File {
            filename: String,
            previous_filename: Option<String>,
        }
        let name = &access.name;
        let tried = &format!("listing the files of {name}#{number}");
        let path = format!("/repos/{name}/pulls/{number}/files?per_page={PER_PAGE}&page={page}");
        let answer = self.call(Actor::On(access), Call::get(tried, path)).await?;
        let files: Vec<File> = answer.json(tried)?;
        let mut names = files.iter().flat_map(|file| [Some(&file.filename), file.previous_filename.as_ref()]).flatten();
        let are_too_many = files.len() == PER_PAGE && page * PER_PAGE >= FILES_AT_MOST;
        let found = (are_too_many || names.any(|name| is_wanted(name))).then_some(());
        Ok(Page { found, more: has_next_page(&answer) })
    }

    /// How far the workflows of GitHub Actions are for a commit.
    /// <https://docs.github.com/en/rest/actions/workflow-runs#list-workflow-runs-for-a-repository>
    pub async fn workflows(&self, access: &RepositoryAccess, commit: &CommitSha) -> Result<Workflows, GitHubError> {
        #[derive(Deserialize)]
        struct Runs {
            workflow_runs: Vec<Run>,
        }
        let name = &access.name;
        let tried = &format!("listing the workflow runs of a commit of {name}");
        let path = format!("/repos/{name}/actions/runs?head_sha={commit}&per_page={PER_PAGE}");
        match self.call(Actor::On(access), Call::get(tried, path)).await {
            Ok(answer) => {
                let Runs { workflow_runs: runs } = answer.json(tried)?;
                Ok(workflows_of(&runs))
            }
            Err(GitHubError::NotFound { .. } | GitHubError::Forbidden { .. }) => Ok(Workflows::Unknown),
            Err(error) => Err(error),
        }
    }

    /// What somebody may do on a repository: GitHub's name of their role, such as `maintain`; `none` where they have
    /// none.
    pub async fn role_of(&self, access: &RepositoryAccess, login: &str) -> Result<String, GitHubError> {
        #[derive(Deserialize)]
        struct Permission {
            permission: String,
            role_name: Option<String>,
        }
        let name = &access.name;
        let tried = &format!("asking what a user may do on {name}");
        let path = format!("/repos/{name}/collaborators/{}/permission", encoded(login));
        match self.call(Actor::On(access), Call::get(tried, path)).await {
            Ok(answer) => {
                let Permission { permission, role_name } = answer.json(tried)?;
                // A role of an organisation's own has a name that says nothing; what it is based on does.
                let known = |role: &String| ["admin", "maintain", "write", "triage", "read"].contains(&role.as_str());
                Ok(role_name.filter(known).unwrap_or(permission))
            }
            Err(GitHubError::NotFound { .. }) => Ok("none".to_owned()),
            Err(error) => Err(error),
        }
    }

    /// Reacts to a comment, once however often this is asked for.
    /// GitHub knows none to reviews.
    pub async fn react(
        &self,
        access: &RepositoryAccess,
        kind: CommentKind,
        comment_id: i64,
        reaction: &str,
    ) -> Result<(), GitHubError> {
        let name = &access.name;
        let comments = match kind {
            CommentKind::Comment => "issues/comments",
            CommentKind::ReviewComment => "pulls/comments",
            CommentKind::Review => return Ok(()),
        };
        let tried = &format!("reacting to comment {comment_id} of {name}");
        let path = format!("/repos/{name}/{comments}/{comment_id}/reactions");
        let call = Call::write(tried, Method::POST, path, json!({ "content": reaction }));
        self.call(Actor::On(access), call).await.map(drop)
    }

    /// The comments on a page of them, from 1, that begin with `marker` and that previewd itself wrote, the oldest first;
    /// and whether there is another page.
    pub async fn find_comments(
        &self,
        access: &RepositoryAccess,
        number: i64,
        marker: &str,
        page: usize,
    ) -> Result<(Vec<i64>, bool), GitHubError> {
        #[derive(Deserialize)]
        struct Comment {
            id: i64,
            user: Option<wire::User>,
            body: Option<String>,
        }
        let name = &access.name;
        let tried = &format!("listing the comments of {name}#{number}");
        // A login changes once in years, and ready() asks for it every minute.
        let login = self.login(Duration::MAX).await?;
        let is_ours = |comment: &Comment| {
            comment.user.as_ref().is_some_and(|user| user.login.eq_ignore_ascii_case(&login))
                && comment.body.as_ref().is_some_and(|body| body.starts_with(marker))
        };
        let path = format!("/repos/{name}/issues/{number}/comments?per_page={PER_PAGE}&page={page}");
        let answer = self.call(Actor::On(access), Call::get(tried, path)).await?;
        // Ids ascend, as the list does.
        let comments = answer.json::<Vec<Comment>>(tried)?;
        Ok((
            comments.iter().filter(|comment| is_ours(comment)).map(|comment| comment.id).collect(),
            has_next_page(&answer),
        ))
    }

    /// Comments on a pull request; returns the comment's id. After [`GitHubError::Away`] it may exist all the same:
    /// look with [`Self::find_comments`] before sending it again.
    pub async fn create_comment(&self, access: &RepositoryAccess, number: i64, text: &str) -> Result<i64, GitHubError> {
        let name = &access.name;
        let tried = &format!("commenting on {name}#{number}");
        let path = format!("/repos/{name}/issues/{number}/comments");
        let call = Call::write(tried, Method::POST, path, json!({ "body": text }));
        Ok(self.call(Actor::On(access), call).await?.json::<Created>(tried)?.id)
    }

    /// Gives a comment another text. [`GitHubError::NotFound`] where somebody deleted it: to be created anew.
    pub async fn update_comment(
        &self,
        access: &RepositoryAccess,
        comment_id: i64,
        text: &str,
    ) -> Result<(), GitHubError> {
        let name = &access.name;
        let tried = &format!("updating comment {comment_id} of {name}");
        let path = format!("/repos/{name}/issues/comments/{comment_id}");
        let call = Call::write(tried, Method::PATCH, path, json!({ "body": text }));
        self.call(Actor::On(access), call).await.map(drop)
    }

    /// Removes a comment. [`GitHubError::NotFound`] where somebody else did.
    pub async fn delete_comment(&self, access: &RepositoryAccess, comment_id: i64) -> Result<(), GitHubError> {
        let name = &access.name;
        let tried = &format!("deleting comment {comment_id} of {name}");
        let path = format!("/repos/{name}/issues/comments/{comment_id}");
        let call = Call { method: Method::DELETE, ..Call::get(tried, path) };
        self.call(Actor::On(access), call).await.map(drop)
    }

    /// The events that the App is to be told of and is not. None where previewd uses a token, which knows no webhooks.
    pub async fn events_not_told(&self) -> Result<Vec<&'static str>, GitHubError> {
        #[derive(Deserialize)]
        struct App {
            events: Vec<String>,
        }
        if !self.is_app() {
            return Ok(Vec::new());
        }
        let tried = "asking what the App is told of";
        let App { events } = self.call(Actor::Own, Call::get(tried, "/app")).await?.json(tried)?;
        Ok(EVENTS.into_iter().filter(|event| !events.iter().any(|told| told == event)).collect())
    }

    /// The last webhook that GitHub tried to deliver for a repository, among the App's last hundred. None where there is
    /// none, and where previewd uses a token, which sees no deliveries.
    pub async fn last_delivery_to(&self, repository_id: i64) -> Result<Option<SentDelivery>, GitHubError> {
        #[derive(Deserialize)]
        struct Item {
            delivered_at: String,
            status: String,
            status_code: i64,
            repository_id: Option<i64>,
        }
        if !self.is_app() {
            return Ok(None);
        }
        let tried = "listing the App's deliveries";
        let path = format!("/app/hook/deliveries?per_page={PER_PAGE}");
        let items: Vec<Item> = self.call(Actor::Own, Call::get(tried, path)).await?.json(tried)?;
        let last = items.into_iter().find(|item| item.repository_id == Some(repository_id));
        Ok(last.map(|item| SentDelivery {
            at: item.delivered_at,
            arrived: (200..300).contains(&item.status_code),
            // Without an answer there is no code, and the words say why.
            status: if item.status_code > 0 { item.status_code.to_string() } else { storable(item.status) },
        }))
    }

    /// The deployment of a commit to the preview in this namespace, if GitHub has one; the oldest, should there be
    /// several.
    pub async fn find_deployment(
        &self,
        access: &RepositoryAccess,
        commit: &CommitSha,
        preview: &Namespace,
    ) -> Result<Option<i64>, GitHubError> {
        #[derive(Deserialize)]
        struct Found {
            id: i64,
            #[serde(default)]
            payload: Value,
        }
        let name = &access.name;
        let tried = &format!("listing the deployments of {name} at {}", commit.short());
        let path = format!("/repos/{name}/deployments?sha={commit}&environment={ENVIRONMENT}&per_page={PER_PAGE}");
        let found: Vec<Found> = self.call(Actor::On(access), Call::get(tried, path)).await?.json(tried)?;
        let payload = json!({ PAYLOAD: preview.as_str() });
        // GitHub gives a payload back as it came, or as the text of it.
        let is_its = |found: &&Found| found.payload == payload || found.payload == json!(payload.to_string());
        Ok(found.iter().filter(is_its).map(|deployment| deployment.id).min())
    }

    /// Tells GitHub of a deployment of `place` to the preview in this namespace; returns its number, and the commit that
    /// GitHub took it for. After [`GitHubError::Away`] it may exist all the same: look with [`Self::find_deployment`]
    /// before sending it again.
    pub async fn create_deployment(
        &self,
        access: &RepositoryAccess,
        place: GitRef<'_>,
        preview: &Namespace,
    ) -> Result<(i64, String), GitHubError> {
        #[derive(Deserialize)]
        struct Made {
            id: i64,
            sha: String,
        }
        let name = &access.name;
        let tried = &format!("telling {name} of a deployment");
        let reference = match place {
            GitRef::Commit(commit) => commit.as_str(),
            GitRef::Branch(branch) => branch,
        };
        let body = json!({
            "ref": reference,
            "environment": ENVIRONMENT,
            "payload": { PAYLOAD: preview.as_str() },
            "description": "Preview",
            "transient_environment": true,
            "production_environment": false,
            // The commit as it is, whatever its checks say: it is a preview.
            "auto_merge": false,
            "required_contexts": [],
        });
        let call = Call::write(tried, Method::POST, format!("/repos/{name}/deployments"), body);
        let Made { id, sha } = self.call(Actor::On(access), call).await?.json(tried)?;
        Ok((id, sha))
    }

    /// Tells GitHub how a deployment is. `url`: of what runs; `log_url`: of what tells more. `description`: at most 140
    /// characters are shown.
    pub async fn set_deployment_state(
        &self,
        access: &RepositoryAccess,
        deployment_id: i64,
        state: GitHubState,
        url: Option<&str>,
        log_url: Option<&str>,
        description: &str,
    ) -> Result<(), GitHubError> {
        let name = &access.name;
        let tried = &format!("telling {name} how a deployment is");
        let mut body = json!({
            "state": state.code(),
            "description": description.chars().take(140).collect::<String>(),
            // Each is ended by name: GitHub leaves transient ones alone.
            "auto_inactive": false,
        });
        if let Some(url) = url {
            body["environment_url"] = json!(url);
        }
        if let Some(log_url) = log_url {
            body["log_url"] = json!(log_url);
        }
        let path = format!("/repos/{name}/deployments/{deployment_id}/statuses");
        self.call(Actor::On(access), Call::write(tried, Method::POST, path, body)).await.map(drop)
    }

    /// The App's installation on a repository. None where there is none, and where previewd uses a token.
    pub async fn installation_of(&self, name: &RepositoryName) -> Result<Option<i64>, GitHubError> {
        if !self.is_app() {
            return Ok(None);
        }
        let tried = &format!("looking for the App's installation on {name}");
        match self.call(Actor::Own, Call::get(tried, format!("/repos/{name}/installation"))).await {
            Ok(answer) => Ok(Some(answer.json::<Created>(tried)?.id)),
            Err(GitHubError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn has_next_page(answer: &Answer) -> bool {
    let link = answer.headers.get(header::LINK).and_then(|link| link.to_str().ok());
    link.is_some_and(|link| link.contains(r#"rel="next""#))
}

/// A path inside a repository, percent-encoded between its slashes.
fn encoded(path: &str) -> String {
    let mut url = url::Url::parse("path:/").expect("a constant URL");
    url.path_segments_mut().expect("a path").clear().extend(path.split('/'));
    url.path().trim_start_matches('/').to_owned()
}

fn query_value(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests;
