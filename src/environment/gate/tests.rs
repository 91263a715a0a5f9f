use std::sync::LazyLock;

use super::*;
use crate::environment::{AuthorPattern, BranchPattern, CommitSha, HeadPattern, RepositoryFacts};

fn head() -> CommitSha {
    "0123456789abcdef0123456789abcdef01234567".parse().expect("a commit")
}

/// A pull request of our own into main, labelled "preview".
fn pull_request() -> PullRequestFacts {
    PullRequestFacts {
        repository: RepositoryFacts {
            github_id: 1,
            name: "acme/shop".parse().expect("a repository"),
            default_branch: "main".to_owned(),
            app_installation_id: None,
        },
        github_id: 1,
        number: 7,
        title: "A change".to_owned(),
        author: "ann".to_owned(),
        head_sha: head(),
        head_ref: "change".to_owned(),
        base_ref: "main".to_owned(),
        from_fork: false,
        draft: false,
        state: PullRequestState::Open,
        labels: vec!["Preview".to_owned()],
        label_ids: vec![1],
        github_updated_at: 0,
    }
}

// Made once: there are many cases.
static PULL_REQUEST: LazyLock<PullRequestFacts> = LazyLock::new(pull_request);
static MAIN: LazyLock<BranchPattern> = LazyLock::new(|| "main".parse().expect("a pattern"));
static NOT_CHANGE: LazyLock<HeadPattern> = LazyLock::new(|| "!chan*".parse().expect("a pattern"));
static NOT_ANN: LazyLock<AuthorPattern> = LazyLock::new(|| "!ann".parse().expect("a pattern"));

