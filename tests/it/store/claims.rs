//! Claims and leases: every row that is due goes to one claimer at a time, and no wake is lost.

use std::{collections::BTreeSet, time::Duration};

use previewd::store::{Record, Store};

use super::{
    database::{Database, for_each_database},
    given::{claim, claimed_environment, environment_of, many_environments, pull_request, pushed, tell_of},
    process::{in_processes, inherited_database},
};

const HOUR: Duration = Duration::from_secs(3600);

async fn environments_due(database: &Database, count: usize) {
    many_environments(database, count).await;
    database.execute("UPDATE environments SET due_at = pull_request_id").await;
}

/// Claims until nothing is due.
async fn claim_all(store: &Store) -> Vec<String> {
    let mut claimed = Vec::new();
    while let Some((lease, _)) = store.claim_due_environment().await.unwrap() {
        claimed.push(lease.environment_id);
    }
    claimed
}

fn assert_each_once(claimed: &[String], count: usize) {
    let different: BTreeSet<_> = claimed.iter().collect();
    assert_eq!(claimed.len(), different.len(), "an environment was claimed twice");
    assert_eq!(different.len(), count, "environments were left over");
}

/// What the row says: who holds it, until when, and when it is due.
async fn row(database: &Database, columns: &str) -> String {
    database.line(&format!("SELECT {columns} AS line FROM environments")).await
}

