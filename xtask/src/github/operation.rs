//! The REST operations this stand-in knows, by GitHub's own templates.

use percent_encoding::percent_decode_str;

/// What a GitHub App needs for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever asks, without credentials.
    Nobody,
    /// The App itself, by its JSON web token.
    App,
    /// A user's token; installations have no user.
    User,
    /// Any credentials.
    Anyone,
    /// An installation with one of these permissions at this level, or a user.
    Permission(&'static [&'static str], &'static str),
}

macro_rules! operations {
    ($($operation:ident $method:literal $template:literal $access:expr;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation { $($operation,)* }

        impl Operation {
            pub const ALL: &[Operation] = &[$(Operation::$operation,)*];

            pub fn method(self) -> &'static str {
                match self { $(Self::$operation => $method,)* }
            }

            /// The path as the published description spells it.
            pub fn template(self) -> &'static str {
                match self { $(Self::$operation => $template,)* }
            }

            pub fn access(self) -> Access {
                match self { $(Self::$operation => $access,)* }
            }
        }
    };
}

const METADATA: Access = Access::Permission(&["metadata"], "read");
const PULLS: Access = Access::Permission(&["pull_requests"], "read");
const PULLS_WRITE: Access = Access::Permission(&["pull_requests"], "write");
const CONTENTS: Access = Access::Permission(&["contents"], "read");
// A pull request's conversation takes either permission.
const TALK_READ: Access = Access::Permission(&["issues", "pull_requests"], "read");
const TALK: Access = Access::Permission(&["issues", "pull_requests"], "write");
const ACTIONS: Access = Access::Permission(&["actions"], "read");
const DEPLOYMENTS_READ: Access = Access::Permission(&["deployments"], "read");
const DEPLOYMENTS: Access = Access::Permission(&["deployments"], "write");

operations! {
    ConvertManifest "POST" "/app-manifests/{code}/conversions" Access::Nobody;
    GetApp "GET" "/app" Access::App;
    ListInstallations "GET" "/app/installations" Access::App;
    CreateInstallationToken "POST" "/app/installations/{installation_id}/access_tokens" Access::App;
    ListDeliveries "GET" "/app/hook/deliveries" Access::App;
    Redeliver "POST" "/app/hook/deliveries/{delivery_id}/attempts" Access::App;
    GetRepositoryInstallation "GET" "/repos/{owner}/{repo}/installation" Access::App;
    ListInstallationRepositories "GET" "/installation/repositories" METADATA;
    GetUser "GET" "/user" Access::User;
    GetRateLimit "GET" "/rate_limit" Access::Anyone;
    GetRepository "GET" "/repos/{owner}/{repo}" METADATA;
    ListPullRequests "GET" "/repos/{owner}/{repo}/pulls" PULLS;
    GetPullRequest "GET" "/repos/{owner}/{repo}/pulls/{pull_number}" PULLS;
    ListFiles "GET" "/repos/{owner}/{repo}/pulls/{pull_number}/files" PULLS;
    GetContents "GET" "/repos/{owner}/{repo}/contents/{path}" CONTENTS;
    ListComments "GET" "/repos/{owner}/{repo}/issues/{issue_number}/comments" TALK_READ;
    CreateComment "POST" "/repos/{owner}/{repo}/issues/{issue_number}/comments" TALK;
    GetComment "GET" "/repos/{owner}/{repo}/issues/comments/{comment_id}" TALK_READ;
    UpdateComment "PATCH" "/repos/{owner}/{repo}/issues/comments/{comment_id}" TALK;
    DeleteComment "DELETE" "/repos/{owner}/{repo}/issues/comments/{comment_id}" TALK;
    CreateReaction "POST" "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions" TALK;
    CreateReviewCommentReaction "POST" "/repos/{owner}/{repo}/pulls/comments/{comment_id}/reactions" PULLS_WRITE;
    GetPermission "GET" "/repos/{owner}/{repo}/collaborators/{username}/permission" METADATA;
    ListWorkflowRuns "GET" "/repos/{owner}/{repo}/actions/runs" ACTIONS;
    ListDeployments "GET" "/repos/{owner}/{repo}/deployments" DEPLOYMENTS_READ;
    CreateDeployment "POST" "/repos/{owner}/{repo}/deployments" DEPLOYMENTS;
    ListDeploymentStatuses "GET" "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses" DEPLOYMENTS_READ;
    CreateDeploymentStatus "POST" "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses" DEPLOYMENTS;
}

/// Values of a template's parameters, decoded.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(&'static str, String)>);

impl Params {
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }

    pub fn full_name(&self) -> String {
        format!("{}/{}", self.get("owner"), self.get("repo"))
    }

    /// Puts the name a repository has now in the place of the one that was asked for.
    pub fn rename(&mut self, owner: &str, name: &str) {
        for (key, value) in &mut self.0 {
            match *key {
                "owner" => owner.clone_into(value),
                "repo" => name.clone_into(value),
                _ => {}
            }
        }
    }
}

impl Operation {
    pub fn recognise(method: &str, path: &str) -> Option<(Self, Params)> {
        let find = |method: &str| {
            let candidates = Self::ALL.iter().filter(|operation| operation.method() == method);
            candidates.filter_map(|operation| Some((*operation, operation.matches(path)?))).next()
        };
        // GitHub takes POST for PATCH, from times when few clients could send that; octocrab still makes use of it.
        find(method).or_else(|| find("PATCH").filter(|_| method == "POST"))
    }

    fn matches(self, path: &str) -> Option<Params> {
        let (mut params, mut rest) = (Params::default(), path.strip_prefix('/')?);
        let mut pieces = self.template().split('/').skip(1).peekable();
        while let Some(piece) = pieces.next() {
            // Only a file's path spans several segments.
            let (segment, after) = match rest.split_once('/') {
                Some(_) if piece == "{path}" => (rest, None),
                Some((segment, after)) => (segment, Some(after)),
                None => (rest, None),
            };
            match piece.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                // `issues/comments/{id}` is not issue number "comments".
                Some("issue_number" | "pull_number" | "comment_id") if segment.parse::<u64>().is_err() => {
                    return None;
                }
                Some(name) if segment.is_empty() && name != "path" => return None,
                Some(name) => params.0.push((name, percent_decode_str(segment).decode_utf8().ok()?.into_owned())),
                None if piece == segment => {}
                None => return None,
            }
            match (after, pieces.peek()) {
                (Some(after), Some(_)) => rest = after,
                (None, None) => return Some(params),
                _ => return None,
            }
        }
        None
    }

    pub fn is_write(self) -> bool {
        self.method() != "GET"
    }

    /// Writes to a pull request's comments; tokens and reactions are not among them.
    pub fn is_comment_write(self) -> bool {
        matches!(self, Self::CreateComment | Self::UpdateComment | Self::DeleteComment)
    }

    pub fn is_deployment_write(self) -> bool {
        matches!(self, Self::CreateDeployment | Self::CreateDeploymentStatus)
    }
}
