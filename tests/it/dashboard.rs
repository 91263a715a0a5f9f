//! The dashboard, as a browser asks for it: forms, sessions, what is refused, and what is never taken for HTML.

use std::sync::Arc;

use previewd::{config::Team, identity::Role};
use reqwest::{Client, RequestBuilder, Response, redirect::Policy};
use serde_json::json;
use xtask::github::{GitHub, Options};

use crate::{
    cli,
    support::{Era, Stand, commit, loopback_api_server},
};

/// Somebody with a browser.
pub struct Person {
    /// `http://` and where it listens.
    server: String,
    pub http: Client,
    cookie: String,
}

pub struct Page {
    pub status: u16,
    location: String,
    pub body: String,
    policy: String,
}

impl Page {
    async fn of(answer: Response) -> Self {
        let header = |name: &str| {
            let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (status, location, policy) =
            (answer.status().as_u16(), header("location"), header("content-security-policy"));
        Self { status, location, policy, body: answer.text().await.unwrap() }
    }

    /// The token of the page's forms.
    pub fn csrf(&self) -> &str {
        let begin = self.body.find("name=\"csrf\" value=\"").expect("a form") + 19;
        &self.body[begin..begin + self.body[begin..].find('"').unwrap()]
    }
}

impl Person {
    fn nobody(stand: &Stand) -> Self {
        Self::in_front_of(format!("http://{}", stand.address))
    }

    fn in_front_of(server: String) -> Self {
        let http = xtask::web::client().redirect(Policy::none()).build().unwrap();
        Self { server, http, cookie: String::new() }
    }

    pub async fn signed_in(stand: &Stand, role: Role, teams: &[&str]) -> Self {
        Self::with_token(stand, &stand.token(role, teams).await).await
    }

    pub async fn with_token(stand: &Stand, token: &str) -> Self {
        Self::at(&format!("http://{}", stand.address), token).await
    }

