//! How a story has to end, and what must not have happened in it.

use std::{collections::BTreeMap, time::Duration};

use previewd::{
    environment::{EnvironmentStatus, Hold, PullRequestState, Reason},
    store::{EnvironmentFilter, Overview},
};
use xtask::github::PullState;

use super::{
    kubernetes::Write,
    story::{Told, is_good},
    world::{REPOSITORY, World},
};

/// Until whatever was stopped has gone on, or its lease is over.
const AT_LEAST: Duration = Duration::from_secs(90);
/// Repair comes every five minutes, and a round of three attempts takes up to ten.
const AT_MOST: Duration = Duration::from_secs(30 * 60);
/// What webhooks did not tell is found by the next list: within the hour, where nothing else goes on.
const UNKNOWN_AT_MOST: Duration = Duration::from_secs(75 * 60);
const LOOK: Duration = Duration::from_secs(30);

const EVERY_STATUS: [EnvironmentStatus; 6] = [
    EnvironmentStatus::Pending,
    EnvironmentStatus::Deploying,
    EnvironmentStatus::Running,
    EnvironmentStatus::Failed,
    EnvironmentStatus::Deleting,
    EnvironmentStatus::Deleted,
];

pub async fn rows(world: &World) -> Vec<Overview> {
    let filter = EnvironmentFilter { statuses: EVERY_STATUS.to_vec(), limit: 100, ..Default::default() };
    world.store.list_environments(&filter).await.expect("the database answers").0
}

/// Lets everything come to its end, with nothing that breaks.
pub async fn settle(world: &mut World) -> Result<(), String> {
    world.calm_down();
    world.pass(AT_LEAST).await;
    let (mut known, mut unknown) = (AT_LEAST, AT_LEAST);
    let mut is_quiet = false;
    loop {
        let (untold, unsettled) = (untold(world).await, unsettled(world).await);
        let was_quiet = std::mem::replace(&mut is_quiet, untold.is_empty() && unsettled.is_empty());
        // At the first look a pass may still have been about to tell of its last step.
        if is_quiet && was_quiet {
            return Ok(());
        }
        if unknown >= UNKNOWN_AT_MOST {
            return Err(format!("nobody hears of {}", untold.join("; ")));
        }
        if known >= AT_MOST {
            return Err(format!("this does not settle: {}", unsettled.join("; ")));
        }
        world.pass(LOOK).await;
        (known, unknown) = if untold.is_empty() { (known + LOOK, unknown) } else { (Duration::ZERO, unknown + LOOK) };
    }
}

/// Pull requests of which the rows do not say what GitHub does.
async fn untold(world: &World) -> Vec<String> {
    let rows = rows(world).await;
    let mut untold = Vec::new();
    let mut number = 1;
    while let Ok(pull) = world.github.pull_request(REPOSITORY, number) {
        let row = rows.iter().find(|row| row.pull_request.facts.number == number.cast_signed());
        let is_open = pull.state == PullState::Open;
        let is_known = row.map_or(!is_open, |row| {
            let facts = &row.pull_request.facts;
            let is_as_known = (facts.state == PullRequestState::Open) == is_open;
            is_as_known && (!is_open || facts.head_sha.as_str() == pull.head.sha)
        });
        if !is_known {
            untold.push(format!("#{number} at {}", pull.head.sha));
        }
        number += 1;
    }
    untold
}

/// Rows of which something is still owed.
async fn unsettled(world: &World) -> Vec<String> {
    let mut unsettled = Vec::new();
    if world.store.has_due_environment().await.expect("the database answers") {
        unsettled.push("a row is due".to_owned());
    }
    for row in rows(world).await {
        let environment = &row.environment;
        let is_under_way = matches!(environment.status, EnvironmentStatus::Deploying | EnvironmentStatus::Deleting)
            || (environment.status == EnvironmentStatus::Pending && environment.reason.is_none_or(passes));
        let goes_back = environment.status == EnvironmentStatus::Failed
            && environment.good_commit.is_some()
            && environment.serving_commit != environment.good_commit;
        if is_under_way || goes_back || environment.refresh || environment.failures > 0 {
            unsettled.push(describe(&row));
        } else if environment.serving_commit.is_some()
            && environment.serving_commit == environment.good_commit
            && environment.reason != Some(Reason::Asleep)
        {
            let unready = world.kubernetes.unready(environment.namespace.as_str());
            if !unready.is_empty() {
                unsettled.push(format!("{unready:?} do not run: {}", describe(&row)));
            }
        }
    }
    unsettled
}

