use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;
use xtask::github::webhook_examples;

use super::*;
use crate::environment::{PullRequestFacts, PullRequestState, RepositoryFacts};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// The actions of `pull_request` that may change what should run.
const USED_ACTIONS: [&str; 9] = [
    "opened",
    "reopened",
    "synchronize",
    "closed",
    "edited",
    "labeled",
    "unlabeled",
    "ready_for_review",
    "converted_to_draft",
];

/// The first published example with this action.
fn example(event: &str, action: &str) -> Value {
    let mut examples = webhook_examples(event).into_iter();
    examples.find(|example| example["action"] == action).unwrap_or_else(|| panic!("an example of {event} {action}"))
}

/// A pull request's example, with some of its members replaced: (JSON pointer, value).
fn opened(changes: &[(&str, Value)]) -> Vec<u8> {
    changed(example("pull_request", "opened"), changes)
}

fn changed(mut payload: Value, changes: &[(&str, Value)]) -> Vec<u8> {
    for (pointer, value) in changes {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        payload.pointer_mut(parent).unwrap()[member] = value.clone();
    }
    payload.to_string().into_bytes()
}

fn without(mut payload: Value, pointer: &str) -> Vec<u8> {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    payload.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member).expect(pointer);
    payload.to_string().into_bytes()
}

fn facts(body: &[u8]) -> PullRequestFacts {
    match parse("pull_request", body).unwrap().change {
        Change::PullRequest { facts, .. } => facts,
        other => panic!("{other:?}"),
    }
}

fn refused(event: &str, body: &[u8]) -> String {
    parse(event, body).expect_err("a refused body").to_string()
}

#[test]
fn every_published_example_is_read() {
    for event in ["pull_request", "repository", "installation", "installation_repositories", "ping"] {
        let examples = webhook_examples(event);
        assert!(!examples.is_empty(), "{event}");
        for example in examples {
            let action = example["action"].as_str();
            let parsed =
                parse(event, example.to_string().as_bytes()).unwrap_or_else(|error| panic!("{event}: {error}"));
            assert_eq!(parsed.action.as_deref(), action);
            let is_used = match (event, action) {
                ("pull_request", Some(action)) => USED_ACTIONS.contains(&action),
                ("repository", Some(action)) => ["renamed", "transferred", "deleted"].contains(&action),
                ("installation", Some(action)) => ["created", "deleted", "suspend", "unsuspend"].contains(&action),
                _ => event == "installation_repositories",
            };
            let is_ignored = matches!(parsed.change, Change::Nothing { .. });
            assert_eq!(is_ignored, !is_used, "{event} {action:?}: {:?}", parsed.change);
        }
    }
}

#[test]
fn a_pull_request_is_stored_as_github_says_it() {
    let body = opened(&[
        ("/installation", json!({ "id": 5 })),
        ("/pull_request/head/sha", json!(SHA)),
        ("/pull_request/labels", json!([{ "id": 1, "name": "preview" }, { "id": 2, "name": "ünïcode" }])),
    ]);
    let parsed = parse("pull_request", &body).unwrap();
    assert_eq!(parsed.action.as_deref(), Some("opened"));
    assert_eq!(parsed.repository.as_ref().map(RepositoryName::as_str), Some("codertocat/hello-world"));
    assert_eq!(parsed.number, Some(2));
    assert_eq!(parsed.head_sha.as_ref().map(CommitSha::as_str), Some(SHA));

    let expected = PullRequestFacts {
        repository: RepositoryFacts {
            github_id: 186_853_002,
            name: "codertocat/hello-world".parse().unwrap(),
            default_branch: "master".to_owned(),
            app_installation_id: Some(5),
        },
        github_id: 279_147_437,
        number: 2,
        title: "Update the README with new information.".to_owned(),
        author: "Codertocat".to_owned(),
        head_sha: SHA.parse().unwrap(),
        head_ref: "changes".to_owned(),
        base_ref: "master".to_owned(),
        from_fork: false,
        draft: false,
        state: PullRequestState::Open,
        labels: vec!["preview".to_owned(), "ünïcode".to_owned()],
        label_ids: vec![1, 2],
        // 2019-05-15T15:20:33Z
        github_updated_at: 1_557_933_633_000,
    };
    assert_eq!(parsed.change, Change::PullRequest { facts: expected, before: None });
}

