//! What a pass writes: its steps, what GitHub confirmed, the inventory and the comment, each only under its lease.

use std::time::Duration;

use previewd::{
    environment::{
        Cause, DeploymentStatus, EnvironmentStatus, GitHubState, Hitch, Hitches, PullRequestState, Reason, Told,
    },
    recipe::{Object, Render},
    store::{
        Confirmed, DeploymentChanges, EnvironmentChanges, EventKind, Lease, LeaseLost, Made, ObjectKey, Record,
        Settled, Store,
    },
};
use serde_json::{Value, json};

use super::{
    database::{Database, for_each_database},
    given::{
        claim, claimed_environment, commit, environment_of, event, in_state, later, made, pull_request, pushed,
        record_deployment, render_of, tell_of,
    },
};

fn status(status: DeploymentStatus) -> DeploymentChanges {
    DeploymentChanges { status: Some(status.code()), ..DeploymentChanges::default() }
}

/// A record that gives commit `n` a row of this status.
fn deployment(n: u64, changes: DeploymentChanges) -> Record {
    Record { deployment: Some((commit(n), changes)), ..Record::default() }
}

fn settled<'a>(deleted: &'a [ObjectKey], kept: &'a [ObjectKey]) -> Settled<'a> {
    Settled { deleted, in_use: &[], kept }
}

async fn statuses(store: &Store, environment_id: &str) -> Vec<(u64, DeploymentStatus)> {
    let deployments = store.deployments_of(environment_id, 10).await.unwrap();
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches('0'), 16).unwrap();
    let mut statuses: Vec<_> = deployments.iter().map(|row| (number(row.commit.as_str()), row.status)).collect();
    statuses.sort();
    statuses
}

async fn count(database: &Database, table: &str) -> String {
    database.line(&format!("SELECT CAST(count(*) AS TEXT) AS line FROM {table}")).await
}

