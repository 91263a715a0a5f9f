//! What browsers hold: good for what it was made for, as long as it lasts, and ended for all at once.

use std::time::Duration;

use previewd::store::{EventFilter, EventKind, NewSession, SessionKind, Store};

use super::{
    database::for_each_database,
    given::{environment_of, event, pull_request, tell_of},
};

const HOUR: Duration = Duration::from_secs(3_600);
/// Who it is, as its caller wrote it.
const ALICE: &str = r#"{"login":"alice"}"#;
const OTHER: &str = r#"{"login":"Alice"}"#;

fn session(hash: &str, kind: SessionKind, environment_id: Option<&str>) -> NewSession {
    NewSession {
        hash: hash.to_owned(),
        kind,
        environment_id: environment_id.map(str::to_owned),
        granted: ALICE.to_owned(),
        lasts: HOUR,
    }
}

/// The ids of the environments of two pull requests.
async fn two_environments(store: &Store) -> (String, String) {
    for number in [7, 8] {
        tell_of(store, &pull_request(number)).await;
    }
    (environment_of(store, 7).await.environment.id, environment_of(store, 8).await.environment.id)
}

#[tokio::test]
async fn a_session_is_good_for_what_it_was_made_for() {
    for_each_database(async |database| {
        let store = database.store();
        let (id, other_id) = two_environments(&store).await;
        let signed_in = event(EventKind::SignedIn);
        store.create_session(session("dashboard", SessionKind::Dashboard, None), Some(signed_in)).await.unwrap();
        store.create_session(session("preview", SessionKind::Preview, Some(&id)), None).await.unwrap();
        let short = NewSession { lasts: Duration::ZERO, ..session("short", SessionKind::Dashboard, None) };
        store.create_session(short, None).await.unwrap();

        let holder = async |hash: &str, kind, id: Option<&str>| store.session(hash, kind, id).await.unwrap();
        let alice = || Some(ALICE.to_owned());
        assert_eq!(holder("dashboard", SessionKind::Dashboard, None).await, alice());
        assert_eq!(holder("preview", SessionKind::Preview, Some(&id)).await, alice());
        assert_eq!(holder("preview", SessionKind::Preview, Some(&other_id)).await, None, "another preview");
        assert_eq!(holder("dashboard", SessionKind::Preview, Some(&id)).await, None, "it never gets to a preview");
        assert_eq!(holder("preview", SessionKind::Dashboard, None).await, None, "a preview's opens nothing else");
        assert_eq!(holder("short", SessionKind::Dashboard, None).await, None, "it is over");
        for guess in ["", "%", "DASHBOARD", "dashboard'--"] {
            assert_eq!(holder(guess, SessionKind::Dashboard, None).await, None, "{guess:?}");
        }
        let again = session("dashboard", SessionKind::Dashboard, None);
        assert!(store.create_session(again, Some(event(EventKind::SignedIn))).await.is_err(), "one hash for two");
        let signed_in = EventFilter { kind: Some(EventKind::SignedIn), limit: 10, ..EventFilter::default() };
        assert_eq!(store.list_events(&signed_in).await.unwrap().len(), 1, "what failed did not happen");

        database.execute("UPDATE sessions SET expires_at = expires_at - 3600000").await;
        assert_eq!(holder("dashboard", SessionKind::Dashboard, None).await, None, "its time is over");
    })
    .await;
}

#[tokio::test]
async fn a_code_is_good_once() {
    for_each_database(async |database| {
        let store = database.store();
        let (id, other_id) = two_environments(&store).await;
        store.create_session(session("code", SessionKind::Code, Some(&id)), None).await.unwrap();
        store.create_session(session("preview", SessionKind::Preview, Some(&id)), None).await.unwrap();
        let late = NewSession { lasts: Duration::ZERO, ..session("late", SessionKind::Code, Some(&id)) };
        store.create_session(late, None).await.unwrap();

        assert_eq!(store.take_code("code", &other_id).await.unwrap(), None, "another preview's");
        assert_eq!(store.take_code("preview", &id).await.unwrap(), None, "no code");
        assert_eq!(store.take_code("late", &id).await.unwrap(), None, "it is over");
        assert!(
            store.session("preview", SessionKind::Preview, Some(&id)).await.unwrap().is_some(),
            "it is still there"
        );

        let takers = (0..8).map(|_| {
            // Each as a process of its own would.
            let (store, id) = (database.store(), id.clone());
            tokio::spawn(async move { store.take_code("code", &id).await.unwrap() })
        });
        let mut taken = Vec::new();
        for taker in takers.collect::<Vec<_>>() {
            taken.extend(taker.await.unwrap());
        }
        assert_eq!(taken, [ALICE], "one of eight gets it");
        assert_eq!(store.take_code("code", &id).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn whoever_signs_out_is_out_everywhere() {
    for_each_database(async |database| {
        let store = database.store();
        let (id, _) = two_environments(&store).await;
        for (hash, kind, environment_id) in [
            ("first", SessionKind::Dashboard, None),
            ("second", SessionKind::Dashboard, None),
            ("code", SessionKind::Code, Some(id.as_str())),
            ("preview", SessionKind::Preview, Some(&id)),
        ] {
            store.create_session(session(hash, kind, environment_id), None).await.unwrap();
        }
        let other = NewSession { granted: OTHER.to_owned(), ..session("other", SessionKind::Dashboard, None) };
        store.create_session(other, None).await.unwrap();

        store.end_sessions(ALICE, event(EventKind::SignedOut)).await.unwrap();
        for hash in ["first", "second"] {
            assert_eq!(store.session(hash, SessionKind::Dashboard, None).await.unwrap(), None, "{hash}");
        }
        assert_eq!(store.take_code("code", &id).await.unwrap(), None);
        assert_eq!(store.session("preview", SessionKind::Preview, Some(&id)).await.unwrap(), None);
        let other = store.session("other", SessionKind::Dashboard, None).await.unwrap();
        assert_eq!(other.as_deref(), Some(OTHER), "somebody else's go on");
        let signed_out = EventFilter { kind: Some(EventKind::SignedOut), limit: 10, ..EventFilter::default() };
        assert_eq!(store.list_events(&signed_out).await.unwrap().len(), 1);
    })
    .await;
}
