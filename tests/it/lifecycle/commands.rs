//! What people write on a pull request, and what becomes of it.

use serde_json::Value;
use xtask::{
    github::{Comment, Fault, NewPullRequest, Operation, Role},
    testing::eventually,
};

use super::life::{self, Life, SOON, recipe};

/// previewd's answers to commands, oldest first.
fn replies(life: &Life, number: u64) -> Vec<String> {
    let comments = life.stand.github.comments(&life.repository, number);
    comments.into_iter().map(|comment| comment.body).filter(|body| body.contains(":command:")).collect()
}

/// Writes a comment, and awaits what previewd makes of it: its reaction.
pub async fn command(life: &Life, number: u64, author: &str, text: &str) -> String {
    let github = &life.stand.github;
    let id = github.comment(&life.repository, number, author, text).await.unwrap();
    let is_it = |comment: &Comment| comment.id == id;
    // Whoever is refused waits for the next minute's writes, once those of this one are used up.
    eventually(&format!("a reaction to {text:?}"), SOON * 3, async || {
        let comment = github.comments(&life.repository, number).into_iter().find(is_it).unwrap();
        comment.reactions.into_iter().next().map(|(_, reaction)| reaction)
    })
    .await
}

/// Awaits previewd's next answer, the `count`th.
async fn reply(life: &Life, number: u64, count: usize) -> String {
    eventually("a reply", SOON, async || replies(life, number).into_iter().nth(count - 1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_run_under_their_authors_role() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "commands").await;
    let github = &life.stand.github;
    github.set_role(&life.repository, "ann", Role::Maintain).unwrap();
    github.set_role(&life.repository, "bob", Role::Triage).unwrap();
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;

    assert_eq!(command(&life, number, "bob", "/preview delete").await, "confused");
    assert!(reply(&life, number, 1).await.contains("needs the role admin; yours here is member"));
    assert_eq!(command(&life, number, "eve", "/preview retry").await, "confused");
    assert!(reply(&life, number, 2).await.contains("needs the role member; yours here is viewer"));
    assert_eq!(command(&life, number, "bob", "/preview retry").await, "confused");
    assert!(reply(&life, number, 3).await.contains("only what failed or sleeps is retried"));
    assert_eq!(command(&life, number, "bob", "/preview dance").await, "confused");
    assert!(reply(&life, number, 4).await.contains("There are /preview deploy"));
    assert_eq!(command(&life, number, "eve", "/preview status").await, "+1");
    assert!(reply(&life, number, 5).await.contains("is deploying"));
    assert_eq!(life.get(number).await["status"], "deploying");

    for no_command in ["please /preview delete", "> /preview delete", "/previews delete"] {
        github.comment(&life.repository, number, "ann", no_command).await.unwrap();
    }
    assert_eq!(command(&life, number, "ann", "Thanks for this.\r\n/preview delete").await, "+1");
    let deleted = life.until_status(number, "deleted").await;
    assert_eq!(deleted["reason"], "removed_by_hand");
    let comments = github.comments(&life.repository, number);
    let thanks = comments.into_iter().find(|comment| comment.body.starts_with("Thanks")).unwrap();
    let delivery = github.delivery_for_comment(&life.repository, thanks.id).unwrap();
    assert_eq!(github.send(&delivery).await.unwrap().0, 200);
    life.until_settled().await;

    assert_eq!(command(&life, number, "bob", "/preview deploy").await, "+1");
    life.until_applied(number).await;
    assert_eq!(github.send(&delivery).await.unwrap().0, 200);
    life.until_settled().await;
    assert_eq!(life.get(number).await["status"], "deploying", "a comment is obeyed once");

    let store = life.store();
    assert_eq!(command(&life, number, "bob", "/preview keep 100d").await, "+1");
    let lifetime = life.row(&store, number).await.environment.lifetime;
    let kept = lifetime.keep_until.unwrap() - store.clock().await.unwrap();
    assert!((29 * 86_400_000..=30 * 86_400_000).contains(&kept), "the operator's limit is 30 days: {kept}");
    assert!(reply(&life, number, 6).await.contains("It is kept for 30d, the longest here."));
    assert_eq!(replies(&life, number).len(), 6);

    github.close(&life.repository, number).await.unwrap();
    life.until_status(number, "deleted").await;
    assert_eq!(command(&life, number, "ann", "/preview deploy").await, "confused");
    assert!(reply(&life, number, 7).await.contains("is closed"));
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_heard_in_reviews_and_one_after_the_other() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "reviews").await;
    let github = &life.stand.github;
    github.set_role(&life.repository, "ann", Role::Maintain).unwrap();
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;

    // GitHub has no reactions to reviews.
    github.review(&life.repository, number, "ann", "Looks good.\n\n/Preview Keep 7d").await.unwrap();
    assert!(reply(&life, number, 1).await.contains("`/preview keep`: Accepted."));
    let told = "Not here:\n```\n/preview delete\n```\n<!-- /preview delete -->";
    github.review_comment(&life.repository, number, "ann", told).await.unwrap();
    let id = github.review_comment(&life.repository, number, "ann", "/preview status").await.unwrap();
    assert!(reply(&life, number, 2).await.contains("is deploying"));
    let reacted = github.review_reactions(&life.repository, id).into_iter().map(|(_, reaction)| reaction);
    assert_eq!(reacted.collect::<Vec<_>>(), ["+1"]);

    let several = "/preview delete\n/preview status\n/preview deploy\n/preview dance";
    assert_eq!(command(&life, number, "ann", several).await, "confused");
    let answer = reply(&life, number, 3).await;
    let lines: Vec<&str> = answer.lines().skip(1).collect();
    assert_eq!((lines[0], lines[2]), ("`/preview delete`: Accepted.", "`/preview deploy`: Accepted."), "{answer}");
    assert!(lines[1].contains("is deleting"), "{answer}");
    assert!(lines[3].starts_with("`/preview`: There are /preview deploy"), "{answer}");
    life.until_applied(number).await;

    let id = github.comment(&life.repository, number, "ann", "Thanks.").await.unwrap();
    github.edit_comment(&life.repository, id, "Thanks.\n/preview delete").await.unwrap();
    assert!(reply(&life, number, 4).await.contains("What is edited into a comment is not done"));
    life.until_settled().await;
    assert_eq!(life.get(number).await["status"], "deploying");
    assert_eq!(replies(&life, number).len(), 4, "one answer for each");
    life.finish().await;
}