#[test]
fn states_and_forks_and_accounts_that_are_gone() {
    let closed = |merged_at: Value| {
        facts(&opened(&[("/pull_request/state", json!("closed")), ("/pull_request/merged_at", merged_at)])).state
    };
    assert_eq!(closed(json!(null)), PullRequestState::Closed);
    assert_eq!(closed(json!("2026-11-23T18:00:00Z")), PullRequestState::Merged);

    assert!(facts(&opened(&[("/pull_request/head/repo", json!(null))])).from_fork, "a deleted fork");
    assert!(facts(&opened(&[("/pull_request/head/repo/id", json!(7))])).from_fork);
    assert!(facts(&opened(&[("/pull_request/draft", json!(true))])).draft);
    assert_eq!(facts(&opened(&[("/pull_request/user", json!(null))])).author, "ghost");
    assert_eq!(facts(&opened(&[("/pull_request/title", json!("a\0b"))])).title, "a\u{fffd}b");
}

#[test]
fn only_a_push_has_a_head_before() {
    for action in USED_ACTIONS {
        let body = opened(&[("/before", json!(SHA)), ("/action", json!(action))]);
        let Change::PullRequest { before, .. } = parse("pull_request", &body).unwrap().change else {
            panic!("{action}");
        };
        assert_eq!(before.is_some(), action == "synchronize", "{action}");
    }
}

