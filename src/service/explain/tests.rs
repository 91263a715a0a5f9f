//! Everything that can be said of an environment, wherever it is said.

use std::{collections::BTreeSet, fmt::Write};

use super::*;
use crate::{
    environment::{
        BaseDomain, Cause, CommitSha, DeploymentStatus, Eviction, FailedProbe, Hindrance, JobEnd, Namespace, Obstacle,
        ProbeKind, ProbeResult, PublicUrl, PullFailure, Reason, Scope, Shortage, StartFailure, VolumeProblem,
        legal_reasons,
    },
    github::{self, CommentDeployment, CommentFacts},
    service::PullRequestSummary,
};

fn text(text: &str) -> String {
    text.to_owned()
}

fn probe(result: ProbeResult) -> FailedProbe {
    FailedProbe { kind: ProbeKind::Readiness, target: Some(text("GET /healthz on port 8080")), result }
}

/// One of each, and of those that say different things by what they hold, one for each of these.
fn causes() -> Vec<Cause> {
    let (container, image, job) = (|| text("app"), || text("ghcr.io/acme/shop:1"), || text("setup-91b77e98"));
    let (kind, name) = (|| text("ConfigMap"), || text("settings"));
    let setup = |end, databases| Cause::SetupFailed { job: job(), end, databases };
    let pull = |why| Cause::ImagePullFailed { container: container(), image: image(), why };
    let volume = |why| Cause::VolumeUnavailable { name: Some(text("data")), why };
    let crash = |exit_code| Cause::CrashLoop { container: container(), restarts: 3, exit_code };
    let evicted = |why| Cause::Evicted { pod_of: text("web"), why };
    vec![
        Cause::QueuedForCapacity { scope: Scope::Cluster, at_most: 5, position: 2 },
        Cause::WaitingForImage { image: image(), has_failed: false },
        Cause::WaitingForImage { image: image(), has_failed: true },
        Cause::WaitingForBuild { image: image() },
        Cause::AwaitingApproval,
        Cause::ForkDenied,
        Cause::NotLabelled { label: text("preview") },
        Cause::LabelExcludes { label: text("no-preview") },
        Cause::BranchNotIncluded,
        Cause::HeadNotIncluded,
        Cause::AuthorNotIncluded { author: text("dependabot[bot]") },
        Cause::PathsNotIncluded,
        Cause::Draft,
        Cause::NoRecipe,
        Cause::InvalidRecipe {
            file: text(".preview.yaml"),
            line: 4,
            field: text("app.prot"),
            rule: text("is unknown; did you mean port?"),
        },
        Cause::InvalidRecipe {
            file: text(".preview.yaml"),
            line: 4,
            field: text("app.port"),
            rule: text("must be set"),
        },
        Cause::ObjectRefused { kind: kind(), name: name(), rule: text("it is too large") },
        Cause::NamespaceTaken { namespace: text("pr-7-shop") },
        Cause::NotTaken {
            kind: kind(),
            name: name(),
            why: Obstacle::Webhook { name: Some(text("images.example.com")) },
        },
        Cause::NotTaken { kind: kind(), name: name(), why: Obstacle::NoAnswer { seconds: 10 } },
        Cause::QuotaExceeded { resource: text("limits.cpu"), needed: text("600m"), allowed: text("500m") },
        Cause::RunsAsRoot { container: container() },
        Cause::ContainerConfig { container: container(), missing: None },
        Cause::ContainerConfig { container: container(), missing: Some(text("the Secret keys")) },
        Cause::CannotStart { container: container(), why: StartFailure::NotThere },
        Cause::CannotStart { container: container(), why: StartFailure::NotExecutable },
        Cause::CannotStart { container: container(), why: StartFailure::OtherMachine },
        Cause::NeedsReset { kind: text("PersistentVolumeClaim"), name: text("app-data") },
        setup(JobEnd::ExitCode(1), true),
        setup(JobEnd::ExitCode(1), false),
        setup(JobEnd::OutOfTime { seconds: 170 }, true),
        setup(JobEnd::NoPod, true),
        Cause::HookFailed { job: text("migrate"), end: JobEnd::Failed },
        Cause::JobFailed { job: text("import"), end: JobEnd::ExitCode(2) },
        Cause::ChartFailed { rule: text("names a template that it does not have") },
        pull(PullFailure::NotFound),
        pull(PullFailure::Denied),
        pull(PullFailure::Unreachable),
        pull(PullFailure::RateLimited),
        pull(PullFailure::OtherMachine),
        pull(PullFailure::BadSignature),
        pull(PullFailure::NoName),
        pull(PullFailure::NeverPulled),
        pull(PullFailure::Unsaid),
        Cause::ImageMissing { image: image() },
        Cause::BuildFailed { image: image(), is_there: true },
        Cause::BuildFailed { image: image(), is_there: false },
        crash(Some(1)),
        crash(Some(0)),
        crash(None),
        Cause::KilledByProbe {
            container: container(),
            restarts: 1,
            probe: FailedProbe { kind: ProbeKind::Liveness, ..probe(ProbeResult::TimedOut) },
        },
        Cause::OutOfMemory { container: container(), limit: Some(text("64Mi")) },
        Cause::OutOfMemory { container: container(), limit: None },
        evicted(Eviction::Storage { limit: Some(text("1Gi")) }),
        evicted(Eviction::Storage { limit: None }),
        evicted(Eviction::Volume { name: text("cache"), limit: text("10Mi") }),
        evicted(Eviction::Pressure(Shortage::Memory)),
        evicted(Eviction::Pressure(Shortage::Storage)),
        evicted(Eviction::Pressure(Shortage::Inodes)),
        evicted(Eviction::Pressure(Shortage::Processes)),
        evicted(Eviction::NoRoom),
        evicted(Eviction::Unsaid),
        Cause::Unschedulable { hindrances: Vec::new() },
        Cause::Unschedulable { hindrances: vec![Hindrance::Cpu, Hindrance::Memory] },
        Cause::Unschedulable { hindrances: vec![Hindrance::Taints] },
        volume(VolumeProblem::Missing),
        volume(VolumeProblem::Going),
        volume(VolumeProblem::NoStorageClass),
        volume(VolumeProblem::UnknownStorageClass),
        volume(VolumeProblem::Unbound),
        volume(VolumeProblem::NotMade),
        volume(VolumeProblem::Lost),
        volume(VolumeProblem::InUse),
        volume(VolumeProblem::NotAttached),
        volume(VolumeProblem::NotMounted),
        Cause::NotReadyYet { container: container(), seconds: 16, of: 178, probe: None },
        Cause::NotReadyYet { container: container(), seconds: 16, of: 178, probe: Some(probe(ProbeResult::Refused)) },
        Cause::NotReadyInTime { container: None, seconds: 180, probe: None },
        Cause::NotReadyInTime {
            container: Some(container()),
            seconds: 178,
            probe: Some(probe(ProbeResult::Answered(503))),
        },
        Cause::InitRuns { container: container(), seconds: 16, of: Some(178) },
        Cause::InitRuns { container: container(), seconds: 160, of: None },
        Cause::UrlUnreachable { answered: None },
        Cause::UrlUnreachable { answered: Some(502) },
        Cause::NoPage { path: text("/") },
        Cause::RedirectsToItself { path: text("/") },
        Cause::SlowAnswer { path: text("/healthz"), seconds: 5 },
        Cause::BadAnswer { service: text("web"), port: 80, path: text("/healthz"), answered: None },
        Cause::BadAnswer { service: text("web"), port: 80, path: text("/healthz"), answered: Some(404) },
        Cause::NothingBehind { service: text("web"), port: 80 },
        Cause::PodsTerminating { kind: text("Deployment"), name: text("app") },
        Cause::Asleep,
        Cause::NamespaceTerminating,
        Cause::NamespaceStuck { blocked_by: text("a finalizer of ConfigMap settings") },
        Cause::Expired,
        Cause::RemovedByHand,
        Cause::AccessRevoked,
    ]
}

