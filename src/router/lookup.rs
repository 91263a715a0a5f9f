//! Environments as the router sees them: their rows and what their URLs lead to, each remembered for a moment, because
//! one page makes many requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::{
    environment::{CommitSha, Namespace, RepositoryName},
    recipe::{Backend, Backends},
    store::{Environment, Overview, Store, StoreError},
};

/// How old what is known of a row may be.
const ROW: Duration = Duration::from_secs(1);
/// How old what is known of a commit's Services may be: the same commit is rendered anew where the policy changed.
const BACKENDS: Duration = Duration::from_secs(10);
/// What nobody asked for so long is forgotten, once so many are known.
const FORGOTTEN: Duration = Duration::from_secs(600);
const MANY: usize = 256;
/// Requests of one environment that are under way at once, so that one leaves room for the others.
const AT_ONCE: usize = 128;

pub(super) struct Lookup {
    store: Store,
    known: Mutex<HashMap<Namespace, Arc<Known>>>,
}

/// One environment, as it was seen last.
struct Known {
    seen: tokio::sync::Mutex<Seen>,
    backends: Mutex<Vec<(CommitSha, Instant, Arc<Backends>)>>,
    used_at: Mutex<Option<Instant>>,
    places: Arc<Semaphore>,
}

struct Seen {
    at: Instant,
    environment: Arc<Environment>,
    repository: RepositoryName,
    number: i64,
}

impl Seen {
    fn now(overview: Overview) -> Self {
        let Overview { environment, pull_request } = overview;
        let (repository, number) = (pull_request.facts.repository.name, pull_request.facts.number);
        Self { at: Instant::now(), environment: Arc::new(environment), repository, number }
    }
}

/// An environment that there is.
pub(super) struct Found {
    pub environment: Arc<Environment>,
    /// Of its pull request.
    pub repository: RepositoryName,
    pub number: i64,
    /// For its requests that are under way.
    pub places: Arc<Semaphore>,
    known: Arc<Known>,
}

impl Lookup {
    pub fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The environment of this namespace, as it was a second ago at the oldest.
    pub async fn find(&self, namespace: &Namespace) -> Result<Option<Found>, StoreError> {
        self.find_fresher_than(ROW, namespace).await
    }

    /// The environment of this namespace, as it is.
    pub async fn find_now(&self, namespace: &Namespace) -> Result<Option<Found>, StoreError> {
        self.find_fresher_than(Duration::ZERO, namespace).await
    }

    async fn find_fresher_than(&self, age: Duration, namespace: &Namespace) -> Result<Option<Found>, StoreError> {
        let known = lock(&self.known).get(namespace).cloned();
        let known = match known {
            Some(known) => known,
            // Only what there is gets remembered: names can be made up without end.
            None => match self.read(namespace).await? {
                Some(overview) => self.remember(overview),
                None => return Ok(None),
            },
        };
        // Held during the look: whoever asks meanwhile takes the same answer.
        let mut seen = known.seen.lock().await;
        if seen.at.elapsed() > age {
            match self.read(namespace).await? {
                Some(overview) => *seen = Seen::now(overview),
                None => {
                    lock(&self.known).remove(namespace);
                    return Ok(None);
                }
            }
        }
        let environment = seen.environment.clone();
        let (repository, number) = (seen.repository.clone(), seen.number);
        drop(seen);
        Ok(Some(Found { environment, repository, number, places: known.places.clone(), known }))
    }

    /// Environments go by their ids as well, which are no hosts.
    async fn read(&self, namespace: &Namespace) -> Result<Option<Overview>, StoreError> {
        let found = self.store.find_environment(namespace.as_str()).await?;
        Ok(found.filter(|overview| overview.environment.namespace == *namespace))
    }

    fn remember(&self, overview: Overview) -> Arc<Known> {
        let mut all = lock(&self.known);
        if all.len() >= MANY {
            // One that is being looked at is in use.
            all.retain(|_, known| known.seen.try_lock().is_ok_and(|seen| seen.at.elapsed() < FORGOTTEN));
        }
        let namespace = overview.environment.namespace.clone();
        let seen = Seen::now(overview);
        let known = Known {
            seen: tokio::sync::Mutex::new(seen),
            backends: Mutex::default(),
            used_at: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        };
        all.entry(namespace).or_insert_with(|| Arc::new(known)).clone()
    }

    /// Where a path of the environment leads: as the commit has it that serves, and then as the one has it that is on its
    /// way. Mostly one and the same.
    pub async fn backends(&self, found: &Found, path: &str) -> Result<Vec<Backend>, StoreError> {
        let Environment { serving_commit, applied_commit, .. } = &*found.environment;
        let mut leads: Vec<Backend> = Vec::new();
        for commit in
            serving_commit.iter().chain(applied_commit.as_ref().filter(|&one| Some(one) != serving_commit.as_ref()))
        {
            let backends = self.backends_of(found, commit).await?;
            if let Some(backend) = backends.of(path)
                && !leads.contains(backend)
            {
                leads.push(backend.clone());
            }
        }
        Ok(leads)
    }

    /// What a commit's render says; nothing where it is not kept.
    async fn backends_of(&self, found: &Found, commit: &CommitSha) -> Result<Arc<Backends>, StoreError> {
        let remembered = |known: &Known| {
            let backends = lock(&known.backends);
            let of_commit = backends.iter().find(|(of, at, _)| of == commit && at.elapsed() < BACKENDS);
            of_commit.map(|(_, _, backends)| backends.clone())
        };
        if let Some(backends) = remembered(&found.known) {
            return Ok(backends);
        }
        let render = self.store.render(&found.environment.id, commit).await?;
        let Some(render) = render else { return Ok(Arc::default()) };
        let backends = Arc::new(render.backends());
        let mut all = lock(&found.known.backends);
        all.retain(|(of, at, _)| of != commit && at.elapsed() < BACKENDS);
        all.push((commit.clone(), Instant::now(), backends.clone()));
        Ok(backends)
    }

    /// Records that the environment is used, where its last use is old enough. Nobody waits for it.
    pub fn note_use(&self, found: &Found) {
        let after = found.environment.lifetime.counts_a_use_after();
        {
            let mut used_at = lock(&found.known.used_at);
            if used_at.is_some_and(|at| at.elapsed() < after) {
                return;
            }
            *used_at = Some(Instant::now());
        }
        let (store, id) = (self.store.clone(), found.environment.id.clone());
        tokio::spawn(async move {
            // Should this be missed, the next use is not.
            if let Err(error) = store.record_use(&id, after).await {
                tracing::debug!(%error, "it is not known that an environment was used");
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
