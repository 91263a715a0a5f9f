//! Deliveries: each recorded once, and what its facts mean for the environment from that moment on.

use previewd::{
    environment::{
        ATTEMPTS, Cause, Change, CommitSha, DeploymentStatus, EnvironmentStatus, Hold, PullFailure, PullRequestFacts,
        PullRequestState, Reason, RepositoryFacts, RepositoryState,
    },
    store::{
        DeploymentChanges, EnvironmentChanges, EventKind, Lease, Overview, Record, RecordedDelivery, Store, StoreError,
    },
};

use super::{
    database::{Database, for_each_database},
    given::{
        asks, claim, claimed_environment, commit, delivery, environment_of, event, everything, in_state, later,
        pull_request, pushed, record_deployment, render_of, repository, tell, tell_of,
    },
};

async fn count(database: &Database, table: &str) -> String {
    database.line(&format!("SELECT CAST(count(*) AS TEXT) AS line FROM {table}")).await
}

/// A push: the facts after it, and the head before.
async fn tell_push(store: &Store, facts: &PullRequestFacts, before: CommitSha) {
    tell(store, Change::PullRequest { facts: facts.clone(), before: Some(before) }).await;
}

/// Ends whatever is due, with its environment and the deployment of commit `n` in these statuses.
async fn settle(store: &Store, environment: EnvironmentStatus, deployment: Option<(u64, DeploymentStatus)>) {
    let lease = claim(store).await;
    let status = |status: DeploymentStatus| DeploymentChanges { status: Some(status.code()), ..Default::default() };
    let record = Record {
        environment: Some(EnvironmentChanges::status(environment, None)),
        deployment: deployment.map(|(n, code)| (commit(n), status(code))),
        ..Record::default()
    };
    store.record(&lease, record).await.unwrap().unwrap();
    store.release(&lease, None, 0, true).await.unwrap();
}

async fn running_environment(store: &Store) -> PullRequestFacts {
    let facts = pull_request(7);
    tell_of(store, &facts).await;
    settle(store, EnvironmentStatus::Running, Some((1, DeploymentStatus::Succeeded))).await;
    facts
}

/// Closed and opened again within one second, and told in the other order: nobody but GitHub knows what came last.
#[tokio::test]
async fn what_may_be_open_is_looked_at() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &in_state(&pull_request(7), PullRequestState::Closed, 0)).await;
        assert!(store.find_environment_of(&repository().name, 7).await.unwrap().is_none());
        tell_of(&store, &pull_request(7)).await;
        let Overview { environment, pull_request: stored } = environment_of(&store, 7).await;
        assert_eq!(stored.facts.state, PullRequestState::Closed, "of the same second, without proof");
        assert!(environment.refresh && store.has_due_environment().await.unwrap(), "and a pass asks GitHub");
    })
    .await;
}