    /// Signed in at a server.
    pub async fn at(server: &str, token: &str) -> Self {
        let mut person = Self::in_front_of(server.to_owned());
        let answer = person.send(person.form("/login", &[("token", token)])).await;
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        person.cookie = cookie.split(';').next().unwrap().to_owned();
        person
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    pub async fn send(&self, request: RequestBuilder) -> Response {
        request.header("cookie", &self.cookie).send().await.unwrap()
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.http.post(self.url(path)).header("origin", self.url(""));
        request.header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    pub async fn open(&self, path: &str) -> Page {
        Page::of(self.send(self.http.get(self.url(path)).header("accept", "text/html")).await).await
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        Page::of(self.send(self.form(path, fields)).await).await
    }
}

pub async fn namespace(stand: &Stand, repository: &str, number: i64) -> String {
    let found = stand.store.find_environment_of(&repository.parse().unwrap(), number).await.unwrap();
    found.unwrap().environment.namespace.to_string()
}

#[tokio::test]
async fn the_list_is_filtered_sorted_and_paged() {
    let stand = Stand::start().await;
    for number in 1..=30 {
        stand.open("acme/shop", number, &commit('a')).await;
    }
    stand.open("acme/cart", 1, &commit('b')).await;
    stand.open("globex/site", 3, &commit('c')).await;
    stand.fail_all(&commit('a')).await;
    stand.open("acme/shop", 31, &commit('d')).await;
    let person = Person::signed_in(&stand, Role::Viewer, &["shop"]).await;
    let first = person.open("/").await;
    assert_eq!(first.status, 200);
    assert!(first.body.contains("32 environments") && first.body.contains("Page 1 of 2"), "{}", first.body);
    assert!(first.body.contains("acme/shop#31") && !first.body.contains("globex/site"));
    assert!(first.policy.contains("default-src 'none'") && first.policy.contains("script-src 'self'"));
    let newest = first.body.split("<tr>").find(|row| row.contains(">acme/shop#31<")).unwrap();
    let name = namespace(&stand, "acme/shop", 31).await;
    for part in [
        format!("<a class=\"title\" href=\"/environments/{name}\">Change 31"),
        "<a href=\"https://github.com/acme/shop/pull/31\">acme/shop#31</a>".to_owned(),
        "by octocat<".to_owned(),
        format!("<code class=\"muted\">{name}</code>"),
        "<span class=\"status pending\">pending</span>".to_owned(),
        format!("<a href=\"https://{name}.preview.example.com\">open</a>"),
        "<code>ddddddd</code>".to_owned(),
        " s</time>".to_owned(),
    ] {
        assert!(newest.contains(&part), "{part}: {newest}");
    }
    let rows = |page: &Page| page.body.matches("<a class=\"title\"").count();
    assert_eq!((rows(&first), rows(&person.open("/?page=2").await)), (25, 7));
    assert!(person.open("/?page=99999999").await.body.contains("Page 2 of 2"), "beyond the end is the last");

    for (query, expected) in [
        ("status=failed", 31),
        ("status=pending", 1),
        ("repository=acme/cart", 1),
        ("team=shop&repository=acme/cart", 1),
        ("team=site", 0),
        ("text=CHANGE+31", 1),
        ("text=octocat&status=pending", 1),
        ("text=100%25", 0),
        ("text=_", 0),
    ] {
        let page = person.open(&format!("/?{query}")).await;
        assert_eq!(rows(&page), expected.min(25), "{query}: {}", page.body);
        let total = if expected == 0 { "Nothing here".to_owned() } else { format!(">{expected} environment") };
        assert!(page.body.contains(&total), "{query}: {}", page.body);
    }
    let oldest = person.open("/?order=oldest").await;
    assert!(oldest.body.find("acme/shop#1<").unwrap() < oldest.body.find("acme/shop#2<").unwrap());
    for order in ["newest", "changed", "repository", "status", "cpu", "memory", "nonsense"] {
        assert_eq!(person.open(&format!("/?order={order}")).await.status, 200, "{order}");
    }
    assert!(person.open("/?status=nonsense").await.body.contains("There is no status nonsense."));
}

#[tokio::test]
async fn an_environment_is_shown_with_all_that_is_known() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    stand.fail_all(&commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let person = Person::signed_in(&stand, Role::Member, &["shop"]).await;
    let page = person.open(&format!("/environments/{name}")).await;
    assert_eq!(page.status, 200);
    for words in ["acme/shop#7", "crash", "Timeline", "Deployments", "not_ready_in_time", "Retry", "Keep", "aaaaaaa"] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    assert!(!page.body.contains("Delete…"), "a member does not delete");
    assert!(page.body.contains("The cluster does not tell now."));
    assert!(page.body.contains("nothing was measured yet"));

    let retried = person.post(&format!("/environments/{name}/retry"), &[("csrf", page.csrf())]).await;
    assert_eq!((retried.status, retried.location.as_str()), (303, format!("/environments/{name}").as_str()));
    let after = person.open(&retried.location).await;
    assert!(after.body.contains("retry_requested") && after.body.contains("dashboard"), "{}", after.body);
    assert!(!after.body.contains("/retry\""), "only where it may be");
    let again = person.post(&format!("/environments/{name}/retry"), &[("csrf", page.csrf())]).await;
    assert_eq!(again.status, 400);
    assert!(again.body.contains("That does not work"), "{}", again.body);
    let kept = person.post(&format!("/environments/{name}/keep"), &[("csrf", page.csrf()), ("duration", "7d")]).await;
    assert_eq!(kept.status, 303);
    assert_eq!(person.open("/environments/pr-1-nobody-abcdefghij").await.status, 404);
    assert_eq!(person.open("/environments/%00").await.status, 400);
}

#[tokio::test]
async fn a_token_of_one_repository_sees_no_other_of_its_team() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    stand.open("acme/cart", 8, &commit('b')).await;
    let scope = Some("acme/shop".parse().unwrap());
    let token = stand.scoped_token(Role::Admin, &["shop"], scope).await;
    let person = Person::with_token(&stand, &token).await;
    for path in ["/", "/?team=shop", "/?repository=acme/cart", "/?text=change", "/events"] {
        let page = person.open(path).await;
        assert_eq!(page.status, 200);
        assert!(!page.body.contains("acme/cart#8"), "{path}: {}", page.body);
    }
    assert!(person.open("/?team=shop").await.body.contains("acme/shop#7"));
    assert_eq!(person.open(&format!("/environments/{}", namespace(&stand, "acme/cart", 8).await)).await.status, 404);
}

/// A push while somebody reads a commit must not put another one under their click.
#[tokio::test]
async fn an_approval_is_of_the_commit_that_was_named() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let database = format!("sqlite:{}", stand.directory().join("previewd.db").display());
    stand.execute(&database, "UPDATE environments SET status = $1", "pending");
    stand.execute(&database, "UPDATE environments SET reason = $1", "awaiting_approval");
    let admin = Person::signed_in(&stand, Role::Admin, &["shop"]).await;
    let shown = admin.open(&format!("/environments/{name}")).await;
    assert!(shown.body.contains("Approve…"), "{}", shown.body);
    assert!(
        !shown.body.contains("name=\"commit\""),
        "what is replaced while it is read asks for nothing: {}",
        shown.body
    );
    let path = format!("/environments/{name}/approve");
    let form = admin.open(&path).await;
    assert!(form.body.contains(&format!("value=\"{}\"", commit('a'))), "{}", form.body);

