//! A random story of pull requests: what people do, what GitHub tells of it, and what breaks meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use previewd::{
    environment::{CommitSha, Lifespan},
    faults::Fault,
    identity::Identity,
    service::ChangeRequest,
    store::{Event, EventKind, Overview},
};
use rand::RngExt;
use serde_json::json;
use xtask::github::{NewPullRequest, PullState, Role};

use super::{
    configuration::Ending,
    kubernetes::Trouble,
    network::{Mishaps, Peer},
    outcome,
    recipes::Plan,
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
    /// Commits that were pushed back to.
    pub returned: BTreeSet<String>,
    pub mishaps: Mishaps,
    /// Virtual time.
    pub lasted: Duration,
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
        let opened = begin(&mut world, &mut told).await;
        end(&mut world, &mut told, opened).await;
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

async fn begin(world: &mut World, told: &mut Told) -> Vec<u64> {
    let github = world.github.clone();
    let files = Plan::plain().files();
    github.commit(REPOSITORY, "main", &listed(&files)).await.expect("main takes a commit");
    github.set_role(REPOSITORY, "ann", Role::Admin).expect("the repository is there");
    github.set_role(REPOSITORY, "bob", Role::Write).expect("the repository is there");
    world.deliver();
    world.pass(Duration::from_secs(3)).await;
    let mut opened = Vec::new();
    let is_hasty = world.configuration.is_hasty;
    let may_sleep = world.configuration.sleep_after != Lifespan::ENDLESS;
    for _ in 0..world.rng.random_range(ACTIONS) {
        let action = act(world, told, &mut opened).await;
        world.network.note(format_args!("{action}"));
        *told.actions.entry(action).or_default() += 1;
        world.deliver();
        // Much of what matters happens within one second.
        let wait = match world.rng.random_range(0..10) {
            0..9 if is_hasty => world.rng.random_range(0..2_500),
            0..3 if may_sleep => world.rng.random_range(60_000..100_000),
            0..3 => world.rng.random_range(0..1_000),
            3..8 => world.rng.random_range(1_000..20_000),
            _ => world.rng.random_range(20_000..150_000),
        };
        world.pass(Duration::from_millis(wait)).await;
    }
    opened
}

/// Whatever can run comes to run, and something happens to it.
async fn end(world: &mut World, told: &mut Told, mut opened: Vec<u64>) {
    let ending = world.configuration.ending;
    if ending == Ending::None {
        return;
    }
    let is_ours = |number: &u64| {
        let pull = world.github.pull_request(REPOSITORY, *number).expect("it was opened");
        pull.state == PullState::Open && pull.head.owner != "mallory"
    };
    let ours: Vec<u64> = opened.iter().copied().filter(is_ours).collect();
    for number in &ours {
        let plan = world.plans[world.commit(*number).as_str()].clone();
        let mended = plan.mended();
        if plan != mended {
            push(world, *number, mended).await;
        }
    }
    world.deliver();
    let wait = world.rng.random_range(80..200);
    world.pass(Duration::from_secs(wait)).await;
    for number in &ours {
        let plan = world.plans[world.commit(*number).as_str()].clone();
        match ending {
            Ending::None => {}
            Ending::Break => {
                let broken = plan.broken(&mut world.rng);
                push(world, *number, broken).await;
            }
            Ending::Reset => {
                hold_its_own(world, *number);
                if world.rng.random_bool(0.5) {
                    push(world, *number, plan).await;
                }
                world.github.comment(REPOSITORY, *number, "ann", "/preview reset").await.expect("anybody may comment");
            }
        }
    }
    let what = if ending == Ending::Break { "broke in the end" } else { "reset in the end" };
    *told.actions.entry(what).or_default() += ours.len();
    world.deliver();
    // What went back meets something as well.
    if world.rng.random_bool(0.3) {
        let wait = world.rng.random_range(30..700);
        world.pass(Duration::from_secs(wait)).await;
        let action = act(world, told, &mut opened).await;
        world.network.note(format_args!("{action}"));
        *told.actions.entry(action).or_default() += 1;
        world.deliver();
    }
}

async fn push(world: &mut World, number: u64, plan: Plan) {
    let serial = world.rng.random::<u32>().to_string();
    let mut files = plan.files();
    files.push(("src/main.rs", serial));
    let pushed = world.github.push(REPOSITORY, number, &listed(&files)).await.expect("its branch is there");
    world.plan(&pushed, plan);
}

async fn act(world: &mut World, told: &mut Told, opened: &mut Vec<u64>) -> &'static str {
    let github = world.github.clone();
    if opened.is_empty() || (opened.len() < PULL_REQUESTS && world.rng.random_bool(0.15)) {
        let new = NewPullRequest::new("A change", &format!("change-{}", opened.len()));
        let stranger = world.rng.random_bool(0.3);
        let plan = if stranger { Plan::plain() } else { Plan::draw(&mut world.rng, world.configuration.taste) };
        let new = if stranger {
            new.from_fork("mallory").file("src/main.rs", "mine")
        } else {
            plan.files().iter().fold(new, |new, (path, text)| new.file(path, text))
        };
        let number = github.open_pull_request(REPOSITORY, new).await.expect("its branch is new");
        opened.push(number);
        let commit = world.commit(number);
        world.plan(commit.as_str(), plan);
        if stranger {
            told.strangers.insert(commit.to_string());
        }
        return if stranger { "opened from a fork" } else { "opened" };
    }
    let number = opened[world.rng.random_range(0..opened.len())];
    let pull = github.pull_request(REPOSITORY, number).expect("it was opened");
    let stranger = pull.head.owner == "mallory";
    let head = pull.head.sha.clone();
    match world.rng.random_range(0..100) {
        0..4 if !stranger && pull.state == PullState::Open && pull.commits.len() > 1 => {
            let earlier: Vec<&String> = pull.commits.iter().filter(|commit| **commit != head).collect();
            let back = earlier[world.rng.random_range(0..earlier.len())];
            github.force_push(REPOSITORY, &pull.head.branch, back).await.expect("it was there");
            told.returned.insert(back.clone());
            "pushed back"
        }
        0..30 => {
            // What sleeps meets what cannot even start.
            let may_sleep = world.configuration.sleep_after != Lifespan::ENDLESS;
            match stranger {
                true => {
                    let serial = world.rng.random::<u32>().to_string();
                    let files = [("src/main.rs", serial.as_str())];
                    let pushed = github.push(REPOSITORY, number, &files).await.expect("its branch is there");
                    world.plan(&pushed, Plan::plain());
                    told.strangers.insert(pushed);
                }
                false if may_sleep && world.rng.random_bool(0.3) => push(world, number, Plan::unreadable()).await,
                false => {
                    let plan = Plan::draw(&mut world.rng, world.configuration.taste);
                    push(world, number, plan).await;
                }
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
        52..56 => {
            retry(world, number).await;
            "retried"
        }
        56..58 => {
            visit(world, number).await;
            "visited"
        }
        58..74 => {
            let approve = format!("/preview approve {head}");
            let lines = [
                "/preview deploy",
                "/preview retry",
                "/preview delete",
                "/preview keep 48h",
                "/preview status",
                "/preview reset",
                "/preview reset",
            ];
            let choice = world.rng.random_range(0..12);
            let line = lines.get(choice).copied().unwrap_or(&approve);
            if line == "/preview reset" && world.rng.random_bool(0.5) {
                hold_its_own(world, number);
            }
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
        86..90 if !world.configuration.is_gentle => {
            world.kill_one();
            "killed"
        }
        90..93 if !world.configuration.is_gentle => {
            world.network.send_away(Peer::GitHub, Duration::from_secs(world.rng.random_range(5..180)));
            "GitHub away"
        }
        93..96 if !world.configuration.is_gentle => {
            world.network.send_away(Peer::Kubernetes, Duration::from_secs(world.rng.random_range(5..180)));
            "cluster away"
        }
        _ => befall(world, number).await,
    }
}

/// What befalls a cluster, or previewd's budget for GitHub.
async fn befall(world: &mut World, number: u64) -> &'static str {
    let namespaces = world.kubernetes.namespaces();
    if namespaces.is_empty() {
        return "looked at";
    }
    let name = &namespaces[world.rng.random_range(0..namespaces.len())].name;
    let seconds = Duration::from_secs(world.rng.random_range(20..400));
    match world.rng.random_range(0..10) {
        0 => {
            world.kubernetes.hold(name, seconds);
            "namespace held"
        }
        1 => {
            world.kubernetes.lose_node(name);
            "node lost"
        }
        2 => {
            world.kubernetes.evict(name);
            "evicted"
        }
        3 | 4 => {
            hold_its_own(world, number);
            world.github.comment(REPOSITORY, number, "ann", "/preview reset").await.expect("anybody may comment");
            "reset, and held"
        }
        5 => {
            world.kubernetes.remove_ended_jobs(name);
            "ended Jobs removed"
        }
        6 | 7 if world.words_used_until.is_none() => {
            world.github.comment(REPOSITORY, number, "ann", "/preview status").await.expect("anybody may comment");
            world.use_up_words(seconds.min(Duration::from_secs(180)));
            // Whether it is open counts for nothing.
            let _ = world.github.close(REPOSITORY, number).await;
            "words used up"
        }
        _ => {
            let trouble = [Trouble::Webhook, Trouble::Throttled, Trouble::Conflict][world.rng.random_range(0..3)];
            world.kubernetes.break_down(trouble, seconds / 6);
            "cluster troubled"
        }
    }
}

/// Has the pull request's namespace hang once it is deleted.
fn hold_its_own(world: &mut World, number: u64) {
    let seconds = Duration::from_secs(world.rng.random_range(60..400));
    let begins = format!("pr-{number}-");
    let namespaces = world.kubernetes.namespaces();
    if let Some(its_own) = namespaces.iter().find(|found| found.name.starts_with(&begins)) {
        world.kubernetes.hold(&its_own.name, seconds);
    }
}

fn listed<'a>(files: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    files.iter().map(|(path, text)| (*path, text.as_str())).collect()
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

/// Somebody opens the URL: what sleeps wakes.
async fn visit(world: &World, number: u64) {
    let opened =
        outcome::rows(world).await.into_iter().find(|row| row.pull_request.facts.number.cast_unsigned() == number);
    let Some(Overview { environment, .. }) = opened else { return };
    let event = Event::own(EventKind::RetryRequested, "a visit");
    let woken = world.store.request_waking(&environment.id, event.into()).await.expect("the database answers");
    if !woken {
        let after = environment.lifetime.counts_a_use_after();
        world.store.record_use(&environment.id, after).await.expect("the database answers");
    }
}

/// Whether a commit ever runs.
pub fn is_good(world: &World, commit: &CommitSha) -> bool {
    world.plans.get(commit.as_str()).is_some_and(|plan| plan.runs(&world.configuration))
}
