//! Images that are still being built when the webhook comes, with a real registry that they are pushed to.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};
use xtask::{
    cluster::{ImageSpec, REGISTRY_PASSWORD, REGISTRY_USER, Registry, sample_image},
    github::webhook_examples,
    testing::eventually,
};

use super::life::{self, Life, SOON, TO_RUNNING, recipe, recipe_of};

/// What the operator says of a registry.
fn registries(registry: &Registry, credentials: &str) -> String {
    format!("[registries.{:?}]\nplain_http = true\n{credentials}", registry.host())
}

/// What a build makes of a commit. No image that the node has without credentials: once one is pulled with some, kubelet
/// gives it to nobody else.
fn built(name: &str, commit: &str) -> ImageSpec {
    ImageSpec { name: name.to_owned(), ..sample_image(commit).unwrap() }
}

/// Tells previewd that the build of a commit ended, as GitHub says it.
async fn tell_build_ended(life: &Life, commit: &str) {
    let mut payload = webhook_examples("workflow_run").into_iter().find(|it| it["action"] == "completed").unwrap();
    payload["repository"]["id"] = json!(life.repository_id);
    payload["repository"]["full_name"] = json!(life.repository);
    payload["workflow_run"]["event"] = json!("pull_request");
    payload["workflow_run"]["head_sha"] = json!(commit);
    let told = life.stand.github.delivery_of("workflow_run", &payload).unwrap();
    assert_eq!(life.stand.github.send(&told).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_still_built_is_waited_for() {
    let Some(ground) = life::node().await else { return };
    let registry = ground.cluster.start_registry(true).await.unwrap();
    let mut life = Life::prepare(ground, "built", None).await;
    let credentials = format!("username = {REGISTRY_USER:?}\npassword = {REGISTRY_PASSWORD:?}\n");
    life.configure(&registries(&registry, &credentials));
    life.begin().await;

    let image = format!("{}/shop", registry.host());
    let number = life.open("change", &recipe_of(&format!("{image}:{{{{ sha }}}}"), "ok")).await;
    let head = life.head(number);
    let waiting = life.until(number, SOON, |found| found["reason"] == "waiting_for_image").await;
    assert_eq!(waiting["status"], "pending", "{waiting:#}");
    assert!(waiting["message"].as_str().unwrap().contains(&format!("{image}:{head}")), "{waiting:#}");
    assert_eq!(waiting["deployments"][0]["attempt"], 0, "the time until then is nobody's attempt: {waiting:#}");
    let comment = life.until_commented(number, "is waiting").await;
    assert!(comment.contains("is not in its registry yet"), "{comment}");
    assert!(life.namespaces().await.is_empty(), "nothing is there yet");

    registry.push(&built(&format!("{image}:{head}"), &head)).await.unwrap();
    tell_build_ended(&life, &head).await;
    // Pulled by the node, with the operator's credentials.
    let running = life.until_running(number).await;
    assert!(life.page(&running).await.contains(&head));
    life.until_commented(number, "is running").await;
    life.until_settled().await;
    assert_eq!(life.stand.github.comment_writes().total(), 2, "that it waits, and that it runs");
    assert!(!life.log().contains(REGISTRY_PASSWORD), "the password got out");

    // What everybody shares, and a commit whose image is there, is not waited for.
    github_push(&life, number, &recipe("ok")).await;
    life.until_running(number).await;
    life.finish().await;
}

/// The tag is the pull request's, as build actions write it: what runs is what it means once this commit was built.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_is_waited_for_and_deployed_by_its_digest() {
    let Some(ground) = life::node().await else { return };
    let registry = ground.cluster.start_registry(false).await.unwrap();
    let mut life = Life::prepare(ground, "moving", None).await;
    life.configure(&registries(&registry, ""));
    life.begin().await;
    let recipe = recipe_of(&format!("{}/shop:pr-{{{{ pull_request }}}}", registry.host()), "ok");
    let number = life.open("change", &recipe).await;
    let image = format!("{}/shop:pr-{number}", registry.host());
    let waits = |found: &Value, words: &str| {
        found["reason"] == "waiting_for_image" && found["message"].as_str().is_some_and(|said| said.contains(words))
    };
    life.until(number, SOON, |found| waits(found, &format!("{image} is not in its registry yet"))).await;
    let build = async |commit: &str| {
        registry.push(&built(&image, commit)).await.unwrap();
        life.stand.github.set_workflow(&life.repository, commit, "completed").unwrap();
        tell_build_ended(&life, commit).await;
    };
    let digest_of = |found: &Value| found["deployments"][0]["readiness"]["images"][0]["digest"].clone();
    build(&life.head(number)).await;
    let first = digest_of(&life.until_running(number).await);

    // The registry has the image of the commit before, and the build of this one is under way.
    let second = life.push(number).await;
    life.stand.github.set_workflow(&life.repository, &second, "in_progress").unwrap();
    let waiting = life.until(number, SOON, |found| waits(found, "may still be the one of the commit before")).await;
    assert!(life.page(&waiting).await.contains("shop"), "which answers meanwhile");
    build(&second).await;
    let running = life.until_running(number).await;
    let second = digest_of(&running);
    assert_ne!(second, first, "{running:#}");
    let deployments: Api<Deployment> = Api::namespaced(life.kube.clone(), running["namespace"].as_str().unwrap());
    let template = deployments.get("app").await.unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(template.containers[0].image, Some(format!("{image}@{}", second.as_str().unwrap())));

    // A commit that changes nothing of the image: its build is over, and there is nothing to wait for.
    let third = life.push(number).await;
    life.stand.github.set_workflow(&life.repository, &third, "completed").unwrap();
    assert_eq!(digest_of(&life.until_running(number).await), second);

    // Its build was not over: previewd did not see it, because it runs elsewhere.
    build(&third).await;
    let is_new = |found: &Value| {
        found["status"] == "running" && digest_of(found).as_str().is_some_and(|digest| Some(digest) != second.as_str())
    };
    let third = digest_of(&life.until(number, TO_RUNNING, is_new).await);

    // Of two images of one build the one that is there sooner does not speak for the other.
    let side = format!("{}/side", registry.host());
    let both = format!("{recipe}services: {{ side: {{ image: '{side}:{{{{ sha }}}}', port: 8080 }} }}\n");
    github_push(&life, number, &both).await;
    let fourth = life.head(number);
    life.stand.github.set_workflow(&life.repository, &fourth, "in_progress").unwrap();
    life.until(number, SOON, |found| waits(found, &format!("{side}:{fourth} is not in its registry yet"))).await;
    registry.push(&built(&format!("{side}:{fourth}"), &fourth)).await.unwrap();
    tell_build_ended(&life, &fourth).await;
    life.until(number, SOON, |found| waits(found, "may still be the one of the commit before")).await;
    build(&fourth).await;
    let running = life.until_running(number).await;
    let images = running["deployments"][0]["readiness"]["images"].as_array().unwrap();
    assert!(images.iter().all(|image| image["digest"] != third), "{running:#}");
    life.finish().await;
}

/// With its volume it is never there twice: what fails took the place of what ran.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_goes_back_to_the_image_that_it_ran_with() {
    let Some(ground) = life::node().await else { return };
    let registry = ground.cluster.start_registry(false).await.unwrap();
    let mut life = Life::prepare(ground, "rebuilt", None).await;
    life.configure(&registries(&registry, ""));
    life.begin().await;
    let recipe = recipe_of(&format!("{}/shop:pr-{{{{ pull_request }}}}", registry.host()), "ok");
    let number = life.open("change", &format!("{recipe}  volumes: {{ /data: 16Mi }}\n")).await;
    let (image, head) = (format!("{}/shop:pr-{number}", registry.host()), life.head(number));
    let build = async |built: &ImageSpec| {
        registry.push(built).await.unwrap();
        life.stand.github.set_workflow(&life.repository, &head, "completed").unwrap();
        tell_build_ended(&life, &head).await;
    };
    build(&built(&image, &head)).await;
    let running = life.until_running(number).await;
    let namespace = running["namespace"].as_str().unwrap();
    let digest = running["deployments"][0]["readiness"]["images"][0]["digest"].as_str().unwrap();

    // Without another commit.
    build(&ImageSpec { user: "0:0".to_owned(), ..built(&image, &head) }).await;
    let is_back = |found: &Value| found["status"] == "failed" && found["serving_commit"] == head.as_str();
    let back = life.until(number, TO_RUNNING, is_back).await;
    assert_eq!(back["reason"], "runs_as_root", "{back:#}");
    life.until_settled().await;
    let deployments: Api<Deployment> = Api::namespaced(life.kube.clone(), namespace);
    let template = deployments.get("app").await.unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(template.containers[0].image, Some(format!("{image}@{digest}")));
    eventually("it answers", SOON, async || {
        let found = life.get(number).await;
        (found["serving_commit"] == head.as_str() && life.page(&found).await.contains(&head)).then_some(())
    })
    .await;
    life.until_commented(number, "What ran of it before still answers").await;

    // The end of a build that changes nothing begins nothing; another image does.
    tell_build_ended(&life, &head).await;
    life.until_settled().await;
    let same = life.get(number).await;
    let started_at = |found: &Value| found["deployments"][0]["started_at"].clone();
    assert_eq!((&same["status"], started_at(&same)), (&json!("failed"), started_at(&back)), "{same:#}");
    registry.push(&built(&image, "another build")).await.unwrap();
    tell_build_ended(&life, &head).await;
    let again = life.until(number, TO_RUNNING, |found| found["status"] == "running").await;
    assert_ne!(again["deployments"][0]["readiness"]["images"][0]["digest"].as_str(), Some(digest), "{again:#}");
    life.finish().await;
}