#[tokio::test]
async fn a_pull_request_gets_one_environment() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        let Overview { environment, pull_request: stored } = environment_of(&store, 7).await;
        assert_eq!(stored.facts, pull_request(7));
        assert_eq!(stored.repository_state, RepositoryState::Active);
        assert_eq!((environment.status, environment.hold), (EnvironmentStatus::Pending, Hold::None));
        assert!(environment.namespace.as_str().starts_with("pr-7-shop-"), "{}", environment.namespace);
        assert!(environment.refresh && store.has_due_environment().await.unwrap());
        assert_eq!(database.lines("SELECT kind || ' by ' || actor AS line FROM events").await, ["created by alice"]);

        let seen_closed = in_state(&pull_request(8), PullRequestState::Closed, 0);
        tell_of(&store, &seen_closed).await;
        assert!(store.find_environment_of(&repository().name, 8).await.unwrap().is_none(), "it was never open here");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_delivery_sixteen_times_at_once_is_recorded_once() {
    for_each_database(async |database| {
        let tasks = (0..16).map(|_| {
            let store = database.store();
            let change = Change::PullRequest { facts: pull_request(7), before: None };
            tokio::spawn(async move { store.record_delivery(delivery("the-same"), change).await.unwrap() })
        });
        let mut recorded = 0;
        for task in tasks.collect::<Vec<_>>() {
            match task.await.unwrap() {
                RecordedDelivery::Recorded => recorded += 1,
                RecordedDelivery::Duplicate => {}
                RecordedDelivery::Ignored(reason) => panic!("ignored: {reason}"),
            }
        }
        assert_eq!(recorded, 1);
        for table in ["deliveries", "pull_requests", "environments", "events"] {
            assert_eq!(count(database, table).await, "1", "{table}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_deliveries_of_one_opening_at_once_make_one_environment() {
    for_each_database(async |database| {
        let tasks = (0..16).map(|n| {
            let store = database.store();
            // Those of labels and reviewers come in the second of the opening, in any order.
            let change = Change::PullRequest { facts: later(&pull_request(7), n % 4), before: None };
            tokio::spawn(async move { store.record_delivery(delivery(&format!("guid-{n}")), change).await.unwrap() })
        });
        for task in tasks.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), RecordedDelivery::Recorded);
        }
        assert_eq!(count(database, "environments").await, "1");
        assert_eq!(count(database, "events").await, "1");
        let newest = later(&pull_request(7), 3);
        assert_eq!(environment_of(&database.store(), 7).await.pull_request.facts, newest, "the newest facts stand");
    })
    .await;
}

/// On PostgreSQL transactions that took locks in different orders would end as deadlocks here.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deliveries_and_passes_do_not_stand_in_each_others_way() {
    for_each_database(async |database| {
        for number in 1..=4 {
            tell_of(&database.store(), &pull_request(number)).await;
        }
        let tellers = (0..4).map(|teller: i64| {
            let store = database.store();
            tokio::spawn(async move {
                for n in 1..=15_i64 {
                    let mut facts = pushed(&pull_request(1 + n % 4), n as u64, n);
                    let names = ["acme/shop", "acme/store", "acme/market"];
                    facts.repository.name = names[n as usize % 3].parse().unwrap();
                    let change = match (teller, n % 3) {
                        (0, 0) => Change::Repository(facts.repository),
                        (1, 0) => Change::Installation { app_installation_id: 77, state: RepositoryState::Suspended },
                        (2, 0) => Change::InstallationRepositories {
                            app_installation_id: 77,
                            added: vec![1],
                            removed: vec![2],
                        },
                        _ => Change::PullRequest { facts, before: None },
                    };
                    store.record_delivery(delivery(&format!("{teller}-{n}")), change).await?;
                }
                Ok::<(), StoreError>(())
            })
        });
        let passes = (0..4).map(|_| {
            let store = database.store();
            tokio::spawn(async move {
                for n in 1..=15 {
                    let Some((lease, environment)) = store.claim_due_environment().await? else { continue };
                    let overview = store.find_environment(&environment.id).await?.expect("it is there");
                    let facts = pushed(&overview.pull_request.facts, n, 0);
                    let _ = store.confirm_pull_request(&lease, facts).await?;
                    let step = Record {
                        deployment: Some((commit(n), DeploymentChanges::default())),
                        end_others: Some(DeploymentStatus::Superseded),
                        event: Some(event(EventKind::Deploying)),
                        ..Record::default()
                    };
                    let _ = store.record(&lease, step).await?;
                    store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await?;
                }
                Ok::<(), StoreError>(())
            })
        });
        for task in tellers.chain(passes).collect::<Vec<_>>() {
            task.await.unwrap().unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn the_same_commit_told_twice_changes_no_status() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        tell_of(&store, &facts).await;
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!(environment.status, EnvironmentStatus::Running);
        assert!(environment.refresh, "GitHub is asked what is true");
        assert_eq!(count(database, "environments").await, "1");
        assert_eq!(count(database, "deployments").await, "1");
    })
    .await;
}

#[tokio::test]
async fn only_newer_facts_are_believed() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        let head = async |store: &Store| environment_of(store, 7).await.pull_request.facts.head_sha;

        let mut older = pushed(&facts, 9, -1);
        older.repository.name = "acme/old-name".parse().unwrap();
        tell_of(&store, &older).await;
        tell_of(&store, &pushed(&facts, 9, 0)).await;
        tell_push(&store, &pushed(&facts, 9, 0), commit(8)).await;
        assert_eq!(head(&store).await, commit(1), "older, or of the same second without proof");
        assert_eq!(environment_of(&store, 7).await.environment.status, EnvironmentStatus::Running);

        tell_push(&store, &pushed(&facts, 2, 0), commit(1)).await;
        assert_eq!(head(&store).await, commit(2), "of the same second, and it follows the head that is known");
        tell_of(&store, &pushed(&facts, 3, 1)).await;
        assert_eq!(head(&store).await, commit(3));
        tell_push(&store, &pushed(&facts, 5, 2), commit(4)).await;
        assert_eq!(head(&store).await, commit(5), "newer, though a push between was never told");
        assert_eq!(environment_of(&store, 7).await.environment.status, EnvironmentStatus::Pending);
    })
    .await;
}

