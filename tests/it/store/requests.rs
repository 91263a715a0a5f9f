//! What people and agents ask for: retry, deletion, tokens.

use previewd::{
    environment::{
        Cause, Change, CommandComment, CommandKey, CommentKind, CommitSha, DeploymentStatus, EnvironmentStatus, Hold,
        PullRequestFacts, PullRequestState, Reason, RepositoryFacts,
    },
    store::{DeploymentChanges, EnvironmentChanges, EventKind, NewToken, Record, Refusal, Request, Store},
};

use super::{
    database::for_each_database,
    given::{
        asks, claim, claimed_environment, commit, environment_of, event, in_state, later, pull_request, pushed,
        repository, tell, tell_of,
    },
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
        let retry = async |id: &str| store.request_retry(id, asks(EventKind::RetryRequested)).await.unwrap();
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

/// Records a status of the environment of pull request 7, with its cause.
async fn show(store: &Store, status: EnvironmentStatus, cause: Option<&Cause>) {
    let lease = claim(store).await;
    let record = Record { environment: Some(EnvironmentChanges::status(status, cause)), ..Record::default() };
    store.record(&lease, record).await.unwrap().unwrap();
    store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await.unwrap();
}

#[tokio::test]
async fn a_visit_wakes_what_sleeps_and_nothing_else() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await.unwrap();
        let id = &overview.environment.id;
        let visit = async || store.request_waking(id, asks(EventKind::RetryRequested)).await.unwrap();
        for &status in EnvironmentStatus::ALL {
            show(&store, status, None).await;
            assert!(!visit().await, "{status}");
            assert_eq!(environment_of(&store, 7).await.environment.status, status);
        }
        show(&store, EnvironmentStatus::Running, Some(&Cause::Asleep)).await;
        assert!(visit().await);
        assert!(!visit().await, "the second finds it awake");
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!((environment.status, environment.reason), (EnvironmentStatus::Pending, None));
        let requests = "SELECT CAST(count(*) AS TEXT) AS line FROM events WHERE kind = 'retry_requested'";
        assert_eq!(database.line(requests).await, "1");
    })
    .await;
}

#[tokio::test]
async fn what_sleeps_is_woken_by_a_retry_or_a_request() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await.unwrap();
        let id = &overview.environment.id;
        for kind in [EventKind::RetryRequested, EventKind::DeploymentRequested] {
            show(&store, EnvironmentStatus::Running, Some(&Cause::Asleep)).await;
            let woken = match kind {
                EventKind::RetryRequested => store.request_retry(id, asks(kind)).await.unwrap(),
                _ => store.request_deployment(id, asks(kind)).await.unwrap(),
            };
            let environment = environment_of(&store, 7).await.environment;
            assert!(woken);
            assert_eq!((environment.status, environment.reason), (EnvironmentStatus::Pending, None), "{kind}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_brings_back_what_was_held_and_leaves_alone_what_runs() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await.unwrap();
        let id = &overview.environment.id;
        let ask = async || store.request_deployment(id, asks(EventKind::DeploymentRequested)).await.unwrap();

        show(&store, EnvironmentStatus::Running, None).await;
        assert!(ask().await);
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!((environment.status, environment.requested), (EnvironmentStatus::Running, true));

        assert!(store.request_deletion(id, asks(EventKind::DeletionRequested)).await.unwrap());
        assert!(!environment_of(&store, 7).await.environment.requested);
        assert!(ask().await);
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!((environment.status, environment.hold), (EnvironmentStatus::Pending, Hold::None));

        tell_of(&store, &in_state(&pull_request(7), PullRequestState::Closed, 5)).await;
        assert!(!ask().await, "it is closed");
        assert_eq!(environment_of(&store, 7).await.environment.status, EnvironmentStatus::Deleting);
    })
    .await;
}