    stand.open("acme/shop", 7, &commit('b')).await;
    stand.execute(&database, "UPDATE environments SET reason = $1", "awaiting_approval");
    let read = commit('a').to_string();
    let late = admin.post(&path, &[("csrf", form.csrf()), ("commit", &read)]).await;
    assert_eq!(late.status, 409, "{}", late.body);
    let read = commit('b').to_string();
    let member = Person::signed_in(&stand, Role::Member, &["shop"]).await;
    let theirs = member.open(&path).await;
    assert_eq!(member.post(&path, &[("csrf", theirs.csrf()), ("commit", &read)]).await.status, 403);
    let done = admin.post(&path, &[("csrf", form.csrf()), ("commit", &read)]).await;
    assert_eq!(done.status, 303, "{}", done.body);
}

/// What leads nowhere, or is not complete, is said on a page with a way back; programs get a word.
#[tokio::test]
async fn what_goes_wrong_is_said_on_a_page() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let person = Person::signed_in(&stand, Role::Admin, &["shop"]).await;
    let csrf = person.open("/").await.csrf().to_owned();
    for (path, status) in [
        ("/nothing", 404),
        ("/?page=abc", 400),
        (&*format!("/environments/{name}?tail=x"), 400),
        ("/environments/no-such-thing", 404),
        ("/logout", 405),
    ] {
        let page = person.open(path).await;
        assert_eq!(page.status, status, "{path}");
        assert!(page.body.contains("<h1>") && page.body.contains("To the environments"), "{path}: {}", page.body);
        assert!(page.policy.contains("default-src 'none'"), "{path}: {}", page.policy);
    }
    let request =
        person.form(&format!("/environments/{name}/approve"), &[("csrf", &csrf)]).header("accept", "text/html");
    let incomplete = Page::of(person.send(request).await).await;
    assert_eq!(incomplete.status, 422);
    assert!(incomplete.body.contains("missing field `commit`") && incomplete.body.contains("To the environments"));
    let program = person.send(person.http.get(person.url("/nothing"))).await;
    assert_eq!(
        (program.status().as_u16(), program.text().await.unwrap().as_str()),
        (404, "There is no page at this address.")
    );
}

