//! What tests begin with: facts as GitHub tells them, and rows by the thousand.

use std::collections::BTreeSet;

use previewd::{
    environment::{Change, CommitSha, PullRequestFacts, PullRequestState, RepositoryFacts},
    recipe::{Object, Pins, Render},
    store::{
        Delivery, DeploymentChanges, EnvironmentFilter, Event, EventKind, Lease, Made, Overview, Record,
        RecordedDelivery, Request, Store,
    },
};
use uuid::Uuid;

use super::database::Database;

/// The `n`th commit.
pub fn commit(n: u64) -> CommitSha {
    format!("{n:040x}").parse().unwrap()
}

/// acme/shop, of App installation 77.
pub fn repository() -> RepositoryFacts {
    RepositoryFacts {
        github_id: 1,
        name: "acme/shop".parse().unwrap(),
        default_branch: "main".to_owned(),
        app_installation_id: Some(77),
    }
}

/// An open pull request of acme/shop at commit 1, changed in second 100.
pub fn pull_request(number: i64) -> PullRequestFacts {
    PullRequestFacts {
        repository: repository(),
        github_id: 1000 + number,
        number,
        title: format!("Change {number}"),
        author: "alice".to_owned(),
        head_sha: commit(1),
        head_ref: "change".to_owned(),
        base_ref: "main".to_owned(),
        from_fork: false,
        draft: false,
        state: PullRequestState::Open,
        labels: vec!["preview".to_owned()],
        label_ids: vec![1],
        github_updated_at: 100_000,
    }
}

/// The same pull request at another commit, `seconds` later.
pub fn pushed(facts: &PullRequestFacts, head: u64, seconds: i64) -> PullRequestFacts {
    PullRequestFacts { head_sha: commit(head), ..later(facts, seconds) }
}

/// The same pull request in another state, `seconds` later.
pub fn in_state(facts: &PullRequestFacts, state: PullRequestState, seconds: i64) -> PullRequestFacts {
    PullRequestFacts { state, ..later(facts, seconds) }
}

pub fn later(facts: &PullRequestFacts, seconds: i64) -> PullRequestFacts {
    PullRequestFacts { github_updated_at: facts.github_updated_at + seconds * 1000, ..facts.clone() }
}

pub fn delivery(guid: &str) -> Delivery {
    Delivery {
        guid: guid.to_owned(),
        event: "pull_request".to_owned(),
        action: None,
        repository: None,
        number: None,
        head_sha: None,
    }
}

/// A delivery that brings `change`.
pub async fn tell(store: &Store, change: Change) -> RecordedDelivery {
    store.record_delivery(delivery(&Uuid::new_v4().to_string()), change).await.unwrap()
}

/// A delivery that brings these facts of a pull request, and no `before`.
pub async fn tell_of(store: &Store, facts: &PullRequestFacts) {
    let told = tell(store, Change::PullRequest { facts: facts.clone(), before: None }).await;
    assert_eq!(told, RecordedDelivery::Recorded);
}

/// The environment of a pull request of acme/shop.
pub async fn environment_of(store: &Store, number: i64) -> Overview {
    store.find_environment_of(&repository().name, number).await.unwrap().expect("the environment is there")
}

/// Claims what is due.
pub async fn claim(store: &Store) -> Lease {
    store.claim_due_environment().await.unwrap().expect("something is due").0
}

/// The environment of a pull request that was just opened, claimed.
pub async fn claimed_environment(store: &Store) -> (Lease, Overview) {
    tell_of(store, &pull_request(7)).await;
    (claim(store).await, environment_of(store, 7).await)
}

pub fn event(kind: EventKind) -> Event {
    Event { kind, actor: "alice".to_owned(), origin: None, detail: None }
}

/// alice asks for it.
pub fn asks(kind: EventKind) -> Request {
    event(kind).into()
}

/// Every environment that a list can show.
pub fn everything() -> EnvironmentFilter {
    EnvironmentFilter { limit: 100, ..EnvironmentFilter::default() }
}