/// As if the time of every lease had passed.
async fn leases_run_out(database: &Database) {
    database.execute("UPDATE environments SET due_at = 1, lease_until = 1 WHERE lease_token IS NOT NULL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_claimers_get_each_of_200_once() {
    for_each_database(async |database| {
        environments_due(database, 200).await;
        let claimers = (0..8).map(|_| {
            let store = database.store();
            tokio::spawn(async move { claim_all(&store).await })
        });
        let mut claimed = Vec::new();
        for claimer in claimers.collect::<Vec<_>>() {
            claimed.extend(claimer.await.unwrap());
        }
        assert_each_once(&claimed, 200);
        assert!(!database.store().has_due_environment().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn four_processes_get_each_of_200_once() {
    if let Some(url) = inherited_database() {
        for id in claim_all(&Store::open(&url).unwrap()).await {
            println!("claimed {id}");
        }
        return;
    }
    for_each_database(async |database| {
        environments_due(database, 200).await;
        let said = in_processes(4, database).await;
        let claimed = said.iter().flat_map(|said| said.lines()).filter_map(|line| line.strip_prefix("claimed "));
        assert_each_once(&claimed.map(str::to_owned).collect::<Vec<_>>(), 200);
    })
    .await;
}

#[tokio::test]
async fn the_most_overdue_comes_first() {
    for_each_database(async |database| {
        environments_due(database, 3).await;
        database.execute("UPDATE environments SET due_at = 9 - due_at").await;
        let store = database.store();
        let mut numbers = Vec::new();
        while let Some((_, environment)) = store.claim_due_environment().await.unwrap() {
            numbers.push(environment.pull_request_id);
        }
        assert_eq!(numbers, [3, 2, 1]);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_claimed_before_its_time() {
    for_each_database(async |database| {
        let store = database.store();
        many_environments(database, 2).await;
        let soon = store.clock().await.unwrap() + 60_000;
        database.execute(&format!("UPDATE environments SET due_at = {soon} WHERE pull_request_id = 1")).await;
        assert!(!store.has_due_environment().await.unwrap());
        assert!(store.claim_due_environment().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_ran_out_gives_the_row_to_another() {
    for_each_database(async |database| {
        let store = database.store();
        let (lost, _) = claimed_environment(&store).await;
        assert!(lost.outlasts(Duration::from_secs(15)) && !lost.outlasts(HOUR));
        assert!(store.claim_due_environment().await.unwrap().is_none(), "somebody holds it");
        let crash = "CASE WHEN due_at = lease_until THEN 'due when the lease ends' ELSE 'lost' END";
        assert_eq!(row(database, crash).await, "due when the lease ends");

        leases_run_out(database).await;
        let held = claim(&store).await;
        assert_eq!(held.environment_id, lost.environment_id);

        assert!(store.record(&lost, Record::default()).await.unwrap().is_err(), "the lease is lost");
        let before = row(database, "lease_token || ' ' || lease_until || ' ' || due_at || ' ' || failures").await;
        store.release(&lost, Some(HOUR), 5, true).await.unwrap();
        let after = row(database, "lease_token || ' ' || lease_until || ' ' || due_at || ' ' || failures").await;
        assert_eq!(before, after, "a lost lease releases nothing");
        assert!(store.record(&held, Record::default()).await.unwrap().is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_pass_that_takes_long_renews_its_lease_unless_it_is_over() {
    for_each_database(async |database| {
        let store = database.store();
        let (mut lease, overview) = claimed_environment(&store).await;
        database.execute("UPDATE environments SET lease_until = lease_until - 15000, due_at = due_at - 15000").await;
        let due = "CASE WHEN due_at = lease_until THEN 'when the lease ends' ELSE 'before' END";
        // Somebody has touched due_at: that stays, and the row is held all the same.
        store.renew(&mut lease).await.unwrap().unwrap();
        assert_eq!(row(database, due).await, "before");
        store.release(&lease, Some(HOUR), 0, true).await.unwrap();

        database.execute("UPDATE environments SET due_at = 1").await;
        let mut lease = claim(&store).await;
        store.renew(&mut lease).await.unwrap().unwrap();
        assert_eq!(row(database, due).await, "when the lease ends");
        store.wake(&overview.environment.namespace).await.unwrap();
        store.renew(&mut lease).await.unwrap().unwrap();
        assert_eq!(row(database, due).await, "before", "a wake is kept");
        assert!(store.claim_due_environment().await.unwrap().is_none(), "and the pass still holds it");

        let mut overtaken = lease.clone();
        tell_of(&store, &pushed(&pull_request(7), 2, 5)).await;
        assert!(store.renew(&mut overtaken).await.unwrap().is_err(), "something newer was asked for");
        leases_run_out(database).await;
        claim(&store).await;
        assert!(store.renew(&mut lease).await.unwrap().is_err(), "somebody else holds it");
    })
    .await;
}

#[tokio::test]
async fn release_says_when_the_next_pass_is_owed() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, _) = claimed_environment(&store).await;
        store.release(&lease, Some(HOUR), 3, true).await.unwrap();
        let now = store.clock().await.unwrap();
        let due_at: i64 = row(database, "CAST(due_at AS TEXT)").await.parse().unwrap();
        assert!((now + 3_590_000..=now + 3_600_000).contains(&due_at), "due at {due_at}, and now is {now}");
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!(environment.failures, 3);
        assert!(environment.observed_at.is_some());

        database.execute("UPDATE environments SET due_at = 1").await;
        let lease = claim(&store).await;
        store.release(&lease, None, 0, false).await.unwrap();
        assert_eq!(row(database, "coalesce(CAST(due_at AS TEXT), 'never')").await, "never");
        assert_eq!(environment_of(&store, 7).await.environment.observed_at, environment.observed_at);
    })
    .await;
}

#[tokio::test]
async fn a_wake_during_a_pass_is_kept() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        // The pass has observed; now something changes in the cluster, and another process hears of it.
        database.store().wake(&overview.environment.namespace).await.unwrap();
        assert!(store.claim_due_environment().await.unwrap().is_none(), "the pass still holds it");
        store.release(&lease, Some(HOUR), 0, true).await.unwrap();
        assert_eq!(claim(&store).await.environment_id, lease.environment_id, "it is due at once");
    })
    .await;
}

#[tokio::test]
async fn a_push_during_a_pass_is_kept_and_starts_without_its_waits() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, _) = claimed_environment(&store).await;
        tell_of(&store, &pushed(&pull_request(7), 2, 5)).await;
        assert!(store.record(&lease, Record::default()).await.unwrap().is_err(), "something newer was asked for");
        store.release(&lease, Some(HOUR), 6, true).await.unwrap();
        let (next, environment) = store.claim_due_environment().await.unwrap().expect("it is due at once");
        assert_eq!(environment.failures, 0);
        assert!(next.revision > lease.revision);
    })
    .await;
}

#[tokio::test]
async fn a_wake_makes_due_what_sleeps_and_hurries_nothing_that_is_due() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        store.release(&lease, None, 0, true).await.unwrap();
        let namespace = &overview.environment.namespace;
        store.wake(namespace).await.unwrap();
        assert!(store.has_due_environment().await.unwrap());

        database.execute("UPDATE environments SET due_at = 5").await;
        store.wake(namespace).await.unwrap();
        assert_eq!(row(database, "CAST(due_at AS TEXT)").await, "5");
        store.wake(&"pr-1-nobody-abcdefghij".parse().unwrap()).await.unwrap();
    })
    .await;
}