/// People get every line that they ask for, where an agent gets what an answer may hold.
#[tokio::test]
async fn logs_are_downloaded_whole() {
    let (api_server, _) = loopback_api_server().await;
    let stand = Stand::with_api_server(&api_server).await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let person = Person::signed_in(&stand, Role::Viewer, &["shop"]).await;
    let file = person.open(&format!("/environments/{name}/logs.txt?tail=1000")).await;
    let of = |container: &str| file.body.lines().filter(|line| line.contains(&format!(" web-1/{container} "))).count();
    assert_eq!((of("web"), of("sidecar"), file.body.lines().count()), (1000, 3, 1003));
    assert!(file.body.len() > 60_000 && file.body.contains("1999 the quick brown fox"), "{}", file.body.len());
    let one = person.open(&format!("/environments/{name}/logs.txt?tail=50&container=sidecar&contains=2+the")).await;
    assert_eq!(one.body.lines().count(), 1, "{}", one.body);
    let page = person.open(&format!("/environments/{name}?tail=1000")).await;
    assert_eq!(page.body.matches("<span class=\"source\">").count(), 1003);
    let nothing = person.open(&format!("/environments/{name}?contains=nothing+like+it")).await;
    assert!(nothing.body.contains("No container has printed anything like that."));
}

/// An open page asks for its parts again; that is nobody's use of the environment.
#[tokio::test]
async fn an_open_page_keeps_nothing_awake() {
    let (api_server, _) = loopback_api_server().await;
    let stand = Stand::with_api_server(&api_server).await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let used = async || stand.store.find_environment(&name).await.unwrap().unwrap().environment.lifetime.used_at;
    let person = Person::signed_in(&stand, Role::Viewer, &["shop"]).await;
    // Uses are known to the minute.
    let database = format!("sqlite:{}", stand.directory().join("previewd.db").display());
    stand.execute(&database, "UPDATE environments SET used_at = $1", "1");
    let before = used().await;
    assert_eq!(person.open(&format!("/environments/{name}?refresh=true")).await.status, 200);
    assert_eq!(used().await, before);
    assert_eq!(person.open(&format!("/environments/{name}")).await.status, 200);
    assert!(used().await > before, "who opens it reads its logs");
}

/// In the form of the viewer, in a terminal and from an agent.
#[tokio::test]
async fn the_run_before_the_last_restart_is_read_where_it_is_asked_for() {
    let (api_server, asked) = loopback_api_server().await;
    let stand = Stand::with_api_server(&api_server).await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let token = stand.token(Role::Viewer, &["shop"]).await;
    let person = Person::with_token(&stand, &token).await;
    let client = stand.over_http(&token, Era::Discover).await;
    let read = async |previous: bool| {
        asked.lock().unwrap().clear();
        let page = person.open(&format!("/environments/{name}?previous={previous}&timestamps={previous}")).await;
        client.call("get_preview_logs", json!({ "environment": name, "previous": previous })).await.unwrap();
        let option = if previous { " --previous" } else { "" };
        let line = format!("logs acme/shop#7{option}");
        assert_eq!(cli::run(&stand, cli::Way::Server, Some(&token), &line).await.code, 0);
        let logs = asked.lock().unwrap().iter().filter(|of| *of != "list").cloned().collect::<Vec<_>>();
        (logs, page.body.matches("<time data-clock").count())
    };
    // The sidecar was never restarted, and is not asked.
    let (before, times) = read(true).await;
    assert_eq!(before, ["web before"; 3]);
    assert_eq!(times, 100, "each line with its time");
    let (now, times) = read(false).await;
    assert_eq!((now.len(), times), (6, 0));
    assert!(now.iter().all(|of| !of.ends_with("before")), "{now:?}");
}

#[tokio::test]
async fn deleting_asks_for_the_name() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let path = format!("/environments/{name}/delete");
    let admin = Person::signed_in(&stand, Role::Admin, &["shop"]).await;
    let form = admin.open(&path).await;
    assert!(form.body.contains("Type <code>acme/shop#7</code>"), "{}", form.body);
    let wrong = admin.post(&path, &[("csrf", form.csrf()), ("confirm", "acme/shop#8")]).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("Nothing was deleted"));
    assert!(!admin.open(&format!("/environments/{name}")).await.body.contains("removed_by_hand"));
    // Who may not even see it is refused, which is known to operators.
    let outsider = Person::signed_in(&stand, Role::Admin, &["site"]).await;
    let csrf = outsider.open("/").await;
    assert_eq!(outsider.post(&path, &[("csrf", csrf.csrf()), ("confirm", "acme/shop#7")]).await.status, 404);
    let operator = Person::signed_in(&stand, Role::Operator, &[]).await;
    let refusals = operator.open("/events?kind=deletion_requested&refused=true").await;
    assert!(refusals.body.contains("NOT_FOUND") && refusals.body.contains("admin-of-site"), "{}", refusals.body);
    // Two people at once: the second is answered as the first.
    let other = Person::signed_in(&stand, Role::Admin, &["shop"]).await;
    let form_of_other = other.open(&path).await;
    let fields = |csrf| [("csrf", csrf), ("confirm", "acme/shop#7")];
    let (ours, theirs) = (fields(form.csrf()), fields(form_of_other.csrf()));
    let (one, two) = tokio::join!(admin.post(&path, &ours), other.post(&path, &theirs));
    assert_eq!((one.status, two.status), (303, 303));
    assert!(admin.open(&format!("/environments/{name}")).await.body.contains("deleting"));
}

