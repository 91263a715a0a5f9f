//! Who may do what, through every interface that asks: over MCP, on the command line (of this machine's database and of a
//! server), and in the dashboard. `lifecycle::commands` has the same for comments.

use previewd::identity::Role;
use serde_json::json;

use crate::{
    cli::{self, Way},
    dashboard::Person,
    support::{Era, Stand, commit},
};

/// What somebody tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Inspect,
    Keep,
    Retry,
    Create,
    Delete,
}

/// In an order in which each can be done after the ones before it.
const DEEDS: [Deed; 5] = [Deed::Inspect, Deed::Keep, Deed::Retry, Deed::Create, Deed::Delete];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// They see it, and may not do that.
    Denied,
    /// For them it is not there.
    Absent,
}

fn expected(role: Role, deed: Deed) -> Outcome {
    let least = match deed {
        Deed::Inspect => Role::Viewer,
        Deed::Keep | Deed::Retry | Deed::Create => Role::Member,
        Deed::Delete => Role::Admin,
    };
    if role >= least { Outcome::Done } else { Outcome::Denied }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    Mcp,
    CommandLine(Way),
    Dashboard,
}

const INTERFACES: [Interface; 4] =
    [Interface::Mcp, Interface::CommandLine(Way::Database), Interface::CommandLine(Way::Server), Interface::Dashboard];

async fn over_mcp(stand: &Stand, token: &str, deed: Deed, repository: &str, number: i64) -> Outcome {
    let client = stand.over_http(token, Era::Discover).await;
    let environment = json!({ "environment": format!("{repository}#{number}") });
    let (tool, arguments) = match deed {
        Deed::Inspect => ("get_preview_environment", environment),
        Deed::Keep => ("keep_preview_environment", environment),
        Deed::Retry => ("retry_preview_deployment", environment),
        Deed::Create => ("create_preview_environment", json!({ "repository": repository, "pull_request": number })),
        Deed::Delete => ("delete_preview_environment", environment),
    };
    match client.call(tool, arguments).await {
        Ok(_) => Outcome::Done,
        Err(error) if error["code"] == "UNAUTHORIZED" => Outcome::Denied,
        Err(error) if error["code"] == "NOT_FOUND" => Outcome::Absent,
        Err(error) => panic!("{deed:?}: {error}"),
    }
}

async fn on_the_command_line(
    stand: &Stand,
    way: Way,
    token: &str,
    deed: Deed,
    repository: &str,
    number: i64,
) -> Outcome {
    let command = match deed {
        Deed::Inspect => "get",
        Deed::Keep => "keep",
        Deed::Retry => "retry",
        Deed::Create => "create",
        Deed::Delete => "delete",
    };
    let ended = cli::run(stand, way, Some(token), &format!("{command} {repository}#{number}")).await;
    match ended.code {
        0 => Outcome::Done,
        3 => Outcome::Denied,
        4 => Outcome::Absent,
        code => panic!("{command}: {code}: {}", ended.stderr),
    }
}

async fn in_the_dashboard(stand: &Stand, token: &str, deed: Deed, repository: &str, number: i64) -> Outcome {
    let person = Person::with_token(stand, token).await;
    let found = stand.store.find_environment_of(&repository.parse().unwrap(), number).await.unwrap().unwrap();
    let path = format!("/environments/{}", found.environment.namespace);
    let name = format!("{repository}#{number}");
    let csrf = person.open("/").await.csrf().to_owned();
    let fields = [("csrf", csrf.as_str()), ("confirm", name.as_str())];
    let page = match deed {
        Deed::Inspect => person.open(&path).await,
        Deed::Keep => person.post(&format!("{path}/keep"), &fields).await,
        Deed::Retry => person.post(&format!("{path}/retry"), &fields).await,
        Deed::Create => person.post(&format!("{path}/create"), &fields).await,
        Deed::Delete => person.post(&format!("{path}/delete"), &fields).await,
    };
    match page.status {
        200 | 303 => Outcome::Done,
        403 => Outcome::Denied,
        404 => Outcome::Absent,
        status => panic!("{deed:?}: {status}: {}", page.body),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_interface_asks_the_same_table() {
    let stand = Stand::start().await;
    let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Operator];
    let mut number = 0;
    for interface in INTERFACES {
        for role in roles {
            number += 1;
            let token = stand.token(role, if role == Role::Operator { &[] } else { &["shop"] }).await;
            for (repository, is_theirs) in [("acme/shop", true), ("globex/site", false)] {
                stand.open(repository, number, &commit('a')).await;
                stand.fail_all(&commit('a')).await;
                for deed in DEEDS {
                    let outcome = match interface {
                        Interface::Mcp => over_mcp(&stand, &token, deed, repository, number).await,
                        Interface::CommandLine(way) => {
                            on_the_command_line(&stand, way, &token, deed, repository, number).await
                        }
                        Interface::Dashboard => in_the_dashboard(&stand, &token, deed, repository, number).await,
                    };
                    let wanted =
                        if is_theirs || role == Role::Operator { expected(role, deed) } else { Outcome::Absent };
                    assert_eq!(outcome, wanted, "{interface:?}: {role} wants to {deed:?} {repository}#{number}");
                }
            }
        }
    }
}