async fn github_push(life: &Life, number: u64, recipe: &str) {
    life.stand.github.push(&life.repository, number, &[(".preview.yaml", recipe)]).await.unwrap();
}

/// Nodes may have credentials that previewd has not: nobody says then what the tag means, so that the build is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_where_its_registry_does_not_tell_is_waited_for_while_it_is_built() {
    let Some(ground) = life::api_only().await else { return };
    let registry = Registry::start(Ipv4Addr::LOCALHOST, true).await.unwrap();
    let mut life = Life::prepare(ground, "untold", None).await;
    life.configure(&registries(&registry, ""));
    life.begin().await;
    let recipe = recipe_of(&format!("{}/shop:pr-{{{{ pull_request }}}}", registry.host()), "ok");
    let number = life.open("change", &recipe).await;
    let first = life.head(number);
    life.stand.github.set_workflow(&life.repository, &first, "completed").unwrap();
    tell_build_ended(&life, &first).await;
    life.until_applied(number).await;

    let second = life.push(number).await;
    life.stand.github.set_workflow(&life.repository, &second, "in_progress").unwrap();
    let waiting = life.until(number, SOON, |found| found["reason"] == "waiting_for_image").await;
    let said = waiting["message"].as_str().unwrap();
    assert!(said.contains("may still be the one of the commit before"), "{waiting:#}");
    life.stand.github.set_workflow(&life.repository, &second, "completed").unwrap();
    tell_build_ended(&life, &second).await;
    life.until_applied(number).await;
    life.finish().await;
}