/// What is asked for in words is done, and told later; whoever may not is told later as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_waits_holds_nothing_up() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "unanswered").await;
    let github = &life.stand.github;
    github.set_role(&life.repository, "ann", Role::Maintain).unwrap();
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    github.fault(Operation::CreateReaction, Fault::BadGateway);
    let comment = async |author, text| github.comment(&life.repository, number, author, text).await.unwrap();
    comment("ann", "/preview status").await;
    comment("eve", "/preview delete").await;
    life.push(number).await;
    life.until_applied(number).await;
    comment("ann", "/preview reset").await;
    life.until_applied(number).await;
    github.close(&life.repository, number).await.unwrap();
    life.until_status(number, "deleted").await;
    assert!(replies(&life, number).is_empty());
    github.reopen(&life.repository, number).await.unwrap();
    life.until_applied(number).await;
    comment("ann", "/preview delete").await;
    life.until_status(number, "deleted").await;

    github.clear_faults();
    let last = comment("ann", "/preview status").await;
    let reacted = |comment: &Comment| !comment.reactions.is_empty();
    eventually("all are told", SOON * 2, async || {
        let comments = github.comments(&life.repository, number);
        let asked = comments.iter().filter(|comment| comment.body.starts_with("/preview"));
        (asked.clone().all(reacted) && asked.clone().any(|comment| comment.id == last)).then_some(())
    })
    .await;
    life.finish().await;
}

