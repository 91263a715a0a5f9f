//! The dashboard's list: what it is searched for, its orders and its pages, the same on both databases.

use previewd::{
    environment::{EnvironmentStatus, PullRequestFacts, PullRequestState},
    store::{EnvironmentFilter, EnvironmentOrder, EventKind, Record, Store},
};

use super::{
    database::{Database, for_each_database},
    given::{claim, event, everything, in_state, many_environments, pull_request, pushed, tell_of},
};

const ENVIRONMENTS: i64 = 100;
/// No clock has come so far.
const FRESH: i64 = 99_999_999_999_999;

async fn page(store: &Store, filter: &EnvironmentFilter, order: EnvironmentOrder, offset: i64) -> Vec<i64> {
    let page = store.page_of_environments(filter, order, offset).await.unwrap();
    page.iter().map(|overview| overview.pull_request.facts.number).collect()
}

/// All that a filter lets through, the oldest first.
async fn found(store: &Store, filter: EnvironmentFilter) -> Vec<i64> {
    let found = page(store, &filter, EnvironmentOrder::Oldest, 0).await;
    assert_eq!(store.count_environments(&filter).await.unwrap(), found.len() as u64, "{filter:?}");
    found
}

fn with_text(text: &str) -> EnvironmentFilter {
    EnvironmentFilter { text: Some(text.to_owned()), ..everything() }
}

fn patterns(patterns: &[&str]) -> Option<Vec<String>> {
    Some(patterns.iter().map(|text| (*text).to_owned()).collect())
}

