//! What environments use, and the history of all: kept, summed up, forgotten in time, on both databases.

use std::collections::BTreeMap;

use previewd::{
    environment::Namespace,
    store::{EventFilter, EventKind, Interface, KeptLog, Origin, Refusal, Restarts, Sampling, Usage},
};

use super::{
    database::for_each_database,
    given::{claim, commit, event, record_deployment, tell_of},
};
use crate::store::given::pull_request;

#[tokio::test]
async fn samples_are_kept_and_summed_up() {
    for_each_database(async |database| {
        let store = database.store();
        store.installation().await.unwrap();
        assert_eq!(store.sampling().await.unwrap(), Sampling { at: None, problem: None });
        tell_of(&store, &pull_request(7)).await;
        let lease = claim(&store).await;
        let id = lease.environment_id.clone();
        database.execute("UPDATE environments SET admitted_at = 1").await;
        let namespace: Namespace = database.line("SELECT namespace AS line FROM environments").await.parse().unwrap();
        let sample = async |cpu, memory| {
            store.record_usage(BTreeMap::from([(namespace.clone(), (cpu, memory))])).await.unwrap();
        };
        sample(100, 1_000).await;
        sample(300, 500).await;
        store.record_usage(BTreeMap::new()).await.unwrap();
        store.record_restarts(&id, Restarts { all: 2, out_of_memory: 1 }).await.unwrap();

        let usage = store.usage_of(&[&id, "nobody"]).await.unwrap();
        assert_eq!(usage.len(), 1);
        let Usage { sampled_at, cpu_millicores, memory_bytes, restarts, out_of_memory } = usage[&id];
        assert!(sampled_at.is_some());
        assert_eq!((cpu_millicores, memory_bytes), (Some(300), Some(500)), "what was not measured is no sample");
        assert_eq!((restarts, out_of_memory), (2, 1));
        // They may lie on both sides of the border between two buckets.
        let buckets = store.usage_buckets(&id).await.unwrap();
        let sum = |of: fn(&previewd::store::UsageBucket) -> i64| buckets.iter().map(of).sum::<i64>();
        assert_eq!((sum(|b| b.samples), sum(|b| b.cpu_millicores), sum(|b| b.memory_bytes)), (2, 400, 1_500));
        assert_eq!(buckets.iter().map(|b| (b.cpu_peak, b.memory_peak)).max().unwrap().0, 300);
        assert_eq!(buckets.iter().map(|b| b.memory_peak).max(), Some(1_000));

        store.record_sampling_problem("the cluster has no metrics API").await.unwrap();
        let problem = store.sampling().await.unwrap().problem;
        assert_eq!(problem.as_deref(), Some("the cluster has no metrics API"));
        database.execute("UPDATE usage_buckets SET bucket = bucket - 86700000").await;
        sample(1, 1).await;
        assert_eq!(store.usage_buckets(&id).await.unwrap().len(), 1, "a day is kept");
        assert_eq!(store.sampling().await.unwrap().problem, None);
    })
    .await;
}

#[tokio::test]
async fn the_history_is_found_by_who_what_and_where() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        let (id, repository) = {
            let first = previewd::store::EnvironmentFilter { limit: 1, ..Default::default() };
            let overview = store.list_environments(&first).await.unwrap().0.remove(0);
            (overview.environment.id, overview.pull_request.facts.repository.name)
        };
        let address = "192.0.2.7".parse().unwrap();
        let mut refused = event(EventKind::DeletionRequested);
        refused.origin = Some(Origin { interface: Interface::Mcp, address: Some(address) });
        store.record_refusal(Some(&id), &refused, Refusal::Unauthorized).await.unwrap();
        store.record_event(&event(EventKind::RepairRequested)).await.unwrap();

        let list = async |filter: EventFilter| store.list_events(&EventFilter { limit: 10, ..filter }).await.unwrap();
        let kinds = |found: &[previewd::store::PastEvent]| -> Vec<String> {
            found.iter().map(|event| event.kind.clone()).collect()
        };
        let all = list(EventFilter::default()).await;
        assert_eq!(kinds(&all), ["repair_requested", "deletion_requested", "created"]);
        assert_eq!(all[0].pull_request, None);
        assert_eq!(all[1].pull_request, Some((repository.clone(), 7)));
        assert_eq!(all[1].address.as_deref(), Some("192.0.2.7"));
        assert_eq!((all[1].interface.as_deref(), all[1].refusal.as_deref()), (Some("mcp"), Some("UNAUTHORIZED")));

        let own = Some(vec![repository.to_string()]);
        let visible = list(EventFilter { visible: own, ..Default::default() }).await;
        assert_eq!(kinds(&visible), ["deletion_requested", "created"]);
        assert!(
            list(EventFilter { visible: Some(vec!["nobody/*".to_owned()]), ..Default::default() }).await.is_empty()
        );
        let of_environment = EventFilter { environment_id: Some(id), refused_only: true, ..Default::default() };
        assert_eq!(list(of_environment).await.len(), 1);
        let of_kind =
            EventFilter { kind: Some(EventKind::Created), repository: Some(repository), ..Default::default() };
        assert_eq!(list(of_kind).await.len(), 1);
        for (actor, expected) in [("alice", 3), ("Alice", 0), ("nobody", 0), ("ali%", 0), ("alice\0", 0)] {
            let of_actor = EventFilter { actor: Some(actor.to_owned()), ..Default::default() };
            assert_eq!(list(of_actor).await.len(), expected, "{actor:?}");
        }
        let later = EventFilter { after: Some(all[1].id.clone()), ..Default::default() };
        assert_eq!(kinds(&list(later).await), ["created"]);
    })
    .await;
}

#[tokio::test]
async fn logs_are_kept_with_their_deployment() {
    for_each_database(async |database| {
        let store = database.store();
        tell_of(&store, &pull_request(7)).await;
        let lease = claim(&store).await;
        record_deployment(&store, &lease, commit(1)).await;
        let log = |container: &str, body: &str| KeptLog {
            pod: "web-1".to_owned(),
            container: container.to_owned(),
            body: body.to_owned(),
        };
        store.keep_logs(&lease, &commit(1), vec![log("web", "- first")]).await.unwrap().unwrap();
        let second = vec![log("web", "- second"), log("db", "- rows")];
        store.keep_logs(&lease, &commit(1), second.clone()).await.unwrap().unwrap();
        assert_eq!(store.kept_logs(&lease.environment_id, &commit(1)).await.unwrap(), second);
        assert!(store.kept_logs(&lease.environment_id, &commit(2)).await.unwrap().is_empty());

        store.release(&lease, None, 0, true).await.unwrap();
        let late = store.keep_logs(&lease, &commit(1), vec![log("web", "- late")]).await.unwrap();
        assert!(late.is_err(), "whoever lost the lease keeps nothing");
        database.execute("UPDATE environments SET status = 'deleted'").await;
        store.forget(previewd::store::Retention { deliveries: None, events: None }).await.unwrap();
        assert!(store.kept_logs(&lease.environment_id, &commit(1)).await.unwrap().is_empty());
    })
    .await;
}