/// Its place among them: a new one that nobody lists above shows here.
fn place(cause: &Cause) -> usize {
    match cause {
        Cause::QueuedForCapacity { .. } => 0,
        Cause::WaitingForImage { .. } => 1,
        Cause::AwaitingApproval => 2,
        Cause::ForkDenied => 3,
        Cause::NotLabelled { .. } => 4,
        Cause::BranchNotIncluded => 5,
        Cause::PathsNotIncluded => 6,
        Cause::Draft => 7,
        Cause::NoRecipe => 8,
        Cause::InvalidRecipe { .. } => 9,
        Cause::ObjectRefused { .. } => 10,
        Cause::NamespaceTaken { .. } => 11,
        Cause::NotTaken { .. } => 12,
        Cause::QuotaExceeded { .. } => 13,
        Cause::RunsAsRoot { .. } => 14,
        Cause::ContainerConfig { .. } => 15,
        Cause::CannotStart { .. } => 16,
        Cause::NeedsReset { .. } => 17,
        Cause::SetupFailed { .. } => 18,
        Cause::HookFailed { .. } => 19,
        Cause::JobFailed { .. } => 20,
        Cause::ChartFailed { .. } => 21,
        Cause::ImagePullFailed { .. } => 22,
        Cause::ImageMissing { .. } => 23,
        Cause::CrashLoop { .. } => 24,
        Cause::KilledByProbe { .. } => 25,
        Cause::OutOfMemory { .. } => 26,
        Cause::Unschedulable { .. } => 27,
        Cause::VolumeUnavailable { .. } => 28,
        Cause::NotReadyYet { .. } => 29,
        Cause::NotReadyInTime { .. } => 30,
        Cause::UrlUnreachable { .. } => 31,
        Cause::NothingBehind { .. } => 32,
        Cause::Asleep => 33,
        Cause::NamespaceTerminating => 34,
        Cause::NamespaceStuck { .. } => 35,
        Cause::Expired => 36,
        Cause::RemovedByHand => 37,
        Cause::AccessRevoked => 38,
        Cause::WaitingForBuild { .. } => 39,
        Cause::BadAnswer { .. } => 40,
        Cause::LabelExcludes { .. } => 41,
        Cause::HeadNotIncluded => 42,
        Cause::AuthorNotIncluded { .. } => 43,
        Cause::NoPage { .. } => 44,
        Cause::PodsTerminating { .. } => 45,
        Cause::InitRuns { .. } => 46,
        Cause::Evicted { .. } => 47,
        Cause::RedirectsToItself { .. } => 48,
        Cause::SlowAnswer { .. } => 49,
        Cause::BuildFailed { .. } => 50,
    }
}