/// Of two pushes one after the other the build of the first may end while that of the second is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_commit_between_pushes_is_not_taken_for_the_heads() {
    let Some(ground) = life::api_only().await else { return };
    let registry = Registry::start(Ipv4Addr::LOCALHOST, false).await.unwrap();
    let mut life = Life::prepare(ground, "between", None).await;
    life.configure(&registries(&registry, ""));
    life.begin().await;
    let recipe = recipe_of(&format!("{}/shop:pr-{{{{ pull_request }}}}", registry.host()), "ok");
    let number = life.open("change", &recipe).await;
    let (image, first) = (format!("{}/shop:pr-{number}", registry.host()), life.head(number));
    let waits = |found: &Value, commit: &str, words: &str| {
        let said = found["message"].as_str().is_some_and(|said| said.contains(words));
        found["reason"] == "waiting_for_image" && found["commit"] == *commit && said
    };
    life.until(number, SOON, |found| waits(found, &first, "is not in its registry yet")).await;
    let second = life.push(number).await;
    life.stand.github.set_workflow(&life.repository, &second, "in_progress").unwrap();
    life.until(number, SOON, |found| waits(found, &second, "is not in its registry yet")).await;

    let build = async |commit: &str| {
        registry.push(&built(&image, commit)).await.unwrap();
        life.stand.github.set_workflow(&life.repository, commit, "completed").unwrap();
        tell_build_ended(&life, commit).await;
    };
    build(&first).await;
    life.until(number, SOON, |found| waits(found, &second, "a build of this one is under way")).await;
    build(&second).await;
    life.until_applied(number).await;
    life.finish().await;
}

