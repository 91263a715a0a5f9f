//! Repair: what webhooks, watches and crashes left undone is found by looking, every few minutes, by one process among
//! all. It only stores facts and makes rows due: the pass decides, on what it reads itself. Nothing is removed without
//! proof, and nothing is brought back that was removed on purpose.

use std::{collections::BTreeMap, fmt, time::Duration};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Engine;
use crate::{
    environment::{EnvironmentStatus, Namespace, PullRequestFacts, RepositoryName},
    faults::Fault,
    github::{FailedDelivery, GitHubError, Listing, RepositoryAccess},
    identity::Teams,
    metrics::METRICS,
    store::{Installation, Overview, StoreError, SweepPeriods, SweptRepository},
};

const LEASE_NAME: &str = "repair";
/// Renewed while it works; another process takes over this long after its holder died.
const LEASE: Duration = Duration::from_secs(60);
pub const EVERY: Duration = Duration::from_secs(300);
/// How often a process looks whether it is its turn.
const LOOK: Duration = Duration::from_secs(20);
/// Of the 5,000 requests an hour that GitHub gives, sweeps take a fifth.
const READS_AN_HOUR: i64 = 1_000;
/// Deliveries that are asked for again in one sweep.
const REDELIVERIES: usize = 50;
/// A delivery that failed so often is left alone: the lists find what it would have told.
const TRIES: usize = 3;
/// How often what is applied is held against what is there, and for how many environments in one sweep.
const CHECK: Duration = Duration::from_secs(3_600);
const CHECKS: i64 = 50;
/// A namespace that no row is for must be found so for this long before it goes: the second sweep after the first.
const ORPHANED_FOR: i64 = 9 * 60_000;

/// What a sweep looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Repositories that were listed more recently are left out.
    periods: SweepPeriods,
    dry_run: bool,
}

impl Sweep {
    /// What is due by time.
    const DUE: Self = Self {
        periods: SweepPeriods { busy: Duration::from_secs(240), quiet: Duration::from_secs(3_600) },
        dry_run: false,
    };

    /// Everything. With `dry_run` nothing is changed but what is remembered of the sweep itself.
    pub fn whole(dry_run: bool) -> Self {
        Self { periods: SweepPeriods { busy: Duration::ZERO, quiet: Duration::ZERO }, dry_run }
    }
}

/// Something that is not as it should be, and what is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A webhook that GitHub could not deliver is asked for again.
    LostDelivery { guid: String, event: String },
    /// An installation of the App gives access to a repository that nobody told of.
    UnknownRepository { name: RepositoryName },
    /// Nobody told of an open pull request.
    UnknownPullRequest { name: String },
    /// GitHub has newer facts than the row.
    OutdatedPullRequest { name: String },
    /// The row takes it for open, and GitHub does not list it: it is read before anything goes.
    NotListed { name: String },
    /// Nothing of what was applied is there any more.
    NamespaceGone { namespace: Namespace },
    /// It is still there, and its environment is deleted.
    NamespaceLeft { namespace: Namespace },
    /// It carries our label, and no row is for it.
    Orphan { namespace: Namespace, removed: bool },
    /// More would be removed without proof than is let go in an hour.
    TooManyOrphans { namespaces: usize },
    /// GitHub does not show the repository, and nothing of it is touched.
    RepositoryNotShown { name: RepositoryName },
    /// GitHub, the cluster or the database was away: the log says which.
    Unfinished,
    /// The budget of reads is used up; the rest comes later.
    OutOfBudget { repositories: usize },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostDelivery { guid, event } => write!(f, "delivery {guid} ({event}) failed: asked for again"),
            Self::UnknownRepository { name } => write!(f, "{name} is the App's, and the rows do not say so: stored"),
            Self::UnknownPullRequest { name } => write!(f, "{name} is open and unknown: stored"),
            Self::OutdatedPullRequest { name } => write!(f, "{name} has changed: stored"),
            Self::NotListed { name } => write!(f, "{name} is not among the open ones: read from GitHub"),
            Self::NamespaceGone { namespace } => write!(f, "namespace {namespace} is gone: deployed again"),
            Self::NamespaceLeft { namespace } => write!(f, "namespace {namespace} of a deleted environment: removed"),
            Self::Orphan { namespace, removed: true } => write!(f, "namespace {namespace} has no row: removed"),
            Self::Orphan { namespace, removed: false } => write!(f, "namespace {namespace} has no row: watched"),
            Self::TooManyOrphans { namespaces } => {
                write!(f, "{namespaces} namespaces have no row; that many are not removed by themselves")
            }
            Self::RepositoryNotShown { name } => write!(f, "GitHub does not show {name}: left alone"),
            Self::Unfinished => write!(f, "a part was not finished: the log says why"),
            Self::OutOfBudget { repositories } => {
                write!(f, "{repositories} repositories are left for later: the hour's reads are used up")
            }
        }
    }
}