/// As many environments as asked for, over 50 repositories of 10 owners, none of them due. Every tenth is deleted, and of
/// the others one in ten has each of the remaining statuses; each has three deployments, three objects and an event.
pub async fn many_environments(database: &Database, count: usize) {
    let numbers =
        |upto: usize| format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {upto})");
    let padded = |n: &str, length: usize| {
        format!("substr('{}', 1, {length} - length(CAST({n} AS TEXT))) || {n}", "0".repeat(length))
    };
    let id = |n: &str| format!("'0190a000-0000-7000-8000-' || {}", padded(n, 12));
    let status = "CASE i % 10 WHEN 0 THEN 'deleted' WHEN 1 THEN 'pending' WHEN 2 THEN 'deploying' WHEN 3 THEN 'failed' \
                  WHEN 4 THEN 'deleting' ELSE 'running' END";
    database
        .execute(&format!(
            "INSERT INTO repositories (github_id, owner, name, app_installation_id, default_branch, state, created_at, \
                 updated_at)
             {} SELECT i, 'owner' || (i % 10), 'name' || i, i % 10, 'main', 'active', 0, 0 FROM n;
             INSERT INTO pull_requests (github_id, repository_id, number, title, author, head_sha, head_ref, base_ref, \
                 from_fork, draft, state, labels, github_updated_at, created_at, updated_at)
             {numbers} SELECT i, 1 + i % 50, i, 'Change', 'alice', {commit}, 'change', 'main', false, false, 'open', '[]', \
                 0, 0, 0 FROM n;
             INSERT INTO environments (id, pull_request_id, namespace, status, revision, refresh, hold, lease_until, \
                 failures, created_by, created_at, updated_at, admitted_at)
             {numbers} SELECT {id}, i, 'pr-' || i || '-name-abcdefghij', {status}, 1, false, 'none', 0, 0, 'alice', 0, 0, \
                 CASE WHEN i % 10 < 2 THEN NULL ELSE 0 END FROM n;
             INSERT INTO deployments (id, environment_id, commit_sha, status, round, attempt, created_at)
             {deployments} SELECT 'deployment-' || i, {of_three}, {commit}, 'succeeded', 1, 1, i FROM n;
             INSERT INTO objects (environment_id, api_version, kind, name, digest)
             {deployments} SELECT {of_three}, 'apps/v1', 'Deployment', 'app-' || i, 'digest' FROM n;
             INSERT INTO events (id, environment_id, at, actor, kind)
             {numbers} SELECT 'event-' || i, {id}, 0, 'alice', 'created' FROM n;
             INSERT INTO deliveries (guid, event, received_at, outcome)
             {numbers} SELECT 'guid-' || i, 'pull_request', i, 'recorded' FROM n;
             INSERT INTO tokens (id, subject, hash, role, teams, created_at)
             {numbers} SELECT 'token-' || i, 'alice', 'hash-' || i, 'member', '[]', i FROM n;",
            numbers(50),
            numbers = numbers(count),
            deployments = numbers(count * 3),
            id = id("i"),
            of_three = id("((i + 2) / 3)"),
            commit = padded("i", 40),
        ))
        .await;
}

/// An object of a recipe, as an environment's inventory has it.
pub fn object(name: &str) -> Object {
    Object::from(serde_json::json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name } }))
}

/// A render that applies these objects.
pub fn render_of(names: &[&str]) -> Render {
    let objects = names.iter().map(|name| object(name)).collect();
    Render {
        namespace: object("namespace"),
        walls: Vec::new(),
        objects,
        phase_ends: Vec::new(),
        backend: None,
        notes: Vec::new(),
        pins: Pins::new(),
        own_images: BTreeSet::new(),
        upgrades: None,
    }
}

/// Gives a commit its row.
pub async fn record_deployment(store: &Store, lease: &Lease, commit: CommitSha) {
    let deployment = Some((commit, DeploymentChanges::default()));
    store.record(lease, Record { deployment, ..Record::default() }).await.unwrap().unwrap();
}

/// As it is kept for its commit.
pub fn made(render: &Render) -> Option<Made<'_>> {
    Some(Made { render, key: "key", remakes: false })
}
