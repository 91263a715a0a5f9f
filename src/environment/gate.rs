//! The gate: whether a pull request should have an environment, and for which commit. Every way of asking for one ends
//! here; nothing else may start a deployment.

use super::{
    Cause, CommitSha, ForkPolicy, Hold, LabelName, PullRequestFacts, PullRequestState, RepositoryState, Triggers,
};

/// What the gate decides on.
#[derive(Debug, Clone)]
pub struct GateFacts<'a> {
    pub repository: RepositoryState,
    pub pull_request: &'a PullRequestFacts,
    pub hold: Hold,
    /// An admin has approved this very head commit.
    pub approved: bool,
    /// Somebody asked for the environment in words: what the recipe's triggers leave out does not count. Whose code may
    /// run does.
    pub requested: bool,
    /// The pull request still has the label by which it was let in, under another name.
    pub renamed: bool,
    /// Something that the pull request changes is among the recipe's paths.
    pub in_paths: bool,
    /// The head commit has begun before: what would only keep it from starting comes too late.
    pub started: bool,
    /// Something of the environment is in the cluster, or just went.
    pub exists: bool,
    /// It was let in and holds a place, though nothing of it may be in the cluster: it begins anew, or waits for an image.
    pub has_place: bool,
    pub recipe: RecipeFacts<'a>,
}

/// What is known about the recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RecipeFacts<'a> {
    Absent,
    /// It is there, and says this of what is deployed.
    Says(&'a Triggers),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The commit should run.
    Deploy(CommitSha),
    /// Nothing new may start; what runs stays.
    Wait(Cause),
    /// Nothing may be left in the cluster. No cause: the pull request is closed.
    Gone(Option<Cause>),
}

/// What is decided before anybody looks at the recipe: a pull request that is closed goes, whatever its recipe says.
pub fn gate_without_recipe(repository: RepositoryState, state: PullRequestState, hold: Hold) -> Option<Decision> {
    match repository {
        RepositoryState::Active => {}
        RepositoryState::Removed | RepositoryState::Suspended => {
            return Some(Decision::Gone(Some(Cause::AccessRevoked)));
        }
    }
    match state {
        PullRequestState::Open => {}
        PullRequestState::Closed | PullRequestState::Merged => return Some(Decision::Gone(None)),
    }
    match hold {
        Hold::None => None,
        Hold::RemovedByHand => Some(Decision::Gone(Some(Cause::RemovedByHand))),
        Hold::Expired => Some(Decision::Gone(Some(Cause::Expired))),
    }
}

/// Decides, from facts alone.
pub fn gate(facts: &GateFacts<'_>) -> Decision {
    let GateFacts {
        repository,
        pull_request,
        hold,
        approved,
        requested,
        renamed,
        in_paths,
        started,
        exists,
        has_place,
        recipe,
    } = facts;
    if let Some(decision) = gate_without_recipe(*repository, pull_request.state, *hold) {
        return decision;
    }
    let triggers = match recipe {
        RecipeFacts::Absent => return Decision::Wait(Cause::NoRecipe),
        RecipeFacts::Says(triggers) => triggers,
    };
    if pull_request.from_fork && triggers.forks == ForkPolicy::Deny {
        return Decision::Wait(Cause::ForkDenied);
    }
    // Who renamed a label in the repository's settings took nothing from a pull request that it let in before.
    let has_label = *renamed && (*exists || *has_place);
    let left_out = if *requested { None } else { left_out(triggers, pull_request, has_label, *in_paths) };
    match left_out {
        // What somebody chose for the pull request as a whole takes the environment away again.
        Some(
            cause @ (Cause::NotLabelled { .. }
            | Cause::LabelExcludes { .. }
            | Cause::BranchNotIncluded
            | Cause::HeadNotIncluded
            | Cause::AuthorNotIncluded { .. }),
        ) if *exists => return Decision::Gone(Some(cause)),
        // What began goes on: the next commit is looked at anew.
        Some(Cause::Draft | Cause::PathsNotIncluded) if *started => {}
        Some(cause) => return Decision::Wait(cause),
        None => {}
    }
    // A stranger's commit runs only after somebody has looked at that very commit.
    match (pull_request.from_fork, triggers.forks) {
        (true, ForkPolicy::Approve | ForkPolicy::Deny) if !approved => Decision::Wait(Cause::AwaitingApproval),
        (true, _) | (false, _) => Decision::Deploy(pull_request.head_sha.clone()),
    }
}

/// Why the recipe, or the operator, gives this pull request no preview.
fn left_out(triggers: &Triggers, pull_request: &PullRequestFacts, has_label: bool, in_paths: bool) -> Option<Cause> {
    if let Some(label) = &triggers.label
        && !has_label
        && !pull_request.labels.iter().any(|set| label.matches(set))
    {
        return Some(Cause::NotLabelled { label: label.as_str().to_owned() });
    }
    let excludes = |label: &&LabelName| pull_request.labels.iter().any(|set| label.matches(set));
    if let Some(label) = triggers.exclude_labels.iter().find(excludes) {
        return Some(Cause::LabelExcludes { label: label.as_str().to_owned() });
    }
    let into = |branch: &str| triggers.branches.iter().any(|pattern| pattern.matches(branch));
    if !triggers.branches.is_empty() && !into(&pull_request.base_ref) {
        return Some(Cause::BranchNotIncluded);
    }
    if !triggers.include_head(&pull_request.head_ref) {
        return Some(Cause::HeadNotIncluded);
    }
    if !triggers.include_author(&pull_request.author) {
        return Some(Cause::AuthorNotIncluded { author: pull_request.author.clone() });
    }
    if pull_request.draft && !triggers.drafts {
        return Some(Cause::Draft);
    }
    (!in_paths).then_some(Cause::PathsNotIncluded)
}

#[cfg(test)]
mod tests;