#[tokio::test]
async fn a_step_is_recorded_as_a_whole() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let id = &overview.environment.id;
        store.record(&lease, deployment(1, status(DeploymentStatus::Deploying))).await.unwrap().unwrap();
        store.record(&lease, deployment(2, DeploymentChanges::default())).await.unwrap().unwrap();
        let cause = Cause::CrashLoop { container: "app".to_owned(), restarts: 3, exit_code: Some(1) };
        let failed = Record {
            environment: Some(EnvironmentChanges::status(EnvironmentStatus::Failed, Some(&cause))),
            deployment: Some((commit(3), status(DeploymentStatus::Failed).cause(Some(&cause)))),
            end_others: Some(DeploymentStatus::Superseded),
            event: Some(event(EventKind::Failed)),
        };
        store.record(&lease, failed).await.unwrap().unwrap();

        use DeploymentStatus::{Failed, Superseded};
        assert_eq!(statuses(&store, id).await, [(1, Superseded), (2, Superseded), (3, Failed)]);
        let row = store.deployment(id, &commit(3)).await.unwrap().unwrap();
        assert_eq!((row.round, row.attempt, row.reason), (1, 0, Some(Reason::CrashLoop)));
        assert!(store.deployment(id, &commit(1)).await.unwrap().unwrap().finished_at.is_some());
        let environment = environment_of(&store, 7).await.environment;
        assert_eq!((environment.status, environment.reason), (EnvironmentStatus::Failed, Some(Reason::CrashLoop)));
        assert_eq!(environment.message, Some(cause.to_string()));
        let kinds = database.lines("SELECT kind AS line FROM events ORDER BY at, id").await;
        assert_eq!(kinds, ["created", "failed"]);

        store.record(&lease, deployment(3, status(DeploymentStatus::Succeeded).cause(None))).await.unwrap().unwrap();
        assert_eq!(count(database, "deployments").await, "3", "the same commit keeps its row");
        assert_eq!(store.deployment(id, &commit(3)).await.unwrap().unwrap().reason, None);
        assert!(store.deployment(id, &commit(4)).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_pass_that_is_over_writes_nothing() {
    for_each_database(async |database| {
        let store = database.store();
        let (overtaken, overview) = claimed_environment(&store).await;
        let facts = pull_request(7);
        tell_of(&store, &pushed(&facts, 2, 5)).await;
        let everything = || Record {
            environment: Some(EnvironmentChanges::status(EnvironmentStatus::Running, None).serving(Some(&commit(1)))),
            deployment: Some((commit(1), status(DeploymentStatus::Succeeded))),
            end_others: Some(DeploymentStatus::Superseded),
            event: Some(event(EventKind::Running)),
        };
        assert_eq!(store.record(&overtaken, everything()).await.unwrap(), Err(LeaseLost));
        let stale = pushed(&facts, 9, 9);
        assert_eq!(store.confirm_pull_request(&overtaken, stale.clone()).await.unwrap(), Err(LeaseLost));

        store.release(&overtaken, None, 0, false).await.unwrap();
        let lost = claim(&store).await;
        database.execute("UPDATE environments SET due_at = 1, lease_until = 1").await;
        let held = claim(&store).await;
        assert_eq!(store.record(&lost, everything()).await.unwrap(), Err(LeaseLost));
        assert_eq!(store.confirm_pull_request(&lost, stale).await.unwrap(), Err(LeaseLost));
        assert_eq!(
            store
                .begin_apply(&lost, &commit(1), &render_of(&["web"]), made(&render_of(&["web"])), false)
                .await
                .unwrap(),
            Err(LeaseLost)
        );
        assert_eq!(store.settle_inventory(&lost, settled(&[], &[])).await.unwrap(), Err(LeaseLost));
        assert_eq!(store.record_comment(&lost, Some(1), "digest").await.unwrap(), Err(LeaseLost));
        store.record_observation(&lost).await.unwrap();

        let after = environment_of(&store, 7).await;
        assert_eq!(after.environment.status, EnvironmentStatus::Pending);
        assert_eq!((after.environment.serving_commit, after.environment.comment_id), (None, None));
        assert_eq!(after.environment.observed_at, None);
        assert_eq!(after.pull_request.facts.head_sha, commit(2));
        assert_eq!(after.environment.id, overview.environment.id);
        assert_eq!(count(database, "deployments").await, "0");
        assert_eq!(count(database, "objects").await, "0");
        assert_eq!(count(database, "events").await, "1", "the one of its creation");
        assert_eq!(store.record(&held, everything()).await.unwrap(), Ok(()));
    })
    .await;
}

#[tokio::test]
async fn what_github_confirms_is_believed() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        assert!(overview.environment.refresh);
        let facts = pull_request(7);
        assert_eq!(store.confirm_pull_request(&lease, facts.clone()).await.unwrap(), Ok(Confirmed::AsStored));
        assert!(!environment_of(&store, 7).await.environment.refresh);

        let mut renamed = later(&facts, 0);
        renamed.title = "Another title".to_owned();
        renamed.repository.name = "acme/store".parse().unwrap();
        assert_eq!(store.confirm_pull_request(&lease, renamed.clone()).await.unwrap(), Ok(Confirmed::AsStored));
        let found = store.find_environment(&lease.environment_id).await.unwrap().unwrap();
        assert_eq!(found.pull_request.facts, renamed, "without any newer time");

        // A push whose delivery never came.
        let facts = pushed(&renamed, 2, 60);
        assert_eq!(store.confirm_pull_request(&lease, facts.clone()).await.unwrap(), Ok(Confirmed::News));
        let lost = store.record(&lease, Record::default()).await.unwrap();
        assert_eq!(lost, Err(LeaseLost), "the pass is over");
        store.release(&lease, None, 0, false).await.unwrap();
        let next = claim(&store).await;

        let closed = in_state(&facts, PullRequestState::Merged, 60);
        assert_eq!(store.confirm_pull_request(&next, closed).await.unwrap(), Ok(Confirmed::News));
        let found = store.find_environment(&lease.environment_id).await.unwrap().unwrap();
        assert_eq!(found.environment.status, EnvironmentStatus::Deleting);
        assert_eq!(found.pull_request.facts.head_sha, commit(2));
    })
    .await;
}

