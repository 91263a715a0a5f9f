//! Many pull requests at the same moment.

use std::time::{Duration, Instant};

use futures::future::join_all;
use previewd::environment::EnvironmentStatus;
use xtask::{github::LoggedRequest, testing::eventually};

use super::life::{self, Life, TO_GONE, recipe};

const PULL_REQUESTS: usize = 60;
/// Ten seconds where nothing else is done at the same time.
const ALL_CLAIMED: Duration = Duration::from_secs(40);
/// Every comment, with what GitHub lets write in a minute.
const ALL_TOLD: Duration = Duration::from_secs(120);
const MEMORY_KIBIBYTES: u64 = 300 * 1024;

/// What `previewd serve` had in memory at most.
fn most_memory(life: &Life) -> u64 {
    let id = life.stand.server.as_ref().and_then(|server| server.id()).expect("previewd runs");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// T085: all of them are taken up, each is told once, within what GitHub allows; and nothing is left of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_pull_requests_at_once_are_deployed_once_each() {
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
    let store = life.store();
    eventually("all of them are taken up", ALL_CLAIMED, async || {
        let rows = life.environments(&store).await;
        let waiting = rows.iter().filter(|row| row.environment.status == EnvironmentStatus::Pending).count();
        (waiting == 0).then_some(())
    })
    .await;
    println!("{PULL_REQUESTS} pull requests were taken up within {:.1} s", began.elapsed().as_secs_f64());
    eventually("all of them are told", ALL_TOLD, async || {
        numbers.iter().all(|number| life.comments(*number).len() == 1).then_some(())
    })
    .await;
    println!("and told within {:.1} s", began.elapsed().as_secs_f64());
    for number in &numbers {
        let applied = life.until_applied(*number).await;
        assert_eq!(applied.metadata.generation, Some(1), "one rollout");
    }
    life.until_settled().await;
    assert_eq!(life.namespaces().await.len(), PULL_REQUESTS);
    assert_eq!(github.comment_writes().total(), PULL_REQUESTS);
    for number in &numbers {
        assert_eq!(life.get(*number).await["deployments"].as_array().map(Vec::len), Some(1));
    }

    join_all(numbers.iter().map(|number| github.close(&life.repository, *number))).await;
    eventually("all of them are gone, and told", TO_GONE, async || {
        let told = |number: &u64| life.comments(*number).iter().any(|comment| comment.contains("was removed"));
        numbers.iter().all(told).then_some(())
    })
    .await;
    assert!(life.namespaces().await.is_empty());
    let memory = most_memory(&life);
    println!("{memory} KiB at most");
    assert!(memory < MEMORY_KIBIBYTES, "{memory} KiB");
    let requests = github.requests();
    let writes: Vec<Instant> = requests
        .iter()
        .filter(|request| request.operation.is_some_and(|operation| operation.is_comment_write()))
        .map(|LoggedRequest { at, .. }| *at)
        .collect();
    let in_a_minute = |from: &Instant| {
        let until = *from + Duration::from_secs(60);
        writes.iter().filter(|at| (*from..until).contains(*at)).count()
    };
    let most = writes.iter().map(in_a_minute).max().unwrap();
    assert!(most <= 80, "{most} comments were written within a minute");
    life.finish().await;
}
