//! How both databases carry out every frequent statement over 5,000 environments: by index, never by reading a big table
//! through. The statements are the store's own, as it sends them; no switch of the planners is touched.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use diesel::{
    QueryableByName, RunQueryDsl,
    connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation},
    sql_types::Text,
};
use previewd::{
    environment::{Change, DeploymentStatus, EnvironmentStatus, RepositoryName},
    store::{
        DeploymentChanges, EnvironmentFilter, EnvironmentOrder, EventFilter, EventKind, NewSession, Record, Request,
        Restarts, SessionKind, Store,
    },
};
use serde_json::Value;
use xtask::testing::eventually;

use super::{
    database::{Database, for_each_database},
    given::{asks, commit, delivery, event, made, many_environments, pushed, render_of},
};

const ENVIRONMENTS: usize = 5000;
/// PostgreSQL plans a prepared statement for its values five times before it may settle for one plan for all.
const TIMES: usize = 8;
/// What has a row or more for each environment, so that nothing may read it through.
const BIG: &[&str] = &[
    "pull_requests",
    "environments",
    "deployments",
    "objects",
    "events",
    "deliveries",
    "tokens",
    "usage_samples",
    "usage_buckets",
    "sessions",
    "kept_logs",
];
/// Read in the order in which they are shown, up to the end of a page: nothing is sorted.
const IN_ORDER: &[&str] = &[
    "list",
    "list, a later page",
    "page, newest",
    "page, oldest",
    "page, changed",
    "page, status",
    "page, one status by status",
    "state",
];
/// What may read through, or sort, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("page, cpu", "what environments use changes every half minute: an index of it would cost more than the page"),
    ("page, memory", "the same"),
    ("page, repository", "an order over three tables, in which SQLite without statistics does not join them"),
    ("page, the last", "whoever pages so far has all before it read, and PostgreSQL does that at once"),
    ("page, with text", "text within text is in no index; all that the rest of the filter lets through is looked at"),
    ("count", "what is counted is read"),
    ("count, one status", "PostgreSQL reads the pull requests of one in ten through"),
    ("count, of a team", "SQLite reads the environments through"),
    ("count, with text", "as its page"),
    ("occupancy", "what holds a place is added up, which is nearly all there is"),
    ("gauges", "the same"),
    ("tokens", "all are shown"),
    ("sign out", "once in a while, and an index would have to be kept by each page that is entered"),
];

/// What was asked of the store, and how the database went about it: each step in its own words.
type Plans = BTreeMap<String, Vec<String>>;

#[tokio::test]
async fn frequent_statements_use_indexes() {
    for_each_database(async |database| {
        many_environments(database, ENVIRONMENTS).await;
        // Some are due now, and one in five later.
        database.execute("UPDATE environments SET due_at = pull_request_id WHERE pull_request_id <= 100").await;
        database
            .execute(
                "INSERT INTO usage_samples (environment_id, sampled_at, cpu_millicores, memory_bytes)
                 SELECT id, 99999999999999, pull_request_id % 700, pull_request_id % 300 FROM environments",
            )
            .await;
        for bucket in [300_000, 600_000, 900_000] {
            let fill = format!(
                "INSERT INTO usage_buckets (environment_id, bucket, samples, cpu_millicores, memory_bytes, cpu_peak, memory_peak)
                 SELECT id, {bucket} + 99999999900000, 1, 10, 1000, 10, 1000 FROM environments"
            );
            database.execute(&fill).await;
        }
        let later = "UPDATE environments SET due_at = 99999999999999 WHERE due_at IS NULL AND pull_request_id % 5 = 0";
        database.execute(later).await;
        database
            .execute(
                "UPDATE environments SET updated_at = pull_request_id * 7919 % 5000;
                 INSERT INTO sessions (hash, kind, environment_id, granted, created_at, expires_at)
                 SELECT 'session-' || pull_request_id, 'preview', id, 'of ' || pull_request_id, 0, 99999999999999
                 FROM environments;
                 INSERT INTO kept_logs (deployment_id, place, pod, container, body)
                 SELECT id, 0, 'web-1', 'web', 'a line' FROM deployments;",
            )
            .await;
        // Nobody analyzes a SQLite database by itself.
        if !database.is_sqlite() {
            database.execute("ANALYZE").await;
        }
        print_times(database).await;
        let plans = if database.is_sqlite() { sqlite_plans(database).await } else { postgres_plans(database).await };

        let mut wrong = Vec::new();
        for (question, steps) in &plans {
            println!("{question}");
            for step in steps {
                println!("    {step}");
                if reads_through(question, step) {
                    wrong.push(format!("{question}: {step}"));
                }
            }
        }
        assert!(plans.len() > 20, "only {} statements were seen", plans.len());
        assert!(wrong.is_empty(), "big tables are read through:\n{}", wrong.join("\n"));
    })
    .await;
}