#[tokio::test]
async fn the_inventory_has_each_object_once_and_the_render_is_kept() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let id = &overview.environment.id;
        let (both, web) = (render_of(&["web", "worker"]), render_of(&["web"]));
        record_deployment(&store, &lease, commit(1)).await;
        for render in [&both, &web] {
            store.begin_apply(&lease, &commit(1), render, made(render), false).await.unwrap().unwrap();
            assert_eq!(store.render(id, &commit(1)).await.unwrap().as_ref(), Some(render));
        }
        assert_eq!(environment_of(&store, 7).await.environment.applied_commit, Some(commit(1)));
        let keys = store.inventory(id).await.unwrap();
        assert_eq!(keys.len(), 2);
        let gone: Vec<_> = keys.into_iter().filter(|key| !key.is_among(web.applied())).collect();
        assert_eq!(gone[0].name, "worker");
        store.settle_inventory(&lease, settled(&gone, &[])).await.unwrap().unwrap();
        store.settle_inventory(&lease, settled(&gone, &[])).await.unwrap().unwrap();
        assert_eq!(store.inventory(id).await.unwrap().len(), 1);

        // What is kept is left alone until it is applied again, or there is nothing left.
        let is_superfluous = async || {
            let known = store.known_inventory(id).await.unwrap();
            known.into_iter().filter(|object| object.is_superfluous()).map(|object| object.key.name).collect::<Vec<_>>()
        };
        let begin = async |render: &Render| {
            store.begin_apply(&lease, &commit(1), render, made(render), false).await.unwrap().unwrap();
        };
        begin(&both).await;
        begin(&web).await;
        assert_eq!(is_superfluous().await, ["worker"]);
        store.settle_inventory(&lease, settled(&[], &gone)).await.unwrap().unwrap();
        begin(&web).await;
        assert_eq!((is_superfluous().await.len(), store.inventory(id).await.unwrap().len()), (0, 2));
        begin(&both).await;
        begin(&web).await;
        assert_eq!(is_superfluous().await, ["worker"], "it was applied, and is no more");
        store.settle_inventory(&lease, settled(&gone, &[])).await.unwrap().unwrap();

        // What a failure may go back to stays; what came between does not.
        let ran = EnvironmentChanges::status(EnvironmentStatus::Running, None).good(Some(&commit(1)));
        store.record(&lease, Record { environment: Some(ran), ..Record::default() }).await.unwrap().unwrap();
        for next in [2, 3] {
            record_deployment(&store, &lease, commit(next)).await;
            store.begin_apply(&lease, &commit(next), &both, made(&both), false).await.unwrap().unwrap();
        }
        let kept = [1, 2, 3].map(async |n| store.render(id, &commit(n)).await.unwrap());
        assert_eq!(futures::future::join_all(kept).await, [Some(web), None, Some(both)]);
    })
    .await;
}