/// One case as a row of a table: what is, and what is said.
#[derive(Debug, Clone, Copy)]
struct Case {
    repository: RepositoryState,
    state: PullRequestState,
    hold: Hold,
    fork: bool,
    draft: bool,
    labelled: bool,
    into_main: bool,
    approved: bool,
    requested: bool,
    in_paths: bool,
    started: bool,
    exists: bool,
    has_place: bool,
    has_recipe: bool,
    /// Whether the recipe asks for a label, refuses drafts, and names branches.
    asks_label: bool,
    no_drafts: bool,
    only_main: bool,
    forks: ForkPolicy,
    /// What of the pull request the triggers take out.
    out: Option<Out>,
    /// The label has another name since.
    renamed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Out {
    Label,
    Head,
    Author,
}

impl Out {
    fn cause(self) -> Cause {
        match self {
            Self::Label => Cause::LabelExcludes { label: "wip".to_owned() },
            Self::Head => Cause::HeadNotIncluded,
            Self::Author => Cause::AuthorNotIncluded { author: "ann".to_owned() },
        }
    }
}

const USUAL: Case = Case {
    repository: RepositoryState::Active,
    state: PullRequestState::Open,
    hold: Hold::None,
    fork: false,
    draft: false,
    labelled: true,
    into_main: true,
    approved: false,
    requested: false,
    in_paths: true,
    started: false,
    exists: false,
    has_place: false,
    has_recipe: true,
    asks_label: false,
    no_drafts: false,
    only_main: false,
    forks: ForkPolicy::Approve,
    out: None,
    renamed: false,
};

fn decide(case: Case) -> Decision {
    let mut pull_request =
        PullRequestFacts { state: case.state, from_fork: case.fork, draft: case.draft, ..PULL_REQUEST.clone() };
    if !case.labelled {
        pull_request.labels = vec!["bug".to_owned()];
    }
    if case.out == Some(Out::Label) {
        pull_request.labels.push("WIP".to_owned());
    }
    if !case.into_main {
        pull_request.base_ref = "legacy".to_owned();
    }
    let triggers = Triggers {
        label: case.asks_label.then(|| "preview".to_owned().try_into().expect("a label")),
        drafts: !case.no_drafts,
        forks: case.forks,
        branches: if case.only_main { vec![MAIN.clone()] } else { Vec::new() },
        exclude_labels: vec!["wip".to_owned().try_into().expect("a label")],
        head_branches: if case.out == Some(Out::Head) { vec![NOT_CHANGE.clone()] } else { Vec::new() },
        authors: if case.out == Some(Out::Author) { vec![NOT_ANN.clone()] } else { Vec::new() },
        paths: Vec::new(),
    };
    gate(&GateFacts {
        repository: case.repository,
        pull_request: &pull_request,
        hold: case.hold,
        approved: case.approved,
        requested: case.requested,
        renamed: case.renamed,
        in_paths: case.in_paths,
        started: case.started,
        exists: case.exists,
        has_place: case.has_place,
        recipe: if case.has_recipe { RecipeFacts::Says(&triggers) } else { RecipeFacts::Absent },
    })
}

/// Every combination of what the gate looks at, 3 · 3 · 3 · 3 · 2^13 of them: what takes a pull request out in turn.
fn every_case() -> impl Iterator<Item = Case> {
    const IN_TURN: [Option<Out>; 5] = [None, Some(Out::Label), None, Some(Out::Head), Some(Out::Author)];
    let bits = 0..1_u32 << 13;
    RepositoryState::ALL.iter().flat_map(move |&repository| {
        let bits = bits.clone();
        PullRequestState::ALL.iter().flat_map(move |&state| {
            let bits = bits.clone();
            Hold::ALL.iter().flat_map(move |&hold| {
                let bits = bits.clone();
                ForkPolicy::ALL.iter().flat_map(move |&forks| {
                    bits.clone().map(move |bits| {
                        let bit = |n: u32| bits & (1 << n) != 0;
                        Case {
                            repository,
                            state,
                            hold,
                            forks,
                            fork: bit(0),
                            draft: bit(1),
                            labelled: bit(2),
                            into_main: bit(3),
                            approved: bit(4),
                            started: bit(5),
                            exists: bit(6),
                            has_place: false,
                            has_recipe: bit(7),
                            asks_label: bit(8),
                            no_drafts: bit(9),
                            only_main: bit(10),
                            requested: bit(11),
                            in_paths: bit(12),
                            out: IN_TURN[bits as usize % IN_TURN.len()],
                            renamed: false,
                        }
                    })
                })
            })
        })
    })
}

#[test]
fn nothing_of_a_fork_runs_without_an_approval_of_that_very_commit() {
    let mut deployed = 0;
    for case in every_case().filter(|case| case.fork && case.forks != ForkPolicy::Allow) {
        if decide(case) == Decision::Deploy(head()) {
            assert!(case.approved && case.forks == ForkPolicy::Approve, "{case:?}");
            deployed += 1;
        }
    }
    assert!(deployed > 0);
}

#[test]
fn what_is_closed_goes_whatever_else_is_known() {
    for case in every_case() {
        let expected = match (case.repository, case.state, case.hold) {
            (RepositoryState::Removed | RepositoryState::Suspended, _, _) => Some(Some(Cause::AccessRevoked)),
            (RepositoryState::Active, PullRequestState::Closed | PullRequestState::Merged, _) => Some(None),
            (RepositoryState::Active, PullRequestState::Open, Hold::RemovedByHand) => Some(Some(Cause::RemovedByHand)),
            (RepositoryState::Active, PullRequestState::Open, Hold::Expired) => Some(Some(Cause::Expired)),
            (RepositoryState::Active, PullRequestState::Open, Hold::None) => None,
        };
        if let Some(cause) = expected {
            assert_eq!(decide(case), Decision::Gone(cause), "{case:?}");
        }
    }
}

#[test]
fn only_what_every_trigger_lets_in_is_deployed() {
    for case in every_case() {
        let is_open = case.repository == RepositoryState::Active && case.state == PullRequestState::Open;
        let lets_in = is_open
            && case.hold == Hold::None
            && case.has_recipe
            && (case.requested
                || (!case.asks_label || case.labelled)
                    && (!case.only_main || case.into_main)
                    && case.out.is_none()
                    && (!case.no_drafts || !case.draft || case.started)
                    && (case.in_paths || case.started))
            && match (case.fork, case.forks) {
                (false, _) | (true, ForkPolicy::Allow) => true,
                (true, ForkPolicy::Approve) => case.approved,
                (true, ForkPolicy::Deny) => false,
            };
        assert_eq!(decide(case) == Decision::Deploy(head()), lets_in, "{case:?}");
    }
}

#[test]
fn each_refusal_has_its_reason() {
    let not_labelled = || Cause::NotLabelled { label: "preview".to_owned() };
    let wait = Decision::Wait;
    let gone = |cause| Decision::Gone(Some(cause));
    let table = [
        (USUAL, Decision::Deploy(head())),
        (Case { has_recipe: false, ..USUAL }, wait(Cause::NoRecipe)),
        (Case { has_recipe: false, fork: true, ..USUAL }, wait(Cause::NoRecipe)),
        (Case { fork: true, ..USUAL }, wait(Cause::AwaitingApproval)),
        (Case { fork: true, approved: true, ..USUAL }, Decision::Deploy(head())),
        (Case { fork: true, forks: ForkPolicy::Deny, approved: true, ..USUAL }, wait(Cause::ForkDenied)),
        (Case { fork: true, forks: ForkPolicy::Allow, ..USUAL }, Decision::Deploy(head())),
        (Case { asks_label: true, ..USUAL }, Decision::Deploy(head())),
        (Case { asks_label: true, labelled: false, ..USUAL }, wait(not_labelled())),
        (Case { asks_label: true, labelled: false, exists: true, ..USUAL }, gone(not_labelled())),
        (Case { only_main: true, into_main: false, ..USUAL }, wait(Cause::BranchNotIncluded)),
        (Case { only_main: true, into_main: false, exists: true, ..USUAL }, gone(Cause::BranchNotIncluded)),
        (Case { no_drafts: true, draft: true, ..USUAL }, wait(Cause::Draft)),
        (Case { no_drafts: true, draft: true, exists: true, ..USUAL }, wait(Cause::Draft)),
        (Case { no_drafts: true, draft: true, started: true, ..USUAL }, Decision::Deploy(head())),
        (Case { draft: true, ..USUAL }, Decision::Deploy(head())),
        (Case { draft: true, no_drafts: true, fork: true, ..USUAL }, wait(Cause::Draft)),
        (Case { in_paths: false, ..USUAL }, wait(Cause::PathsNotIncluded)),
        (Case { in_paths: false, exists: true, ..USUAL }, wait(Cause::PathsNotIncluded)),
        (Case { in_paths: false, started: true, ..USUAL }, Decision::Deploy(head())),
        (Case { in_paths: false, requested: true, ..USUAL }, Decision::Deploy(head())),
        (Case { asks_label: true, labelled: false, requested: true, ..USUAL }, Decision::Deploy(head())),
        (Case { asks_label: true, labelled: false, requested: true, exists: true, ..USUAL }, Decision::Deploy(head())),
        (Case { only_main: true, into_main: false, requested: true, ..USUAL }, Decision::Deploy(head())),
        (Case { no_drafts: true, draft: true, requested: true, ..USUAL }, Decision::Deploy(head())),
        (Case { fork: true, requested: true, ..USUAL }, wait(Cause::AwaitingApproval)),
        (Case { fork: true, requested: true, approved: true, ..USUAL }, Decision::Deploy(head())),
        (Case { fork: true, forks: ForkPolicy::Deny, requested: true, ..USUAL }, wait(Cause::ForkDenied)),
        (Case { has_recipe: false, requested: true, ..USUAL }, wait(Cause::NoRecipe)),
        (Case { hold: Hold::RemovedByHand, requested: true, ..USUAL }, gone(Cause::RemovedByHand)),
        (Case { hold: Hold::Expired, ..USUAL }, gone(Cause::Expired)),
        (Case { hold: Hold::Expired, exists: true, ..USUAL }, gone(Cause::Expired)),
        (Case { state: PullRequestState::Closed, requested: true, ..USUAL }, Decision::Gone(None)),
        (Case { state: PullRequestState::Closed, asks_label: true, labelled: false, ..USUAL }, Decision::Gone(None)),
        (Case { state: PullRequestState::Closed, fork: true, exists: true, ..USUAL }, Decision::Gone(None)),
        (Case { state: PullRequestState::Merged, hold: Hold::RemovedByHand, ..USUAL }, Decision::Gone(None)),
        (Case { state: PullRequestState::Closed, has_recipe: false, ..USUAL }, Decision::Gone(None)),
        (Case { fork: true, draft: true, no_drafts: true, approved: true, ..USUAL }, wait(Cause::Draft)),
        (Case { fork: true, asks_label: true, labelled: false, approved: true, ..USUAL }, wait(not_labelled())),
        (Case { fork: true, asks_label: true, labelled: false, exists: true, ..USUAL }, gone(not_labelled())),
        (Case { fork: true, exists: true, started: true, ..USUAL }, wait(Cause::AwaitingApproval)),
        (
            Case { fork: true, forks: ForkPolicy::Deny, asks_label: true, labelled: false, ..USUAL },
            wait(Cause::ForkDenied),
        ),
        (Case { fork: true, forks: ForkPolicy::Allow, draft: true, no_drafts: true, ..USUAL }, wait(Cause::Draft)),
        (Case { fork: true, forks: ForkPolicy::Allow, in_paths: false, ..USUAL }, wait(Cause::PathsNotIncluded)),
        (Case { fork: true, forks: ForkPolicy::Allow, approved: true, ..USUAL }, Decision::Deploy(head())),
        (Case { asks_label: true, labelled: false, draft: true, no_drafts: true, ..USUAL }, wait(not_labelled())),
        (Case { asks_label: true, only_main: true, into_main: false, ..USUAL }, wait(Cause::BranchNotIncluded)),
        (Case { asks_label: true, labelled: false, started: true, exists: true, ..USUAL }, gone(not_labelled())),
        (
            Case { only_main: true, into_main: false, started: true, exists: true, ..USUAL },
            gone(Cause::BranchNotIncluded),
        ),
        (Case { only_main: true, ..USUAL }, Decision::Deploy(head())),
        (Case { only_main: true, asks_label: true, no_drafts: true, ..USUAL }, Decision::Deploy(head())),
        (Case { no_drafts: true, draft: true, in_paths: false, started: true, ..USUAL }, Decision::Deploy(head())),
        (Case { exists: true, started: true, ..USUAL }, Decision::Deploy(head())),
        (Case { has_recipe: false, exists: true, ..USUAL }, wait(Cause::NoRecipe)),
        (Case { repository: RepositoryState::Removed, exists: true, ..USUAL }, gone(Cause::AccessRevoked)),
        (
            Case { repository: RepositoryState::Removed, state: PullRequestState::Closed, ..USUAL },
            gone(Cause::AccessRevoked),
        ),
        (
            Case { repository: RepositoryState::Suspended, fork: true, approved: true, ..USUAL },
            gone(Cause::AccessRevoked),
        ),
        (Case { hold: Hold::RemovedByHand, has_recipe: false, ..USUAL }, gone(Cause::RemovedByHand)),
        (Case { state: PullRequestState::Merged, exists: true, ..USUAL }, Decision::Gone(None)),
        (Case { repository: RepositoryState::Suspended, ..USUAL }, gone(Cause::AccessRevoked)),
    ];
    for out in [Out::Label, Out::Head, Out::Author] {
        let case = Case { out: Some(out), ..USUAL };
        assert_eq!(decide(case), wait(out.cause()));
        assert_eq!(decide(Case { fork: true, approved: true, ..case }), wait(out.cause()));
        assert_eq!(decide(Case { exists: true, started: true, ..case }), gone(out.cause()), "chosen for all of it");
        assert_eq!(decide(Case { requested: true, exists: true, ..case }), Decision::Deploy(head()));
        assert_eq!(decide(Case { requested: true, fork: true, ..case }), wait(Cause::AwaitingApproval));
    }
    let renamed = Case { asks_label: true, labelled: false, renamed: true, exists: true, ..USUAL };
    assert_eq!(decide(renamed), Decision::Deploy(head()), "it is the same label");
    assert_eq!(decide(Case { no_drafts: true, draft: true, ..renamed }), wait(Cause::Draft));
    let begins_anew = Case { exists: false, has_place: true, ..renamed };
    assert_eq!(decide(begins_anew), Decision::Deploy(head()), "it is the same label while nothing is in the cluster");
    assert_eq!(decide(Case { renamed: false, ..begins_anew }), wait(not_labelled()), "it has none");
    assert_eq!(decide(Case { exists: false, ..renamed }), wait(not_labelled()), "what is new goes by the name");
    assert!(table.len() >= 60);
    for (case, expected) in table {
        assert_eq!(decide(case), expected, "{case:?}");
    }
}