/// Whether a step reads a big table through, or sorts what is shown in an index's order. In the order of an index only
/// lists and pages may read: they stop at their end.
fn reads_through(question: &str, step: &str) -> bool {
    if EXCEPTIONS.iter().any(|(name, _reason)| *name == question) {
        return false;
    }
    let is_ordered = IN_ORDER.contains(&question);
    if is_ordered && (step.starts_with("Sort") || step.ends_with("ORDER BY")) {
        return true;
    }
    let mut words = step.split([' ', ',']);
    if !words.any(|word| word == "candidates" || BIG.contains(&word)) {
        return false;
    }
    let in_order = step.ends_with(", in order") || (step.starts_with("SCAN ") && step.contains(" USING "));
    let through = step.starts_with("Seq Scan ") || step.starts_with("SCAN ");
    if in_order { !is_ordered && !question.starts_with("list") && !question.starts_with("page") } else { through }
}

/// Asks the store everything that is asked often; `mark` is told what comes next.
async fn ask_everything(store: &Store, mark: impl AsyncFn(&str)) {
    mark("list").await;
    let (page, _) = store.list_environments(&EnvironmentFilter { limit: 1, ..Default::default() }).await.unwrap();
    let known = &page[0];
    let (id, mut facts) = (&known.environment.id, known.pull_request.facts.clone());
    let repository = facts.repository.name.clone();
    let list = async |statuses: &[EnvironmentStatus], of_one_repository: bool, visible: &[&str], after: bool| {
        let filter = EnvironmentFilter {
            statuses: statuses.to_vec(),
            repository: of_one_repository.then(|| repository.clone()),
            visible: (!visible.is_empty()).then(|| visible.iter().map(|text| (*text).to_owned()).collect()),
            of_team: None,
            pull_request: None,
            text: None,
            after: after.then(|| "0190a000-0000-7000-8000-000000002500".to_owned()),
            limit: 50,
        };
        store.list_environments(&filter).await.unwrap()
    };
    for time in 0..TIMES {
        mark("list").await;
        list(&[], false, &[], false).await;
        mark("list, a later page").await;
        list(&[], false, &[], true).await;
        mark("list, one status").await;
        list(&[EnvironmentStatus::Failed], false, &[], false).await;
        mark("list, two statuses, a later page").await;
        list(&[EnvironmentStatus::Failed, EnvironmentStatus::Deleted], false, &[], true).await;
        mark("list, one repository").await;
        list(&[], true, &[], false).await;
        mark("list, of one owner").await;
        list(&[], false, &["owner4/*"], false).await;
        mark("list, of two teams' repositories").await;
        list(&[], false, &["owner4/*", "owner5/name5", "owner6/name6"], true).await;
        mark("list, nothing visible").await;
        list(&[], false, &["nobody/*"], false).await;

        ask_for_pages(store, &repository, &mark).await;
        ask_for_people(store, id, time, &mark).await;

        let events = async |filter: EventFilter| {
            store.list_events(&EventFilter { limit: 50, ..filter }).await.unwrap();
        };
        let any = EventFilter::default;
        let middle = "0190a000-0000-7000-8000-000000002500".to_owned();
        mark("list of events").await;
        events(any()).await;
        mark("list of events, a later page").await;
        events(EventFilter { after: Some(middle), ..any() }).await;
        mark("list of events of an environment").await;
        events(EventFilter { environment_id: Some(id.clone()), ..any() }).await;
        mark("list of events of a repository").await;
        events(EventFilter { repository: Some(repository.clone()), ..any() }).await;
        mark("list of events of one owner").await;
        events(EventFilter { visible: Some(vec!["owner4/*".to_owned()]), ..any() }).await;
        mark("events of a kind").await;
        events(EventFilter { kind: Some(EventKind::DeletionRequested), ..any() }).await;
        mark("events of somebody").await;
        events(EventFilter { actor: Some("nobody".to_owned()), ..any() }).await;
        mark("list of events that were refused").await;
        events(EventFilter { refused_only: true, ..any() }).await;
        mark("events of an environment").await;
        store.events_of(id, 10).await.unwrap();
        mark("usage of some").await;
        store.usage_of(&[id, "nobody"]).await.unwrap();
        mark("buckets of one").await;
        assert!(store.usage_buckets(id).await.unwrap().len() >= 3);
        mark("record restarts").await;
        store.record_restarts(id, Restarts { all: time as i64 + 1, out_of_memory: 0 }).await.unwrap();
        mark("record usage").await;
        store.record_usage(BTreeMap::from([(known.environment.namespace.clone(), (10, 1_000))])).await.unwrap();

        mark("find by id").await;
        store.find_environment(id).await.unwrap().unwrap();
        mark("find by namespace").await;
        store.find_environment(known.environment.namespace.as_str()).await.unwrap().unwrap();
        mark("find by reference").await;
        store.find_environment_of(&repository, facts.number).await.unwrap().unwrap();
        mark("deployment of a commit").await;
        store.deployment(id, &commit(1)).await.unwrap();
        mark("deployments of an environment").await;
        assert_eq!(store.deployments_of(id, 5).await.unwrap().len(), 3 + usize::from(time > 0));
        mark("inventory").await;
        assert!(store.inventory(id).await.unwrap().len() >= 3);
        mark("token").await;
        store.valid_token("hash-77").await.unwrap().unwrap();

        mark("is anything due").await;
        assert!(store.has_due_environment().await.unwrap());
        mark("wake").await;
        store.wake(&known.environment.namespace).await.unwrap();
        mark("claim").await;
        let mut lease = store.claim_due_environment().await.unwrap().unwrap().0;
        while lease.environment_id != *id {
            lease = store.claim_due_environment().await.unwrap().unwrap().0;
        }
        mark("confirm").await;
        store.confirm_pull_request(&lease, facts.clone()).await.unwrap().unwrap();
        mark("record").await;
        let record = Record {
            deployment: Some((
                commit(1),
                DeploymentChanges { status: Some(DeploymentStatus::Deploying.code()), ..Default::default() },
            )),
            end_others: Some(DeploymentStatus::Superseded),
            event: Some(event(EventKind::Deploying)),
            ..Record::default()
        };
        store.record(&lease, record).await.unwrap().unwrap();
        mark("add to the inventory").await;
        store
            .begin_apply(&lease, &commit(1), &render_of(&["web"]), made(&render_of(&["web"])), false)
            .await
            .unwrap()
            .unwrap();
        store.render(&lease.environment_id, &commit(1)).await.unwrap();
        mark("record a comment").await;
        store.record_comment(&lease, Some(1), "digest").await.unwrap().unwrap();
        mark("release").await;
        store.release(&lease, None, 0, true).await.unwrap();

        mark("delivery of a push").await;
        facts = pushed(&facts, 5 + time as u64, 1);
        let push = || Change::PullRequest { facts: facts.clone(), before: None };
        store.record_delivery(delivery(&format!("push-{time}")), push()).await.unwrap();
        mark("delivery told again").await;
        store.record_delivery(delivery(&format!("push-{time}")), push()).await.unwrap();
        mark("deletion at a commit").await;
        store
            .request_deletion(id, Request { expected: Some(commit(99)), ..asks(EventKind::DeletionRequested) })
            .await
            .unwrap();
        mark("retry").await;
        store.request_retry(id, asks(EventKind::RetryRequested)).await.unwrap();
    }
    mark("the end").await;
}