/// A tag of it may mean another image by then.
#[tokio::test]
async fn what_ran_of_a_commit_is_kept_until_something_else_of_it_runs() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let id = &overview.environment.id;
        let (ran, next, third) = (render_of(&["web"]), render_of(&["web", "next"]), render_of(&["web", "third"]));
        record_deployment(&store, &lease, commit(1)).await;
        let begin = async |render: &Render, fresh: bool| {
            let made = Made { render, key: "key", remakes: !fresh && *render != ran };
            store.begin_apply(&lease, &commit(1), render, Some(made), fresh).await.unwrap().unwrap();
            let applied = DeploymentChanges { applied_digest: Some(Some(render.digest())), ..Default::default() };
            let record = Record { deployment: Some((commit(1), applied)), ..Record::default() };
            store.record(&lease, record).await.unwrap().unwrap();
        };
        let runs = async || {
            let runs = EnvironmentChanges::status(EnvironmentStatus::Running, None).good(Some(&commit(1))).whole();
            store.record(&lease, Record { environment: Some(runs), ..Record::default() }).await.unwrap().unwrap();
        };
        let remade = async || store.is_remade(id, &commit(1)).await.unwrap();
        let go_back = async || {
            assert_eq!(
                store.what_ran(id, &commit(1)).await.unwrap(),
                store.unsealed_renders(id, &commit(1)).await.unwrap().pop()
            );
            let was_remade = store.keep_what_ran(&lease, &commit(1)).await.unwrap().unwrap();
            let is_applied = store.deployment(id, &commit(1)).await.unwrap().unwrap().applied_digest.is_some();
            assert_eq!(store.standing(id).await.unwrap().half_applied, was_remade, "it is not in the cluster yet");
            assert_eq!(is_applied, !was_remade, "what was tried does not count as applied any more");
            (store.render(id, &commit(1)).await.unwrap(), was_remade)
        };
        begin(&ran, true).await;
        assert!(!remade().await, "it did not run yet");
        runs().await;
        assert_eq!(go_back().await, (Some(ran.clone()), false), "there is nothing else of it");
        begin(&ran, false).await;
        assert!(!remade().await, "it is the same");
        runs().await;

        begin(&next, false).await;
        begin(&third, false).await;
        assert!(remade().await);
        assert_eq!(store.render(id, &commit(1)).await.unwrap(), Some(third.clone()), "what is tried");
        assert_eq!(store.unsealed_renders(id, &commit(1)).await.unwrap(), [third, ran.clone()]);
        assert_eq!(go_back().await, (Some(ran.clone()), true), "what ran");
        assert!(!remade().await);

        begin(&next, false).await;
        runs().await;
        assert_eq!(go_back().await, (Some(next.clone()), false), "that one ran as well");
        begin(&ran, true).await;
        assert!(!remade().await, "what its namespace held went with it");
    })
    .await;
}

#[tokio::test]
async fn what_was_tried_is_kept_beside_what_was_awaited() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        let (awaited, tried) = (["shop:pr-7".to_owned()], ["shop:pr-7@sha256:a".to_owned()]);
        let record = async |changes: DeploymentChanges| {
            store.record(&lease, deployment(1, changes)).await.unwrap().unwrap();
            let row = store.deployment(&overview.environment.id, &commit(1)).await.unwrap().unwrap();
            (row.awaited_images, row.images_deadline, row.tried_images)
        };
        let looked = DeploymentChanges::default().images(Some(&awaited), Some(5));
        assert_eq!(record(looked).await, (Some(awaited.to_vec()), Some(5), vec![]));
        let begins = DeploymentChanges::default().tried(&awaited, &tried);
        assert_eq!(record(begins).await, (Some(awaited.to_vec()), Some(5), tried.to_vec()));
        let renewed = DeploymentChanges::default().images(None, None);
        assert_eq!(record(renewed).await, (None, None, vec![]), "another round");
    })
    .await;
}

