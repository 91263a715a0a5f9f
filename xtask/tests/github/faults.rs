use std::time::{Duration, Instant};

use futures::FutureExt as _;
use serde_json::Value;
use xtask::github::{CommentWrites, Fault, GitHub, Operation, Scope};

use crate::support::{REPOSITORY, bot, github, no_violations, plain, status};

#[tokio::test]
async fn a_write_may_take_effect_and_answer_502() {
    let (github, number) = github().await;
    github.fault_times(Scope::CommentWrites, Fault::CommitThenBadGateway, 1);
    let url = format!("{}/repos/acme/shop/issues/{number}/comments", github.url());
    let post = || plain().post(&url).bearer_auth(GitHub::TOKEN).body(r#"{"body": "Deploying"}"#).send();
    let answer = post().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().starts_with("<html>")), (502, true));
    assert_eq!(github.comments(REPOSITORY, number).len(), 1);
    assert_eq!(post().await.unwrap().status(), 201);

    github.fault_times(Scope::CommentWrites, Fault::CommitThenReset, 1);
    assert!(post().await.is_err());
    assert_eq!(github.comments(REPOSITORY, number).len(), 3);
    github.fault_times(Scope::CommentWrites, Fault::BadGateway, 1);
    assert_eq!(post().await.unwrap().status(), 502);
    assert_eq!(github.comments(REPOSITORY, number).len(), 3);
    assert_eq!(github.comment_writes(), CommentWrites { created: 3, refused: 1, ..CommentWrites::default() });
    no_violations(&github);
}

#[tokio::test]
async fn it_goes_away_and_comes_back_on_the_same_port() {
    let (github, _) = github().await;
    let client = plain();
    let get = || client.get(format!("{}/user", github.url())).bearer_auth(GitHub::TOKEN).send();
    assert_eq!(get().await.unwrap().status(), 200);
    github.go_away().await;
    assert!(get().await.unwrap_err().is_connect());
    github.come_back().await;
    assert_eq!(get().await.unwrap().status(), 200);

    github.fault(Scope::Everything, Fault::Reset);
    assert!(get().await.is_err());
    github.clear_faults();
    assert_eq!(get().await.unwrap().status(), 200);
    no_violations(&github);
}

#[tokio::test]
async fn limits_say_when_to_come_again() {
    let (github, number) = github().await;
    let url = format!("{}/repos/acme/shop/issues/{number}/comments", github.url());
    let post = || plain().post(&url).bearer_auth(GitHub::TOKEN).body(r#"{"body": "Deploying"}"#).send();

    github.fault_times(Operation::CreateComment, Fault::SecondaryLimit { retry_after: Duration::from_secs(7) }, 1);
    let answer = post().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (403, "7"));

    github.fault_times(Operation::CreateComment, Fault::PrimaryLimit { reset_in: Duration::from_secs(60) }, 1);
    let answer = post().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-ratelimit-remaining"].to_str().unwrap()), (403, "0"));
    assert!(answer.headers().contains_key("x-ratelimit-reset"));

    github.fault_times(Scope::CommentWrites, Fault::Locked, 1);
    let locked: Value = post().await.unwrap().json().await.unwrap();
    assert_eq!(locked["message"], "Unable to create comment because issue is locked.");
    assert_eq!(github.comments(REPOSITORY, number), []);

    // The real limit, used up for real.
    github.set_rate_limit(5);
    let statuses = futures::future::join_all((0..6).map(|_| post())).await;
    let refused = statuses.into_iter().filter(|answer| answer.as_ref().unwrap().status() == 403).count();
    assert_eq!((refused, github.comments(REPOSITORY, number).len()), (1, 5));
    assert_eq!(status(bot(&github).repos("acme", "shop").get().await), 403);
    assert_eq!(bot(&github).ratelimit().get().await.unwrap().rate.remaining, 0);
    no_violations(&github);
}

#[tokio::test]
async fn answers_may_be_slow_or_nonsense() {
    let (github, _) = github().await;
    let url = format!("{}/repos/acme/shop/pulls", github.url());
    let get = || plain().get(&url).bearer_auth(GitHub::TOKEN).send();
    let started = Instant::now();
    github.fault_times(Operation::ListPullRequests, Fault::Slow(Duration::from_millis(300)), 1);
    assert_eq!(get().await.unwrap().json::<Vec<Value>>().await.unwrap().len(), 1);
    assert!(started.elapsed() >= Duration::from_millis(300));
    github.fault_times(Operation::ListPullRequests, Fault::NotJson, 1);
    assert!(get().await.unwrap().json::<Value>().await.is_err());
    github.fault_times(Operation::ListPullRequests, Fault::EmptyList, 1);
    assert_eq!(get().await.unwrap().json::<Value>().await.unwrap(), serde_json::json!([]));
    github.fault_times(Operation::ListPullRequests, Fault::NotFound, 1);
    assert_eq!(get().await.unwrap().status(), 404);
    no_violations(&github);
}

#[tokio::test]
async fn the_hook_runs_between_the_effect_and_the_answer() {
    let (github, number) = github().await;
    let (seen, mut was_seen) = tokio::sync::mpsc::unbounded_channel();
    let (go, wait) = tokio::sync::watch::channel(false);
    let at = github.clone();
    github.on_write(move |write| {
        let comments = at.comments(REPOSITORY, number).len();
        seen.send((write.operation, write.repository, write.number, comments)).unwrap();
        let mut wait = wait.clone();
        async move {
            let _ = wait.wait_for(|go| *go).await;
        }
        .boxed()
    });
    let octocrab = bot(&github);
    let answered = tokio::spawn(async move { octocrab.issues("acme", "shop").create_comment(number, "Hi").await });
    let expected = (Operation::CreateComment, REPOSITORY.to_owned(), Some(number), 1);
    assert_eq!(was_seen.recv().await, Some(expected));
    assert!(!answered.is_finished());
    go.send(true).unwrap();
    answered.await.unwrap().unwrap();
    github.clear_on_write();
    no_violations(&github);
}

#[tokio::test]
async fn a_client_that_dies_does_not_undo_its_write() {
    let (github, number) = github().await;
    let (seen, mut was_seen) = tokio::sync::mpsc::unbounded_channel();
    github.on_write(move |_| {
        seen.send(()).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).boxed()
    });
    let octocrab = bot(&github);
    let asking = tokio::spawn(async move { octocrab.issues("acme", "shop").create_comment(number, "Hi").await });
    was_seen.recv().await.unwrap();
    asking.abort();
    crate::support::eventually("the write is logged", || github.comment_writes().created == 1).await;
    assert_eq!(github.comments(REPOSITORY, number).len(), 1);
}
