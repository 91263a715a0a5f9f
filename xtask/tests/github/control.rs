use serde_json::{Value, json};
use xtask::github::{NewPullRequest, PullState};

use crate::support::{REPOSITORY, Receiver, github, no_violations, plain};

#[tokio::test]
async fn pull_requests_follow_their_branches() {
    let (github, number) = github().await;
    let before = github.pull_request(REPOSITORY, number).unwrap().head.sha;
    let sha = "a".repeat(40);
    assert_eq!(github.push_as(REPOSITORY, number, &[("a", "1")], &sha).await.unwrap(), sha);
    assert_eq!(github.pull_request(REPOSITORY, number).unwrap().head.sha, sha);
    assert!(github.push_as(REPOSITORY, number, &[("a", "1")], "not a commit").await.is_err());
    github.force_push(REPOSITORY, "cart", &before).await.unwrap();
    assert_eq!(github.pull_request(REPOSITORY, number).unwrap().head.sha, before);

    github.close(REPOSITORY, number).await.unwrap();
    let later = github.push(REPOSITORY, number, &[("a", "2")]).await.unwrap();
    assert_eq!(github.pull_request(REPOSITORY, number).unwrap().head.sha, before, "closed ones stand still");
    github.reopen(REPOSITORY, number).await.unwrap();
    assert_eq!(github.pull_request(REPOSITORY, number).unwrap().head.sha, later);
    assert!(github.reopen(REPOSITORY, number).await.is_err());
    github.merge(REPOSITORY, number).await.unwrap();
    assert_eq!(github.pull_request(REPOSITORY, number).unwrap().state, PullState::Merged);
    let main = &github.repository(REPOSITORY).unwrap().branches["main"];
    assert!(github.commit_of(main).unwrap().tree.contains_key(".preview.yaml"));

    assert!(github.open_pull_request("acme/none", NewPullRequest::new("x", "y")).await.is_err());
    assert!(github.close(REPOSITORY, 99).await.is_err());
}

#[tokio::test]
async fn other_programs_drive_it_over_http() {
    let (github, _) = github().await;
    let (receiver, url) = Receiver::start().await;
    github.set_webhook(&url, &["s3cret"]);
    let root = format!("{}/_control/repos/acme/shop/pulls", github.url());
    let post = |path: String, body: Value| {
        let request = plain().post(format!("{root}{path}")).json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    let new = json!({ "title": "By hand", "branch": "hand", "files": { "a": "1" }, "from_fork": "olga" });
    let (status, opened) = post(String::new(), new).await;
    assert_eq!((status, opened["head"]["label"].as_str()), (200, Some("olga:hand")));
    let number = opened["number"].as_u64().unwrap();
    let (_, pushed) = post(format!("/{number}/push"), json!({ "files": { "a": null, "b": "2" } })).await;
    assert_ne!(pushed["head"]["sha"], opened["head"]["sha"]);
    post(format!("/{number}/comments"), json!({ "author": "mia", "body": "/preview deploy" })).await;
    assert_eq!(post(format!("/{number}/close"), json!({})).await.1["state"], "closed");
    assert_eq!(post(format!("/{number}/reopen"), json!({})).await.1["state"], "open");
    assert_eq!(post(format!("/{number}/reopen"), json!({})).await.0, 409);
    assert_eq!(post("/99/close".to_owned(), json!({})).await.0, 404);
    let unasked = plain().post(format!("{root}/{number}/close")).body("{}").send().await.unwrap();
    assert_eq!(unasked.status(), 415, "a form on a web page could send this");
    let actions: Vec<_> = receiver.names().into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, ["opened", "synchronize", "created", "closed", "reopened"]);
    let overview: Value = plain().get(format!("{}/_control", github.url())).send().await.unwrap().json().await.unwrap();
    assert_eq!((&overview["violations"], overview["deliveries"].as_array().unwrap().len()), (&json!([]), 5));
    no_violations(&github);
}

#[tokio::test]
async fn the_page_shows_comments_without_their_markers() {
    let (github, number) = github().await;
    let body = "<!-- previewd:marker -->\n### Preview\n\n| commit | result |\n| --- | --- |\n| `abc` | **ok** |\n\n\
                [open](http://pr-1.localhost) [bad](javascript:alert(1)) <script>alert(1)</script>\n";
    github.comment(REPOSITORY, number, "preview-bot", body).await.unwrap();
    let page = plain().get(format!("{}/acme/shop/pull/{number}", github.url())).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    for shown in ["Add a cart", "<td><code>abc</code></td>", "<strong>ok</strong>", "href=\"http://pr-1.localhost\""] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    for hidden in ["marker", "javascript:", "<script"] {
        assert!(!page.contains(hidden), "{hidden} is in {page}");
    }
    let none = plain().get(format!("{}/acme/shop/pull/99", github.url())).send().await.unwrap();
    assert_eq!(none.status(), 404);
}
