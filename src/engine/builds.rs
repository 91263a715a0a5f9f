//! What is to be expected of the builds of a commit, as its workflows say it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{interrupted::Interrupted, observe::access, pass::Pass};
use crate::{
    environment::{CommitSha, Millis},
    github::Workflows,
    store::{Deployment, Overview},
};

/// GitHub starts a commit's workflows within this time. In milliseconds.
const WORKFLOWS_START: Millis = 30_000;
/// How long GitHub's word on the workflows of a commit is believed where nothing begins because of it.
const BELIEVED: Duration = Duration::from_secs(60);
/// Commits whose workflows are remembered at once.
const REMEMBERED: usize = 10_000;

/// How far the workflows of commits are, as GitHub said within the last minute. Cheap to clone.
#[derive(Clone, Default)]
pub struct Builds(Arc<Mutex<HashMap<(i64, CommitSha), Heard>>>);

/// When GitHub said it, and what.
type Heard = (Instant, Workflows);

impl Builds {
    fn get(&self, repository_id: i64, commit: &CommitSha) -> Option<Workflows> {
        let builds = self.0.lock().expect("never poisoned");
        let (at, workflows) = builds.get(&(repository_id, commit.clone()))?;
        (at.elapsed() < BELIEVED).then_some(*workflows)
    }

    fn put(&self, repository_id: i64, commit: &CommitSha, workflows: Workflows) {
        let mut builds = self.0.lock().expect("never poisoned");
        if builds.len() >= REMEMBERED {
            builds.clear();
        }
        builds.insert((repository_id, commit.clone()), (Instant::now(), workflows));
    }
}

/// What is to be expected of the builds of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    /// One is under way, or may be about to start.
    MayCome,
    /// None is, and each workflow of the commit that did anything failed.
    Failed,
    /// None is, and of its workflows some failed: the build may be one of these.
    MayHaveFailed,
    /// None is, as far as anybody knows.
    Over,
}

impl Pass<'_> {
    /// What is to be expected of the builds of the head commit now. `rows`: of the environment, the newest first.
    pub(super) async fn build(
        &mut self,
        overview: &Overview,
        deployment: &Deployment,
        rows: &[Deployment],
    ) -> Result<Build, Interrupted> {
        let workflows = self.ask_for_workflows(overview, &deployment.commit).await?;
        Ok(build_of(workflows, self.may_start(deployment, rows), deployment.round))
    }

    /// The same where nothing begins because of it: GitHub is asked once a minute, and what it does not say holds nothing up.
    pub(super) async fn build_lately(
        &mut self,
        overview: &Overview,
        deployment: &Deployment,
        rows: &[Deployment],
    ) -> Result<Build, Interrupted> {
        let repository_id = overview.pull_request.facts.repository.github_id;
        let workflows = match self.engine.builds.get(repository_id, &deployment.commit) {
            Some(workflows) => workflows,
            None => match self.ask_for_workflows(overview, &deployment.commit).await {
                Ok(workflows) => workflows,
                Err(Interrupted::Over) => return Err(Interrupted::Over),
                Err(later) => {
                    self.put_off(later);
                    Workflows::Unknown
                }
            },
        };
        Ok(build_of(workflows, self.may_start(deployment, rows), deployment.round))
    }

    async fn ask_for_workflows(&mut self, overview: &Overview, commit: &CommitSha) -> Result<Workflows, Interrupted> {
        self.github_read().await?;
        let workflows = self.engine.github.workflows(&access(overview), commit).await?;
        self.engine.builds.put(overview.pull_request.facts.repository.github_id, commit, workflows);
        Ok(workflows)
    }

    /// Whether GitHub may not list yet what the push starts that made this commit the head. One that is tried again was
    /// pushed before, unless another came after it: the branch went back to it, and this round began with that.
    fn may_start(&self, deployment: &Deployment, rows: &[Deployment]) -> bool {
        let now = self.lease.now();
        if deployment.round <= 1 {
            return now - deployment.created_at < WORKFLOWS_START;
        }
        let is_back = rows.first().is_some_and(|row| row.commit != deployment.commit);
        is_back && now - self.looked_at(deployment, rows) < WORKFLOWS_START
    }
}

/// `may_start`: GitHub may not list yet what it starts for the commit.
fn build_of(workflows: Workflows, may_start: bool, round: i64) -> Build {
    match workflows {
        Workflows::UnderWay => Build::MayCome,
        // What failed may be what the push to the branch started, before there was a pull request that starts the build.
        Workflows::None | Workflows::Failed | Workflows::SomeFailed if may_start => Build::MayCome,
        // What ran when it was the head before says nothing of this push.
        Workflows::Over if may_start && round > 1 => Build::MayCome,
        // Whoever has it tried again may know better: what builds it need be no workflow.
        Workflows::Failed if round <= 1 => Build::Failed,
        Workflows::SomeFailed if round <= 1 => Build::MayHaveFailed,
        Workflows::None | Workflows::Over | Workflows::Failed | Workflows::SomeFailed | Workflows::Unknown => {
            Build::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_is_blamed_once() {
        for (workflows, may_start, round, expected) in [
            (Workflows::UnderWay, false, 1, Build::MayCome),
            (Workflows::None, true, 1, Build::MayCome),
            (Workflows::None, false, 1, Build::Over),
            (Workflows::Over, true, 1, Build::Over),
            (Workflows::Unknown, true, 1, Build::Over),
            // The workflow that builds it may not be listed yet.
            (Workflows::Failed, true, 1, Build::MayCome),
            (Workflows::SomeFailed, true, 1, Build::MayCome),
            (Workflows::Failed, false, 1, Build::Failed),
            (Workflows::SomeFailed, false, 1, Build::MayHaveFailed),
            (Workflows::Failed, false, 2, Build::Over),
            (Workflows::SomeFailed, false, 2, Build::Over),
            // The branch went back to it.
            (Workflows::None, true, 2, Build::MayCome),
            (Workflows::Over, true, 2, Build::MayCome),
            (Workflows::Failed, true, 2, Build::MayCome),
            (Workflows::Over, false, 2, Build::Over),
        ] {
            assert_eq!(build_of(workflows, may_start, round), expected, "{workflows:?} {may_start} {round}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_github_says_of_workflows_is_believed_for_a_minute() {
        let builds = Builds::default();
        let commit = |digit: &str| digit.repeat(40).parse::<CommitSha>().expect("a commit");
        builds.put(1, &commit("a"), Workflows::Failed);
        tokio::time::advance(BELIEVED - Duration::from_secs(1)).await;
        assert_eq!(builds.get(1, &commit("a")), Some(Workflows::Failed));
        assert_eq!(builds.get(1, &commit("b")), None, "another commit's");
        assert_eq!(builds.get(2, &commit("a")), None, "another repository's");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(builds.get(1, &commit("a")), None);
    }
}
