//! Whatever is told, and however often: one deployment, one rollout, one comment, and the last commit wins.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::Value;

use super::{
    deployments, eventually,
    life::{self, Life, SOON, recipe, runs_commit},
    on_each_database,
};

fn outcome((status, answer): (u16, String)) -> String {
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["outcome"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_told_many_times_is_deployed_once() {
    let Some(ground) = life::api_only().await else { return };
    on_each_database(ground, "told", async |life| {
        let github = &life.stand.github;
        github.hold_deliveries();
        let number = life.open("change", &recipe("ok")).await;
        let opened = github.release_deliveries().remove(0);
        let (other, another) = (opened.clone().with_new_guid(), opened.clone().with_new_guid());

        let answers =
            tokio::join!(github.send(&opened), github.send(&opened), github.send(&other), github.send(&another));
        let mut same = [outcome(answers.0.unwrap()), outcome(answers.1.unwrap())];
        same.sort();
        assert_eq!(same, ["duplicate", "recorded"]);
        assert_eq!([outcome(answers.2.unwrap()), outcome(answers.3.unwrap())], ["recorded", "recorded"]);
        life.until_applied(number).await;
        life.until_commented(number, "is being deployed").await;
        for _ in 0..3 {
            github.send(&opened.clone().with_new_guid()).await.unwrap();
            github.redeliver(&opened.guid).await.unwrap();
        }
        life.until_settled().await;

        let environment = life.get(number).await;
        assert_eq!(deployments(&environment), [(life.head(number).as_str(), "deploying")]);
        assert_eq!(environment["deployments"][0]["attempt"], 1);
        assert_eq!(life.until_applied(number).await.metadata.generation, Some(1));
        assert_eq!((life.comments(number).len(), github.comment_writes().total()), (1, 1));
        assert_eq!(life.namespaces().await.len(), 1);
        life.finish().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_quick_pushes_the_last_one_lands_last() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "pushes").await;
    let number = life.open("change", &recipe("ok")).await;
    let environment = life.until_status(number, "deploying").await;
    for _ in 0..10 {
        life.push(number).await;
    }
    let last = life.head(number);
    life.until_applied(number).await;
    life.until_settled().await;

    let namespace = environment["namespace"].as_str().unwrap();
    let applied: Api<Deployment> = Api::namespaced(life.kube.clone(), namespace);
    assert!(runs_commit(&applied.get("app").await.unwrap(), &last));
    let environment = life.get(number).await;
    let history = deployments(&environment);
    assert_eq!(history[0], (last.as_str(), "deploying"));
    assert!(history[1..].iter().all(|(_, status)| *status == "superseded"), "{history:?}");
    // At most two a push, those that never got to the cluster included.
    let writes = life.stand.github.comment_writes();
    assert!(writes.created == 1 && writes.total() <= 22, "{writes:?}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_shows_at_once_while_nothing_can_work_on_it() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "at-once").await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    life.proxy.set_away(true);
    let second = life.push(number).await;
    let environment = life.get(number).await;
    assert_eq!((&environment["status"], &environment["commit"]), (&"pending".into(), &second.as_str().into()));
    life.stand.github.close(&life.repository, number).await.unwrap();
    // GitHub's times are whole seconds: a close in the second of a push is first confirmed.
    life.until_status(number, "deleting").await;
    life.proxy.set_away(false);
    eventually("it catches up", SOON * 2, async || (life.get(number).await["status"] == "deleted").then_some(())).await;
    life.finish().await;
}