#[test]
fn every_cause_is_among_them() {
    let listed: BTreeSet<usize> = causes().iter().map(place).collect();
    assert_eq!(listed, (0..=50).collect(), "one has no row in the table");
    let reasons: BTreeSet<Reason> = causes().iter().map(Cause::reason).collect();
    assert_eq!(reasons, Reason::ALL.iter().copied().collect());
}

/// Words of the program's own, and of one audience that another does not have.
const NOBODYS: [&str; 12] =
    ["Ok(", "Some(", "Err(", "::", "lease", "revision", "reconcile", " row", "render", "null", "{", "}"];
const OF_TOOLS: [&str; 2] = ["_preview_", "get_"];

#[test]
fn what_is_said_of_every_cause_in_every_status() {
    let mut table = String::new();
    for cause in causes() {
        let _ = writeln!(table, "{cause}");
        assert_sentences(&cause.to_string());
        for status in EnvironmentStatus::ALL.iter().filter(|it| legal_reasons(**it).contains(&Some(cause.reason()))) {
            let next = |audience| remedy(*status, Some(cause.reason()), audience);
            let (tools, pull_request, page) =
                (next(Audience::Tools), next(Audience::PullRequest), next(Audience::Page));
            for next in [&tools, &pull_request, &page] {
                assert_sentences(next);
            }
            for said in [&pull_request, &page, &cause.to_string()] {
                assert!(OF_TOOLS.iter().all(|word| !said.contains(word)), "{said}");
            }
            let _ = writeln!(table, "  {status}, {}", cause.reason());
            let _ = writeln!(table, "    tools: {tools}");
            if pull_request != tools {
                let _ = writeln!(table, "    pull request: {pull_request}");
            }
            if page != tools {
                let _ = writeln!(table, "    page: {page}");
            }
            assert_told(&cause, *status);
        }
    }
    for status in EnvironmentStatus::ALL.iter().filter(|status| legal_reasons(**status).contains(&None)) {
        let _ = writeln!(table, "{status}: {}", remedy(*status, None, Audience::Tools));
    }
    insta::assert_snapshot!("said", table);
}