#[tokio::test]
async fn forms_of_other_sites_and_sessions_change_nothing() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let name = namespace(&stand, "acme/shop", 7).await;
    let (path, fields) = (format!("/environments/{name}/delete"), |csrf: &str| {
        vec![("csrf".to_owned(), csrf.to_owned()), ("confirm".to_owned(), "acme/shop#7".to_owned())]
    });
    let admin = Person::signed_in(&stand, Role::Admin, &["shop"]).await;
    let csrf = admin.open(&path).await.csrf().to_owned();
    let body = |csrf: &str| url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields(csrf)).finish();
    let post = |origin: Option<&str>, csrf: &str| {
        let mut request = admin.http.post(admin.url(&path)).body(body(csrf));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        admin.send(request.header("content-type", "application/x-www-form-urlencoded"))
    };
    let own = admin.url("");
    assert_eq!(post(Some("https://evil.example.com"), &csrf).await.status(), 403);
    assert_eq!(post(Some("null"), &csrf).await.status(), 403);
    assert_eq!(post(None, &csrf).await.status(), 403);
    assert_eq!(post(Some(&own), "").await.status(), 403);
    let other = Person::signed_in(&stand, Role::Admin, &["shop"]).await;
    let of_other = other.open(&path).await.csrf().to_owned();
    assert_ne!(of_other, csrf);
    assert_eq!(post(Some(&own), &of_other).await.status(), 403);
    assert!(!admin.open(&format!("/environments/{name}")).await.body.contains("deletion_requested"));

    // A token that is revoked ends its sessions.
    stand.revoke_all().await;
    let gone = admin.open("/").await;
    assert_eq!((gone.status, gone.location.as_str()), (303, "/login?path=%2F"));
    assert_eq!(post(Some(&own), &csrf).await.status(), 303, "to the login");
    assert_eq!(Person::nobody(&stand).open("/events.jsonl").await.status, 401);
    assert_eq!(Person::nobody(&stand).open("/changes").await.status, 401);
}

#[tokio::test]
async fn what_others_wrote_is_never_html() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let database = stand.directory().join("previewd.db");
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let connection = format!("sqlite:{}", database.display());
    stand.execute(&connection, "UPDATE pull_requests SET title = $1, head_ref = $1, author = $1", evil);
    stand.execute(&connection, "UPDATE environments SET message = $1", evil);
    stand.execute(&connection, "UPDATE events SET detail = $1, actor = $1", evil);
    let name = namespace(&stand, "acme/shop", 7).await;
    let operator = Person::signed_in(&stand, Role::Operator, &[]).await;
    let pages = ["/".to_owned(), format!("/environments/{name}"), "/events".to_owned(), format!("/?text={evil}")];
    for path in pages {
        let page = operator.open(&path.replace('<', "%3C").replace('"', "%22").replace(' ', "+")).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.body.contains("<script>alert") && !page.body.contains("<img src=x"), "{path}: {}", page.body);
        assert!(page.body.contains("alert(1)"), "{path} shows it as text");
    }
}

