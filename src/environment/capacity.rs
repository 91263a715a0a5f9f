//! How many environments may exist at once, and who gets the next place: in order of request, but nobody waits for a
//! place that is not of their kind.

use std::{collections::HashMap, fmt};

use super::RepositoryName;

/// How many environments may hold a place at once. None: any number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    pub cluster: Option<u64>,
    /// Of each repository.
    pub repository: Option<u64>,
    pub teams: Vec<TeamCapacity>,
}

/// How many environments the repositories of a team may have at once, all of them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamCapacity {
    pub name: String,
    /// `owner/name` or `owner/*`, lower-cased.
    pub repositories: Vec<String>,
    pub at_most: u64,
}

/// Whose places are all taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    Repository(RepositoryName),
    Team(String),
    Cluster,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) => write!(f, "{name}"),
            Self::Team(name) => write!(f, "the team {name}"),
            Self::Cluster => write!(f, "the cluster"),
        }
    }
}

/// What becomes of one that asked for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Free,
    /// All places are taken. `position`: from 1, among those that wait for one of the same.
    Waits {
        scope: Scope,
        at_most: u64,
        position: u64,
    },
}

impl Capacity {
    /// What becomes of each of `queue` (the repositories of those that wait, in order of request), where environments
    /// of `taken` repositories hold so many places.
    pub fn places(&self, taken: &[(RepositoryName, u64)], queue: &[RepositoryName]) -> Vec<Place> {
        let mut held: HashMap<Scope, u64> = HashMap::new();
        for (repository, count) in taken {
            for (scope, _) in self.scopes_of(repository) {
                *held.entry(scope).or_default() += count;
            }
        }
        let mut waiting: HashMap<Scope, u64> = HashMap::new();
        let mut place_of = |repository: &RepositoryName| {
            let scopes = self.scopes_of(repository);
            let full = scopes.iter().find(|(scope, at_most)| held.get(scope).copied().unwrap_or(0) >= *at_most);
            if let Some((scope, at_most)) = full {
                let position = waiting.entry(scope.clone()).or_default();
                *position += 1;
                return Place::Waits { scope: scope.clone(), at_most: *at_most, position: *position };
            }
            for (scope, _) in scopes {
                *held.entry(scope).or_default() += 1;
            }
            Place::Free
        };
        queue.iter().map(&mut place_of).collect()
    }

    /// What limits the environments of a repository, from the closest on.
    fn scopes_of(&self, repository: &RepositoryName) -> Vec<(Scope, u64)> {
        let own = self.repository.map(|at_most| (Scope::Repository(repository.clone()), at_most));
        let is_of = |team: &&TeamCapacity| team.repositories.iter().any(|pattern| repository.matches(pattern));
        let teams = self.teams.iter().filter(is_of).map(|team| (Scope::Team(team.name.clone()), team.at_most));
        let all = self.cluster.map(|at_most| (Scope::Cluster, at_most));
        own.into_iter().chain(teams).chain(all).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> RepositoryName {
        name.parse().expect("a repository")
    }

    fn queue(names: &[&str]) -> Vec<RepositoryName> {
        names.iter().map(|name| repository(name)).collect()
    }

    fn waits(scope: Scope, at_most: u64, position: u64) -> Place {
        Place::Waits { scope, at_most, position }
    }

    #[test]
    fn without_limits_everybody_has_a_place() {
        assert_eq!(Capacity::default().places(&[(repository("a/b"), 1_000)], &queue(&["a/b"])), [Place::Free]);
    }

    #[test]
    fn places_go_in_order_of_request() {
        let capacity = Capacity { cluster: Some(3), ..Capacity::default() };
        let places = capacity.places(&[(repository("a/b"), 2)], &queue(&["a/b", "c/d", "a/b"]));
        assert_eq!(places, [Place::Free, waits(Scope::Cluster, 3, 1), waits(Scope::Cluster, 3, 2)]);
    }

    #[test]
    fn nobody_waits_for_a_place_of_another_kind() {
        let capacity = Capacity {
            cluster: Some(10),
            repository: Some(2),
            teams: vec![TeamCapacity { name: "web".to_owned(), repositories: vec!["a/*".to_owned()], at_most: 3 }],
        };
        let taken = [(repository("a/full"), 2)];
        let places = capacity.places(&taken, &queue(&["a/full", "a/other", "a/third", "c/d", "a/full"]));
        let full = |position| waits(Scope::Repository(repository("a/full")), 2, position);
        assert_eq!(places, [full(1), Place::Free, waits(Scope::Team("web".to_owned()), 3, 1), Place::Free, full(2)]);
    }

    #[test]
    fn more_than_allowed_are_left_alone_and_nobody_is_added() {
        let capacity = Capacity { cluster: Some(1), ..Capacity::default() };
        let places = capacity.places(&[(repository("a/b"), 5)], &queue(&["c/d"]));
        assert_eq!(places, [waits(Scope::Cluster, 1, 1)]);
    }
}