/// Whether what an environment waits for comes, or is given up, by itself.
fn passes(reason: Reason) -> bool {
    matches!(reason, Reason::WaitingForImage | Reason::NamespaceTerminating | Reason::NamespaceStuck)
}

pub fn describe(Overview { environment, pull_request }: &Overview) -> String {
    let reason = environment.reason.map_or("", Reason::code);
    format!(
        "#{} is {} {reason}, revision {}, {} failures",
        pull_request.facts.number, environment.status, environment.revision, environment.failures
    )
}

/// What has to hold at the end.
pub async fn check(world: &World, told: &Told) -> Result<(), String> {
    let mut wrong = world.breaches.lock().expect("no story goes on after a panic").clone();
    wrong.extend(world.github.violations());
    let writes = world.kubernetes.writes();
    wrong.extend(two_at_once(world, &writes));
    wrong.extend(strangers_applied(&writes, told));
    let rows = rows(world).await;
    if world.configuration.is_gentle {
        // What others did in between may be in the way of what came before.
        let again = world.kubernetes.done_again().into_iter().filter(|(commit, _)| !told.returned.contains(commit));
        wrong.extend(again.map(|(_, what)| what));
    }
    let mut namespaces: BTreeMap<String, bool> =
        world.kubernetes.namespaces().into_iter().map(|found| (found.name, found.terminating)).collect();
    let mut number = 1;
    while let Ok(pull) = world.github.pull_request(REPOSITORY, number) {
        let row = rows.iter().find(|row| row.pull_request.facts.number == number.cast_signed());
        match row {
            None if pull.state == PullState::Open => wrong.push(format!("#{number} is open, and nobody knows of it")),
            None => {}
            Some(row) => {
                let terminating = namespaces.remove(row.environment.namespace.as_str());
                wrong.extend(
                    check_one(world, row, pull.state, &pull.head.sha, pull.head.owner == "mallory", terminating, &rows)
                        .await
                        .into_iter()
                        .map(|what| format!("#{number}: {what} ({})", describe(row))),
                );
            }
        }
        let comments = world.github.comments(REPOSITORY, number);
        let ours = comments.iter().filter(|comment| is_the_comment(&comment.body)).count();
        if ours > 1 {
            wrong.push(format!("#{number} has {ours} comments"));
        }
        number += 1;
    }
    wrong.extend(namespaces.into_keys().map(|name| format!("nobody owns the namespace {name}")));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// The pull request's own comment, and not the answer to a command.
pub fn is_the_comment(body: &str) -> bool {
    body.starts_with("<!-- previewd:") && !body.lines().next().unwrap_or_default().contains(":command:")
}

async fn check_one(
    world: &World,
    row: &Overview,
    state: PullState,
    head: &str,
    stranger: bool,
    namespace: Option<bool>,
    rows: &[Overview],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let Overview { environment, pull_request } = row;
    let facts = &pull_request.facts;
    // Of what is closed nobody needs the newest commit.
    if state == PullState::Open && facts.head_sha.as_str() != head {
        wrong.push(format!("its head is {head}, and the row has {}", facts.head_sha));
    }
    if (facts.state == PullRequestState::Open) != (state == PullState::Open) {
        wrong.push(format!("it is {state:?}, and the row has {:?}", facts.state));
    }
    let events = world.store.events_of(&environment.id, 1_000).await.expect("the database answers");
    for deployment in world.store.deployments_of(&environment.id, 100).await.expect("the database answers") {
        let first = format!("{} attempt 1", deployment.commit);
        let began = events.iter().filter(|past| past.detail.as_deref() == Some(&first)).count();
        if began > usize::try_from(deployment.round).expect("rounds are counted from 1") {
            wrong.push(format!("{} began {began} times in {} rounds", deployment.commit, deployment.round));
        }
        if !deployment.status.is_final() {
            wrong.push(format!("the deployment of {} is {}", deployment.commit, deployment.status));
        }
    }
    let shown = world.github.deployments(REPOSITORY);
    for shown in shown.iter().filter(|shown| shown.payload["preview"] == environment.namespace.as_str()) {
        let state = shown.statuses.last().map(|status| status.state.as_str());
        let serves = environment.serving_commit.as_ref().is_some_and(|serving| serving.as_str() == shown.sha);
        let is_right = match state {
            Some("success") => serves,
            Some("inactive" | "failure") => true,
            // Made for what the branch was at by then, and nobody heard of it.
            None => shown.reference != shown.sha,
            Some(_) => false,
        };
        if !is_right {
            wrong.push(format!("GitHub shows the deployment of {} as {state:?}", shown.sha));
        }
    }
    if namespace == Some(true) {
        wrong.push("its namespace still goes".to_owned());
    }
    if state != PullState::Open || environment.hold != Hold::None {
        if environment.status != EnvironmentStatus::Deleted || namespace.is_some() {
            wrong.push("it should be gone".to_owned());
        }
        if environment.has_place {
            wrong.push("it is gone and keeps its place".to_owned());
        }
        return wrong;
    }
    let served = world.kubernetes.serving(environment.namespace.as_str());
    let is_approved = world.store.is_approved(facts.github_id, &facts.head_sha).await.expect("the database answers");
    if stranger && !is_approved {
        if (environment.status, environment.reason) != (EnvironmentStatus::Pending, Some(Reason::AwaitingApproval)) {
            wrong.push("it should wait for an approval".to_owned());
        }
        return wrong;
    }
    if environment.reason == Some(Reason::QueuedForCapacity) {
        let taken = rows.iter().filter(|row| row.environment.has_place).count() as u64;
        if Some(taken) != world.configuration.places {
            wrong.push(format!("it waits for a place, and {taken} of {:?} are taken", world.configuration.places));
        }
        return wrong;
    }
    let sleeps = environment.reason == Some(Reason::Asleep);
    let is_served = |commit: Option<&str>| match commit {
        Some(_) if sleeps => served.is_empty(),
        commit => served.iter().map(String::as_str).eq(commit),
    };
    if is_good(world, &facts.head_sha) {
        if environment.status != EnvironmentStatus::Running
            || environment.serving_commit.as_ref() != Some(&facts.head_sha)
        {
            wrong.push("it should be running".to_owned());
        }
        if !is_served(Some(head)) {
            wrong.push(format!("{served:?} answers, and not {head}"));
        }
    } else {
        if environment.status != EnvironmentStatus::Failed {
            wrong.push("it should have failed".to_owned());
        }
        // What ran before is back.
        if let Some(good) = &environment.good_commit
            && !is_served(Some(good.as_str()))
        {
            wrong.push(format!("{served:?} answers, and not {good}, which ran before"));
        }
        // One whose pods became ready after all that was said of it may answer unsaid, and soon in the place of another.
        let said = environment.serving_commit.as_ref().filter(|_| !sleeps);
        if said.is_some_and(|commit| !served.contains(commit.as_str())) {
            wrong.push(format!("{served:?} answers, and the row says {:?}", environment.serving_commit));
        }
    }
    // What never ran is not put back where somebody took it away.
    let never_ran = environment.status == EnvironmentStatus::Failed && environment.good_commit.is_none();
    if namespace.is_none() && !never_ran {
        wrong.push("it has no namespace".to_owned());
    }
    wrong
}

/// Writes of two processes to the same namespace, at the same time.
fn two_at_once(world: &World, writes: &[Write]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_namespace: BTreeMap<&str, Vec<&Write>> = BTreeMap::new();
    for write in writes.iter().filter(|write| !world.network.is_late(write.process, write.began)) {
        by_namespace.entry(&write.namespace).or_default().push(write);
    }
    for (namespace, writes) in by_namespace {
        for (index, one) in writes.iter().enumerate() {
            let Some(ended) = one.ended else { continue };
            let other = writes[index + 1..].iter().find(|other| other.process != one.process && other.began < ended);
            if let Some(other) = other {
                wrong.push(format!(
                    "processes {} and {} write to {namespace} at once: {} and {}",
                    one.process, other.process, one.what, other.what
                ));
            }
        }
    }
    wrong
}

/// Nothing of a stranger is applied that nobody approved.
fn strangers_applied(writes: &[Write], told: &Told) -> Vec<String> {
    let of_strangers = writes.iter().filter(|write| {
        let commit = write.commit.as_deref();
        commit.is_some_and(|commit| told.strangers.contains(commit) && !told.approved.contains(commit))
    });
    of_strangers.map(|write| format!("{} of a stranger's commit that nobody approved", write.what)).take(1).collect()
}
