//! Who may do what, through every interface that asks: over MCP, on the command line (of this machine's database and of a
//! server), and in the dashboard. `lifecycle::commands` has the same for comments.

use previewd::identity::{Role, Scope};
use serde_json::json;

use crate::{
    cli::{self, Way},
    dashboard::Person,
    support::{Era, Stand, commit, loopback_api_server},
};

/// What somebody tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    List,
    Inspect,
    Explain,
    ReadLogs,
    Keep,
    Retry,
    Create,
    Approve,
    Delete,
}

/// In an order in which each can be done after the ones before it.
const DEEDS: [Deed; 9] = [
    Deed::List,
    Deed::Inspect,
    Deed::Explain,
    Deed::ReadLogs,
    Deed::Keep,
    Deed::Retry,
    Deed::Create,
    Deed::Approve,
    Deed::Delete,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// They see it, and may not do that.
    Denied,
    /// For them it is not there.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    Mcp,
    CommandLine(Way),
    Dashboard,
}

const INTERFACES: [Interface; 4] =
    [Interface::Mcp, Interface::CommandLine(Way::Database), Interface::CommandLine(Way::Server), Interface::Dashboard];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// What its teams have; everything for operators.
    Teams,
    Repository,
    PullRequest,
}

const OURS: &str = "acme/shop";
/// Of the same team.
const BESIDE: &str = "acme/cart";
const THEIRS: &str = "globex/site";

const CALLERS: [(Role, Reach); 7] = [
    (Role::Viewer, Reach::Teams),
    (Role::Member, Reach::Teams),
    (Role::Admin, Reach::Teams),
    (Role::Operator, Reach::Teams),
    (Role::Admin, Reach::Repository),
    (Role::Admin, Reach::PullRequest),
    (Role::Operator, Reach::PullRequest),
];

/// An environment of somebody's point of view.
#[derive(Debug, Clone, Copy)]
struct Target {
    repository: &'static str,
    number: i64,
    is_theirs: bool,
}

impl Target {
    fn name(self) -> String {
        format!("{}#{}", self.repository, self.number)
    }
}

/// What somebody with such a token meets. `number`: the pull request that it may be for.
fn targets(role: Role, reach: Reach, number: i64) -> Vec<Target> {
    let target = |repository, number, is_theirs| Target { repository, number, is_theirs };
    let own = target(OURS, number, true);
    match reach {
        Reach::Teams => vec![own, target(BESIDE, number, true), target(THEIRS, number, role == Role::Operator)],
        Reach::Repository => vec![own, target(OURS, number + 1, true), target(BESIDE, number, false)],
        Reach::PullRequest => {
            vec![own, target(OURS, number + 1, false), target(BESIDE, number, false), target(THEIRS, number, false)]
        }
    }
}

fn expected(role: Role, deed: Deed, target: Target) -> Outcome {
    let least = match deed {
        Deed::List | Deed::Inspect | Deed::Explain | Deed::ReadLogs => Role::Viewer,
        Deed::Keep | Deed::Retry | Deed::Create => Role::Member,
        Deed::Approve | Deed::Delete => Role::Admin,
    };
    match target.is_theirs {
        false => Outcome::Absent,
        true if role < least => Outcome::Denied,
        true => Outcome::Done,
    }
}

/// None: nobody is asked for it there.
async fn over_mcp(stand: &Stand, token: &str, deed: Deed, target: Target) -> Option<Outcome> {
    let client = stand.over_http(token, Era::Discover).await;
    let Target { repository, number, is_theirs: _ } = target;
    let environment = json!({ "environment": target.name() });
    let pull_request = json!({ "repository": repository, "pull_request": number });
    let (tool, arguments) = match deed {
        Deed::List => ("list_preview_environments", json!({ "repository": repository })),
        Deed::Inspect => ("get_preview_environment", environment),
        Deed::Explain => ("explain_preview_environment", pull_request),
        Deed::ReadLogs => ("get_preview_logs", environment),
        Deed::Keep => ("keep_preview_environment", environment),
        Deed::Retry => ("retry_preview_deployment", environment),
        Deed::Create => ("create_preview_environment", pull_request),
        Deed::Approve => return None,
        Deed::Delete => ("delete_preview_environment", environment),
    };
    Some(match client.call(tool, arguments).await {
        Ok(list) if deed == Deed::List => {
            let rows = list["environments"].as_array().unwrap();
            of_list(rows.iter().any(|row| row["environment"] == target.name()))
        }
        Ok(_) => Outcome::Done,
        Err(error) if error["code"] == "UNAUTHORIZED" => Outcome::Denied,
        Err(error) if error["code"] == "NOT_FOUND" => Outcome::Absent,
        Err(error) => panic!("{deed:?}: {error}"),
    })
}

fn of_list(is_there: bool) -> Outcome {
    if is_there { Outcome::Done } else { Outcome::Absent }
}

