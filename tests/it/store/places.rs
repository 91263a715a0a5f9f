//! Places: given in order of request, never more than there are.

use previewd::{
    environment::{Capacity, EnvironmentStatus, Place, Scope},
    store::{EnvironmentChanges, Lease, Record, Store},
};

use super::{
    database::for_each_database,
    given::{claim, environment_of, pull_request, tell_of},
};

/// The environments of so many pull requests of acme/shop, claimed, in their order.
async fn claimed(store: &Store, count: i64) -> Vec<Lease> {
    // Its row is the lock, and every engine makes it before its first pass.
    store.installation().await.unwrap();
    let mut leases = Vec::new();
    for number in 1..=count {
        tell_of(store, &pull_request(number)).await;
        leases.push(claim(store).await);
    }
    leases
}

async fn give_back(store: &Store, lease: &Lease) {
    let shown = EnvironmentChanges::status(EnvironmentStatus::Deleted, None).without_place();
    store.record(lease, Record { environment: Some(shown), ..Record::default() }).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_place_that_becomes_free_is_the_next_ones() {
    for_each_database(async |database| {
        let store = database.store();
        let capacity = Capacity { repository: Some(1), ..Capacity::default() };
        let leases = claimed(&store, 3).await;
        let ask = async |lease: &Lease| store.ask_for_place(lease, &capacity).await.unwrap();
        let scope = || Scope::Repository("acme/shop".parse().unwrap());
        let waits = |position| Ok(Place::Waits { scope: scope(), at_most: 1, position });
        assert_eq!(ask(&leases[0]).await, Ok(Place::Free));
        assert_eq!(ask(&leases[1]).await, waits(1));
        assert_eq!(ask(&leases[2]).await, waits(2));
        assert_eq!(ask(&leases[1]).await, waits(1), "asking again changes nothing");
        for lease in &leases[1..] {
            store.release(lease, None, 0, true).await.unwrap();
        }
        assert!(!store.has_due_environment().await.unwrap());

        give_back(&store, &leases[0]).await;
        store.give_places(&capacity).await.unwrap();
        assert!(environment_of(&store, 2).await.environment.has_place);
        assert!(!environment_of(&store, 3).await.environment.has_place);
        assert_eq!(claim(&store).await.environment_id, leases[1].environment_id);
        assert!(!store.has_due_environment().await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn the_last_place_is_given_once() {
    for_each_database(async |database| {
        let store = database.store();
        let capacity = Capacity { cluster: Some(3), ..Capacity::default() };
        let leases = claimed(&store, 12).await;
        let asked = leases.iter().map(|lease| {
            // Each as a process of its own would.
            let (store, capacity, lease) = (database.store(), capacity.clone(), lease.clone());
            tokio::spawn(async move { store.ask_for_place(&lease, &capacity).await.unwrap() })
        });
        let mut free = 0;
        for asked in asked.collect::<Vec<_>>() {
            // One that another's asking has given a place is told so when it asks again.
            free += usize::from(asked.await.unwrap() == Ok(Place::Free));
        }
        let mut with_place = 0;
        for number in 1..=12 {
            with_place += usize::from(environment_of(&store, number).await.environment.has_place);
        }
        assert_eq!((free, with_place), (3, 3));
    })
    .await;
}