impl Engine {
    /// Sweeps whenever it is due and this process's turn, until `stop`.
    pub(super) async fn repair_until(self, id: String, installation: Installation, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            match self.store.take_lease(LEASE_NAME, &id, LEASE, EVERY).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    warn!(%error, "could not look whether a repair is due");
                    continue;
                }
            }
            let swept = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                swept = self.repair_under_lease(&id, &installation) => Some(swept),
            };
            if let Some(Err(error)) = &swept {
                METRICS.sweeps.count("unfinished");
                warn!(error = format!("{error:#}"), "a repair was not finished");
            }
            if let Err(error) = self.store.give_lease_back(LEASE_NAME, &id, matches!(swept, Some(Ok(())))).await {
                warn!(%error, "could not give the repair's lease back");
            }
        }
    }

    async fn repair_under_lease(&self, id: &str, installation: &Installation) -> anyhow::Result<()> {
        let mut outcome = "done";
        for finding in self.keeping_sweep(id, EVERY, self.repair(installation, Sweep::DUE)).await? {
            if matches!(finding, Finding::Unfinished) {
                outcome = "unfinished";
            }
            info!(event = "repaired", "{finding}");
        }
        METRICS.sweeps.count(outcome);
        Ok(())
    }

    /// Renews the lease on the sweep for as long as it takes.
    async fn keeping_sweep<T>(
        &self,
        id: &str,
        every: Duration,
        sweep: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let renewing = async {
            loop {
                tokio::time::sleep(LEASE / 4).await;
                if !matches!(self.store.take_lease(LEASE_NAME, id, LEASE, every).await, Ok(true)) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            swept = sweep => swept,
            () = renewing => anyhow::bail!("another process took the lease"),
        }
    }

    /// One sweep for whoever asks for it by hand: gives what it found. None where another process sweeps just now.
    pub async fn repair_by_hand(
        &self,
        installation: &Installation,
        sweep: Sweep,
    ) -> anyhow::Result<Option<Vec<Finding>>> {
        let id = uuid::Uuid::new_v4().to_string();
        if !self.store.take_lease(LEASE_NAME, &id, LEASE, Duration::ZERO).await? {
            return Ok(None);
        }
        let found = self.keeping_sweep(&id, Duration::ZERO, self.repair(installation, sweep)).await;
        // It looked at everything, so that the next is due as after any other.
        self.store.give_lease_back(LEASE_NAME, &id, found.is_ok() && !sweep.dry_run).await?;
        found.map(Some)
    }

    /// One sweep: gives what it found.
    pub async fn repair(&self, installation: &Installation, sweep: Sweep) -> anyhow::Result<Vec<Finding>> {
        let Sweep { periods, dry_run } = sweep;
        let mut findings = Vec::new();
        if self.faults.has(Fault::NoRepair) {
            return Ok(findings);
        }
        // One that fails keeps none of the others from being done.
        let stages = [
            self.ask_for_lost_deliveries(dry_run, &mut findings).await,
            self.ask_for_repositories(periods, dry_run, &mut findings).await,
            self.list_repositories(periods, dry_run, &mut findings).await,
            self.compare_namespaces(installation, dry_run, &mut findings).await,
        ];
        if !dry_run {
            self.store.ask_for_checks(CHECK, CHECKS).await?;
            self.store.forget(self.retention).await?;
        }
        for failed in stages.into_iter().filter_map(Result::err) {
            warn!(error = format!("{failed:#}"), "a part of a repair was not finished");
            findings.push(Finding::Unfinished);
        }
        Ok(findings)
    }

    async fn ask_for_lost_deliveries(&self, dry_run: bool, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
        let failed = match self.github.failed_deliveries().await {
            Ok(failed) => failed,
            // Without them, the lists below find what they would have told.
            Err(error) => {
                warn!(%error, "the App's failed deliveries cannot be listed");
                return Ok(());
            }
        };
        let mut asked = 0;
        for delivery in worth_another_try(&failed) {
            if asked == REDELIVERIES || self.store.has_delivery(&delivery.guid).await? {
                continue;
            }
            asked += 1;
            if !dry_run {
                self.github.redeliver(delivery.id).await?;
            }
            findings.push(Finding::LostDelivery { guid: delivery.guid.clone(), event: delivery.event.clone() });
        }
        Ok(())
    }

    /// Stores the repositories that an installation of the App gives access to and of which the rows do not say so, as
    /// often as quiet repositories are listed.
    async fn ask_for_repositories(
        &self,
        periods: SweepPeriods,
        dry_run: bool,
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<()> {
        if !self.store.is_listing_due(periods.quiet).await? {
            return Ok(());
        }
        for installation in self.github.installations().await? {
            for page in 1.. {
                if !self.store.take_sweep_read(Some(installation), READS_AN_HOUR).await? {
                    // The next sweep goes on where there is something left of the hour's reads.
                    return Ok(());
                }
                let (repositories, more) = match self.github.repositories_of(installation, page).await {
                    Ok(found) => found,
                    Err(GitHubError::RateLimited { retry_after, .. }) => {
                        self.store.block_github(Some(installation), retry_after).await?;
                        return Ok(());
                    }
                    // One that was just taken away keeps none of the others from being asked.
                    Err(error) => {
                        warn!(%error, "an installation's repositories cannot be listed");
                        break;
                    }
                };
                for facts in repositories {
                    if self.store.has_repository(&facts).await? {
                        continue;
                    }
                    findings.push(Finding::UnknownRepository { name: facts.name.clone() });
                    if !dry_run {
                        self.store.record_repository(facts).await?;
                    }
                }
                if !more {
                    break;
                }
            }
        }
        if !dry_run {
            self.store.record_listing().await?;
        }
        Ok(())
    }

    async fn list_repositories(
        &self,
        periods: SweepPeriods,
        dry_run: bool,
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<()> {
        let mut due = self.store.repositories_to_sweep(periods).await?;
        let named = named_repositories(&self.teams.borrow());
        for name in named {
            if !self.store.knows_repository_name(&name).await? {
                // Never heard of: it is listed until it is.
                due.push(SweptRepository::unheard(name));
            }
        }
        let count = due.len();
        for (position, repository) in due.into_iter().enumerate() {
            let installation = repository.app_installation_id;
            if !self.store.take_sweep_read(installation, READS_AN_HOUR).await? {
                findings.push(Finding::OutOfBudget { repositories: count - position });
                break;
            }
            let access =
                RepositoryAccess { name: repository.name.clone(), app_installation_id: repository.app_installation_id };
            let stored = self.store.open_pull_requests_of(repository.github_id).await?;
            let stored: Vec<PullRequestFacts> = stored.into_iter().map(|stored| stored.facts).collect();
            let tag = repository.tag.clone().filter(|tag| tag.digest == digest(&stored));
            match self.github.open_pull_requests(&access, tag.as_ref().map(|tag| tag.etag.as_str())).await {
                Ok(Listing::Unchanged) => {
                    self.store.give_sweep_read_back(installation).await?;
                    self.store
                        .record_swept(repository.github_id, Some(digest(&stored)), tag.map(|tag| tag.etag))
                        .await?;
                }
                Ok(Listing::Listed { pull_requests, etag }) => {
                    let listed = digest(&pull_requests);
                    self.compare_pull_requests(stored, pull_requests, dry_run, findings).await?;
                    if !dry_run {
                        self.store.record_swept(repository.github_id, Some(listed), etag).await?;
                    }
                }
                Err(GitHubError::NotFound { .. }) => {
                    if !dry_run {
                        // It was there at the last list: once for each time that it goes.
                        if repository.was_shown {
                            self.alert_of_lost_repository(&repository.name);
                        }
                        self.store.record_swept(repository.github_id, None, None).await?;
                    }
                    findings.push(Finding::RepositoryNotShown { name: repository.name });
                }
                Err(GitHubError::RateLimited { retry_after, .. }) => {
                    self.store.block_github(installation, retry_after).await?;
                    break;
                }
                // An answer that is no list removes nothing and adds nothing; the next sweep asks again.
                Err(error) => warn!(%error, "a repository's pull requests cannot be listed"),
            }
        }
        Ok(())
    }

    async fn compare_pull_requests(
        &self,
        stored: Vec<PullRequestFacts>,
        listed: Vec<PullRequestFacts>,
        dry_run: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let mut stored: BTreeMap<i64, PullRequestFacts> =
            stored.into_iter().map(|facts| (facts.github_id, facts)).collect();
        for facts in listed {
            let name = format!("{}#{}", facts.repository.name, facts.number);
            match stored.remove(&facts.github_id) {
                Some(known) if !differ(&known, &facts) => continue,
                Some(_) => findings.push(Finding::OutdatedPullRequest { name }),
                None => findings.push(Finding::UnknownPullRequest { name }),
            }
            if !dry_run {
                self.store.record_pull_request(facts).await?;
            }
        }
        for (id, facts) in stored {
            findings.push(Finding::NotListed { name: format!("{}#{}", facts.repository.name, facts.number) });
            if !dry_run {
                self.store.ask_for_proof(id).await?;
            }
        }
        Ok(())
    }

    async fn compare_namespaces(
        &self,
        installation: &Installation,
        dry_run: bool,
        findings: &mut Vec<Finding>,
    ) -> anyhow::Result<()> {
        let labelled = self.cluster.namespaces(&installation.id).await?;
        let names: Vec<Namespace> = labelled.iter().map(|found| found.namespace.clone()).collect();
        for namespace in self.store.needed_namespaces().await? {
            if !names.contains(&namespace) {
                if !dry_run {
                    self.store.wake(&namespace).await?;
                }
                findings.push(Finding::NamespaceGone { namespace });
            }
        }
        let rows = self.store.environments_in(&names).await?;
        let mut orphans = Vec::new();
        for found in labelled.iter().filter(|found| !found.is_terminating) {
            // A row of another environment, as after a restore of an old backup, is not this one's.
            let is_its = |row: &&Overview| {
                row.environment.namespace == found.namespace
                    && found.environment_id.as_ref().is_none_or(|id| *id == row.environment.id)
            };
            let row = rows.iter().find(is_its);
            match row.map(|row| row.environment.status) {
                None => orphans.push(found),
                Some(EnvironmentStatus::Deleted) => {
                    if !dry_run {
                        self.store.wake(&found.namespace).await?;
                    }
                    findings.push(Finding::NamespaceLeft { namespace: found.namespace.clone() });
                }
                Some(_) => {}
            }
        }
        let now = self.store.clock().await?;
        let orphaned: Vec<Namespace> = orphans.iter().map(|found| found.namespace.clone()).collect();
        self.store.forget_orphans(&orphaned).await?;
        // Rows that got lost look the same as namespaces that were left behind, so only a few go at a time.
        let at_most = (labelled.len() as i64 / 5).clamp(1, 5);
        let mut allowed = at_most - self.store.orphans_removed().await?;
        if orphans.len() as i64 > at_most {
            let text = Finding::TooManyOrphans { namespaces: orphans.len() };
            self.alert_of_orphans(&text, orphans.len());
            findings.push(text);
            allowed = 0;
        }
        for found in orphans {
            let namespace = found.namespace.clone();
            let found_at = self.store.remember_orphan(&namespace).await?;
            let removed = now - found_at >= ORPHANED_FOR && allowed > 0 && !dry_run;
            if removed {
                allowed -= 1;
                self.cluster.delete_namespace(&namespace, &found.uid).await?;
                self.store.record_orphan_removed(&namespace).await?;
            }
            findings.push(Finding::Orphan { namespace, removed });
        }
        Ok(())
    }

    /// Its environments go as they expire: that GitHub does not show it is no proof that it is gone.
    fn alert_of_lost_repository(&self, name: &RepositoryName) {
        tracing::error!(event = "repository_not_shown", "GitHub does not show {name} any more");
        METRICS.alerts.count("repository_not_shown");
        self.alerts.tell(format!(
            "previewd: GitHub does not show {name} any more. Give previewd access again, or delete its environments."
        ));
    }

    /// Once for each number of them: a sweep comes every five minutes.
    fn alert_of_orphans(&self, finding: &Finding, count: usize) {
        let mut told = self.orphans_told.lock().expect("never poisoned");
        if *told != count {
            *told = count;
            tracing::error!(event = "orphans", "{finding}");
            METRICS.alerts.count("orphans");
            self.alerts.tell(format!("previewd: {finding}. If they are not needed, remove them by hand."));
        }
    }
}

/// Of each delivery one try, the newest: those that failed so often that they always will are left out.
fn worth_another_try(failed: &[FailedDelivery]) -> Vec<&FailedDelivery> {
    let mut tries: BTreeMap<&str, usize> = BTreeMap::new();
    for delivery in failed {
        *tries.entry(&delivery.guid).or_default() += 1;
    }
    // Once for all of its tries: its count is taken out with the first.
    let is_worth =
        |delivery: &&FailedDelivery| tries.remove(delivery.guid.as_str()).is_some_and(|tried| tried <= TRIES);
    failed.iter().filter(is_worth).collect()
}

/// Whether GitHub says something else than the row.
fn differ(known: &PullRequestFacts, listed: &PullRequestFacts) -> bool {
    compared(known) != compared(listed)
}

/// What of a pull request is compared. An installation is not in a list's answer, and a title that changed needs nobody.
fn compared(facts: &PullRequestFacts) -> PullRequestFacts {
    let mut facts = facts.clone();
    facts.repository.app_installation_id = None;
    facts.github_updated_at = 0;
    facts.title.clear();
    facts.labels.sort();
    facts.label_ids.sort_unstable();
    facts
}

/// Of what is compared of all open pull requests, in whatever order they come.
fn digest(facts: &[PullRequestFacts]) -> String {
    let mut compared: Vec<PullRequestFacts> = facts.iter().map(compared).collect();
    compared.sort_by_key(|facts| facts.github_id);
    hex::encode(Sha256::digest(format!("{compared:?}")))
}

/// The repositories that teams name one by one.
fn named_repositories(teams: &Teams) -> Vec<RepositoryName> {
    let patterns = teams.values().flat_map(|team| &team.repositories);
    let mut names: Vec<RepositoryName> = patterns.filter_map(|pattern| pattern.as_str().parse().ok()).collect();
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{PullRequestState, RepositoryFacts};

    fn facts(id: i64) -> PullRequestFacts {
        PullRequestFacts {
            repository: RepositoryFacts {
                github_id: 1,
                name: "acme/shop".parse().expect("a name"),
                default_branch: "main".to_owned(),
                app_installation_id: Some(7),
            },
            github_id: id,
            number: id,
            title: "A change".to_owned(),
            author: "alice".to_owned(),
            head_sha: "a".repeat(40).parse().expect("a commit"),
            head_ref: "change".to_owned(),
            base_ref: "main".to_owned(),
            from_fork: false,
            draft: false,
            state: PullRequestState::Open,
            labels: vec!["one".to_owned(), "two".to_owned()],
            label_ids: vec![1, 2],
            github_updated_at: 5,
        }
    }

    #[test]
    fn a_delivery_is_asked_for_once_and_not_for_ever() {
        let failed =
            |id: i64, guid: &str| FailedDelivery { id, guid: guid.to_owned(), event: "pull_request".to_owned() };
        let lists = [(7, "a"), (6, "b"), (5, "a"), (4, "c"), (3, "c"), (2, "c"), (1, "c")];
        let lists: Vec<FailedDelivery> = lists.into_iter().map(|(id, guid)| failed(id, guid)).collect();
        let ids: Vec<i64> = worth_another_try(&lists).into_iter().map(|delivery| delivery.id).collect();
        assert_eq!(ids, [7, 6], "c failed four times");
    }

    #[test]
    fn a_digest_is_of_what_is_compared() {
        let both = [facts(1), facts(2)];
        let told_otherwise = PullRequestFacts {
            title: "Another".to_owned(),
            github_updated_at: 9,
            labels: vec!["two".to_owned(), "one".to_owned()],
            ..facts(1)
        };
        assert_eq!(digest(&both), digest(&[facts(2), told_otherwise]));
        let pushed = PullRequestFacts { head_sha: "b".repeat(40).parse().expect("a commit"), ..facts(1) };
        for other in [vec![facts(1)], vec![pushed, facts(2)], vec![]] {
            assert_ne!(digest(&both), digest(&other), "{other:?}");
        }
    }
}