/// The dashboard's list in each order and with each filter, with its count.
async fn ask_for_pages(store: &Store, repository: &RepositoryName, mark: &impl AsyncFn(&str)) {
    let any = || EnvironmentFilter { limit: 25, ..EnvironmentFilter::default() };
    let page = async |what: &str, filter: EnvironmentFilter, order: EnvironmentOrder, offset: i64| {
        mark(&format!("page, {what}")).await;
        store.page_of_environments(&filter, order, offset).await.unwrap()
    };
    for order in EnvironmentOrder::ALL {
        assert_eq!(page(order.code(), any(), *order, 0).await.len(), 25);
    }
    assert_eq!(page("the last", any(), EnvironmentOrder::Changed, 4_490).await.len(), 10);
    let failed = EnvironmentFilter { statuses: vec![EnvironmentStatus::Failed], ..any() };
    page("one status by status", failed.clone(), EnvironmentOrder::Status, 0).await;
    let of_repository = EnvironmentFilter { repository: Some(repository.clone()), ..any() };
    page("one repository", of_repository.clone(), EnvironmentOrder::Changed, 0).await;
    let patterns = |patterns: &[&str]| Some(patterns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let team = EnvironmentFilter {
        of_team: patterns(&["owner4/*", "owner5/name5"]),
        visible: patterns(&["owner4/*", "owner5/*"]),
        ..any()
    };
    page("of a team", team.clone(), EnvironmentOrder::Newest, 25).await;
    let with_text = EnvironmentFilter { text: Some("no such 100%".to_owned()), ..any() };
    page("with text", with_text.clone(), EnvironmentOrder::Newest, 0).await;

    for (what, filter) in [
        ("count", any()),
        ("count, one status", failed),
        ("count, one repository", of_repository),
        ("count, of a team", team),
        ("count, with text", with_text),
    ] {
        mark(what).await;
        store.count_environments(&filter).await.unwrap();
    }
}

/// What the dashboard's other pages ask, and the doors of previews.
async fn ask_for_people(store: &Store, id: &str, time: usize, mark: &impl AsyncFn(&str)) {
    mark("state").await;
    store.state_of_environments().await.unwrap();
    mark("occupancy").await;
    store.occupancy().await.unwrap();
    mark("gauges").await;
    store.gauges().await.unwrap();
    mark("tokens").await;
    store.list_tokens().await.unwrap();
    mark("kept logs").await;
    store.kept_logs(id, &commit(1)).await.unwrap();
    mark("use").await;
    store.record_use(id, Duration::from_secs(60)).await.unwrap();
    let (repository, number) = ("owner1/name1".parse().unwrap(), 7);
    mark("deliveries of a pull request").await;
    store.deliveries_of(&repository, number, 5).await.unwrap();
    mark("last delivery of a repository").await;
    store.last_delivery_of(&repository).await.unwrap();

    mark("session of a preview").await;
    store.session("session-77", SessionKind::Preview, Some(id)).await.unwrap();
    mark("session of the dashboard").await;
    assert_eq!(store.session("nobody's", SessionKind::Dashboard, None).await.unwrap(), None);
    let code = NewSession {
        hash: format!("code-{time}"),
        kind: SessionKind::Code,
        environment_id: Some(id.to_owned()),
        granted: "alice".to_owned(),
        lasts: Duration::from_secs(60),
    };
    mark("code").await;
    store.create_session(code, Some(event(EventKind::SignedIn))).await.unwrap();
    store.take_code(&format!("code-{time}"), id).await.unwrap().unwrap();
    mark("sign out").await;
    store.end_sessions("alice", event(EventKind::SignedOut)).await.unwrap();
}

/// How long the dashboard waits for its list, the best of five: for whoever changes a statement or an index.
async fn print_times(database: &Database) {
    let store = database.store();
    let any = || EnvironmentFilter { limit: 25, ..EnvironmentFilter::default() };
    let with_text = || EnvironmentFilter { text: Some("no such".to_owned()), ..any() };
    let page = async |filter: EnvironmentFilter, order, offset| {
        store.page_of_environments(&filter, order, offset).await.unwrap();
    };
    for order in EnvironmentOrder::ALL {
        time(&format!("page, {}", order.code()), async || page(any(), *order, 0).await).await;
    }
    time("page, the last", async || page(any(), EnvironmentOrder::Newest, 4_475).await).await;
    time("page, with text", async || page(with_text(), EnvironmentOrder::Newest, 0).await).await;
    time("count", async || assert!(store.count_environments(&any()).await.unwrap() > 0)).await;
    time("count, with text", async || assert_eq!(store.count_environments(&with_text()).await.unwrap(), 0)).await;
    time("state", async || drop(store.state_of_environments().await.unwrap())).await;
    time("occupancy", async || drop(store.occupancy().await.unwrap())).await;
    time("gauges", async || drop(store.gauges().await.unwrap())).await;
}

async fn time(what: &str, ask: impl AsyncFn()) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        ask().await;
        best = best.min(began.elapsed());
    }
    println!("{what} takes {:.2} ms", best.as_secs_f64() * 1_000.0);
}

