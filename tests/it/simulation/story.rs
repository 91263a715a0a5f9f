//! A random story of pull requests: what people do, what GitHub tells of it, and what breaks meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use previewd::{environment::CommitSha, faults::Fault, identity::Identity, service::ChangeRequest};
use rand::RngExt;
use serde_json::json;
use xtask::github::{NewPullRequest, PullState, Role};

use super::{
    network::{Mishaps, Peer},
    outcome,
    world::{REPOSITORY, World, template},
};

/// How many pull requests there are at most.
const PULL_REQUESTS: usize = 4;
const ACTIONS: std::ops::Range<usize> = 10..26;

/// What people did in a story.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub actions: BTreeMap<&'static str, usize>,
    /// Commits that an admin approved in a comment.
    pub approved: BTreeSet<String>,
    /// Commits of strangers.
    pub strangers: BTreeSet<String>,
    pub mishaps: Mishaps,
    /// Virtual time.
    pub lasted: Duration,
}

/// What a commit's application does.
fn recipe(image: &str) -> String {
    format!("version: 1\napp:\n  image: registry.invalid/{image}:{{{{ sha }}}}\n  port: 8080\n")
}

/// Tells the story of `seed`. An error says what did not hold at its end, or on the way.
pub fn tell(seed: u64, fault: Option<Fault>) -> Result<Told, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be had");
    let template = template();
    // A task like all others: what a runtime blocks on comes out of turn.
    let story = runtime.spawn(async move {
        let mut world = World::new(seed, fault, template);
        let mut told = Told::default();
        begin(&mut world, &mut told).await;
        outcome::settle(&mut world).await?;
        told.mishaps = world.network.mishaps();
        told.lasted = Duration::from_millis((world.clock.now() - 1_800_000_000_000).unsigned_abs());
        outcome::check(&world, &told).await?;
        Ok(told)
    });
    let told = runtime.block_on(story);
    // What still waits for a peer that never answers goes with it.
    runtime.shutdown_background();
    told.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}

async fn begin(world: &mut World, told: &mut Told) {
    let github = world.github.clone();
    github.commit(REPOSITORY, "main", &[(".preview.yaml", &recipe("good"))]).await.expect("main takes a commit");
    github.set_role(REPOSITORY, "ann", Role::Admin).expect("the repository is there");
    github.set_role(REPOSITORY, "bob", Role::Write).expect("the repository is there");
    world.deliver();
    world.pass(Duration::from_secs(3)).await;
    let mut opened = Vec::new();
    for _ in 0..world.rng.random_range(ACTIONS) {
        let action = act(world, told, &mut opened).await;
        world.network.note(format_args!("{action}"));
        *told.actions.entry(action).or_default() += 1;
        world.deliver();
        // Much of what matters happens within one second.
        let wait = match world.rng.random_range(0..10) {
            0..3 => world.rng.random_range(0..1_000),
            3..8 => world.rng.random_range(1_000..20_000),
            _ => world.rng.random_range(20_000..150_000),
        };
        world.pass(Duration::from_millis(wait)).await;
    }
}