#[tokio::test]
async fn an_approval_is_of_the_head_and_of_no_other_commit() {
    for_each_database(async |database| {
        let store = database.store();
        let (_lease, overview) = claimed_environment(&store).await;
        let (id, pull_request_id) = (&overview.environment.id, overview.environment.pull_request_id);
        let approve = async |n: u64| store.approve(id, &commit(n), asks(EventKind::Approved)).await.unwrap();
        let is_approved = async |n: u64| store.is_approved(pull_request_id, &commit(n)).await.unwrap();
        assert!(!approve(2).await && !is_approved(2).await);
        assert!(approve(1).await && approve(1).await && is_approved(1).await);
        tell_of(&store, &pushed(&pull_request(7), 2, 5)).await;
        assert!(!approve(1).await, "it is the head no longer");
        assert!(!is_approved(2).await);
    })
    .await;
}

#[tokio::test]
async fn only_what_is_there_is_kept() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        store.release(&lease, Some(std::time::Duration::ZERO), 0, true).await.unwrap();
        let id = &overview.environment.id;
        let keep = async || store.request_keeping(id, 77, asks(EventKind::KeepingRequested)).await.unwrap();
        assert!(keep().await);
        let kept = async || environment_of(&store, 7).await.environment.lifetime.keep_until;
        assert_eq!(kept().await, Some(77));
        assert!(store.request_keeping(id, 50, asks(EventKind::KeepingRequested)).await.unwrap());
        assert_eq!(kept().await, Some(77), "nobody's wish is shortened by another's");
        show(&store, EnvironmentStatus::Deleted, Some(&Cause::Expired)).await;
        assert!(!keep().await);
    })
    .await;
}

#[tokio::test]
async fn a_command_is_stored_once_and_wakes_its_environment() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        store.release(&lease, None, 0, true).await.unwrap();
        assert!(!store.has_due_environment().await.unwrap());
        let comment = CommandComment {
            kind: CommentKind::Comment,
            comment_id: 5,
            repository_id: 1,
            number: 7,
            author: "bob".to_owned(),
            lines: vec!["/preview retry".to_owned()],
            edited: false,
        };
        let key = CommandKey { kind: CommentKind::Comment, comment_id: 5, place: 0 };
        for _ in 0..2 {
            tell(&store, Change::Command(comment.clone())).await;
        }
        tell(&store, Change::Command(CommandComment { comment_id: 6, number: 8, ..comment.clone() })).await;
        assert!(store.has_due_environment().await.unwrap());
        let open = async || store.open_commands(1, 7).await.unwrap();
        let found = open().await;
        assert_eq!((found.len(), found[0].line.as_str(), found[0].accepted), (1, "/preview retry", None));
        assert_eq!(store.open_commands(1, 8).await.unwrap().len(), 1, "of a pull request that nobody knows yet");

        let granted = Request { command: Some(key), ..asks(EventKind::DeletionRequested) };
        assert!(store.request_deletion(&overview.environment.id, granted).await.unwrap());
        assert_eq!(open().await[0].accepted, Some(true));
        let id = overview.environment.id.clone();
        let refused = Some((id, event(EventKind::DeletionRequested), Refusal::Unauthorized));
        store.refuse_command(key, "no".to_owned(), refused).await.unwrap();
        let refusals = database.lines("SELECT refusal AS line FROM events WHERE refusal IS NOT NULL").await;
        assert_eq!(refusals, ["UNAUTHORIZED"]);
        let settled = open().await;
        assert_eq!((settled[0].accepted, settled[0].answer.as_deref()), (Some(false), Some("no")));
        store.record_answered(CommentKind::Comment, 5).await.unwrap();
        assert!(open().await.is_empty());

        // The same number among reviews is another comment; of several commands each is kept, in their order.
        let lines: Vec<String> = (0..20).map(|hours| format!("/preview keep {hours}h")).collect();
        let review = CommandComment { kind: CommentKind::Review, lines: lines.clone(), ..comment.clone() };
        tell(&store, Change::Command(review.clone())).await;
        let kept = open().await;
        assert_eq!(kept.iter().map(|command| command.key.place).collect::<Vec<_>>(), (0..=10).collect::<Vec<_>>());
        assert!(kept.iter().zip(&lines).all(|(command, line)| command.line == *line));
        let key = CommandKey { kind: CommentKind::Review, ..key };
        store.settle_command(key, None).await.unwrap();
        store.record_answered(CommentKind::Review, 5).await.unwrap();
        assert_eq!(open().await.len(), 10, "those that were not run wait");
        tell(&store, Change::Command(CommandComment { edited: true, ..comment })).await;
        let places = open().await.into_iter().map(|command| (command.key.kind, command.key.place));
        assert!(places.into_iter().any(|place| place == (CommentKind::Comment, CommandKey::EDITED_IN)));
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
            store
                .request_deletion(&id, Request { expected: expected.cloned(), ..asks(EventKind::DeletionRequested) })
                .await
                .unwrap()
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
        assert!(!store.request_deletion("nobody", asks(EventKind::DeletionRequested)).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_deletion_overtakes_the_pass_under_way() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let id = &overview.environment.id;
        assert!(store.request_deletion(id, asks(EventKind::DeletionRequested)).await.unwrap());
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
                repository: None,
                pull_request: None,
                expires_at,
            };
            store.create_token(token, event(EventKind::TokenCreated)).await
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

        let revoke = async |id: &str| store.revoke_token(id, event(EventKind::TokenRevoked)).await.unwrap();
        assert!(revoke(&id).await);
        assert!(!revoke(&id).await && !revoke("nobody").await);
        let said = database.lines("SELECT kind AS line FROM events ORDER BY id").await;
        assert_eq!(said, ["token_created", "token_created", "token_created", "token_revoked"], "what was done, once");
        assert!(valid("one").await.is_none());
    })
    .await;
}