/// Like a database's seed: the commit that leaves it out, and one that goes back, do not have it run again.
#[tokio::test]
async fn what_is_done_once_stays_done_until_a_volume_goes() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        record_deployment(&store, &lease, commit(1)).await;
        let object = |kind: &str, api_version: &str, name: &str, annotations: Value| {
            let metadata = json!({ "name": name, "annotations": annotations });
            Object::from(json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata }))
        };
        let seed = object("Job", "batch/v1", "seed", json!({ "previewd.dev/once": "true" }));
        let volume = object("PersistentVolumeClaim", "v1", "db", json!({}));
        let web = render_of(&["web"]);
        let mut seeded = web.clone();
        seeded.objects.push(seed.clone());
        let begin = async |render: &Render| {
            store.begin_apply(&lease, &commit(1), render, made(render), false).await.unwrap().unwrap();
            let known = store.known_inventory(&overview.environment.id).await.unwrap();
            known.into_iter().find(|object| object.key.kind == "Job").is_some_and(|job| job.done)
        };
        let settle = async |deleted: &[&Object], kept: &[&Object]| {
            let keys = |objects: &[&Object]| objects.iter().map(|object| ObjectKey::of(object)).collect::<Vec<_>>();
            store.settle_inventory(&lease, settled(&keys(deleted), &keys(kept))).await.unwrap().unwrap();
        };
        assert!(!begin(&seeded).await);
        store.record_done(&lease, &["seed".to_owned()]).await.unwrap().unwrap();
        begin(&web).await;
        settle(&[], &[&seed]).await;
        assert!(begin(&seeded).await, "it was done");
        begin(&web).await;
        settle(&[], &[&seed]).await;
        let back_in_use = [ObjectKey::of(&volume)];
        let settled = Settled { deleted: &[], in_use: &back_in_use, kept: &[] };
        store.settle_inventory(&lease, settled).await.unwrap().unwrap();
        assert!(begin(&seeded).await, "no volume went");
        begin(&web).await;
        settle(&[], &[&seed]).await;
        settle(&[&volume], &[]).await;
        assert!(!begin(&seeded).await, "what it was done to may have gone");

        store.record_done(&lease, &["seed".to_owned()]).await.unwrap().unwrap();
        begin(&web).await;
        settle(&[&volume], &[&seed]).await;
        assert!(!begin(&seeded).await, "with it");
    })
    .await;
}

/// Its commit failed, another one was put back, and it is tried again; what did its work in between is another matter.
#[tokio::test]
async fn what_was_done_for_a_commit_is_done_when_it_comes_back() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, overview) = claimed_environment(&store).await;
        for number in 1..=3 {
            record_deployment(&store, &lease, commit(number)).await;
        }
        let job = |image: &str| {
            let spec = json!({ "template": { "spec": { "containers": [{ "name": "migrate", "image": image }] } } });
            let migrate =
                json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate" }, "spec": spec });
            let mut render = render_of(&["web"]);
            render.objects.push(Object::from(migrate));
            render
        };
        let (one, other) = (job("one"), job("other"));
        let begin = async |number: u64, render: &Render, fresh: bool| {
            store.begin_apply(&lease, &commit(number), render, made(render), fresh).await.unwrap().unwrap();
            let known = store.known_inventory(&overview.environment.id).await.unwrap();
            known.into_iter().find(|object| object.key.kind == "Job").is_some_and(|job| job.done)
        };
        let is_done = async || store.record_done(&lease, &["migrate".to_owned()]).await.unwrap().unwrap();
        assert!(!begin(1, &one, true).await);
        is_done().await;
        assert!(!begin(2, &other, false).await, "it is another");
        is_done().await;
        begin(1, &one, false).await;
        store.take_for_done(&lease, &["migrate".to_owned()]).await.unwrap().unwrap();
        assert!(begin(2, &other, false).await, "what was put back in between did no work");
        let gone = [ObjectKey::of(other.objects.last().unwrap())];
        begin(1, &render_of(&["web"]), false).await;
        store.settle_inventory(&lease, settled(&gone, &[])).await.unwrap().unwrap();
        assert!(begin(2, &other, false).await, "nor did it undo any, with the Job");
        assert!(begin(3, &other, false).await, "it is the very same");
        assert!(!begin(3, &one, false).await);
        is_done().await;
        assert!(!begin(2, &other, false).await, "another commit's work came after it");
        is_done().await;
        let volume =
            ObjectKey { api_version: "v1".to_owned(), kind: "PersistentVolumeClaim".to_owned(), name: "db".to_owned() };
        begin(1, &render_of(&["web"]), false).await;
        store.settle_inventory(&lease, settled(&[gone[0].clone(), volume], &[])).await.unwrap().unwrap();
        assert!(!begin(2, &other, false).await, "what it was done to may have gone");
        is_done().await;
        assert!(!begin(2, &other, true).await, "in another namespace");
    })
    .await;
}