#[tokio::test]
async fn text_is_found_letter_by_letter_in_either_case() {
    for_each_database(async |database| {
        let store = database.store();
        let titles = [
            "100% done",
            "snake_case",
            r"In C:\temp\new",
            r#"It's "quoted""#,
            "ÄRGER im Straßennetz",
            "ΟΔΟΣΟΦΙΑ 日本語 🎉",
            "Robert'); DROP TABLE environments; --",
        ];
        for (number, title) in (1..).zip(titles) {
            tell_of(&store, &PullRequestFacts { title: title.to_owned(), ..pull_request(number) }).await;
        }
        let elsewhere = PullRequestFacts {
            author: "Octo-Cat[bot]".to_owned(),
            head_ref: "Feature/Größe_2".to_owned(),
            ..pull_request(8)
        };
        tell_of(&store, &elsewhere).await;

        let all: &[i64] = &[1, 2, 3, 4, 5, 6, 7, 8];
        let cases: &[(&str, &[i64])] = &[
            ("%", &[1]),
            ("0% D", &[1]),
            ("1%d", &[]),
            ("%%", &[]),
            ("_", &[2, 8]),
            ("snake_case", &[2]),
            ("snake.case", &[]),
            ("s_ake", &[]),
            (r"\", &[3]),
            (r"\T", &[3]),
            (r"\\", &[]),
            (r"\%", &[]),
            ("'", &[4, 7]),
            ("\"QUOTED\"", &[4]),
            ("' OR 1 = 1 --", &[]),
            ("'); drop table", &[7]),
            ("ÄRGER", &[5]),
            ("ärger", &[5]),
            ("Ärger IM straßen", &[5]),
            ("arger", &[]),
            ("strassen", &[]),
            // A sigma at the end of what is looked for is not at the end of the word.
            ("ΟΔΟΣ", &[6]),
            ("οδοσοφία", &[]),
            ("οδοσοφια", &[6]),
            ("本", &[6]),
            ("🎉", &[6]),
            ("octo-cat[BOT]", &[8]),
            ("[a-z]", &[]),
            ("*", &[]),
            ("?", &[]),
            ("FEATURE/GRÖSSE_2", &[]),
            ("feature/GRÖße_2", &[8]),
            ("PR-3-shop", &[3]),
            ("alice", &[1, 2, 3, 4, 5, 6, 7]),
            ("", all),
            ("\0", &[]),
            ("100\0", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(found(&store, with_text(text)).await, *expected, "{text:?}");
        }
        assert_eq!(found(&store, everything()).await, all, "everything is still there");
    })
    .await;
}

#[tokio::test]
async fn teams_see_what_every_other_filter_lets_through() {
    for_each_database(async |database| {
        many_environments(database, ENVIRONMENTS as usize).await;
        database.execute("UPDATE pull_requests SET title = 'Special' WHERE github_id % 3 = 0").await;
        let store = database.store();
        // Pull request n is of repository 1 + n % 50, and that of owner (1 + n % 50) % 10.
        let is_of_owner_4 = |n: i64| (1 + n % 50) % 10 == 4;
        let is_of_name_5 = |n: i64| 1 + n % 50 == 5;
        let expected = |kept: &dyn Fn(i64) -> bool| -> Vec<i64> { (1..=ENVIRONMENTS).filter(|n| kept(*n)).collect() };
        let of_team = |team: &[&str]| EnvironmentFilter { of_team: patterns(team), ..everything() };

        let team = of_team(&["Owner4/*", "owner5/NAME5"]);
        assert_eq!(found(&store, team.clone()).await, expected(&|n| is_of_owner_4(n) || is_of_name_5(n)));
        assert_eq!(found(&store, of_team(&["own%/*", "owner_/*", "owner4/%"])).await, expected(&|_| false));
        assert_eq!(found(&store, of_team(&["o'wner/*", "owner4/' OR 1 = 1 --"])).await, expected(&|_| false));
        assert_eq!(found(&store, of_team(&[])).await, expected(&|_| false), "a team without repositories");

        let seen = EnvironmentFilter { visible: patterns(&["owner5/*"]), ..team.clone() };
        assert_eq!(found(&store, seen.clone()).await, expected(&is_of_name_5));
        let unseen = EnvironmentFilter { visible: patterns(&["owner6/*"]), ..team.clone() };
        assert_eq!(found(&store, unseen).await, expected(&|_| false), "a team shows nobody more than they may see");
        let one = EnvironmentFilter { pull_request: Some(54), ..seen };
        assert_eq!(found(&store, one).await, [54]);

        let special = EnvironmentFilter { text: Some("special".to_owned()), ..team.clone() };
        let expect_special = |n: i64| (is_of_owner_4(n) || is_of_name_5(n)) && n % 3 == 0;
        assert_eq!(found(&store, special.clone()).await, expected(&expect_special));
        let failed = EnvironmentFilter { statuses: vec![EnvironmentStatus::Failed], ..special };
        assert_eq!(found(&store, failed.clone()).await, expected(&|n| expect_special(n) && n % 10 == 3));
        let repository = EnvironmentFilter { repository: Some("owner4/name14".parse().unwrap()), ..failed };
        assert_eq!(found(&store, repository).await, [63]);
    })
    .await;
}

/// Times of changes and samples that repeat, so that each order has to settle what comes first among equals.
async fn changed_and_measured(database: &Database) {
    many_environments(database, ENVIRONMENTS as usize).await;
    database
        .execute(&format!(
            "UPDATE environments SET updated_at = pull_request_id * 7 % 30;
             INSERT INTO usage_samples (environment_id, sampled_at, cpu_millicores, memory_bytes)
             SELECT id, CASE pull_request_id % 4 WHEN 0 THEN 1 ELSE {FRESH} END, \
                 CASE pull_request_id % 4 WHEN 1 THEN NULL ELSE pull_request_id * 3 % 8 END, pull_request_id * 5 % 9
             FROM environments WHERE pull_request_id % 5 <> 2;"
        ))
        .await;
}

/// What [`changed_and_measured`] gives environment `n`. The least where nothing fresh is known.
fn measured(n: i64, value: i64) -> i64 {
    if n % 5 == 2 || n % 4 == 0 { -1 } else { value }
}

/// All that a list shows in this order.
fn ordered(order: EnvironmentOrder) -> Vec<i64> {
    let repository = |n: i64| (format!("owner{}", (1 + n % 50) % 10), format!("name{}", 1 + n % 50));
    let status =
        |n: i64| ["", "pending", "deploying", "failed", "deleting"].get((n % 10) as usize).unwrap_or(&"running");
    let mut numbers: Vec<i64> = (1..=ENVIRONMENTS).filter(|n| n % 10 != 0).collect();
    match order {
        EnvironmentOrder::Newest => numbers.reverse(),
        EnvironmentOrder::Oldest => {}
        EnvironmentOrder::Changed => numbers.sort_by_key(|n| (-(n * 7 % 30), -n)),
        EnvironmentOrder::Repository => numbers.sort_by_key(|n| (repository(*n), *n)),
        EnvironmentOrder::Status => numbers.sort_by_key(|n| (status(*n), -n)),
        EnvironmentOrder::Cpu => {
            numbers.sort_by_key(|n| (-measured(*n, if n % 4 == 1 { -1 } else { n * 3 % 8 }), -n));
        }
        EnvironmentOrder::Memory => numbers.sort_by_key(|n| (-measured(*n, n * 5 % 9), -n)),
    }
    numbers
}

#[tokio::test]
async fn every_order_is_whole_and_the_same_on_all_pages() {
    for_each_database(async |database| {
        changed_and_measured(database).await;
        let store = database.store();
        for order in EnvironmentOrder::ALL {
            let expected = ordered(*order);
            assert_eq!(page(&store, &everything(), *order, 0).await, expected, "{order:?}");

            let (mut paged, some) = (Vec::<i64>::new(), EnvironmentFilter { limit: 7, ..everything() });
            for offset in (0..).step_by(7) {
                let next = page(&store, &some, *order, offset).await;
                paged.extend(&next);
                if next.len() < 7 {
                    break;
                }
            }
            assert_eq!(paged, expected, "{order:?}, page by page");
            assert!(page(&store, &some, *order, ENVIRONMENTS).await.is_empty(), "nothing comes after the last");

            let two = [EnvironmentStatus::Deploying, EnvironmentStatus::Running];
            let filter = EnvironmentFilter { statuses: two.to_vec(), of_team: patterns(&["owner4/*"]), ..everything() };
            let filtered: Vec<i64> =
                expected.into_iter().filter(|n| !matches!(n % 10, 1 | 3 | 4) && (1 + n % 50) % 10 == 4).collect();
            assert_eq!(page(&store, &filter, *order, 0).await, filtered, "{order:?}, filtered");
        }
        // Where a page of the other list begins means nothing here.
        let after = Some("0190a000-0000-7000-8000-000000000050".to_owned());
        let filter = EnvironmentFilter { after, ..everything() };
        assert_eq!(page(&store, &filter, EnvironmentOrder::Newest, 0).await, ordered(EnvironmentOrder::Newest));
    })
    .await;
}

#[tokio::test]
async fn every_change_is_told_from_the_state_before() {
    for_each_database(async |database| {
        let store = database.store();
        let mut known = vec![store.state_of_environments().await.unwrap()];
        let mut is_news = async |what: &str| {
            let state = store.state_of_environments().await.unwrap();
            assert_eq!(store.state_of_environments().await.unwrap(), state, "nothing happened");
            assert!(!known.contains(&state), "{what}");
            known.push(state);
            // What follows may come within the same millisecond.
            database.execute("UPDATE environments SET updated_at = updated_at - 1").await;
            known.push(store.state_of_environments().await.unwrap());
        };
        let facts = pull_request(7);
        tell_of(&store, &facts).await;
        is_news("opened").await;
        tell_of(&store, &pushed(&facts, 2, 1)).await;
        is_news("pushed").await;
        let lease = claim(&store).await;
        let step = Record { event: Some(event(EventKind::Deploying)), ..Record::default() };
        store.record(&lease, step).await.unwrap().unwrap();
        is_news("a step of a pass").await;
        tell_of(&store, &in_state(&facts, PullRequestState::Closed, 2)).await;
        is_news("closed").await;
    })
    .await;
}
