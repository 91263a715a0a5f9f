//! What operators and metrics are shown of all environments together.

use std::time::Duration;

use previewd::{
    environment::Urgency,
    store::{Budget, Overdue, RepositoryUsage},
};

use super::{database::for_each_database, given::many_environments};

/// One hundred environments, of which some wait, are stuck, are overdue, or were measured lately. Of pull request n only
/// n % 10 from 2 to 9 has a place.
async fn in_operation(database: &super::database::Database) {
    many_environments(database, 100).await;
    let now = database.store().clock().await.unwrap();
    database
        .execute(&format!(
            "UPDATE environments SET queued_at = 1000 - pull_request_id WHERE status = 'pending';
             UPDATE environments SET reason = 'namespace_stuck', message = 'held by ' || pull_request_id \
                 WHERE pull_request_id IN (4, 14, 15);
             UPDATE environments SET due_at = {minutes_ago} WHERE pull_request_id = 7;
             UPDATE environments SET due_at = {later} WHERE pull_request_id > 90;
             UPDATE environments SET due_at = {now} WHERE pull_request_id IN (8, 9);
             INSERT INTO usage_samples (environment_id, sampled_at, cpu_millicores, memory_bytes)
             SELECT id, {now} - CASE pull_request_id WHEN 5 THEN 120001 ELSE 0 END, 10 * pull_request_id, 1000 \
                 FROM environments WHERE pull_request_id NOT IN (6, 7);
             INSERT INTO usage_samples (environment_id) SELECT id FROM environments WHERE pull_request_id = 7;",
            minutes_ago = now - 300_000,
            later = now + 3_600_000,
        ))
        .await;
}

fn counted(counts: &[(&str, i64)]) -> Vec<(String, i64)> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn statuses() -> Vec<(String, i64)> {
    counted(&[("deleting", 10), ("deploying", 10), ("failed", 10), ("pending", 10), ("running", 50)])
}

fn is_overdue(Overdue { environments, seconds }: Overdue) -> bool {
    environments == 3 && (300..400).contains(&seconds)
}

#[tokio::test]
async fn operators_see_who_has_places_who_waits_and_what_is_stuck() {
    for_each_database(async |database| {
        let store = database.store();
        let empty = store.occupancy().await.unwrap();
        assert!(empty.statuses.is_empty() && empty.repositories.is_empty() && empty.queue.is_empty());
        assert_eq!(empty.overdue, Overdue { environments: 0, seconds: 0 });

        in_operation(database).await;
        let occupancy = store.occupancy().await.unwrap();
        assert_eq!(occupancy.statuses, statuses());
        assert!(is_overdue(occupancy.overdue), "{:?}", occupancy.overdue);
        let queue = [91, 81, 71, 61, 51, 41, 31, 21, 11, 1].map(|n| format!("owner2/name{}#{n}", 1 + n % 50));
        assert_eq!(occupancy.queue, queue, "who asked first is the first");
        let stuck = [("owner5/name5#4", "held by 4"), ("owner5/name15#14", "held by 14")];
        assert_eq!(occupancy.stuck, stuck.map(|(name, held)| (name.to_owned(), held.to_owned())));

        let used = |repository: &str, numbers: &[i64], measured: &[i64]| RepositoryUsage {
            repository: repository.parse().unwrap(),
            environments: numbers.len() as i64,
            cpu_millicores: measured.iter().map(|n| 10 * n).sum(),
            memory_bytes: 1_000 * measured.len() as i64,
        };
        assert_eq!(occupancy.repositories.len(), 40);
        assert!(occupancy.repositories.contains(&used("owner3/name3", &[2, 52], &[2, 52])));
        assert!(occupancy.repositories.contains(&used("owner6/name6", &[5, 55], &[55])), "an old sample is none");
        assert!(occupancy.repositories.contains(&used("owner7/name7", &[6, 56], &[56])), "nobody measured it");
        assert!(occupancy.repositories.contains(&used("owner8/name8", &[7, 57], &[57])), "only restarts are known");
        assert_eq!(occupancy.repositories.iter().map(|used| used.environments).sum::<i64>(), 80);
        assert!(occupancy.repositories.is_sorted_by_key(|used| used.repository.to_string()));
    })
    .await;
}

/// Of all processes one samples, sweeps and cleans up, and not before it is time again.
#[tokio::test]
async fn a_chore_is_one_processs_at_a_time() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, every) = (Duration::from_secs(60), Duration::from_secs(25));
        let take = async |holder: &str| store.take_lease("sample", holder, lease, every).await.unwrap();
        assert!(take("one").await);
        assert!(!take("other").await, "one is at it");
        assert!(take("one").await, "who has it goes on");
        database.execute("UPDATE leases SET lease_until = lease_until - 60001").await;
        assert!(take("other").await, "one is gone");
        store.give_lease_back("sample", "one", true).await.unwrap();
        assert!(!take("one").await, "it is the other's");
        store.give_lease_back("sample", "other", true).await.unwrap();
        assert!(!take("one").await && !take("other").await, "it was done just now");
        database.execute("UPDATE leases SET done_at = done_at - 25000").await;
        assert!(take("one").await);
    })
    .await;
}

#[tokio::test]
async fn metrics_show_all_together() {
    for_each_database(async |database| {
        let store = database.store();
        let empty = store.gauges().await.unwrap();
        assert_eq!((empty.queued, empty.cpu_millicores, empty.memory_bytes, empty.engines), (0, 0, 0, 0));
        assert!(empty.statuses.is_empty() && empty.chores.is_empty() && empty.github.is_empty());

        in_operation(database).await;
        for engine in ["one", "other", "gone"] {
            store.heartbeat(engine).await.unwrap();
        }
        store.end_engine("gone").await.unwrap();
        database.execute("UPDATE engines SET heartbeat = heartbeat - 31000 WHERE id = 'other'").await;
        let minute = Duration::from_secs(60);
        for chore in ["sweep", "sample"] {
            assert!(store.take_lease(chore, "one", minute, minute).await.unwrap());
        }
        store.give_lease_back("sweep", "one", true).await.unwrap();
        database.execute("UPDATE leases SET done_at = done_at - 90000 WHERE name = 'sweep'").await;
        store.take_write(Some(77), Urgency::Normal).await.unwrap();
        store.block_github(Some(78), minute).await.unwrap();

        let gauges = store.gauges().await.unwrap();
        assert_eq!((gauges.statuses, gauges.queued, gauges.engines), (statuses(), 10, 1));
        assert!(is_overdue(gauges.overdue), "{:?}", gauges.overdue);
        let measured: Vec<i64> = (1..=100).filter(|n| n % 10 > 1 && !(5..=7).contains(n)).collect();
        assert_eq!(gauges.cpu_millicores, measured.iter().map(|n| 10 * n).sum::<i64>());
        assert_eq!(gauges.memory_bytes, 1_000 * measured.len() as i64);
        let [(chore, seconds)] = &gauges.chores[..] else { panic!("one was done: {:?}", gauges.chores) };
        assert!(chore == "sweep" && (90..120).contains(seconds), "{chore} {seconds}");
        let [written, silent] = &gauges.github[..] else { panic!("two are known: {:?}", gauges.github) };
        let one = Budget { app_installation_id: 77, writes_this_minute: 1, writes_this_hour: 1, blocked_until: None };
        assert_eq!(*written, one);
        assert_eq!((silent.app_installation_id, silent.writes_this_hour), (78, 0));
        assert!(silent.blocked_until.is_some_and(|until| until > 0));
    })
    .await;
}