/// What each SQLite connection sent, by the path that it was opened with, where somebody wants to know.
static SENT: Mutex<Option<HashMap<String, Vec<String>>>> = Mutex::new(None);

struct Recorder {
    path: String,
}

impl Instrumentation for Recorder {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartEstablishConnection { url, .. } => self.path = url.to_owned(),
            InstrumentationEvent::StartQuery { query, .. } => note(&self.path, || query.to_string()),
            _ => {}
        }
    }
}

fn note(path: &str, statement: impl Fn() -> String) {
    let mut sent = SENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(statements) = sent.get_or_insert_default().get_mut(path) {
        statements.push(statement());
    }
}

#[derive(QueryableByName)]
struct SqliteStep {
    #[diesel(sql_type = Text)]
    detail: String,
}

async fn sqlite_plans(database: &Database) -> Plans {
    let path = database.url.strip_prefix("sqlite:").unwrap();
    set_default_instrumentation(|| Some(Box::new(Recorder { path: String::new() }))).unwrap();
    SENT.lock().unwrap().get_or_insert_default().insert(path.to_owned(), Vec::new());
    ask_everything(&database.store(), async |question| note(path, || format!("? {question}"))).await;

    let sent = SENT.lock().unwrap().get_or_insert_default().remove(path).unwrap();
    let mut plans = Plans::new();
    // Of SQLite the plans without statistics count as well.
    for analyze in ["SELECT 1", "ANALYZE"] {
        database.execute(analyze).await;
        let mut connection = database.sqlite_connection();
        let mut question = "";
        for statement in &sent {
            if let Some(next) = statement.strip_prefix("? ") {
                question = next;
            } else if ["SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|verb| statement.starts_with(verb)) {
                let steps: Vec<SqliteStep> =
                    diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}")).load(&mut connection).unwrap();
                add(&mut plans, question, steps.into_iter().map(|step| step.detail));
            }
        }
    }
    plans
}