#[tokio::test]
async fn operators_look_after_the_whole_and_nobody_else() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let admin = Person::signed_in(&stand, Role::Admin, &["shop"]).await;
    assert_eq!((admin.open("/operation").await.status, admin.open("/tokens").await.status), (403, 403));
    assert!(!admin.open("/").await.body.contains("/tokens"));
    let csrf = admin.open(&format!("/environments/{}", namespace(&stand, "acme/shop", 7).await)).await;
    let fields =
        |csrf: &str| [("csrf", csrf.to_owned()), ("subject", "me".to_owned()), ("role", "operator".to_owned())];
    let made: Vec<_> = fields(csrf.csrf()).into_iter().collect();
    let made: Vec<_> = made.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(admin.post("/tokens", &made).await.status, 403);

    let operator = Person::signed_in(&stand, Role::Operator, &[]).await;
    let page = operator.open("/operation").await;
    // None of them has a place yet.
    let of_team = "<td>shop</td><td class=\"number\">0</td><td class=\"number\">any</td>";
    for words in ["pending", "No engine is alive", "Nobody waits for a place", "Nothing was written yet", of_team] {
        assert!(page.body.contains(words), "{words}: {}", page.body);
    }
    let tokens = operator.open("/tokens").await;
    assert!(tokens.body.contains("admin-of-shop"));
    let new = |role: &'static str, teams: &'static str| {
        let csrf = tokens.csrf().to_owned();
        vec![("csrf", csrf), ("subject", "ci".to_owned()), ("role", role.to_owned()), ("teams", teams.to_owned())]
    };
    let send = async |fields: Vec<(&str, String)>| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        operator.post("/tokens", &fields).await
    };
    let made = send(new("member", "shop")).await;
    assert_eq!(made.status, 201);
    let secret = made.body.split("class=\"secret\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert!(secret.starts_with("pvd_"));
    assert!(!operator.open("/tokens").await.body.contains(&secret), "shown once");
    assert_eq!(send(new("member", "nobody")).await.status, 400);
    assert_eq!(send(new("member", "")).await.status, 400);
    assert_eq!(send(new("nonsense", "shop")).await.status, 400);
    let events = operator.open("/events?kind=token_created&refused=true").await;
    assert!(events.body.contains("UNAUTHORIZED") && events.body.contains("admin-of-shop"), "{}", events.body);
    assert!(events.body.contains("INVALID_INPUT"), "{}", events.body);
    let mut narrow = new("member", "shop");
    narrow.extend([("only", "acme/shop#7".to_owned()), ("expires", "2h".to_owned())]);
    assert_eq!(send(narrow).await.status, 201);
    let list = operator.open("/tokens").await;
    assert!(list.body.contains("<td data-label=\"Only\">acme/shop#7</td>"), "{}", list.body);
    let id = stand.store.list_tokens().await.unwrap().last().unwrap().id.clone();
    let revoked = operator.post(&format!("/tokens/{id}/revoke"), &[("csrf", tokens.csrf())]).await;
    assert_eq!(revoked.status, 303);
    assert_eq!(operator.post(&format!("/tokens/{id}/revoke"), &[("csrf", tokens.csrf())]).await.status, 404);
    assert!(operator.open("/tokens").await.body.contains("<td data-label=\"State\">revoked</td>"));
}

/// Signs in with GitHub as a browser does: to GitHub, back with a code, and on.
async fn sign_in_with_github(person: &mut Person) -> Page {
    let led = person.send(person.http.get(person.url("/login/github?path=%2Fevents"))).await;
    let attempt = led.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let at_github = person.http.get(Page::of(led).await.location).send().await.unwrap();
    let back = person.http.get(Page::of(at_github).await.location).header("cookie", attempt);
    let answer = back.send().await.unwrap();
    if let Some(cookie) = answer.headers().get("set-cookie") {
        person.cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
    }
    Page::of(answer).await
}

