//! Many pull requests at the same moment.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::life::{self, Life, recipe};

const PULL_REQUESTS: usize = 20;
/// Far more than it takes, on a machine with much else to do.
const ALL: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_pull_requests_at_once_are_deployed_once_each() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "many").await;
    let github = &life.stand.github;
    github.hold_deliveries();
    let mut numbers = Vec::new();
    for n in 0..PULL_REQUESTS {
        numbers.push(life.open(&format!("change-{n}"), &recipe("ok")).await);
    }
    let deliveries = github.release_deliveries();
    assert_eq!(deliveries.len(), PULL_REQUESTS);

    let began = Instant::now();
    let answers = join_all(deliveries.iter().map(|delivery| github.send(delivery))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|(status, _)| *status == 200)), "{answers:?}");
    for number in &numbers {
        let applied = life.until_applied(*number).await;
        assert_eq!(applied.metadata.generation, Some(1), "one rollout");
        life.until_commented(*number, "is being deployed").await;
    }
    assert!(began.elapsed() < ALL, "{:?}", began.elapsed());
    println!("{PULL_REQUESTS} pull requests in {:.1} s", began.elapsed().as_secs_f64());
    life.until_settled().await;
    assert_eq!(life.namespaces().await.len(), PULL_REQUESTS);
    assert_eq!(github.comment_writes().total(), PULL_REQUESTS);
    for number in numbers {
        assert_eq!(life.get(number).await["deployments"].as_array().map(Vec::len), Some(1));
    }
    life.finish().await;
}