/// The server's own module writes the plan of each statement, as it was carried out, into the server's log.
async fn postgres_plans(database: &Database) -> Plans {
    let name = database.name();
    database
        .execute(&format!(
            "ALTER DATABASE {name} SET session_preload_libraries = 'auto_explain';
             ALTER DATABASE {name} SET auto_explain.log_min_duration = 0;
             ALTER DATABASE {name} SET auto_explain.log_format = 'json';"
        ))
        .await;
    let mark = async |question: &str| {
        database.line(&format!("SELECT '? {}' AS line", question.replace('\'', "''"))).await;
    };
    ask_everything(&database.store(), mark).await;

    let log = format!(
        "SELECT line FROM regexp_split_to_table(pg_read_file(pg_current_logfile('jsonlog')), '\n') AS line \
         WHERE line LIKE '%\"dbname\":\"{name}\"%'"
    );
    let lines = eventually("the plan of the last statement in the server's log", Duration::from_secs(20), async || {
        let lines = database.lines(&log).await;
        lines.iter().any(|line| line.contains("SELECT '? the end'")).then_some(lines)
    })
    .await;
    let mut plans = Plans::new();
    let mut question = String::new();
    for line in lines {
        let record: Value = serde_json::from_str(&line).unwrap();
        let Some((_, plan)) = record["message"].as_str().and_then(|text| text.split_once("plan:\n")) else { continue };
        let plan: Value = serde_json::from_str(plan).unwrap();
        let text = plan["Query Text"].as_str().unwrap();
        if let Some(next) = text.strip_prefix("SELECT '? ") {
            question = next.trim_end_matches("' AS line").replace("''", "'");
            if question == "the end" {
                break;
            }
        } else if !question.is_empty() {
            let mut steps = Vec::new();
            collect_scans(&plan["Plan"], &mut steps);
            add(&mut plans, &question, steps.into_iter());
        }
    }
    plans
}

fn collect_scans(node: &Value, steps: &mut Vec<String>) {
    let text = |field: &str| node[field].as_str();
    match (text("Node Type").unwrap_or_default(), text("Relation Name"), text("Index Name")) {
        ("Sort" | "Incremental Sort", _, _) => steps.push(format!("Sort by {}", node["Sort Key"])),
        (kind, relation, Some(index)) => {
            let how = if text("Index Cond").is_some() { "searched" } else { "in order" };
            let relation = relation.map(|relation| format!(" on {relation}")).unwrap_or_default();
            steps.push(format!("{kind}{relation} by {index}, {how}"));
        }
        (kind, Some(relation), None) => steps.push(format!("{kind} on {relation}")),
        (_, None, None) => {}
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect_scans(child, steps);
    }
}

fn add(plans: &mut Plans, question: &str, steps: impl Iterator<Item = String>) {
    let known = plans.entry(question.to_owned()).or_default();
    for step in steps {
        if !known.contains(&step) {
            known.push(step);
        }
    }
}
