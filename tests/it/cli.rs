//! The command line, as scripts use it: against the database of this machine, and against a server by its address.

use std::{process::Stdio, time::Duration};

use previewd::identity::Role;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::support::{Stand, commit, loopback_api_server};

const SOON: Duration = Duration::from_secs(30);

/// What a command printed, and how it ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// What was printed, which is as this tool's answers are.
    fn json(&self, tool: &str) -> Value {
        let answer: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr));
        let (_, schema) = previewd::mcp::answer_schemas().into_iter().find(|(name, _)| *name == tool).unwrap();
        if let Err(error) = jsonschema::validate(&Value::Object(schema), &answer) {
            panic!("{tool}: {error}: {answer:#}");
        }
        answer
    }
}

/// By what way a command asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Database,
    Server,
}

const WAYS: [Way; 2] = [Way::Database, Way::Server];

/// `previewd` with `line`. `token`: whom it speaks for; None: whoever starts it, on the database.
fn command(stand: &Stand, way: Way, token: Option<&str>, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_previewd"));
    command.args(line.split(' ')).current_dir(stand.directory());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    match way {
        Way::Database => {
            command.env("PREVIEWD_CONFIG", stand.config_file());
        }
        Way::Server => {
            command.args(["--server", &format!("http://{}", stand.address)]);
        }
    }
    if let Some(token) = token {
        command.env("PREVIEWD_TOKEN", token);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs [`command`] to its end.
pub async fn run(stand: &Stand, way: Way, token: Option<&str>, line: &str) -> Ended {
    let output = command(stand, way, token, line).output().await.unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_answer_the_same_from_the_database_and_from_a_server() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    stand.open("globex/site", 3, &commit('b')).await;
    stand.fail_all(&commit('a')).await;
    let token = stand.token(Role::Member, &["shop"]).await;
    for way in WAYS {
        let run = async |line: &str| run(&stand, way, Some(&token), line).await;
        let list = run("list --output json").await;
        assert_eq!(list.code, 0, "{}", list.stderr);
        let list = list.json("list_preview_environments");
        let names: Vec<_> = list["environments"].as_array().unwrap().iter().map(|row| &row["environment"]).collect();
        assert_eq!(names, ["acme/shop#7"], "{way:?}: its team's alone");
        let table = run("list --status failed").await;
        assert!(table.stdout.starts_with("ENVIRONMENT  STATUS  COMMIT   AGE"), "{}", table.stdout);
        assert_eq!(table.stdout.lines().count(), 2);

        let detail = run("get acme/shop#7 --output json").await.json("get_preview_environment");
        assert_eq!((&detail["status"], &detail["reason"]), (&"failed".into(), &"crash_loop".into()));
        assert!(run("get acme/shop#7").await.stdout.contains("because"), "people get the reason");
        let absent = run("get globex/site#3").await;
        assert_eq!(absent.code, 4, "{}", absent.stderr);
        assert!(absent.stderr.contains("there is no environment globex/site#3"), "{}", absent.stderr);
        assert!(absent.stderr.contains("List the environments"), "what to do: {}", absent.stderr);

        let explained = run("explain acme/shop#7").await;
        assert_eq!(explained.code, 0, "{}", explained.stderr);
        run("explain acme/shop#7 --output json").await.json("explain_preview_environment");
        assert!(explained.stdout.contains("failed") && explained.stdout.contains("pull_request.opened"));
        let waited = run("wait acme/shop#7 --output json").await;
        let answer = waited.json("wait_for_preview_environment");
        assert_eq!((waited.code, &answer["done"]), (5, &false.into()), "it will not run by itself");
        assert_eq!(run("wait acme/shop#7 --until settled").await.code, 0);

        let stale = format!("retry acme/shop#7 --expected-commit {}", commit('c'));
        assert_eq!(run(&stale).await.code, 3);
        let refused = run("delete acme/shop#7").await;
        assert_eq!(refused.code, 3);
        assert!(refused.stderr.contains("the role member may not delete"), "{}", refused.stderr);
        assert_eq!(run("keep acme/shop#7 --for 7d").await.code, 0);

        let retried = run("retry acme/shop#7").await;
        assert_eq!(retried.code, 0, "{}", retried.stderr);
        assert!(retried.stdout.contains("acme/shop#7 at aaaaaaa is pending"), "{}", retried.stdout);
        assert_eq!(run("retry acme/shop#7").await.code, 3, "only what failed");
        let under_way = run("wait acme/shop#7 --timeout 1s").await;
        assert_eq!(under_way.code, 6, "{}{}", under_way.stdout, under_way.stderr);
        stand.fail_all(&commit('a')).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_is_told_how_far_it_has_come() {
    let stand = Stand::start().await;
    let head = commit('a');
    stand.open("acme/shop", 7, &head).await;
    let token = stand.token(Role::Member, &["shop"]).await;
    for way in WAYS {
        let mut waiting = command(&stand, way, Some(&token), "wait acme/shop#7 --until settled").spawn().unwrap();
        let mut told = BufReader::new(waiting.stderr.take().unwrap()).lines();
        let first = timeout(SOON, told.next_line()).await.unwrap().unwrap().unwrap_or_default();
        assert!(first.contains("acme/shop#7") && first.contains("pending"), "{way:?}: {first:?}");
        stand.fail_all(&head).await;
        let ended = timeout(SOON, waiting.wait_with_output()).await.unwrap().unwrap();
        let answer = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.status.success() && answer.contains("failed"), "{way:?}: {answer}");
        assert_eq!(run(&stand, way, Some(&token), "retry acme/shop#7").await.code, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_not_there_is_no_silent_one() {
    let (api_server, _) = loopback_api_server().await;
    let stand = Stand::with_api_server(&api_server).await;
    stand.open("acme/shop", 7, &commit('a')).await;
    let token = stand.token(Role::Member, &["shop"]).await;
    let kept = run(&stand, Way::Server, Some(&token), "keep acme/shop#7 --for 9000d").await;
    assert!(kept.stdout.ends_with("it does not expire before it is deployed\n"), "{}", kept.stdout);
    // Before it runs, one of this name may be still to come.
    let early = run(&stand, Way::Server, Some(&token), "logs acme/shop#7 --container wbe").await;
    assert!(early.code == 0 && early.stderr.contains("no lines"), "{}", early.stderr);
    let database = format!("sqlite:{}", stand.directory().join("previewd.db").display());
    stand.execute(&database, "UPDATE environments SET status = $1", "running");
    for line in ["logs acme/shop#7 --container wbe", "logs acme/shop#7 --container wbe -f"] {
        let ended = run(&stand, Way::Server, Some(&token), line).await;
        assert!(ended.code == 3 && ended.stderr.contains("sidecar, web"), "{line}: {} {}", ended.code, ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_made_and_revoked() {
    let stand = Stand::start().await;
    let made =
        run(&stand, Way::Database, None, "token create --subject ci --role member --team shop --output json").await;
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert_eq!(run(&stand, Way::Server, Some(token), "list").await.code, 0);
    assert_eq!(run(&stand, Way::Database, None, &format!("token revoke {id}")).await.code, 0);
    let revoked = run(&stand, Way::Server, Some(token), "list").await;
    assert!(revoked.code != 0 && revoked.stderr.contains("does not take the token"), "{}", revoked.stderr);
    let list = run(&stand, Way::Database, None, "token list").await;
    let row = list.stdout.lines().find(|row| row.contains(id)).unwrap();
    assert!(row.contains("revoked") && !list.stdout.contains(token), "{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_arguments_are_named() {
    let stand = Stand::start().await;
    for (line, code, words) in [
        ("get", 2, "<ENVIRONMENT>"),
        ("get a/b/c#x", 2, "must be owner/name#number"),
        ("list --status gone", 2, "possible values"),
        ("keep acme/shop#7 --for long", 2, "--for"),
        ("list --server here:1", 2, "must begin with http:// or https://"),
        ("list --server http://127.0.0.1:1", 1, "PREVIEWD_TOKEN"),
        ("logs acme/shop#7 --tail 5000", 2, "must be a whole number from 1 to 1000"),
        ("logs acme/shop#7 --since soon", 2, "--since"),
        ("create pr-7-shop-abcdefghij", 2, "owner/name#number"),
        ("wait acme/shop#7 --timeout soon", 2, "--timeout"),
    ] {
        let ended = run(&stand, Way::Database, None, line).await;
        assert_eq!(ended.code, code, "{line}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{line}: {}", ended.stderr);
    }
    let nobody = run(&stand, Way::Server, None, "list").await;
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("PREVIEWD_TOKEN"), "{}", nobody.stderr);
    let stranger = run(&stand, Way::Server, Some("pvd_nonsense"), "list").await;
    assert_eq!(stranger.code, 3, "{}", stranger.stderr);
    assert!(stranger.stderr.contains("does not take the token"), "{}", stranger.stderr);
    for here in ["mcp", "doctor"] {
        let sent = run(&stand, Way::Server, Some("pvd_x"), here).await;
        assert!(sent.code == 1 && sent.stderr.contains("leave --server"), "{here}: {}", sent.stderr);
    }
    let elsewhere = run(&stand, Way::Server, Some("pvd_x"), "token list").await;
    assert_eq!(elsewhere.code, 1);
    assert!(elsewhere.stderr.contains("leave --server"), "{}", elsewhere.stderr);
    let alone = run(&stand, Way::Database, Some("pvd_x"), "list --server http://127.0.0.1:1").await;
    assert_eq!(alone.code, 1);
    assert!(alone.stderr.contains("nobody answers at http://127.0.0.1:1"), "{}", alone.stderr);
    assert!(alone.stderr.contains("refused"), "and why: {}", alone.stderr);

    // A command that reads makes no database where there is none.
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_previewd"));
    command.arg("list").current_dir(empty.path()).env_clear().env("HOME", empty.path()).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("--config") && said.contains("--server"), "{said}");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shells_get_completions() {
    let stand = Stand::start().await;
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&stand, Way::Database, None, &format!("completions {shell}")).await;
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains("previewd") && script.stdout.contains("explain"), "{shell}");
    }
}

/// Every change and every refusal, with who, from where, and what became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_says_who_did_what_and_what_was_refused() {
    let stand = Stand::start().await;
    stand.open("acme/shop", 7, &commit('a')).await;
    stand.open("globex/site", 3, &commit('b')).await;
    let member = stand.token(Role::Member, &["shop"]).await;
    let outsider = stand.token(Role::Admin, &["site"]).await;
    let operator = stand.token(Role::Operator, &[]).await;
    run(&stand, Way::Server, Some(&member), "delete acme/shop#7").await;
    run(&stand, Way::Server, Some(&outsider), "delete acme/shop#7").await;
    run(&stand, Way::Database, Some(&member), "keep acme/shop#7").await;
    run(&stand, Way::Database, None, "delete globex/site#3").await;
    run(&stand, Way::Database, None, "delete nobody/nothing#1").await;

    for way in WAYS {
        let events = run(&stand, way, Some(&operator), "events --limit 0 --output jsonl").await;
        assert_eq!(events.code, 0, "{}", events.stderr);
        let events: Vec<Value> = events.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found = |kind: &str, actor: &str| {
            let mut found = events.iter().filter(|event| event["kind"] == kind && event["actor"] == actor);
            found.next().unwrap_or_else(|| panic!("{way:?}: no {kind} by {actor} in {events:?}"))
        };
        let refused = found("deletion_requested", "member-of-shop");
        assert_eq!((&refused["refusal"], &refused["environment"]), (&"UNAUTHORIZED".into(), &"acme/shop#7".into()));
        assert_eq!((&refused["interface"], &refused["address"]), (&"mcp".into(), &"127.0.0.1".into()));
        assert_eq!(found("deletion_requested", "admin-of-site")["refusal"], "NOT_FOUND");
        let kept = found("keeping_requested", "member-of-shop");
        assert_eq!((&kept["interface"], kept.get("refusal")), (&"command_line".into(), None));
        assert!(events.iter().any(|event| event["kind"] == "token_created"), "{events:?}");
        assert!(events.iter().any(|event| event["detail"] == "nobody/nothing#1" && event["refusal"] == "NOT_FOUND"));
        let times: Vec<&str> = events.iter().map(|event| event["at"].as_str().unwrap()).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "newest first: {times:?}");

        let of_team = run(&stand, way, Some(&member), "events --limit 0 --output jsonl").await;
        assert!(!of_team.stdout.contains("globex/site") && !of_team.stdout.contains("token_created"));
        assert!(of_team.stdout.contains("deletion_requested") && !of_team.stdout.contains("127.0.0.1"));
        let refusals = run(&stand, way, Some(&operator), "events --refused --environment acme/shop#7").await;
        assert_eq!(refusals.stdout.lines().count(), 3, "{}", refusals.stdout);
        assert_eq!(run(&stand, way, Some(&member), "events --environment globex/site#3").await.code, 4);
    }
}

/// A checkout of somebody else's code has a configuration in it, a kubeconfig that starts a program, and a database.
#[tokio::test]
async fn only_who_serves_from_a_folder_trusts_what_lies_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let (ran, at) = (folder.path().join("ran"), |name: &str| folder.path().join(name));
    let script = at("evil.sh");
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
        contexts: [{ name: c, context: { cluster: c, user: u } }]\n\
        clusters: [{ name: c, cluster: { server: 'https://127.0.0.1:1' } }]\n\
        users: [{ name: u, user: { exec: { apiVersion: client.authentication.k8s.io/v1, command: ./evil.sh, \
        interactiveMode: Never } } }]\n";
    std::fs::write(at("kc.yaml"), kubeconfig).unwrap();
    let config = format!(
        "database = 'sqlite:strange.db'\n[github]\ntoken = 'x'\nwebhook_secrets = ['0123456789abcdef']\n\
         [kubernetes]\nkubeconfig = 'kc.yaml'\n[helm]\npath = '{}'\n",
        script.display()
    );
    std::fs::write(at("previewd.toml"), config).unwrap();
    std::fs::write(at(".preview.yaml"), "version: 1\nhelm: { chart: ./chart }\nexpose: { service: shop }\n").unwrap();
    std::fs::create_dir(at("chart")).unwrap();
    std::fs::write(at("chart/Chart.yaml"), "apiVersion: v2\nname: shop\nversion: 1.0.0\n").unwrap();
    // The bare name of the default is as strange as any other.
    std::fs::write(at("previewd.db"), "not a database").unwrap();

    let run = async |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_previewd"));
        command.args(line.split(' ')).current_dir(folder.path());
        command.env_clear().env("HOME", home.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(SOON, command.output()).await.unwrap_or_else(|_| panic!("{line} goes on"));
        String::from_utf8(output.unwrap().stderr).unwrap()
    };
    let lines = [
        "mcp",
        "list",
        "get acme/shop#1",
        "logs acme/shop#1",
        "events",
        "doctor",
        "repair --dry-run",
        "token list",
        "migrate",
        "backup out.jsonl",
        "recipe check",
        "recipe render",
    ];
    for line in lines {
        let stderr = run(line).await;
        assert!(!ran.exists(), "{line} started a program of the folder: {stderr}");
        assert!(!at("strange.db").exists(), "{line} used the folder's configuration");
        assert!(stderr.contains("previewd.toml in this folder is not read; name it with --config"), "{line}: {stderr}");
        assert!(!stderr.contains("not a database"), "{line} opened the folder's database: {stderr}");
    }
    let named = run("--config previewd.toml doctor").await;
    assert!(ran.exists(), "the one that is named counts: {named}");
}