#[tokio::test]
async fn a_database_is_bound_to_one_cluster_once() {
    for_each_database(async |database| {
        let store = database.store();
        assert_eq!(store.installation().await.unwrap().cluster_id, None);
        assert_eq!(store.bind_cluster("first").await.unwrap().as_deref(), Some("first"));
        assert_eq!(store.bind_cluster("second").await.unwrap().as_deref(), Some("first"));
        assert_eq!(database.store().installation().await.unwrap().cluster_id.as_deref(), Some("first"));
    })
    .await;
}

#[tokio::test]
async fn an_engine_is_alive_while_its_heart_beats() {
    for_each_database(async |database| {
        let store = database.store();
        assert!(!store.has_live_engine().await.unwrap());
        store.heartbeat("one").await.unwrap();
        store.heartbeat("one").await.unwrap();
        assert!(store.has_live_engine().await.unwrap());
        database.execute("UPDATE engines SET heartbeat = heartbeat - 40000").await;
        assert!(!store.has_live_engine().await.unwrap());
        store.heartbeat("two").await.unwrap();
        assert!(store.has_live_engine().await.unwrap());
        store.end_engine("two").await.unwrap();
        assert!(!store.has_live_engine().await.unwrap());
        database.execute("UPDATE engines SET heartbeat = 1").await;
        store.heartbeat("three").await.unwrap();
        assert_eq!(database.lines("SELECT id AS line FROM engines").await, ["three"], "what is long gone is forgotten");
    })
    .await;
}

#[tokio::test]
async fn the_lease_follows_the_clock_of_the_database() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, _) = claimed_environment(&store).await;
        let apart = Duration::from_millis((lease.now() - store.clock().await.unwrap()).unsigned_abs());
        assert!(apart < Duration::from_secs(5), "{apart:?} apart");
    })
    .await;
}

#[tokio::test]
async fn what_may_have_come_late_is_looked_at_again() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        let lease = claim(&store).await;
        let begun = DeploymentChanges { started_at: Some(Some(1)), ..Default::default() };
        store
            .record(&lease, Record { deployment: Some((commit(1), begun)), ..Record::default() })
            .await
            .unwrap()
            .unwrap();
        let deployment = store.deployment(&lease.environment_id, &commit(1)).await.unwrap().unwrap();
        let told = store.record_github_deployment(&lease, &deployment.id, Some(9), Some((GitHubState::Success, "")));
        told.await.unwrap().unwrap();
        store.record_comment(&lease, Some(5), "digest").await.unwrap().unwrap();
        store.release(&lease, None, 0, true).await.unwrap();
        assert!(!store.has_due_environment().await.unwrap());

        store.doubt(&lease.environment_id).await.unwrap();
        let found = environment_of(&store, 7).await.environment;
        assert!(found.check_is_due && store.has_due_environment().await.unwrap());
        assert_eq!(
            (found.comment_id, found.comment_digest.as_deref()),
            (None, Some("")),
            "to be looked for, and written"
        );
        let deployment = store.deployment(&lease.environment_id, &commit(1)).await.unwrap().unwrap();
        assert_eq!((deployment.github_id, deployment.github_state), (Some(9), None));
    })
    .await;
}

