//! What has to hold at each moment of a story.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use previewd::{
    environment::{DeploymentStatus, EnvironmentStatus, Millis, Reason},
    store::{Deployment, Overview},
};
use tokio::time::Instant;

use super::{
    outcome::{describe, is_the_comment, rows},
    recipes::{self, Plan},
    world::{REPOSITORY, World},
};

/// How often it is looked at.
pub const EVERY: Duration = Duration::from_secs(3);
/// What is awaited is told after 10 s, of a container that only starts after 15 s, by the look after that.
const TOLD_AFTER: Duration = Duration::from_secs(30);
/// What is shown is true again by then: 10 s without a ready pod are no outage yet.
const TRUE_AFTER: Duration = Duration::from_secs(25);
/// What is known is on the pull request within 30 s, or was there and is gone again.
const WRITTEN_AFTER: Duration = Duration::from_secs(40);
/// The same of starts that are only slow, one after the other.
const SLOW_START: Duration = Duration::from_secs(75);
/// Three attempts of 180 s and the waits between them, with what it takes to see that they are over.
const ROUND: Duration = Duration::from_secs(3 * 180 + 12 + 36 + 30);
/// From the moment in which nothing is left to the one in which that is said.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// What was seen at earlier moments.
#[derive(Default)]
pub struct Watch {
    looked_at: Option<Instant>,
    /// How much had happened by then: calls, and changes of the cluster.
    happened: (usize, usize),
    /// Since when something is so that must not be so for long: by pull request and what it is.
    since: BTreeMap<(i64, &'static str), Instant>,
    /// What was written on which claim of which namespace.
    owed: BTreeMap<(String, String), Owed>,
}

/// Who wrote on a claim, and ran then.
struct Owed {
    since: Millis,
    data: BTreeSet<String>,
}

/// Something that must not be so for longer than this.
struct Doubt {
    what: &'static str,
    lasts: Duration,
}

impl World {
    /// Looks, where it is time to, whether what must hold does.
    pub async fn watch(&mut self) {
        let now = Instant::now();
        if self.watch.looked_at.is_some_and(|at| now < at + EVERY) {
            return;
        }
        self.watch.looked_at = Some(now);
        let happened = (self.network.mishaps().calls, self.kubernetes.changes());
        let before = std::mem::replace(&mut self.watch.happened, happened);
        if happened == before && self.watch.since.is_empty() {
            return;
        }
        let mut breaches = Vec::new();
        for row in rows(self).await {
            let deployment = self.deployment_of(&row).await;
            let number = row.pull_request.facts.number;
            let doubts = if self.configuration.is_gentle { self.doubts(&row, deployment.as_ref()) } else { Vec::new() };
            self.watch.since.retain(|(known, what), _| *known != number || doubts.iter().any(|it| it.what == *what));
            for Doubt { what, lasts } in doubts {
                let since = *self.watch.since.entry((number, what)).or_insert(now);
                if now - since > lasts {
                    breaches.push(format!("{what} for {} s: {}", (now - since).as_secs(), describe(&row)));
                }
            }
            breaches.extend(self.lost_data(&row).await);
        }
        if !breaches.is_empty() {
            let mut known = self.breaches.lock().expect("no story goes on after a panic");
            // One tells what is wrong; those of the moments after it say the same.
            if known.is_empty() {
                self.network.note(format_args!("{}", breaches.join("; ")));
                known.extend(breaches);
            }
        }
    }

    /// The head commit's row, where what is shown of it depends on it.
    async fn deployment_of(&self, row: &Overview) -> Option<Deployment> {
        if row.environment.status != EnvironmentStatus::Deploying {
            return None;
        }
        let head = &row.pull_request.facts.head_sha;
        self.store.deployment(&row.environment.id, head).await.expect("the database answers")
    }

