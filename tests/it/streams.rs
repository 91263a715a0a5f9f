//! What is told as it happens: server-sent events of pages and logs, how many may watch, and until when.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use previewd::identity::Role;
use reqwest::Response;
use tokio::time::timeout;
use xtask::testing::eventually;

use crate::{
    dashboard::{Person, namespace},
    support::{Stand, WATCHERS, commit, loopback_api_server},
};

/// The time in which what should happen soon has happened on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Twice the time between two looks at whether somebody still may watch.
const TWO_LOOKS: Duration = Duration::from_secs(60);

async fn watch(person: &Person, path: &str) -> Response {
    person.send(person.http.get(person.url(path))).await
}

async fn read_to_end(answer: Response) {
    let mut pieces = answer.bytes_stream();
    while pieces.next().await.is_some() {}
}

/// Whoever opens a page under it hears that something changed.
#[tokio::test]
async fn pages_hear_what_changes() {
    let stand = Stand::start().await;
    let person = Person::signed_in(&stand, Role::Viewer, &["shop"]).await;
    let answer = watch(&person, "/changes").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut bytes = answer.bytes_stream();
    let head = commit('a');
    let mut hear = async || {
        loop {
            let piece = bytes.next().await.expect("it goes on").unwrap();
            if String::from_utf8_lossy(&piece).contains("event: changed") {
                return;
            }
        }
    };
    let story = async {
        // The first is of how it is when somebody begins to look.
        hear().await;
        tokio::join!(hear(), stand.open("acme/shop", 7, &head));
    };
    timeout(SOON, story).await.expect("it is heard of");
}

#[tokio::test]
async fn who_watches_leaves_places_for_webhooks_and_probes() {
    let stand = Stand::start().await;
    let person = Person::signed_in(&stand, Role::Viewer, &["shop"]).await;
    let mut watching = Vec::new();
    for _ in 0..WATCHERS {
        let answer = watch(&person, "/changes").await;
        assert_eq!(answer.status(), 200);
        watching.push(answer);
    }
    let refused = watch(&person, "/changes").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"60".parse().unwrap()));
    assert!(refused.text().await.unwrap().contains("Look again in a minute"));
    assert_eq!(person.open("/").await.status, 200);
    drop(watching.pop());
    eventually("whoever goes leaves a place", SOON, async || {
        (watch(&person, "/changes").await.status() == 200).then_some(())
    })
    .await;
}

/// Nobody goes on hearing what they may not see any more.
#[tokio::test]
async fn streams_end_with_the_right_to_them() {
    let (api_server, _) = loopback_api_server().await;
    let stand = Stand::with_api_server(&api_server).await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let logs = format!("/environments/{}/logs", namespace(&stand, "acme/shop", 7).await);
    let viewer = Person::signed_in(&stand, Role::Viewer, &["shop"]).await;
    let outsider = Person::signed_in(&stand, Role::Admin, &["site"]).await;
    assert_eq!(watch(&outsider, &logs).await.status(), 404, "for others there is nothing");
    let nobody = xtask::web::plain_client().get(outsider.url(&logs)).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    let operator = Person::signed_in(&stand, Role::Operator, &[]).await;
    let (theirs, of_operator) = (watch(&viewer, &logs).await, watch(&operator, &logs).await);
    assert_eq!((theirs.status().as_u16(), of_operator.status().as_u16()), (200, 200));
    let mut goes_on = tokio::spawn(read_to_end(of_operator));

    // Their team loses the repository.
    stand.teams.send(Arc::default()).unwrap();
    timeout(TWO_LOOKS, read_to_end(theirs)).await.expect("a log ends for whoever may not see its environment");
    assert!(!goes_on.is_finished(), "an operator still may");

    let changes = watch(&operator, "/changes").await;
    stand.revoke_all().await;
    timeout(TWO_LOOKS, read_to_end(changes)).await.expect("nothing is told to whom nobody knows any more");
    timeout(TWO_LOOKS, &mut goes_on).await.expect("nor is a log read to them").unwrap();
}