async fn on_the_command_line(stand: &Stand, way: Way, token: &str, deed: Deed, target: Target) -> Option<Outcome> {
    let name = target.name();
    let line = match deed {
        Deed::List => format!("list --repository {} --output json", target.repository),
        Deed::Inspect => format!("get {name}"),
        Deed::Explain => format!("explain {name}"),
        Deed::ReadLogs => format!("logs {name}"),
        Deed::Keep => format!("keep {name}"),
        Deed::Retry => format!("retry {name}"),
        Deed::Create => format!("create {name}"),
        Deed::Approve => return None,
        Deed::Delete => format!("delete {name}"),
    };
    let ended = cli::run(stand, way, Some(token), &line).await;
    Some(match ended.code {
        0 if deed == Deed::List => of_list(ended.stdout.contains(&format!("\"{name}\""))),
        0 => Outcome::Done,
        3 => Outcome::Denied,
        4 => Outcome::Absent,
        code => panic!("{line}: {code}: {}", ended.stderr),
    })
}

async fn in_the_dashboard(stand: &Stand, token: &str, deed: Deed, target: Target) -> Option<Outcome> {
    let person = Person::with_token(stand, token).await;
    let found = stand.store.find_environment_of(&target.repository.parse().unwrap(), target.number).await;
    let path = format!("/environments/{}", found.unwrap().unwrap().environment.namespace);
    let (name, read) = (target.name(), commit('a').to_string());
    let csrf = person.open("/").await.csrf().to_owned();
    let fields = [("csrf", csrf.as_str()), ("confirm", name.as_str()), ("commit", read.as_str())];
    let post = async |button: &str| person.post(&format!("{path}/{button}"), &fields).await;
    let page = match deed {
        Deed::List => {
            let page = person.open(&format!("/?repository={}", target.repository)).await;
            return Some(of_list(page.body.contains(&format!("{name}<"))));
        }
        Deed::Inspect => person.open(&path).await,
        // Its page says it.
        Deed::Explain => return None,
        Deed::ReadLogs => person.open(&format!("{path}/logs.txt")).await,
        Deed::Keep => post("keep").await,
        Deed::Retry => post("retry").await,
        Deed::Create => post("create").await,
        Deed::Approve => post("approve").await,
        Deed::Delete => post("delete").await,
    };
    Some(match page.status {
        200 | 303 => Outcome::Done,
        403 => Outcome::Denied,
        404 => Outcome::Absent,
        status => panic!("{deed:?}: {status}: {}", page.body),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_interface_asks_the_same_table() {
    let (api_server, _) = loopback_api_server().await;
    let stand = Stand::with_api_server(&api_server).await;
    let mut number = 0;
    for interface in INTERFACES {
        for (role, reach) in CALLERS {
            number += 10;
            let scope = |pull_request| Scope { repository: OURS.parse().unwrap(), pull_request };
            let scope = match reach {
                Reach::Teams => None,
                Reach::Repository => Some(scope(None)),
                Reach::PullRequest => Some(scope(Some(number))),
            };
            let token = stand.scoped_token(role, if role == Role::Operator { &[] } else { &["shop"] }, scope).await;
            for target in targets(role, reach, number) {
                stand.open(target.repository, target.number, &commit('a')).await;
                stand.fail_all(&commit('a')).await;
                for deed in DEEDS {
                    let outcome = match interface {
                        Interface::Mcp => over_mcp(&stand, &token, deed, target).await,
                        Interface::CommandLine(way) => on_the_command_line(&stand, way, &token, deed, target).await,
                        Interface::Dashboard => in_the_dashboard(&stand, &token, deed, target).await,
                    };
                    let wanted = outcome.map(|_| expected(role, deed, target));
                    assert_eq!(outcome, wanted, "{interface:?}: {role} of {reach:?} wants to {deed:?} {target:?}");
                }
            }
        }
    }
}

/// Cluster-wide figures, repair and tokens are for whoever looks after previewd itself, with nothing left out.
#[tokio::test]
async fn only_operators_of_everything_operate() {
    let stand = Stand::start().await;
    stand.open(OURS, 7, &commit('a')).await;
    for (role, reach) in CALLERS {
        let scope = (reach != Reach::Teams).then(|| Scope {
            repository: OURS.parse().unwrap(),
            pull_request: (reach == Reach::PullRequest).then_some(7),
        });
        let token = stand.scoped_token(role, if role == Role::Operator { &[] } else { &["shop"] }, scope).await;
        let person = Person::with_token(&stand, &token).await;
        let status = if (role, reach) == (Role::Operator, Reach::Teams) { 200 } else { 403 };
        for path in ["/operation", "/tokens"] {
            assert_eq!(person.open(path).await.status, status, "{role} of {reach:?} opens {path}");
        }
        for (line, code) in
            [("token list", if status == 200 { 0 } else { 3 }), ("repair", if status == 200 { 1 } else { 3 })]
        {
            let ended = cli::run(&stand, Way::Database, Some(&token), line).await;
            // The cluster of this test is out of reach.
            assert_eq!(ended.code, code, "{role} of {reach:?}: {line}: {}", ended.stderr);
        }
    }
}