#[tokio::test]
async fn a_push_is_pending_from_the_moment_it_is_told() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        tell_push(&store, &pushed(&facts, 2, 1), commit(1)).await;
        let Overview { environment, pull_request } = environment_of(&store, 7).await;
        assert_eq!((environment.status, pull_request.facts.head_sha), (EnvironmentStatus::Pending, commit(2)));
        assert!(store.has_due_environment().await.unwrap());

        let mut labelled = pushed(&facts, 2, 2);
        labelled.labels.push("other".to_owned());
        settle(&store, EnvironmentStatus::Running, Some((2, DeploymentStatus::Succeeded))).await;
        tell_of(&store, &labelled).await;
        let Overview { environment, pull_request } = environment_of(&store, 7).await;
        assert_eq!((environment.status, pull_request.facts), (EnvironmentStatus::Running, labelled));
        assert!(store.has_due_environment().await.unwrap(), "what a label means, the next pass says");
    })
    .await;
}

#[tokio::test]
async fn an_environment_closes_and_opens_again() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        let id = environment_of(&store, 7).await.environment.id;
        let status = async || environment_of(&store, 7).await.environment.status;

        tell_of(&store, &in_state(&facts, PullRequestState::Closed, 1)).await;
        assert_eq!(status().await, EnvironmentStatus::Deleting);
        settle(&store, EnvironmentStatus::Deleted, None).await;
        tell_of(&store, &in_state(&facts, PullRequestState::Closed, 2)).await;
        assert_eq!(status().await, EnvironmentStatus::Deleted, "an edit of a closed one changes nothing");
        settle(&store, EnvironmentStatus::Deleted, Some((1, DeploymentStatus::Failed))).await;

        tell_of(&store, &in_state(&facts, PullRequestState::Open, 3)).await;
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!((environment.status, &environment.id), (EnvironmentStatus::Pending, &id), "its old one again");
        assert_eq!((environment.deletion_started_at, environment.deleted_at), (None, None));
        let deployment = store.deployment(&id, &commit(1)).await.unwrap().unwrap();
        assert_eq!(deployment.status, DeploymentStatus::Cancelled, "what failed may try again");
        assert_eq!(count(database, "events").await, "1", "it is created once");
    })
    .await;
}

#[tokio::test]
async fn reopening_leaves_the_history_of_other_commits() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = pull_request(7);
        tell_of(&store, &facts).await;
        settle(&store, EnvironmentStatus::Failed, Some((1, DeploymentStatus::Failed))).await;
        tell_of(&store, &pushed(&facts, 2, 1)).await;
        settle(&store, EnvironmentStatus::Failed, Some((2, DeploymentStatus::Failed))).await;
        tell_of(&store, &in_state(&pushed(&facts, 2, 2), PullRequestState::Closed, 0)).await;
        tell_of(&store, &in_state(&pushed(&facts, 2, 3), PullRequestState::Open, 0)).await;
        let id = environment_of(&store, 7).await.environment.id;
        let status = async |n| store.deployment(&id, &commit(n)).await.unwrap().unwrap().status;
        assert_eq!((status(1).await, status(2).await), (DeploymentStatus::Failed, DeploymentStatus::Cancelled));

        tell_of(&store, &pushed(&facts, 1, 4)).await;
        assert_eq!(status(1).await, DeploymentStatus::Cancelled, "the branch went back to it");
    })
    .await;
}