/// The same table as `authorization` has for the other interfaces, by the roles that GitHub has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comments_ask_the_same_table() {
    use previewd::identity::Action;
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "matrix").await;
    let number = life.open("change", &recipe("ok")).await;
    life.until_applied(number).await;
    let people = [
        ("reader", Role::Read),
        ("triager", Role::Triage),
        ("writer", Role::Write),
        ("maintainer", Role::Maintain),
        ("owner", Role::Admin),
    ];
    for (login, role) in people {
        life.stand.github.set_role(&life.repository, login, role).unwrap();
        let ours = previewd::identity::Role::of_github(&format!("{role:?}").to_lowercase()).unwrap();
        for (text, action) in [
            ("status", Action::Inspect),
            ("keep 1h", Action::Keep),
            ("retry", Action::Retry),
            ("deploy", Action::Create),
            ("approve 0123456789", Action::Approve),
            ("delete", Action::Delete),
        ] {
            let denials = || replies(&life, number).iter().filter(|reply| reply.contains("needs the role ")).count();
            let before = denials();
            let reaction = command(&life, number, login, &format!("/preview {text}")).await;
            let denied = ours < action.needs();
            if denied {
                assert_eq!(reaction, "confused", "{login} wants to {text}");
                eventually("a denial", SOON * 3, async || (denials() == before + 1).then_some(())).await;
            }
            life.until_settled().await;
            assert_eq!(denials(), before + usize::from(denied), "{login} wants to {text}: {reaction}");
        }
    }
    life.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_commit_runs_once_an_admin_approved_that_very_commit() {
    let Some(ground) = life::api_only().await else { return };
    let life = Life::start(ground, "approvals").await;
    let github = &life.stand.github;
    github.set_role(&life.repository, "ann", Role::Admin).unwrap();
    github.set_role(&life.repository, "bob", Role::Write).unwrap();
    github.commit(&life.repository, "main", &[(".preview.yaml", &recipe("ok"))]).await.unwrap();
    let new = NewPullRequest::new("From a fork", "mine").from_fork("mallory").file("change.txt", "a change");
    let number = github.open_pull_request(&life.repository, new).await.unwrap();
    let waits = |found: &Value| found["status"] == "pending" && found["reason"] == "awaiting_approval";
    life.until(number, SOON, waits).await;
    let first = life.head(number);
    let offered = format!("/preview approve {first}");
    let comment = life.until_commented(number, &offered).await;
    let line = comment.lines().find(|line| line.starts_with("/preview")).unwrap();

    for (who, what, answer) in [
        ("mallory", line, "needs the role admin; yours here is viewer"),
        ("bob", line, "needs the role admin; yours here is member"),
        ("bob", "/preview deploy", ""),
        ("ann", "/preview approve 0123456789", "not the newest commit"),
    ] {
        let before = replies(&life, number).len();
        assert_eq!(command(&life, number, who, what).await == "+1", answer.is_empty(), "{who}: {what}");
        if !answer.is_empty() {
            assert!(reply(&life, number, before + 1).await.contains(answer), "{who}: {what}");
        }
        life.until_settled().await;
        assert!(waits(&life.get(number).await) && life.namespaces().await.is_empty(), "{who}: {what}");
    }
    assert_eq!(command(&life, number, "ann", line).await, "+1");
    life.until_applied(number).await;

    life.push(number).await;
    life.until(number, SOON, waits).await;
    let before = replies(&life, number).len();
    assert_eq!(command(&life, number, "ann", line).await, "confused", "that was another commit");
    assert!(reply(&life, number, before + 1).await.contains("not the newest commit"));
    let short = format!("/preview approve {}", &life.head(number)[..7]);
    assert_eq!(command(&life, number, "ann", &short).await, "+1");
    life.until_applied(number).await;
    life.finish().await;
}