    /// What is not as it should be, for a moment or for longer.
    fn doubts(&self, row: &Overview, deployment: Option<&Deployment>) -> Vec<Doubt> {
        let environment = &row.environment;
        let namespace = environment.namespace.as_str();
        let mut doubts = Vec::new();
        let mut doubt = |is_so: bool, what: &'static str, lasts: Duration| {
            if is_so {
                doubts.push(Doubt { what, lasts });
            }
        };
        let (status, reason) = (environment.status, environment.reason);
        let found = self.kubernetes.namespaces().into_iter().find(|found| found.name == namespace);
        let sleeps = reason == Some(Reason::Asleep);
        if let Some(serving) = &environment.serving_commit
            && !(sleeps && status == EnvironmentStatus::Running)
        {
            let answers = self.kubernetes.serving(namespace).contains(serving.as_str());
            doubt(!answers, "a commit is said to answer, and does not", TRUE_AFTER);
        }
        let is_unexplained = status == EnvironmentStatus::Pending && reason.is_none();
        doubt(is_unexplained, "it is pending without a reason", TOLD_AFTER);
        if status == EnvironmentStatus::Running && !sleeps {
            let head = &row.pull_request.facts.head_sha;
            let is_whole = self.plans.get(head.as_str()).is_none_or(|plan| {
                let there = self.kubernetes.workloads(namespace);
                plan.workloads().iter().all(|wanted| there.contains(*wanted))
            });
            doubt(!is_whole, "it runs without all that its commit says", TRUE_AFTER);
            let is_chart = self.plans.get(head.as_str()).is_some_and(Plan::is_chart);
            let is_installed = self.kubernetes.has_done(namespace, recipes::INSTALLS);
            doubt(is_chart && !is_installed, "a chart runs that was never installed", TRUE_AFTER);
        }
        if status == EnvironmentStatus::Deploying {
            let obstacles = self.kubernetes.obstacles(namespace, row.pull_request.facts.head_sha.as_str());
            // Where the cluster takes nothing, that is what it waits for.
            let is_refused = reason == Some(Reason::ClusterError) && self.kubernetes.was_troubled(TOLD_AFTER);
            let is_told = is_refused || reason.is_some_and(|reason| obstacles.contains(reason.code()));
            let is_under_way =
                deployment.is_some_and(|it| it.status == DeploymentStatus::Deploying && it.retry_at.is_none());
            doubt(is_under_way && !obstacles.is_empty() && !is_told, "what is in its way is not told", TOLD_AFTER);
            let started = deployment.and_then(|deployment| deployment.started_at).unwrap_or(i64::MAX);
            let is_late = self.clock.now().saturating_sub(started) > ROUND.as_millis().cast_signed() as i64;
            doubt(is_late, "it is being deployed for longer than a round lasts", Duration::ZERO);
        }
        if let Some(message) = &environment.message
            && !self.lacks_words()
        {
            let comments = self.github.comments(REPOSITORY, row.pull_request.facts.number.cast_unsigned());
            let says_it = |body: &str| body.contains(beginning(message));
            let is_unsaid = comments.iter().any(|it| is_the_comment(&it.body) && !says_it(&it.body));
            // A start that only takes long is no news before it has taken very long.
            let is_slow = reason == Some(Reason::NotReadyInTime);
            doubt(is_unsaid && is_slow, "the comment does not say what takes long", SLOW_START);
            doubt(is_unsaid && !is_slow, "the comment does not say what the status does", WRITTEN_AFTER);
        }
        if status == EnvironmentStatus::Deleting {
            doubt(found.is_none(), "it is being removed, and is gone", GONE_AFTER);
            let is_left = found.is_some_and(|found| !found.terminating);
            doubt(is_left, "it is being removed, and nobody removes it", GONE_AFTER);
        }
        doubts
    }

    /// What was written while a commit ran is there for as long as nobody asked to lose it: its namespace stays, and no
    /// commit runs that goes without.
    async fn lost_data(&mut self, row: &Overview) -> Vec<String> {
        let environment = &row.environment;
        let Some(uid) = self.kubernetes.uid(environment.namespace.as_str()) else { return Vec::new() };
        let claims = self.kubernetes.claims(environment.namespace.as_str());
        let head = &row.pull_request.facts.head_sha;
        let runs =
            environment.status == EnvironmentStatus::Running && environment.serving_commit.as_ref() == Some(head);
        if runs && let Some(plan) = self.plans.get(head.as_str()) {
            let kept = plan.claims();
            self.watch.owed.retain(|(namespace, claim), _| *namespace != uid || kept.contains(&claim.as_str()));
            for (name, data) in claims.iter().filter(|(name, _)| kept.contains(&name.as_str())) {
                let new = Owed { since: self.clock.now(), data: BTreeSet::new() };
                let owed = self.watch.owed.entry((uid.clone(), name.clone())).or_insert(new);
                owed.data.extend(data.iter().cloned());
            }
        }
        let is_lost = |((namespace, claim), owed): &(&(String, String), &Owed)| {
            *namespace == uid && claims.get(claim).is_none_or(|found| !owed.data.is_subset(found))
        };
        let lost: Vec<(String, Millis)> =
            self.watch.owed.iter().filter(is_lost).map(|((_, claim), owed)| (claim.clone(), owed.since)).collect();
        if lost.is_empty() {
            return Vec::new();
        }
        // One that went without may have run between two looks.
        let rows = self.store.deployments_of(&environment.id, 100).await.expect("the database answers");
        let went_without = |claim: &str, since: Millis| {
            let ran =
                rows.iter().filter(|row| row.status == DeploymentStatus::Succeeded && row.finished_at >= Some(since));
            ran.filter_map(|row| self.plans.get(row.commit.as_str())).any(|plan| !plan.claims().contains(&claim))
        };
        let lost = lost.iter().filter(|(claim, since)| !went_without(claim, *since));
        lost.map(|(claim, _)| format!("what was written on {claim} is lost: {}", describe(row))).collect()
    }
}

/// Of a sentence, what it has in common with one that says the same later: numbers, and what is said of them, come after.
fn beginning(sentence: &str) -> &str {
    sentence.split([',', '.', ':', '(', '\'']).next().unwrap_or_default().trim_end()
}