#[tokio::test]
async fn only_a_push_or_reopening_lifts_a_hold() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        let held = async || environment_of(&store, 7).await.environment.hold == Hold::RemovedByHand;
        let id = environment_of(&store, 7).await.environment.id;
        let delete = async || store.request_deletion(&id, asks(EventKind::DeletionRequested)).await.unwrap();

        assert!(delete().await && held().await);
        tell_of(&store, &facts).await;
        tell_of(&store, &later(&facts, 1)).await;
        assert!(held().await, "neither a delivery told again nor an edit brings it back");
        tell_of(&store, &pushed(&facts, 2, 2)).await;
        assert!(!held().await);
        assert!(delete().await && held().await);
        tell_of(&store, &in_state(&pushed(&facts, 2, 3), PullRequestState::Closed, 0)).await;
        assert!(held().await);
        tell_of(&store, &in_state(&pushed(&facts, 2, 4), PullRequestState::Open, 0)).await;
        assert!(!held().await);
        assert_eq!(environment_of(&store, 7).await.environment.status, EnvironmentStatus::Pending);
    })
    .await;
}

#[tokio::test]
async fn a_pull_request_known_by_another_id_keeps_its_environment() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        let id = environment_of(&store, 7).await.environment.id;
        let other = PullRequestFacts { github_id: 4242, ..pushed(&facts, 2, 1) };
        tell_of(&store, &other).await;
        let Overview { environment, pull_request } = environment_of(&store, 7).await;
        assert_eq!((environment.id, environment.pull_request_id), (id, 4242));
        assert_eq!((environment.status, pull_request.facts), (EnvironmentStatus::Pending, other));
    })
    .await;
}

#[tokio::test]
async fn a_repository_keeps_its_environments_under_another_name() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        let renamed = RepositoryFacts { name: "acme/store".parse().unwrap(), ..repository() };
        tell(&store, Change::Repository(renamed.clone())).await;
        assert!(store.find_environment_of(&repository().name, 7).await.unwrap().is_none());
        assert!(store.find_environment_of(&renamed.name, 7).await.unwrap().is_some());
        assert!(store.has_due_environment().await.unwrap());
        tell_of(&store, &later(&facts, -1)).await;
        assert!(store.find_environment_of(&renamed.name, 7).await.unwrap().is_some(), "old news has an old name");

        // Another repository has the name now, and nobody told of what became of this one.
        let mut usurper = pull_request(1);
        usurper.github_id = 5000;
        usurper.repository = RepositoryFacts { github_id: 2, ..renamed.clone() };
        tell_of(&store, &usurper).await;
        let found = store.find_environment_of(&renamed.name, 1).await.unwrap().unwrap();
        assert_eq!(found.pull_request.facts.repository.github_id, 2);
        let (all, _) = store.list_environments(&everything()).await.unwrap();
        assert_eq!(all.len(), 2, "both are shown");
        let longest = RepositoryFacts { name: format!("acme/{}", "x".repeat(100)).parse().unwrap(), ..renamed };
        tell(&store, Change::Repository(longest.clone())).await;
        tell(&store, Change::Repository(RepositoryFacts { github_id: 2, ..longest })).await;
        let (all, _) = store.list_environments(&everything()).await.unwrap();
        assert_eq!(all.len(), 2, "a name as long as can be makes no difference");
    })
    .await;
}