async fn act(world: &mut World, told: &mut Told, opened: &mut Vec<u64>) -> &'static str {
    let github = world.github.clone();
    if opened.is_empty() || (opened.len() < PULL_REQUESTS && world.rng.random_bool(0.15)) {
        let new = NewPullRequest::new("A change", &format!("change-{}", opened.len()));
        let stranger = world.rng.random_bool(0.3);
        let new = if stranger {
            new.from_fork("mallory").file("src/main.rs", "mine")
        } else {
            let image = image(world);
            new.file(".preview.yaml", &recipe(image))
        };
        let number = github.open_pull_request(REPOSITORY, new).await.expect("its branch is new");
        opened.push(number);
        if stranger {
            told.strangers.insert(world.commit(number).to_string());
        }
        return if stranger { "opened from a fork" } else { "opened" };
    }
    let number = opened[world.rng.random_range(0..opened.len())];
    let pull = github.pull_request(REPOSITORY, number).expect("it was opened");
    let stranger = pull.head.owner == "mallory";
    let head = pull.head.sha.clone();
    match world.rng.random_range(0..100) {
        0..30 => {
            let serial = world.rng.random::<u32>().to_string();
            let pushed = if stranger {
                github.push(REPOSITORY, number, &[("src/main.rs", &serial)]).await
            } else {
                let image = image(world);
                github.push(REPOSITORY, number, &[(".preview.yaml", &recipe(image)), ("serial", &serial)]).await
            };
            let pushed = pushed.expect("its branch is there");
            if stranger {
                told.strangers.insert(pushed);
            }
            "pushed"
        }
        30..42 => match pull.state {
            PullState::Open => {
                github.close(REPOSITORY, number).await.expect("it is open");
                "closed"
            }
            PullState::Closed => {
                github.reopen(REPOSITORY, number).await.expect("it is closed");
                "reopened"
            }
            PullState::Merged => "looked at",
        },
        42..46 => match pull.state {
            PullState::Open => {
                github.close(REPOSITORY, number).await.expect("it is open");
                world.deliver();
                github.reopen(REPOSITORY, number).await.expect("it is closed");
                "closed and reopened"
            }
            PullState::Closed | PullState::Merged => "looked at",
        },
        46..52 => {
            delete(world, number).await;
            "deleted by hand"
        }
        52..58 => {
            retry(world, number).await;
            "retried"
        }
        58..74 => {
            let approve = format!("/preview approve {head}");
            let lines =
                ["/preview deploy", "/preview retry", "/preview delete", "/preview keep 48h", "/preview status"];
            let choice = world.rng.random_range(0..10);
            let line = lines.get(choice).copied().unwrap_or(&approve);
            let author = if world.rng.random_bool(0.8) { "ann" } else { "bob" };
            github.comment(REPOSITORY, number, author, line).await.expect("anybody may comment");
            if line == approve && author == "ann" {
                told.approved.insert(head);
            }
            "commanded"
        }
        74..79 => {
            github.edit_title(REPOSITORY, number, &format!("Title {number}")).await.expect("it has a title");
            "renamed"
        }
        79..82 => {
            if let Some(comment) = github.comments(REPOSITORY, number).iter().find(|c| c.body.starts_with("<!--")) {
                github.delete_comment(REPOSITORY, comment.id).await.expect("it was listed");
            }
            "comment deleted"
        }
        82..86 => {
            if let Some(namespace) = world.kubernetes.namespaces().into_iter().find(|found| !found.terminating) {
                world.kubernetes.remove_namespace_by_hand(&namespace.name);
            }
            "namespace deleted by hand"
        }
        86..92 => {
            world.kill_one();
            "killed"
        }
        92..96 => {
            world.network.send_away(Peer::GitHub, Duration::from_secs(world.rng.random_range(5..180)));
            "GitHub away"
        }
        _ => {
            world.network.send_away(Peer::Kubernetes, Duration::from_secs(world.rng.random_range(5..180)));
            "cluster away"
        }
    }
}

fn image(world: &mut World) -> &'static str {
    match world.rng.random_range(0..20) {
        0..14 => "good",
        14..16 => "never-ready",
        16..18 => "crash",
        _ => "nopull",
    }
}

fn change(number: u64) -> ChangeRequest {
    serde_json::from_value(json!({ "environment": format!("{REPOSITORY}#{number}") })).expect("it names an environment")
}

// Refused where there is no such environment yet, or nothing to retry: that is an answer as well.
async fn delete(world: &World, number: u64) {
    let _ = world.service.delete(&Identity::local_operator(), change(number)).await;
}

async fn retry(world: &World, number: u64) {
    let _ = world.service.retry(&Identity::local_operator(), change(number)).await;
}

/// Whether the application of a commit ever becomes ready.
pub fn is_good(world: &World, commit: &CommitSha, stranger: bool) -> bool {
    // Whose commit it is does not matter for its recipe, where it is a stranger's: the base branch's counts.
    stranger || {
        let commit = world.github.commit_of(commit.as_str()).expect("GitHub has it");
        let text = commit.tree.get(".preview.yaml").map(|text| String::from_utf8_lossy(text).into_owned());
        text.is_some_and(|text| text.contains("/good:"))
    }
}
