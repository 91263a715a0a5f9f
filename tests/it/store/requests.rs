//! What people and agents ask for: retry, deletion, tokens.

use previewd::{
    environment::{CommitSha, DeploymentStatus, EnvironmentStatus, Hold, Reason},
    store::{DeploymentChanges, EnvironmentChanges, EventKind, NewToken, Record, Store},
};

use super::{
    database::for_each_database,
    given::{claim, claimed_environment, commit, environment_of, event},
};

/// The environment of pull request 7 in each status, and its failed deployment of commit 1.
async fn environment_in(store: &Store, status: EnvironmentStatus) -> String {
    let lease = claim(store).await;
    let failed = DeploymentChanges { status: Some(DeploymentStatus::Failed.code()), ..Default::default() };
    let record = Record {
        environment: Some(EnvironmentChanges::status(status, None)),
        deployment: Some((commit(1), failed)),
        ..Record::default()
    };
    store.record(&lease, record).await.unwrap().unwrap();
    store.release(&lease, Some(std::time::Duration::ZERO), 4, true).await.unwrap();
    lease.environment_id
}

#[tokio::test]
async fn only_what_failed_is_tried_again() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, _) = claimed_environment(&store).await;
        store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await.unwrap();
        let retry =
            async |id: &str| store.request_retry(id, &commit(1), event(EventKind::RetryRequested)).await.unwrap();
        let requests = "SELECT CAST(count(*) AS TEXT) AS line FROM events WHERE kind = 'retry_requested'";

        for &status in EnvironmentStatus::ALL.iter().filter(|status| **status != EnvironmentStatus::Failed) {
            let id = environment_in(&store, status).await;
            let before = environment_of(&store, 7).await.environment;
            assert!(!retry(&id).await, "{status}");
            let after = environment_of(&store, 7).await.environment;
            assert_eq!((after.status, after.revision), (status, before.revision));
            assert_eq!(store.deployment(&id, &commit(1)).await.unwrap().unwrap().status, DeploymentStatus::Failed);
        }
        assert_eq!(database.line(requests).await, "0");

        let id = environment_in(&store, EnvironmentStatus::Failed).await;
        assert!(retry(&id).await);
        assert!(!retry(&id).await, "the second finds it pending");
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!((environment.status, environment.failures), (EnvironmentStatus::Pending, 0));
        assert!(environment.refresh && store.has_due_environment().await.unwrap());
        assert_eq!(store.deployment(&id, &commit(1)).await.unwrap().unwrap().status, DeploymentStatus::Cancelled);
        assert_eq!(database.line(requests).await, "1");
        assert!(!retry("nobody").await);
    })
    .await;
}

#[tokio::test]
async fn a_deletion_is_asked_for_once() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, _) = claimed_environment(&store).await;
        store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await.unwrap();
        let id = environment_in(&store, EnvironmentStatus::Running).await;
        let delete_at = async |expected: Option<&CommitSha>| {
            store.request_deletion(&id, expected, event(EventKind::DeletionRequested)).await.unwrap()
        };
        let delete = async || delete_at(None).await;
        assert!(!delete_at(Some(&commit(2))).await, "another commit is the head");
        assert_eq!(environment_of(&store, 7).await.environment.status, EnvironmentStatus::Running);
        assert!(delete_at(Some(&commit(1))).await);
        let asked = environment_of(&store, 7).await.environment;
        assert_eq!((asked.status, asked.reason), (EnvironmentStatus::Deleting, Some(Reason::RemovedByHand)));
        assert_eq!(asked.hold, Hold::RemovedByHand);
        assert!(store.has_due_environment().await.unwrap());

        assert!(!delete().await);
        assert_eq!(environment_of(&store, 7).await.environment.revision, asked.revision);
        environment_in(&store, EnvironmentStatus::Deleted).await;
        assert!(!delete().await);
        let requests = "SELECT kind || ' by ' || actor AS line FROM events WHERE kind = 'deletion_requested'";
        assert_eq!(database.lines(requests).await, ["deletion_requested by alice"]);
        assert!(!store.request_deletion("nobody", None, event(EventKind::DeletionRequested)).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_deletion_overtakes_the_pass_under_way() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let id = &overview.environment.id;
        assert!(store.request_deletion(id, None, event(EventKind::DeletionRequested)).await.unwrap());
        let running = Record {
            environment: Some(EnvironmentChanges::status(EnvironmentStatus::Running, None)),
            ..Record::default()
        };
        assert!(store.record(&lease, running).await.unwrap().is_err());
        store.release(&lease, None, 0, true).await.unwrap();
        assert_eq!(environment_of(&store, 7).await.environment.status, EnvironmentStatus::Deleting);
        assert!(store.has_due_environment().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_token_is_valid_until_it_expires_or_is_revoked() {
    for_each_database(async |database| {
        let store = database.store();
        let now = store.clock().await.unwrap();
        let create = async |hash: &str, expires_at| {
            let token = NewToken {
                subject: "alice".to_owned(),
                hash: hash.to_owned(),
                role: "member".to_owned(),
                teams: vec!["shop".to_owned(), "ops".to_owned()],
                expires_at,
            };
            store.create_token(token).await
        };
        let id = create("one", None).await.unwrap();
        create("two", Some(now + 60_000)).await.unwrap();
        create("three", Some(now - 1)).await.unwrap();
        assert!(create("one", None).await.is_err(), "a hash is one token's");

        let valid = async |hash: &str| store.valid_token(hash).await.unwrap();
        let token = valid("one").await.unwrap();
        assert_eq!((token.id.as_str(), token.subject.as_str(), token.role.as_str()), (&*id, "alice", "member"));
        assert_eq!(token.teams, ["shop", "ops"]);
        assert!(valid("two").await.is_some());
        assert!(valid("three").await.is_none() && valid("four").await.is_none());
        assert_eq!(store.list_tokens().await.unwrap().len(), 3);

        assert!(store.revoke_token(&id).await.unwrap());
        assert!(!store.revoke_token(&id).await.unwrap() && !store.revoke_token("nobody").await.unwrap());
        assert!(valid("one").await.is_none());
    })
    .await;
}
