//! Lists, pages and look-ups.

use previewd::{
    environment::EnvironmentStatus,
    store::{EnvironmentFilter, Overview, Store},
};

use super::{
    database::for_each_database,
    given::{everything, many_environments},
};

const ENVIRONMENTS: usize = 100;

async fn numbers(store: &Store, filter: EnvironmentFilter) -> Vec<i64> {
    let (page, more) = store.list_environments(&filter).await.unwrap();
    assert!(!more);
    assert_eq!(store.count_environments(&filter).await.unwrap(), page.len() as u64);
    page.iter().map(|overview| overview.pull_request.facts.number).collect()
}

fn expected(kept: impl Fn(i64) -> bool) -> Vec<i64> {
    (1..=ENVIRONMENTS as i64).rev().filter(|number| kept(*number)).collect()
}

fn visible(patterns: &[&str]) -> EnvironmentFilter {
    EnvironmentFilter { visible: Some(patterns.iter().map(|text| (*text).to_owned()).collect()), ..everything() }
}

#[tokio::test]
async fn lists_show_what_is_asked_for() {
    for_each_database(async |database| {
        many_environments(database, ENVIRONMENTS).await;
        let store = database.store();
        assert_eq!(numbers(&store, everything()).await, expected(|n| n % 10 != 0), "deleted ones are not shown");

        let by_status =
            |statuses: &[EnvironmentStatus]| EnvironmentFilter { statuses: statuses.to_vec(), ..everything() };
        let deleted = by_status(&[EnvironmentStatus::Deleted]);
        assert_eq!(numbers(&store, deleted).await, expected(|n| n % 10 == 0));
        let two = by_status(&[EnvironmentStatus::Pending, EnvironmentStatus::Failed]);
        assert_eq!(numbers(&store, two).await, expected(|n| n % 10 == 1 || n % 10 == 3));
        assert_eq!(numbers(&store, by_status(EnvironmentStatus::ALL)).await, expected(|_| true));

        // Pull request n is of repository 1 + n % 50, and that of owner (1 + n % 50) % 10.
        let repository = EnvironmentFilter { repository: Some("OWNER4/Name4".parse().unwrap()), ..everything() };
        assert_eq!(numbers(&store, repository.clone()).await, expected(|n| n % 50 == 3));
        let nobodys = EnvironmentFilter { repository: Some("owner4/name5".parse().unwrap()), ..everything() };
        assert_eq!(numbers(&store, nobodys).await, expected(|_| false));

        let of_owner_4 = |n: i64| (1 + n % 50) % 10 == 4;
        assert_eq!(numbers(&store, visible(&["owner4/*"])).await, expected(of_owner_4));
        let mixed = visible(&["Owner4/*", "owner5/Name5", "owner6/name5"]);
        assert_eq!(numbers(&store, mixed.clone()).await, expected(|n| n % 10 != 0 && (of_owner_4(n) || n % 50 == 4)));
        assert_eq!(numbers(&store, visible(&[])).await, expected(|_| false), "no pattern shows nothing");
        assert_eq!(numbers(&store, visible(&["own%/*", "owner4", "*"])).await, expected(|_| false));
        let both = EnvironmentFilter { statuses: vec![EnvironmentStatus::Failed], ..mixed };
        assert_eq!(numbers(&store, both).await, expected(|n| n % 10 == 3 && of_owner_4(n)));
        let hidden = EnvironmentFilter { visible: Some(vec!["owner5/*".to_owned()]), ..repository };
        assert_eq!(numbers(&store, hidden).await, expected(|_| false));
    })
    .await;
}

#[tokio::test]
async fn pages_follow_each_other_whatever_is_added_meanwhile() {
    for_each_database(async |database| {
        many_environments(database, ENVIRONMENTS).await;
        let store = database.store();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let filter = EnvironmentFilter { after: after.clone(), limit: 40, ..EnvironmentFilter::default() };
            let (page, more) = store.list_environments(&filter).await.unwrap();
            assert_eq!(page.len() == 40, more, "only the last page is short");
            after = page.last().map(|overview| overview.environment.id.clone());
            seen.extend(page.iter().map(|overview| overview.pull_request.facts.number));
            super::given::tell_of(&store, &super::given::pull_request(900 + seen.len() as i64)).await;
            if !more {
                break;
            }
        }
        assert_eq!(seen, expected(|n| n % 10 != 0));

        let whole = EnvironmentFilter { limit: 90, after, ..EnvironmentFilter::default() };
        assert!(store.list_environments(&whole).await.unwrap().0.is_empty(), "nothing comes after the last");
    })
    .await;
}

#[tokio::test]
async fn an_environment_is_found_by_each_of_its_names() {
    for_each_database(async |database| {
        many_environments(database, 3).await;
        let store = database.store();
        let found = |found: Option<Overview>| found.unwrap().pull_request.facts.number;
        let id = database.line("SELECT id AS line FROM environments WHERE pull_request_id = 2").await;
        assert_eq!(found(store.find_environment(&id).await.unwrap()), 2);
        assert_eq!(found(store.find_environment("pr-2-name-abcdefghij").await.unwrap()), 2);
        assert_eq!(found(store.find_environment_of(&"Owner3/NAME3".parse().unwrap(), 2).await.unwrap()), 2);
        assert!(store.find_environment("pr-9-name-abcdefghij").await.unwrap().is_none());
        assert!(store.find_environment_of(&"owner3/name3".parse().unwrap(), 3).await.unwrap().is_none());
        assert_eq!(store.deployments_of(&id, 2).await.unwrap().len(), 2);
        let newest = store.deployments_of(&id, 1).await.unwrap().remove(0);
        assert_eq!(newest.created_at, 6);
    })
    .await;
}