#[tokio::test]
async fn people_sign_in_with_github_as_their_teams_have_them() {
    let github = GitHub::start(Options::default()).await.unwrap();
    let stand = Stand::with_github_login(&github).await;
    stand.open("acme/shop", 7, &commit('a')).await;
    stand.open("globex/site", 7, &commit('a')).await;
    assert!(Person::nobody(&stand).open("/login").await.body.contains("Sign in with GitHub"));

    github.browse_as(Some("Ann"));
    let mut ann = Person::nobody(&stand);
    let page = sign_in_with_github(&mut ann).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/login?path=%2Fevents"), "{}", page.body);
    assert_eq!(ann.open("/login?path=%2Fevents").await.location, "/events");
    let list = ann.open("/").await;
    assert!(list.body.contains("acme/shop#7") && !list.body.contains("globex/site"), "{}", list.body);
    let path = format!("/environments/{}", namespace(&stand, "acme/shop", 7).await);
    let csrf = list.csrf().to_owned();
    assert_eq!(ann.post(&format!("{path}/keep"), &[("csrf", &csrf)]).await.status, 303);
    let deletion = [("csrf", csrf.as_str()), ("confirm", "acme/shop#7")];
    assert_eq!(ann.post(&format!("{path}/delete"), &deletion).await.status, 403, "a member keeps, and does not delete");
    let kept = ann.open("/events?kind=keeping_requested").await;
    assert!(kept.body.contains("data-label=\"Who\">ann<"), "{}", kept.body);

    // A session is of whoever the team has now.
    let without = stand
        .teams
        .borrow()
        .as_ref()
        .clone()
        .into_iter()
        .map(|(name, team)| (name, Team { members: Vec::new(), ..team }));
    stand.teams.send_replace(Arc::new(without.collect()));
    assert_eq!(ann.open("/events").await.location, "/login?path=%2Fevents", "she left the team");
    assert_eq!(ann.post(&format!("{path}/keep"), &[("csrf", &csrf)]).await.location, "/login");

    github.browse_as(Some("eve"));
    let mut eve = Person::nobody(&stand);
    let page = sign_in_with_github(&mut eve).await;
    assert!(page.status == 403 && page.body.contains("No team here has you"), "{}: {}", page.status, page.body);
    assert_eq!(eve.open("/").await.status, 303);
    let operator = Person::signed_in(&stand, Role::Operator, &[]).await;
    let history = operator.open("/events?refused=true&actor=eve").await;
    assert!(history.body.contains("no team has them"), "{}", history.body);
    github.browse_as(None);
    let page = sign_in_with_github(&mut eve).await;
    assert!(page.status == 400 && page.body.contains("did not say who you are"), "{}", page.body);
    assert_eq!(github.violations(), [""; 0]);
}

/// A code is of one try, in one browser, and good once.
#[tokio::test]
async fn codes_of_github_are_good_once_and_for_whoever_asked() {
    let github = GitHub::start(Options::default()).await.unwrap();
    let stand = Stand::with_github_login(&github).await;
    github.browse_as(Some("ann"));
    let person = Person::nobody(&stand);
    let begin = async || {
        let led = person.send(person.http.get(person.url("/login/github"))).await;
        let attempt = led.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let at_github = person.http.get(Page::of(led).await.location).send().await.unwrap();
        (attempt, Page::of(at_github).await.location)
    };
    let back = async |attempt: &str, location: &str| {
        let asked = person.http.get(location).header("cookie", attempt);
        Page::of(asked.send().await.unwrap()).await.status
    };
    let (mine, code) = begin().await;
    let (another, _) = begin().await;
    assert_eq!(back("", &code).await, 400, "a browser that did not begin");
    assert_eq!(back(&another, &code).await, 400, "another try's code");
    assert_eq!(back(&mine, &code).await, 303);
    assert_eq!(back(&mine, &code).await, 401, "it was used");
    // A code that was stolen and brought with the state of one's own try: the verifier is another's.
    let (mine, own) = begin().await;
    let (_, stolen) = begin().await;
    let state = own.split("state=").nth(1).unwrap();
    let forged = format!("{}state={state}", stolen.split("state=").next().unwrap());
    assert_eq!(back(&mine, &forged).await, 401);

    let (mine, code) = begin().await;
    github.go_away().await;
    assert_eq!(back(&mine, &code).await, 502);
    assert_eq!(Person::nobody(&Stand::start().await).open("/login/github").await.status, 404);
}