/// What its tag means then is the image of the commit before, which must not be shown as this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_build_failed_is_not_deployed_as_the_one_before() {
    let Some(ground) = life::api_only().await else { return };
    let registry = Registry::start(Ipv4Addr::LOCALHOST, false).await.unwrap();
    let mut life = Life::prepare(ground, "broken", None).await;
    life.configure(&registries(&registry, ""));
    life.begin().await;
    let tag = recipe_of(&format!("{}/shop:pr-{{{{ pull_request }}}}", registry.host()), "ok");
    let number = life.open("change", &tag).await;
    let image = format!("{}/shop:pr-{number}", registry.host());
    let build = async |image: &str, commit: &str| {
        registry.push(&built(image, commit)).await.unwrap();
        life.stand.github.set_workflow(&life.repository, commit, "completed").unwrap();
        tell_build_ended(&life, commit).await;
    };
    let fail = async |commit: &str| {
        life.stand.github.set_workflow(&life.repository, commit, "in_progress").unwrap();
        life.until(number, SOON, |found| found["reason"] == "waiting_for_image" && found["commit"] == *commit).await;
        life.stand.github.end_workflow(&life.repository, commit, "failure").unwrap();
        tell_build_ended(&life, commit).await;
        // For half a minute GitHub may not list the workflow that builds it.
        let failed = life.until(number, TO_RUNNING, |found| found["status"] == "failed").await;
        assert_eq!(failed["reason"], "image_pull_failed", "{failed:#}");
        assert_eq!(failed["deployments"][0]["attempt"], 0, "{failed:#}");
        failed["message"].as_str().unwrap().to_owned()
    };
    build(&image, &life.head(number)).await;
    life.until_applied(number).await;

    let second = life.push(number).await;
    let said = fail(&second).await;
    assert!(said.contains(&format!("{image} is still the one of the commit before, and a workflow of")), "{said}");
    build(&image, &second).await;
    life.until_applied(number).await;

    // Whoever asks for it all the same may know better.
    let third = life.push(number).await;
    fail(&third).await;
    life.call("retry_preview_deployment", number).await.done().unwrap();
    life.until_applied(number).await;

    let own = format!("{}/own", registry.host());
    github_push(&life, number, &recipe_of(&format!("{own}:{{{{ sha }}}}"), "ok")).await;
    let fourth = life.head(number);
    life.stand.github.end_workflow(&life.repository, &fourth, "failure").unwrap();
    // What failed need not be what builds it: it is waited for all the same. GitHub is asked once a minute.
    let is_told = |found: &Value| {
        let said =
            found["message"].as_str().is_some_and(|said| said.contains("yet, and a workflow of this commit failed"));
        found["reason"] == "waiting_for_image" && said
    };
    life.until(number, TO_RUNNING, is_told).await;
    build(&format!("{own}:{fourth}"), &fourth).await;
    life.until_applied(number).await;
    life.finish().await;
}

/// Where previewd asks no registry, only the node says that an image is missing: an attempt that lacks it makes
/// way for the next when the commit's build ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lacks_its_image_begins_another_attempt_once_it_is_built() {
    let Some(ground) = life::node().await else { return };
    let registry = ground.cluster.start_registry(false).await.unwrap();
    let mut life = Life::prepare(ground, "unasked", None).await;
    life.configure(&format!("[images]\nask_registries = false\n{}", registries(&registry, "")));
    life.begin().await;
    let image = format!("{}/shop", registry.host());
    let number = life.open("change", &recipe_of(&format!("{image}:{{{{ sha }}}}"), "ok")).await;
    let head = life.head(number);
    life.until(number, TO_RUNNING, |found| found["reason"] == "image_pull_failed").await;

    registry.push(&built(&format!("{image}:{head}"), &head)).await.unwrap();
    tell_build_ended(&life, &head).await;
    let running = life.until_running(number).await;
    assert_eq!(running["deployments"][0]["attempt"], 2, "the node itself would have waited for longer: {running:#}");
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_nobody_pushes_is_named_in_the_end() {
    let Some(ground) = life::api_only().await else { return };
    let registry = Registry::start(Ipv4Addr::LOCALHOST, false).await.unwrap();
    let mut life = Life::prepare(ground, "unbuilt", None).await;
    life.configure(&format!("[images]\nwait = \"3s\"\n{}", registries(&registry, "")));
    life.begin().await;

    let image = format!("{}/shop", registry.host());
    let number = life.open("change", &recipe_of(&format!("{image}:pr-{{{{ short_sha }}}}"), "ok")).await;
    let failed = life.until_status(number, "failed").await;
    assert_eq!(failed["reason"], "image_pull_failed", "{failed:#}");
    let short = &life.head(number)[..7];
    let sentence = format!("The image {image}:pr-{short} did not come into its registry");
    assert!(failed["message"].as_str().unwrap().starts_with(&sentence), "{failed:#}");
    life.until_commented(number, "Preview failed").await;

    registry.push(&built(&format!("{image}:pr-{short}"), short)).await.unwrap();
    life.call("retry_preview_deployment", number).await.done().unwrap();
    life.until_applied(number).await;

    // A new commit takes the place of one that waits.
    github_push(&life, number, &recipe_of(&format!("{image}:{{{{ sha }}}}"), "ok")).await;
    life.until(number, SOON, |found| found["reason"] == "waiting_for_image").await;
    github_push(&life, number, &recipe("ok")).await;
    life.until_applied(number).await;
    eventually("the one that waited is superseded", Duration::from_secs(10), async || {
        let found = life.get(number).await;
        (found["deployments"][1]["status"] == "superseded").then_some(())
    })
    .await;
    life.finish().await;
}