#[tokio::test]
async fn access_comes_and_goes_with_the_installation() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        let state = async || environment_of(&store, 7).await.pull_request.repository_state;
        let due = async || {
            let due = store.has_due_environment().await.unwrap();
            database.execute("UPDATE environments SET due_at = NULL").await;
            due
        };
        let installation = |app_installation_id, state| Change::Installation { app_installation_id, state };
        let repositories = |added: &[i64], removed: &[i64]| Change::InstallationRepositories {
            app_installation_id: 77,
            added: added.to_vec(),
            removed: removed.to_vec(),
        };

        tell(&store, installation(78, RepositoryState::Removed)).await;
        assert!(state().await == RepositoryState::Active && !due().await, "another installation");
        tell(&store, installation(77, RepositoryState::Suspended)).await;
        assert!(state().await == RepositoryState::Suspended && due().await);
        tell_of(&store, &later(&facts, -1)).await;
        assert_eq!(state().await, RepositoryState::Suspended, "old news gives no access");
        tell(&store, installation(77, RepositoryState::Active)).await;
        assert!(state().await == RepositoryState::Active && due().await);

        tell(&store, repositories(&[], &[1])).await;
        assert!(state().await == RepositoryState::Removed && due().await);
        tell(&store, installation(77, RepositoryState::Suspended)).await;
        tell(&store, installation(77, RepositoryState::Active)).await;
        assert_eq!(state().await, RepositoryState::Removed, "what was taken stays taken");
        tell(&store, repositories(&[1, 99], &[])).await;
        assert!(state().await == RepositoryState::Active && due().await);

        tell(&store, Change::RepositoryDeleted { github_id: 1 }).await;
        assert!(state().await == RepositoryState::Removed && due().await);
        tell_of(&store, &later(&facts, 1)).await;
        assert_eq!(state().await, RepositoryState::Active, "who tells of it has access");

        let moved = RepositoryFacts { app_installation_id: Some(78), ..repository() };
        tell(&store, Change::Repository(moved)).await;
        tell(&store, repositories(&[], &[1])).await;
        assert_eq!(state().await, RepositoryState::Active, "it belongs to another installation by now");
        tell(&store, installation(78, RepositoryState::Removed)).await;
        assert_eq!(state().await, RepositoryState::Removed);
    })
    .await;
}

#[tokio::test]
async fn what_is_gone_for_good_is_not_looked_at_again() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = running_environment(&store).await;
        tell_of(&store, &in_state(&facts, PullRequestState::Merged, 1)).await;
        settle(&store, EnvironmentStatus::Deleted, None).await;
        tell(&store, Change::Repository(repository())).await;
        assert!(!store.has_due_environment().await.unwrap());
        database.execute("UPDATE pull_requests SET state = 'open'").await;
        tell(&store, Change::Repository(repository())).await;
        assert!(store.has_due_environment().await.unwrap(), "an open one may come back");
    })
    .await;
}

#[tokio::test]
async fn what_means_nothing_is_recorded_with_its_reason() {
    for_each_database(async |database| {
        let store = database.store();
        let ignored = Change::Nothing { reason: "event_not_used" };
        assert_eq!(tell(&store, ignored).await, RecordedDelivery::Ignored("event_not_used"));
        let line = database.line("SELECT outcome || ' ' || reason AS line FROM deliveries").await;
        assert_eq!(line, "ignored event_not_used");
    })
    .await;
}

#[tokio::test]
async fn a_commit_wakes_the_engine_of_its_process() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        store.made_due().await;
        let (_, overview) = claimed_environment(&store).await;
        store.made_due().await;
        store.wake(&overview.environment.namespace).await.unwrap();
        store.made_due().await;
    })
    .await;
}