fn assert_sentences(said: &str) {
    assert!(said.ends_with(['.', '?']) && !said.contains("..") && !said.contains("  "), "{said}");
    assert!(
        said.starts_with(|first: char| first.is_uppercase() || first == '.' || said.starts_with("previewd")),
        "{said}"
    );
    assert!(NOBODYS.iter().all(|word| !said.contains(word)), "{said}");
    assert!(!said.contains("still answers") && !said.contains("still serves"), "a cause does not know that: {said}");
}

/// The comment and the explanation have the sentence, and say of another commit that it answers where one does.
fn assert_told(cause: &Cause, status: EnvironmentStatus) {
    let commit = |digit: &str| digit.repeat(40).parse::<CommitSha>().expect("a commit");
    let namespace: Namespace = "pr-7-shop".parse().expect("a namespace");
    let base_domain: BaseDomain = "preview.example.com".parse().expect("a domain");
    for serving in [None, Some(commit("b")), Some(commit("a"))] {
        let another = serving.as_ref().is_some_and(|serving| *serving == commit("b"));
        let deployments =
            vec![CommentDeployment { commit: commit("a"), status: DeploymentStatus::Deploying, message: None, at: 0 }];
        let comment = github::comment(&CommentFacts {
            installation_id: text("0f3c"),
            environment_id: text("42"),
            status,
            reason: Some(cause.reason()),
            expires_at: None,
            cause_message: Some(cause.to_string()),
            told: Some(cause.clone().steady().to_string()),
            next_step: None,
            log: None,
            page: None,
            volumes_to_go: Vec::new(),
            volumes_gone: None,
            renamed_label: None,
            url: Some(PublicUrl::of(&namespace, &base_domain)),
            commit: commit("a"),
            serving_commit: serving.clone(),
            ran_before: false,
            attempt: 1,
            attempts: 3,
            deployments,
        });
        // As Markdown shows it.
        let plain = comment.replace(['\\', '\u{200b}'], "");
        let sentence = if status == EnvironmentStatus::Deploying { cause.clone().steady() } else { cause.clone() };
        assert!(plain.contains(&sentence.to_string()), "{status}: {comment}");
        let is_open =
            matches!(status, EnvironmentStatus::Pending | EnvironmentStatus::Deploying | EnvironmentStatus::Failed);
        assert_eq!(comment.contains("still answers"), another && is_open, "{status}: {comment}");

        let said = state(&summary(status, cause, serving.map(|serving| serving.to_string())));
        assert!(said.starts_with("Commit aaaaaaa is ") && said.contains(&cause.to_string()), "{said}");
        assert_eq!(said.contains("Commit bbbbbbb still serves."), another, "{said}");
        assert!(!said.contains("  "), "{said}");
    }
    let own = state(&summary(status, cause, Some("a".repeat(40))));
    assert_eq!(own.contains(" Its URL still answers."), status == EnvironmentStatus::Failed, "{own}");
}

fn summary(status: EnvironmentStatus, cause: &Cause, serving_commit: Option<String>) -> EnvironmentSummary {
    EnvironmentSummary {
        environment: text("acme/shop#7"),
        namespace: text("pr-7-shop"),
        status,
        reason: Some(cause.reason()),
        message: Some(cause.to_string()),
        url: None,
        commit: "a".repeat(40),
        serving_commit,
        age_seconds: 0,
        cpu_millicores: None,
        memory_bytes: None,
        warnings: Vec::new(),
        pull_request: PullRequestSummary {
            title: text("A change"),
            author: text("ann"),
            url: text("https://github.com/acme/shop/pull/7"),
        },
    }
}

#[test]
fn what_failed_last_is_quoted_with_its_time() {
    let trouble = |at| Trouble { what: text("GitHub answered 502 to reading acme/shop#7"), at };
    let said = |failures, trouble: Option<Trouble>| trouble_to_show(failures, trouble.as_ref(), 1_000_000);
    let quoted = "GitHub answered 502 to reading acme/shop#7, 14 s ago";
    assert_eq!(said(1, Some(trouble(986_000))), Some(format!("{quoted}; it is tried again.")));
    assert_eq!(
        said(4, Some(trouble(986_000))),
        Some(format!("{quoted}; 4 tries in a row failed, and it is tried again."))
    );
    assert_eq!(said(0, Some(trouble(986_000))), Some(format!("{quoted}; it goes on by itself.")));
    assert_eq!(said(0, Some(trouble(100_000))), None, "it is over");
    assert_eq!(said(0, None), None);
}
