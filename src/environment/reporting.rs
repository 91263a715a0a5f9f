//! How a pull request is told of its preview: by a comment, by GitHub's deployments, by both or not at all.

use super::{CommitSha, DeploymentStatus, EnvironmentStatus, codes};

codes! {
    /// How a pull request is told of its preview.
    ReportTo {
        Comment = "comment",
        /// GitHub's deployments, which its pages and other tools show.
        Deployments = "deployments",
        Both = "both",
        None = "none",
    }
}

impl ReportTo {
    pub fn comments(self) -> bool {
        matches!(self, Self::Comment | Self::Both)
    }

    pub fn deployments(self) -> bool {
        matches!(self, Self::Deployments | Self::Both)
    }
}

codes! {
    /// Where GitHub has a deployment, in its words.
    GitHubState {
        InProgress = "in_progress",
        Success = "success",
        Failure = "failure",
        Inactive = "inactive",
    }
}

/// The state that GitHub should show for one of an environment's deployments. None: nothing is to be said of it yet.
pub fn github_state(
    environment: EnvironmentStatus,
    deployment: DeploymentStatus,
    commit: &CommitSha,
    serving: Option<&CommitSha>,
) -> Option<GitHubState> {
    match (environment, deployment) {
        // A failure stays one.
        (_, DeploymentStatus::Failed) => Some(GitHubState::Failure),
        (EnvironmentStatus::Deleting | EnvironmentStatus::Deleted, _) => Some(GitHubState::Inactive),
        (_, DeploymentStatus::Pending) => None,
        (_, DeploymentStatus::Deploying) => Some(GitHubState::InProgress),
        (_, DeploymentStatus::Succeeded) if serving == Some(commit) => Some(GitHubState::Success),
        (_, DeploymentStatus::Succeeded | DeploymentStatus::Superseded | DeploymentStatus::Cancelled) => {
            Some(GitHubState::Inactive)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn github_shows_what_serves_and_ends_what_does_not() {
        let commit = |digit: char| digit.to_string().repeat(40).parse::<CommitSha>().expect("a commit");
        let (old, new) = (commit('a'), commit('b'));
        let state = |environment, deployment, of: &CommitSha, serving: Option<&CommitSha>| {
            github_state(environment, deployment, of, serving)
        };
        use DeploymentStatus::{
            Cancelled, Deploying as UnderWay, Failed as Broken, Pending as Waits, Succeeded, Superseded,
        };
        use EnvironmentStatus::{Deleted, Deleting, Deploying, Failed, Running};
        for (environment, deployment, of, serving, expected) in [
            (Deploying, Waits, &new, Some(&old), None),
            (Deploying, UnderWay, &new, Some(&old), Some(GitHubState::InProgress)),
            (Deploying, Succeeded, &old, Some(&old), Some(GitHubState::Success)),
            (Running, Succeeded, &new, Some(&new), Some(GitHubState::Success)),
            (Running, Succeeded, &old, Some(&new), Some(GitHubState::Inactive)),
            (Running, Superseded, &old, Some(&new), Some(GitHubState::Inactive)),
            (Failed, Broken, &new, Some(&old), Some(GitHubState::Failure)),
            (Failed, Broken, &new, None, Some(GitHubState::Failure)),
            (Deleting, Succeeded, &new, None, Some(GitHubState::Inactive)),
            (Deleted, Cancelled, &new, None, Some(GitHubState::Inactive)),
            (Deleted, Broken, &new, None, Some(GitHubState::Failure)),
        ] {
            assert_eq!(state(environment, deployment, of, serving), expected, "{environment} {deployment}");
        }
    }
}