/// Not every registry says that it does not have an image: the commit fails for want of it, and its build ends later.
#[tokio::test]
async fn what_lacks_its_image_tries_again_when_its_build_ends() {
    for_each_database(async |database| {
        let store = database.store();
        let built = async |commit: &CommitSha| {
            tell(&store, Change::Built { repository_id: 1, commit: Some(commit.clone()), perhaps: false }).await;
            let environment = environment_of(&store, 7).await.environment;
            (environment.status, environment.reason, store.has_due_environment().await.unwrap())
        };
        let (container, image) = ("app".to_owned(), "shop".to_owned());
        let cause = Cause::ImagePullFailed { container, image, why: PullFailure::Denied };
        let lacks = async |lease: &Lease, head: &CommitSha, status: EnvironmentStatus, row: DeploymentChanges| {
            let record = Record {
                environment: Some(EnvironmentChanges::status(status, Some(&cause))),
                deployment: Some((head.clone(), row)),
                ..Record::default()
            };
            store.record(lease, record).await.unwrap().unwrap();
            store.release(lease, None, 0, true).await.unwrap();
        };
        let (lease, overview) = claimed_environment(&store).await;
        let (id, head) = (&overview.environment.id, &overview.pull_request.facts.head_sha);

        let last = DeploymentChanges {
            status: Some(DeploymentStatus::Deploying.code()),
            attempt: Some(ATTEMPTS),
            ..DeploymentChanges::default()
        };
        lacks(&lease, head, EnvironmentStatus::Deploying, last).await;
        let lacks_it = (EnvironmentStatus::Deploying, Some(Reason::ImagePullFailed));
        assert_eq!(built(&commit(9)).await, (lacks_it.0, lacks_it.1, false), "another commit's");
        assert_eq!(built(head).await, (lacks_it.0, lacks_it.1, true));
        let row = store.deployment(id, head).await.unwrap().unwrap();
        assert_eq!((row.status, row.attempt), (DeploymentStatus::Deploying, ATTEMPTS - 1), "one more attempt");
        assert!(row.retry_at.is_some(), "at once");

        let lease = claim(&store).await;
        let ended = DeploymentChanges { status: Some(DeploymentStatus::Failed.code()), ..DeploymentChanges::default() };
        lacks(&lease, head, EnvironmentStatus::Failed, ended).await;
        assert_eq!(built(&commit(9)).await, (EnvironmentStatus::Failed, Some(Reason::ImagePullFailed), false));
        assert_eq!(built(head).await, (EnvironmentStatus::Pending, None, true));
        let row = store.deployment(id, head).await.unwrap().unwrap();
        assert_eq!(row.status, DeploymentStatus::Cancelled, "the plan begins a new round");

        // It failed before any attempt of it had begun.
        let lease = claim(&store).await;
        let ended = DeploymentChanges {
            status: Some(DeploymentStatus::Failed.code()),
            attempt: Some(0),
            ..DeploymentChanges::default().images(Some(&["shop:pr-7".to_owned()]), Some(5))
        };
        lacks(&lease, head, EnvironmentStatus::Failed, ended).await;
        assert_eq!(built(head).await, (EnvironmentStatus::Pending, None, true));
        let row = store.deployment(id, head).await.unwrap().unwrap();
        assert_eq!((row.status, row.round, row.reason), (DeploymentStatus::Pending, 1, None), "it goes on waiting");
        assert_eq!((row.awaited_images, row.images_deadline), (None, None), "and is looked for anew");
    })
    .await;
}