/// What is made for one pull request or repository ends with it, and goes where it goes.
#[tokio::test]
async fn tokens_die_with_what_they_are_for() {
    for_each_database(async |database| {
        let store = database.store();
        let facts = pull_request(7);
        let take = async |facts: PullRequestFacts| tell_of(&store, &facts).await;
        take(facts.clone()).await;
        take(pull_request(8)).await;
        let create = async |hash: &str, pull_request: Option<i64>| {
            let token = NewToken {
                subject: "bot".to_owned(),
                hash: hash.to_owned(),
                role: "admin".to_owned(),
                teams: vec!["shop".to_owned()],
                repository: Some("acme/shop".to_owned()),
                pull_request,
                expires_at: None,
            };
            store.create_token(token, event(EventKind::TokenCreated)).await.unwrap()
        };
        let (seven, _, _) = (create("seven", Some(7)).await, create("eight", Some(8)).await, create("all", None).await);
        let valid = async |hash: &str| store.valid_token(hash).await.unwrap().map(|token| token.repository.unwrap());
        assert_eq!(valid("seven").await.as_deref(), Some("acme/shop"));

        take(in_state(&facts, PullRequestState::Closed, 1)).await;
        assert_eq!(valid("seven").await, None);
        let said = database.lines("SELECT detail AS line FROM events WHERE kind = 'token_revoked'").await;
        assert_eq!(said, [format!("{seven}: its pull request is closed")]);
        take(in_state(&facts, PullRequestState::Open, 2)).await;
        assert_eq!(valid("seven").await, None, "what is dead stays so");
        assert!(valid("eight").await.is_some() && valid("all").await.is_some());

        let renamed = |name: &str, seconds| PullRequestFacts {
            repository: RepositoryFacts { name: name.parse().unwrap(), ..repository() },
            ..later(&facts, seconds)
        };
        take(renamed("acme/store", 3)).await;
        assert_eq!(valid("all").await.as_deref(), Some("acme/store"));
        // Another repository has the name before anybody told that the first gave it up.
        let other = RepositoryFacts { github_id: 2, name: "acme/store".parse().unwrap(), ..repository() };
        take(PullRequestFacts { repository: other, github_id: 2_001, number: 1, ..pull_request(1) }).await;
        assert_ne!(valid("all").await.as_deref(), Some("acme/store"), "it is not for that one");
        take(renamed("acme/market", 4)).await;
        assert_eq!(valid("all").await.as_deref(), Some("acme/market"));

        take(in_state(
            &PullRequestFacts { repository: renamed("acme/market", 0).repository, ..pull_request(8) },
            PullRequestState::Merged,
            5,
        ))
        .await;
        assert_eq!(valid("eight").await, None);
        tell(&store, Change::RepositoryDeleted { github_id: 1 }).await;
        assert_eq!(valid("all").await, None);
    })
    .await;
}
