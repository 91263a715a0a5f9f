//! The gate: whether a pull request should have an environment, and for which commit. Every way of asking for one ends
//! here; nothing else may start a deployment.

use super::{Cause, CommitSha, Hold, PullRequestState, RepositoryState};

/// What the gate decides on.
#[derive(Debug, Clone)]
pub struct GateFacts<'a> {
    pub repository: RepositoryState,
    pub state: PullRequestState,
    pub head: &'a CommitSha,
    pub from_fork: bool,
    pub hold: Hold,
    pub has_recipe: RecipePresence,
}

/// What is known about the recipe at the head commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipePresence {
    /// Not read: the gate had already decided without it.
    Unread,
    Present,
    Absent,
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

/// Decides, from facts alone.
pub fn gate(facts: &GateFacts<'_>) -> Decision {
    match facts.repository {
        RepositoryState::Active => {}
        RepositoryState::Removed | RepositoryState::Suspended => return Decision::Gone(Some(Cause::AccessRevoked)),
    }
    match facts.state {
        PullRequestState::Open => {}
        PullRequestState::Closed | PullRequestState::Merged => return Decision::Gone(None),
    }
    match facts.hold {
        Hold::None => {}
        Hold::RemovedByHand => return Decision::Gone(Some(Cause::RemovedByHand)),
    }
    // A stranger's commit, and a stranger's recipe, run only after somebody has looked at them.
    if facts.from_fork {
        return Decision::Wait(Cause::AwaitingApproval);
    }
    match facts.has_recipe {
        RecipePresence::Absent => Decision::Wait(Cause::NoRecipe),
        RecipePresence::Present | RecipePresence::Unread => Decision::Deploy(facts.head.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of what the gate looks at, with its answer.
    fn every_answer() -> Vec<(GateFacts<'static>, Decision)> {
        static HEAD: std::sync::LazyLock<CommitSha> =
            std::sync::LazyLock::new(|| "0123456789abcdef0123456789abcdef01234567".parse().expect("a commit"));
        let mut answers = Vec::new();
        for &repository in RepositoryState::ALL {
            for &state in PullRequestState::ALL {
                for &hold in Hold::ALL {
                    for from_fork in [false, true] {
                        for has_recipe in [RecipePresence::Unread, RecipePresence::Present, RecipePresence::Absent] {
                            let facts = GateFacts { repository, state, head: &HEAD, from_fork, hold, has_recipe };
                            let answer = gate(&facts);
                            answers.push((facts, answer));
                        }
                    }
                }
            }
        }
        answers
    }

    #[test]
    fn only_an_open_pull_request_of_our_own_deploys() {
        let deployed: Vec<_> =
            every_answer().into_iter().filter(|(_, answer)| matches!(answer, Decision::Deploy(_))).collect();
        // With a recipe, and before the recipe was looked for.
        assert_eq!(deployed.len(), 2);
        for (facts, answer) in deployed {
            assert_eq!(facts.repository, RepositoryState::Active);
            assert_eq!(facts.state, PullRequestState::Open);
            assert_eq!(facts.hold, Hold::None);
            assert!(!facts.from_fork);
            assert_ne!(facts.has_recipe, RecipePresence::Absent);
            assert_eq!(answer, Decision::Deploy(facts.head.clone()));
        }
    }

    #[test]
    fn what_is_closed_goes_whatever_else_is_known() {
        for (facts, answer) in every_answer() {
            let expected = match (facts.repository, facts.state, facts.hold) {
                (RepositoryState::Removed | RepositoryState::Suspended, _, _) => Some(Some(Cause::AccessRevoked)),
                (RepositoryState::Active, PullRequestState::Closed | PullRequestState::Merged, _) => Some(None),
                (RepositoryState::Active, PullRequestState::Open, Hold::RemovedByHand) => {
                    Some(Some(Cause::RemovedByHand))
                }
                (RepositoryState::Active, PullRequestState::Open, Hold::None) => None,
            };
            match expected {
                Some(cause) => assert_eq!(answer, Decision::Gone(cause), "{facts:?}"),
                None => assert!(!matches!(answer, Decision::Gone(_)), "{facts:?}"),
            }
        }
    }

    #[test]
    fn a_fork_waits_even_without_a_recipe() {
        for (facts, answer) in every_answer() {
            if let Decision::Wait(cause) = answer {
                let expected = if facts.from_fork { Cause::AwaitingApproval } else { Cause::NoRecipe };
                assert_eq!(cause, expected, "{facts:?}");
            }
        }
    }
}