/// Of which commit a run at the default branch was nobody knows: previewd's own comment may have started it, and would
/// again with each round.
#[tokio::test]
async fn what_lacks_its_image_is_only_looked_at_after_a_run_of_no_known_commit() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let (id, head) = (&overview.environment.id, &overview.pull_request.facts.head_sha);
        let cause = Cause::ImageMissing { image: "shop:pr-7".to_owned() };
        let lacks = async |lease: &Lease, environment: EnvironmentStatus, deployment: DeploymentStatus| {
            let row = DeploymentChanges {
                status: Some(deployment.code()),
                attempt: Some(ATTEMPTS),
                ..DeploymentChanges::default().cause(Some(&cause))
            };
            let record = Record {
                environment: Some(EnvironmentChanges::status(environment, Some(&cause)).checked(5)),
                deployment: Some((head.clone(), row)),
                ..Record::default()
            };
            store.record(lease, record).await.unwrap().unwrap();
            store.release(lease, None, 0, true).await.unwrap();
        };
        let ran = async |commit: Option<CommitSha>| {
            tell(&store, Change::Built { repository_id: 1, commit, perhaps: true }).await;
            let environment = environment_of(&store, 7).await.environment;
            let row = store.deployment(id, head).await.unwrap().unwrap();
            let is_looked_at = environment.check_is_due && store.has_due_environment().await.unwrap();
            (is_looked_at, environment.status, row.status, row.round, row.attempt, row.retry_at)
        };
        let (deploying, failed) = (EnvironmentStatus::Deploying, EnvironmentStatus::Failed);
        lacks(&lease, deploying, DeploymentStatus::Deploying).await;
        let same = (true, deploying, DeploymentStatus::Deploying, 1, ATTEMPTS, None);
        assert_eq!(ran(Some(commit(9))).await, same, "it goes on as it was");
        for commit in [Some(commit(9)), None] {
            lacks(&claim(&store).await, failed, DeploymentStatus::Failed).await;
            let same = (true, failed, DeploymentStatus::Failed, 1, ATTEMPTS, None);
            assert_eq!(ran(commit).await, same, "a pass says whether it is there");
        }
        // One that names the head was built of it.
        lacks(&claim(&store).await, failed, DeploymentStatus::Failed).await;
        let (_, environment, row, ..) = ran(Some(head.clone())).await;
        assert_eq!((environment, row), (EnvironmentStatus::Pending, DeploymentStatus::Cancelled));
    })
    .await;
}

/// The tag of a pull request may have meant the image of the commit before until its build ended.
#[tokio::test]
async fn what_runs_is_looked_at_when_its_build_ends() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let head = &overview.pull_request.facts.head_sha;
        record_deployment(&store, &lease, head.clone()).await;
        store.begin_apply(&lease, head, &render_of(&["app"]), None, true).await.unwrap().unwrap();
        let runs = EnvironmentChanges::status(EnvironmentStatus::Running, None);
        store.record(&lease, Record { environment: Some(runs), ..Record::default() }).await.unwrap().unwrap();
        store.release(&lease, None, 0, true).await.unwrap();
        let is_looked_at = async |commit: Option<CommitSha>, perhaps: bool| {
            tell(&store, Change::Built { repository_id: 1, commit, perhaps }).await;
            let due = store.has_due_environment().await.unwrap();
            (environment_of(&store, 7).await.environment.check_is_due, due)
        };
        assert_eq!(is_looked_at(Some(commit(9)), false).await, (false, false), "another commit's");
        assert_eq!(is_looked_at(None, false).await, (true, true), "a package says no commit");

        // Another workflow started it, at the default branch: it may have built this one.
        let looked = async || {
            let lease = claim(&store).await;
            let checked = EnvironmentChanges::default().checked(5);
            store.record(&lease, Record { environment: Some(checked), ..Record::default() }).await.unwrap().unwrap();
            store.release(&lease, None, 0, true).await.unwrap();
        };
        looked().await;
        assert_eq!(is_looked_at(Some(commit(9)), true).await, (true, true));
        looked().await;
        tell_of(&store, &pushed(&pull_request(8), 9, 1)).await;
        settle(&store, EnvironmentStatus::Pending, None).await;
        assert_eq!(is_looked_at(Some(commit(9)), true).await, (false, false), "it is another pull request's");

        // What failed may have failed with the image of the commit before.
        database.execute("UPDATE environments SET due_at = 0 WHERE status = 'running'").await;
        let lease = claim(&store).await;
        let cause = Cause::CrashLoop { container: "app".to_owned(), restarts: 3, exit_code: Some(1) };
        let failed = EnvironmentChanges::status(EnvironmentStatus::Failed, Some(&cause)).checked(5);
        store.record(&lease, Record { environment: Some(failed), ..Record::default() }).await.unwrap().unwrap();
        store.release(&lease, None, 0, true).await.unwrap();
        assert_eq!(is_looked_at(Some(commit(9)), false).await, (false, false), "another commit's");
        assert_eq!(is_looked_at(Some(head.clone()), true).await, (true, true));
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!(environment.status, EnvironmentStatus::Failed, "a pass says whether it is another image");
    })
    .await;
}