fn joined<'a>(some: &[(&'a str, Value)], others: &[(&'a str, Value)]) -> Vec<(&'a str, Value)> {
    [some, others].concat()
}

/// What a comment asks for, whichever kind it is of.
fn asked(event: &str, action: &str, changes: &[(&str, Value)]) -> Change {
    let payload = example(event, if event == "pull_request_review" { "submitted" } else { "created" });
    let body = changed(payload, &joined(&[("/action", json!(action))], changes));
    let parsed = parse(event, &body).unwrap();
    assert!(parsed.repository.is_some() && parsed.number.is_some(), "{event}");
    parsed.change
}

#[test]
fn commands_are_heard_wherever_something_is_said() {
    use crate::environment::CommandComment;
    for (event, action, said, kind) in [
        ("issue_comment", "created", "comment", CommentKind::Comment),
        ("pull_request_review", "submitted", "review", CommentKind::Review),
        ("pull_request_review_comment", "created", "comment", CommentKind::ReviewComment),
    ] {
        let body = format!("/{said}/body");
        let user = format!("/{said}/user/type");
        let of_pull_request = ("/issue/pull_request", json!({}));
        let subject: &[_] = if event == "issue_comment" { std::slice::from_ref(&of_pull_request) } else { &[] };
        let Change::Command(CommandComment { kind: found, comment_id, number, author, lines, edited, .. }) = asked(
            event,
            action,
            &joined(subject, &[(&body, json!("Fine.\n/Preview deploy\n/preview keep 7d\n> /preview delete"))]),
        ) else {
            panic!("{event}");
        };
        assert_eq!(
            (found, lines, edited),
            (kind, vec!["/Preview deploy".to_owned(), "/preview keep 7d".to_owned()], false)
        );
        assert!(comment_id > 0 && number > 0 && !author.is_empty(), "{event}");

        for none in [json!("please /preview deploy"), json!(null)] {
            assert_eq!(asked(event, action, &joined(subject, &[(&body, none)])), NOT_A_COMMAND, "{event}");
        }
        let of_a_bot = joined(subject, &[(&body, json!("/preview deploy")), (&user, json!("Bot"))]);
        assert_eq!(asked(event, action, &of_a_bot), NOT_A_COMMAND, "{event}");
        assert_eq!(
            asked(event, "deleted", &joined(subject, &[(&body, json!("/preview deploy"))])),
            ACTION_NOT_USED,
            "{event}"
        );

        let before = ("/changes", json!({ "body": { "from": "/preview status" } }));
        let edited = joined(subject, &[(&body, json!("/preview status\n/preview delete")), before.clone()]);
        let Change::Command(CommandComment { lines, edited: true, .. }) = asked(event, "edited", &edited) else {
            panic!("{event}");
        };
        assert_eq!(lines, ["/preview delete"], "{event}");
        let unchanged = joined(subject, &[(&body, json!("Please.\n/preview status")), before]);
        assert_eq!(asked(event, "edited", &unchanged), NOT_A_COMMAND, "{event}");
    }
    let of_an_issue = asked("issue_comment", "created", &[("/comment/body", json!("/preview deploy"))]);
    assert_eq!(of_an_issue, NOT_A_COMMAND);
}

#[test]
fn repositories_and_installations() {
    let repository = |action: &str| {
        let body = changed(example("repository", "renamed"), &[("/action", json!(action))]);
        parse("repository", &body).unwrap().change
    };
    let id = example("repository", "renamed")["repository"]["id"].as_i64().unwrap();
    for action in ["renamed", "transferred"] {
        assert!(matches!(repository(action), Change::Repository(facts) if facts.github_id == id), "{action}");
    }
    assert_eq!(repository("deleted"), Change::RepositoryDeleted { github_id: id });
    assert_eq!(repository("archived"), ACTION_NOT_USED);

    let app_installation_id = 2;
    let installation = |action: &str| {
        let changes = [("/action", json!(action)), ("/installation/id", json!(app_installation_id))];
        parse("installation", &changed(example("installation", "created"), &changes)).unwrap().change
    };
    let created = Change::InstallationRepositories { app_installation_id, added: vec![186_853_002], removed: vec![] };
    assert_eq!(installation("created"), created);
    for (action, state) in [
        ("deleted", RepositoryState::Removed),
        ("suspend", RepositoryState::Suspended),
        ("unsuspend", RepositoryState::Active),
    ] {
        assert_eq!(installation(action), Change::Installation { app_installation_id, state });
    }
    assert_eq!(installation("new_permissions_accepted"), ACTION_NOT_USED);

    let body = changed(example("installation_repositories", "added"), &[("/installation/id", json!(2))]);
    let added = Change::InstallationRepositories { app_installation_id, added: vec![186_853_007], removed: vec![] };
    assert_eq!(parse("installation_repositories", &body).unwrap().change, added);
}

#[test]
fn what_is_not_used_is_ignored_with_its_reason() {
    let reason = |event: &str, body: &[u8]| parse(event, body).unwrap().change;
    assert_eq!(reason("ping", br#"{"zen":"Keep it logically awesome."}"#), PING);
    assert_eq!(reason("push", br#"{"ref":"refs/heads/main"}"#), EVENT_NOT_USED);
    // Nothing is certain about an event that nobody knows.
    assert_eq!(reason("", br#"{"action":1,"repository":"x"}"#), EVENT_NOT_USED);
    for action in ["assigned", "locked", "review_requested", "enqueued", "no-such-action", ""] {
        let body = opened(&[("/action", json!(action))]);
        assert_eq!(reason("pull_request", &body), ACTION_NOT_USED, "{action}");
    }
    assert_eq!(parse("push", br#"{"action":"a\u0000"}"#).unwrap().action.as_deref(), Some("a\u{fffd}"));
    let named = parse("push", example("repository", "renamed").to_string().as_bytes()).unwrap();
    assert!(named.repository.is_some() && named.action.as_deref() == Some("renamed"));
}

#[test]
fn what_is_wrong_is_named_and_its_value_is_not() {
    for (pointer, value, message) in [
        ("/number", json!(0), "number: must be 1 or more"),
        ("/number", json!(-1), "number: must be 1 or more"),
        ("/number", json!(3), "number: is not the pull request's"),
        ("/number", json!("canary"), "number: is of another type than GitHub sends"),
        ("/number", json!(1e300), "number: is of another type than GitHub sends"),
        ("/action", json!(null), "action: is of another type than GitHub sends"),
        ("/pull_request", json!([]), "pull_request: is of another type than GitHub sends"),
        ("/pull_request/id", json!(0), "pull_request.id: must be 1 or more"),
        ("/pull_request/head/sha", json!("canary"), "pull_request.head.sha: must be 40 lower-case hexadecimal digits"),
        ("/pull_request/head/sha", json!(SHA.to_uppercase()), "pull_request.head.sha: must be 40 lower-case"),
        ("/pull_request/head/sha", json!(&SHA[1..]), "pull_request.head.sha: must be 40 lower-case"),
        ("/pull_request/state", json!("canary"), "pull_request.state: is of another type"),
        ("/pull_request/updated_at", json!("canary"), "pull_request.updated_at: must be a time as in RFC 3339"),
        ("/pull_request/base/repo/id", json!(0), "pull_request.base.repo.id: must be 1 or more"),
        ("/pull_request/base/repo/full_name", json!("canary"), "pull_request.base.repo.full_name: must be owner/name"),
    ] {
        let error = refused("pull_request", &opened(&[(pointer, value)]));
        assert!(error.starts_with(message), "{pointer}: {error}");
        assert!(!error.contains("canary"), "{error}");
    }
    let synchronize = [("/action", json!("synchronize")), ("/before", json!("canary"))];
    assert_eq!(refused("pull_request", &opened(&synchronize)), "before: must be 40 lower-case hexadecimal digits");
}

#[test]
fn what_is_missing_is_named() {
    for pointer in [
        "/action",
        "/number",
        "/pull_request",
        "/pull_request/id",
        "/pull_request/number",
        "/pull_request/state",
        "/pull_request/updated_at",
        "/pull_request/head",
        "/pull_request/head/sha",
        "/pull_request/head/ref",
        "/pull_request/base/ref",
        "/pull_request/base/repo",
        "/pull_request/base/repo/id",
        "/pull_request/base/repo/full_name",
        "/pull_request/base/repo/default_branch",
    ] {
        let error = refused("pull_request", &without(example("pull_request", "opened"), pointer));
        assert_eq!(error, format!("{}: is missing", pointer[1..].replace('/', ".")));
    }
    let error = refused("repository", &without(example("repository", "renamed"), "/repository"));
    assert_eq!(error, "repository: is missing");
    let error = refused("installation", &without(example("installation", "created"), "/installation/id"));
    assert_eq!(error, "installation.id: is missing");
    let error = refused("installation", &without(example("installation", "created"), "/repositories/0/id"));
    assert_eq!(error, "repositories[0].id: is missing");
}

#[test]
fn bodies_that_are_no_json_are_refused() {
    let whole = opened(&[]);
    assert_eq!(parse("pull_request", &[0xff, 0xfe]), Err(BadPayload::NotText));
    // Also in a string that nobody reads.
    let mut not_text = br#"{"zen":""#.to_vec();
    not_text.extend([0xc3, 0x28]);
    not_text.extend(br#""}"#);
    assert_eq!(parse("ping", &not_text), Err(BadPayload::NotText));
    assert_eq!(parse("pull_request", b"payload=%7B%22action%22%3A%22opened%22%7D"), Err(BadPayload::Form));
    assert_eq!(parse("ping", b"{} {}"), Err(BadPayload::NotJson { line: 1, column: 4 }));
    for event in ["pull_request", "ping", "push"] {
        for body in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], b"{", &b"{\"a\":[".repeat(20_000)] {
            let refused = parse(event, body);
            assert!(matches!(refused, Err(BadPayload::NotJson { .. })), "{event}: {refused:?}");
        }
        for body in [&b""[..], b" ", b"[]", b"null", b"<html>", "\u{feff}{}".as_bytes()] {
            assert_eq!(refused(event, body), "the body: must be a JSON object");
        }
    }
}

static OPENED: LazyLock<Vec<u8>> = LazyLock::new(|| opened(&[]));

proptest! {
    #[test]
    fn no_body_panics(event in "pull_request|repository|installation|installation_repositories|ping|.{0,12}", body: Vec<u8>) {
        let _ = parse(&event, &body);
    }

    /// An example in which any byte became another, or which ends anywhere.
    #[test]
    fn no_damaged_example_panics(at: prop::sample::Index, byte: u8, ends: bool) {
        let mut body = OPENED.clone();
        let at = at.index(body.len());
        body[at] = byte;
        if ends {
            body.truncate(at);
        }
        let _ = parse("pull_request", &body);
    }
}

/// A build that ends makes nobody wait for the next look.
#[test]
fn builds_are_of_their_repository() {
    for (event, action) in [("workflow_run", "completed"), ("check_suite", "completed"), ("package", "published")] {
        let mut payload = example(event, action);
        if event == "workflow_run" {
            payload[event]["conclusion"] = json!("success");
        }
        let id = payload["repository"]["id"].as_i64().expect("an id");
        let parsed = parse(event, payload.to_string().as_bytes()).expect(event);
        let head_sha = payload[event]["head_sha"].as_str();
        let commit = head_sha.map(|sha| sha.parse().expect("a commit"));
        let perhaps = event == "workflow_run";
        assert_eq!(parsed.change, Change::Built { repository_id: id, commit, perhaps }, "{event}");
        let as_registry_package = parse("registry_package", payload.to_string().as_bytes()).expect("the newer name");
        assert!(matches!(as_registry_package.change, Change::Built { repository_id, .. } if repository_id == id));
    }
    let ended = |started_by: &str, conclusion: &str| {
        let mut payload = example("workflow_run", "completed");
        payload["workflow_run"]["event"] = json!(started_by);
        payload["workflow_run"]["conclusion"] = json!(conclusion);
        parse("workflow_run", payload.to_string().as_bytes()).expect("a delivery").change
    };
    for (started_by, conclusion, is_perhaps) in [
        ("workflow_run", "success", true),
        ("workflow_dispatch", "success", true),
        ("pull_request_target", "success", true),
        ("pull_request", "success", false),
        ("pull_request", "failure", false),
        ("push", "success", false),
    ] {
        let change = ended(started_by, conclusion);
        assert!(
            matches!(change, Change::Built { commit: Some(_), perhaps, .. } if perhaps == is_perhaps),
            "{started_by} {conclusion}: {change:?}"
        );
    }
    let commented = ended("issue_comment", "success");
    assert!(matches!(commented, Change::Built { commit: None, perhaps: true, .. }), "{commented:?}");
    for (started_by, conclusion) in [("issue_comment", "skipped"), ("workflow_run", "failure")] {
        assert_eq!(ended(started_by, conclusion), NOTHING_BUILT, "{started_by}");
    }
    let requested = parse("workflow_run", example("workflow_run", "requested").to_string().as_bytes());
    assert_eq!(requested.expect("a delivery").change, ACTION_NOT_USED);
    let of_nobody = parse("registry_package", br#"{"action":"published"}"#).expect("a package of no repository");
    assert_eq!(of_nobody.change, NO_REPOSITORY);
}