/// Nothing is applied of a first commit that failed for want of its image, which may come at any time.
#[tokio::test]
async fn what_lacks_its_image_is_checked_though_nothing_is_applied() {
    for_each_database(async |database| {
        let store = database.store();
        let (lease, _) = claimed_environment(&store).await;
        let fails = async |lease: &Lease, cause: Cause| {
            let failed = EnvironmentChanges::status(EnvironmentStatus::Failed, Some(&cause)).checked(5);
            store.record(lease, Record { environment: Some(failed), ..Record::default() }).await.unwrap().unwrap();
            store.release(lease, None, 0, true).await.unwrap();
        };
        let asked = async || store.ask_for_checks(Duration::from_secs(60), 10).await.unwrap();
        fails(&lease, Cause::RunsAsRoot { container: "app".to_owned() }).await;
        assert_eq!(asked().await, 0, "there is nothing to hold against anything");

        database.execute("UPDATE environments SET due_at = 0").await;
        let lease = claim(&store).await;
        fails(&lease, Cause::ImageMissing { image: "shop:pr-7".to_owned() }).await;
        assert_eq!(asked().await, 1);
        let due = store.has_due_environment().await.unwrap();
        assert!(due && environment_of(&store, 7).await.environment.check_is_due);
        assert_eq!(asked().await, 0, "it is asked for already");
    })
    .await;
}

/// What served before and was put back is told of once more, although GitHub was told that it had ended.
#[tokio::test]
async fn what_is_put_back_is_reported_again() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        let lease = claim(&store).await;
        for digit in [1, 2] {
            let begun = DeploymentChanges { started_at: Some(Some(1)), ..Default::default() };
            let record = Record { deployment: Some((commit(digit), begun)), ..Record::default() };
            store.record(&lease, record).await.unwrap().unwrap();
        }
        let (good, head) = (commit(1), commit(2));
        let ended = store.deployment(&lease.environment_id, &good).await.unwrap().unwrap();
        let told = store.record_github_deployment(&lease, &ended.id, Some(9), Some((GitHubState::Inactive, "")));
        told.await.unwrap().unwrap();
        for (serving, is_among) in [(None, false), (Some(&good), true)] {
            let found = store.deployments_to_report(&lease.environment_id, &head, serving, true).await.unwrap();
            assert!(found.iter().any(|deployment| deployment.commit == head));
            assert_eq!(found.iter().any(|deployment| deployment.commit == good), is_among);
        }
    })
    .await;
}

/// What is in the way is known with its time, and stays told until a deployment begins anew.
#[tokio::test]
async fn what_is_in_the_way_is_kept_with_its_time() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        let lease = claim(&store).await;
        let crashes = |restarts| {
            let cause = Cause::CrashLoop { container: "app".to_owned(), restarts, exit_code: Some(1) };
            Some(Hitch::from(&cause))
        };
        let record = async |changes: EnvironmentChanges| {
            let record = Record { environment: Some(changes), ..Record::default() };
            store.record(&lease, record).await.unwrap().unwrap();
            store.hitches(&lease.environment_id).await.unwrap()
        };
        let stumbles = |hitch: Option<Hitch>| EnvironmentChanges::default().stumbles(hitch.as_ref());

        let first = record(stumbles(crashes(1))).await;
        assert!(first.now.is_some() && first.since.is_some() && first.told.is_none(), "{first:?}");
        assert_eq!(record(stumbles(crashes(2))).await, first, "the same, whatever it counts");
        let told = Told::Hitch(crashes(3).unwrap());
        store.record_told(&lease, &told).await.unwrap().unwrap();
        let over = record(stumbles(None)).await;
        assert_eq!((over.now, over.told), (None, Some(told)));
        assert!(over.since >= first.since);
        assert_eq!(record(EnvironmentChanges::default().begins()).await, Hitches::default());

        assert_eq!(store.trouble(&lease.environment_id).await.unwrap(), None);
        store.record_trouble(&lease, "GitHub answered 502 to reading acme/shop#7").await.unwrap();
        let trouble = store.trouble(&lease.environment_id).await.unwrap().unwrap();
        assert_eq!(trouble.what, "GitHub answered 502 to reading acme/shop#7");
    })
    .await;
}
