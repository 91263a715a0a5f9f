//! What GitHub is told besides the comment.

use xtask::github::{Deployment, Fault, Operation};

use super::life::{self, Life, SOON, recipe};

fn reporting(to: &str) -> String {
    format!("{}report: {to}\n", recipe("ok"))
}

/// Each deployment's commit, with its states in their order.
fn states(deployments: &[Deployment]) -> Vec<(String, Vec<String>)> {
    let states = |deployment: &Deployment| deployment.statuses.iter().map(|status| status.state.clone()).collect();
    deployments.iter().map(|deployment| (deployment.sha.clone(), states(deployment))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn githubs_deployments_say_what_serves() {
    let Some(ground) = life::node().await else { return };
    let life = Life::start(ground, "deployments").await;
    let github = &life.stand.github;
    // The first answer gets lost: what was made is found again.
    github.fault_times(Operation::CreateDeployment, Fault::CommitThenBadGateway, 1);
    let number = life.open("change", &reporting("both")).await;
    let first = life.head(number);
    let running = life.until_running(number).await;
    let until = async |expected: Vec<(String, Vec<&str>)>| {
        let expected: Vec<(String, Vec<String>)> =
            expected.into_iter().map(|(sha, states)| (sha, states.into_iter().map(str::to_owned).collect())).collect();
        xtask::testing::eventually(&format!("{expected:?}"), SOON, async || {
            (states(&github.deployments(&life.repository)) == expected).then_some(())
        })
        .await;
    };
    until(vec![(first.clone(), vec!["in_progress", "success"])]).await;
    let told = github.deployments(&life.repository).remove(0);
    assert!(told.transient && !told.production);
    assert_eq!((told.environment.as_str(), told.reference.as_str()), ("preview", "change"));
    assert_eq!(told.payload["preview"], running["namespace"]);
    assert_eq!(
        told.statuses[1].environment_url.trim_end_matches('/'),
        running["url"].as_str().unwrap().trim_end_matches('/')
    );

    let before = github.requests().len();
    let second = life.push(number).await;
    life.until_running(number).await;
    until(vec![
        (first.clone(), vec!["in_progress", "success", "inactive"]),
        (second.clone(), vec!["in_progress", "success"]),
    ])
    .await;
    let requests = github.requests();
    let writes = |wanted: fn(Operation) -> bool| {
        requests[before..].iter().filter(|request| request.operation.is_some_and(wanted)).count()
    };
    assert!(writes(Operation::is_deployment_write) <= 4 && writes(Operation::is_comment_write) <= 2);
    life.until_commented(number, "is running").await;

    github.close(&life.repository, number).await.unwrap();
    life.until_status(number, "deleted").await;
    until(vec![
        (first, vec!["in_progress", "success", "inactive"]),
        (second, vec!["in_progress", "success", "inactive"]),
    ])
    .await;
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipe_says_how_its_pull_requests_are_told() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "reports").await;
    let silent = life.open("silent", &reporting("none")).await;
    let by_deployments = life.open("deployments", &reporting("deployments")).await;
    let by_comment = life.open("comment", &recipe("ok")).await;
    for number in [silent, by_deployments, by_comment] {
        life.until_applied(number).await;
    }
    life.until_commented(by_comment, "is on its way").await;
    xtask::testing::eventually("a deployment", SOON, async || {
        let told = life.stand.github.deployments(&life.repository);
        (told.len() == 1 && told[0].sha == life.head(by_deployments) && told[0].statuses.len() == 1).then_some(())
    })
    .await;
    assert!(life.comments(silent).is_empty() && life.comments(by_deployments).is_empty());

    // What was told once is told to its end.
    let silenced = reporting("none");
    life.stand.github.push(&life.repository, by_comment, &[(".preview.yaml", &silenced)]).await.unwrap();
    life.until_applied(by_comment).await;
    life.stand.github.close(&life.repository, by_comment).await.unwrap();
    life.until_commented(by_comment, "was removed").await;
    assert_eq!(life.comments(by_comment).len(), 1);
    life.finish().await;
}
