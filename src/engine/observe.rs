//! Observing: everything that the plan decides on, read anew for each step.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Engine, interrupted::Interrupted, pass::Pass, records::Seen, usage};
use crate::{
    cluster::{self, Expected, NamespaceState, Owner, WorkloadKind, Workloads, assess},
    environment::{
        Cause, CommitSha, Decision, DeploymentFacts, DeploymentStatus, EnvironmentStatus, Facts, GateFacts, Hold,
        Images, LabelName, Millis, NamespaceFacts, Patience, Progress, PublicUrl, PullRequestFacts, Readiness,
        RecipeFacts, RepositoryState, Terms, Triggers, UrlAnswer, gate, gate_without_recipe,
    },
    faults::Fault,
    github::{GitRef, Page, RECIPE_LIMIT, RepositoryAccess, RepositoryFile},
    recipe::{RECIPE_FILE, Recipe},
    store::{Confirmed, Deployment, Environment, EnvironmentChanges, Overview, Record},
};

/// What a step works on.
pub(super) struct Observed {
    pub overview: Overview,
    /// The head commit's deployment.
    pub deployment: Option<Deployment>,
    /// Read in this pass, because the row has none.
    pub recipe: Option<Result<String, Cause>>,
    pub namespace_uid: Option<String>,
    pub workloads: Option<Workloads>,
    /// Of the head commit, where it is ready.
    pub readiness: Option<Readiness>,
    pub facts: Facts,
}

impl Observed {
    /// What records say of it.
    pub fn seen(&self) -> Seen<'_> {
        let deployment = self.deployment.as_ref();
        Seen {
            head: &self.overview.pull_request.facts.head_sha,
            recipe: self.recipe.as_ref().and_then(|recipe| recipe.as_deref().ok()),
            round: deployment.map_or(0, |deployment| deployment.round),
            attempt: deployment.map_or(0, |deployment| deployment.attempt),
            still_serving: self.still_serving(),
            readiness: self.readiness.as_ref(),
            holds_objects: self.overview.environment.applied_commit.is_some(),
            outcome: deployment.map(|row| (row.status, row.reason, row.message.as_deref())),
        }
    }

    /// The commit that answers although it is not the head: the one that served before, if some of its pods still do,
    /// or one whose pods became ready just as it was superseded.
    fn still_serving(&self) -> Option<CommitSha> {
        let serving = self.overview.environment.serving_commit.clone();
        match &self.workloads {
            Some(workloads) => serving.filter(|serving| workloads.serves(serving)).or_else(|| workloads.served()),
            // Nothing was touched yet.
            None => serving,
        }
    }
}

impl Pass<'_> {
    pub(super) async fn observe(&mut self) -> Result<Observed, Interrupted> {
        let overview = self.read_confirmed().await?;
        let environment = &overview.environment;
        let pull_request = &overview.pull_request.facts;
        let deployment = self.engine.store.deployment(&environment.id, &pull_request.head_sha).await?;

        let repository = overview.pull_request.repository_state;
        let has_expired = environment.has_place && environment.lifetime.has_expired(self.lease.now());
        let hold = if has_expired && environment.hold == Hold::None { Hold::Expired } else { environment.hold };
        let hold = if self.engine.faults.has(Fault::HoldIgnored) { Hold::None } else { hold };
        let mut recipe = None;
        let decision = match gate_without_recipe(repository, pull_request.state, hold) {
            Some(decision) => decision,
            None => {
                let needs_recipe = needs_recipe(deployment.as_ref());
                if needs_recipe {
                    recipe = self.read_recipe(&overview).await?;
                }
                let read = recipe.as_ref().and_then(|recipe| recipe.as_deref().ok());
                let kept = deployment.as_ref().and_then(|deployment| deployment.recipe.as_deref());
                let recipe_text = read.or(kept).and_then(|text| Recipe::parse(RECIPE_FILE, text).ok());
                let triggers = self.engine.triggers_of(recipe_text.as_ref());
                self.remember(environment, recipe_text.as_ref(), &triggers).await?;
                let started = deployment.as_ref().is_some_and(has_started);
                // What waits for its images was let in before, and asks nobody again.
                let waits = deployment.as_ref().is_some_and(|row| row.awaited_images.is_some());
                gate(&GateFacts {
                    repository,
                    pull_request,
                    hold,
                    approved: pull_request.from_fork && self.is_approved(pull_request).await?,
                    requested: environment.requested,
                    in_paths: started
                        || waits
                        || environment.requested
                        || self.is_in_paths(&overview, &triggers).await?,
                    started,
                    exists: exists(environment),
                    recipe: if needs_recipe && recipe.is_none() {
                        RecipeFacts::Absent
                    } else {
                        RecipeFacts::Says(&triggers)
                    },
                })
            }
        };

        let owner = self.owner(&environment.id);
        let (namespace, namespace_uid) = match decision {
            // Nothing is going to be done there.
            Decision::Wait(_) if environment.good_commit.is_none() => (NamespaceFacts::Absent, None),
            Decision::Wait(_) | Decision::Deploy(_) | Decision::Gone(_) => {
                self.read_namespace(&overview, &owner).await?
            }
        };
        let applied = environment.applied_commit.clone().filter(|_| namespace == NamespaceFacts::Ours);
        let (workloads, mut progress) = match (&decision, &applied) {
            (Decision::Deploy(_) | Decision::Wait(_), Some(_)) => {
                let since = deployment.as_ref().and_then(|deployment| deployment.attempt_deadline);
                // Of an attempt that is under way only what was applied of it.
                let under_way = deployment.as_ref().filter(|row| row.applied_digest.is_none());
                let phases = under_way.filter(|row| applied.as_ref() == Some(&row.commit)).map(|row| row.phase);
                let (workloads, progress) = self.read_workloads(environment, phases, since, &owner).await?;
                (Some(workloads), Some(progress))
            }
            (Decision::Gone(_), _) | (_, None) => (None, None),
        };

        if let Some(workloads) = &workloads {
            let counts = usage::restarts(workloads);
            if self.restarts != Some(counts) {
                self.engine.store.record_restarts(&environment.id, counts).await?;
                self.restarts = Some(counts);
            }
        }

        let waits_to_begin = |row: &&Deployment| row.status == DeploymentStatus::Pending && environment.has_place;
        let images = match (&decision, deployment.as_ref().filter(waits_to_begin)) {
            (Decision::Deploy(_), Some(deployment)) => self.images(deployment).await,
            _ => Images::There,
        };

        let mut readiness = None;
        if let (Decision::Deploy(commit), Some(workloads), Some(Progress::Ready)) = (&decision, &workloads, &progress)
            && applied.as_ref() == Some(commit)
            && let Some(deployment) = deployment.as_ref().filter(|row| row.status != DeploymentStatus::Succeeded)
        {
            match self.prove(environment, deployment, workloads).await {
                Ok(proof) => readiness = Some(proof),
                Err(cause) => progress = Some(Progress::Stumbling(cause)),
            }
        }

        let facts = Facts {
            decision,
            status: environment.status,
            reason: environment.reason,
            serving: environment.serving_commit.clone(),
            good: environment.good_commit.clone().filter(|_| !self.engine.faults.has(Fault::NoRollback)),
            deployment: deployment.as_ref().map(|deployment| DeploymentFacts {
                status: deployment.status,
                reason: deployment.reason,
                attempt: deployment.attempt,
                attempt_deadline: deployment.attempt_deadline,
                retry_at: deployment.retry_at,
                images_deadline: deployment.images_deadline,
                phase: if applied.as_ref() == Some(&deployment.commit) { deployment.phase } else { 0 },
                applied: deployment.applied_digest.is_some() && applied.as_ref() == Some(&deployment.commit),
            }),
            applied,
            images,
            namespace,
            progress,
            has_place: environment.has_place,
            lifetime: environment.lifetime,
            check_is_due: environment.check_is_due,
            deletion_started_at: environment.deletion_started_at,
            observed_at: environment.observed_at,
            jitter: jitter(environment, deployment.as_ref()),
            patience: self.engine.patience,
        };
        Ok(Observed { overview, deployment, recipe, namespace_uid, workloads, readiness, facts })
    }

    /// Keeps in the row what the recipe says and others need, who do not read it: which label means that somebody wants
    /// the environment, how long it lasts, and how the pull request is told.
    async fn remember(
        &self,
        environment: &Environment,
        recipe: Option<&Recipe>,
        triggers: &Triggers,
    ) -> Result<(), Interrupted> {
        let Engine { lifetime, limits, report_to, .. } = self.engine;
        let terms = Terms {
            ttl: recipe.and_then(|recipe| recipe.ttl).unwrap_or(lifetime.ttl).at_most(limits.ttl).millis(),
            sleep_after: recipe.and_then(|recipe| recipe.sleep_after).unwrap_or(lifetime.sleep_after).millis(),
            report_to: recipe.and_then(|recipe| recipe.report).unwrap_or(*report_to),
        };
        let label = triggers.label.as_ref().map(LabelName::as_str);
        if (environment.trigger_label.as_deref(), environment.terms) == (label, Some(terms)) {
            return Ok(());
        }
        let changes = EnvironmentChanges::default().recipe_says(label, terms);
        self.record(Record { environment: Some(changes), ..Record::default() }).await
    }

    async fn is_approved(&self, pull_request: &PullRequestFacts) -> Result<bool, Interrupted> {
        Ok(self.engine.store.is_approved(pull_request.github_id, &pull_request.head_sha).await?)
    }

    /// Whether the pull request changes something that gets a preview. Asked from GitHub once a pass, and only where the
    /// recipe names paths.
    async fn is_in_paths(&mut self, overview: &Overview, triggers: &Triggers) -> Result<bool, Interrupted> {
        if triggers.paths.is_empty() {
            return Ok(true);
        }
        let head = &overview.pull_request.facts.head_sha;
        if let Some((commit, in_paths)) = &self.in_paths
            && commit == head
        {
            return Ok(*in_paths);
        }
        let (access, number) = (access(overview), overview.pull_request.facts.number);
        let mut page = 1;
        let in_paths = loop {
            self.github_read().await?;
            let is_wanted = |path: &str| triggers.include_path(path);
            match self.engine.github.changes_file(&access, number, is_wanted, page).await? {
                Page { found: Some(()), .. } => break true,
                Page { found: None, more: true } => page += 1,
                Page { found: None, more: false } => break false,
            }
        };
        self.in_paths = Some((head.clone(), in_paths));
        Ok(in_paths)
    }

    /// The environment and its pull request, confirmed by GitHub where something was asked for since it last was.
    async fn read_confirmed(&mut self) -> Result<Overview, Interrupted> {
        let store = &self.engine.store;
        let overview = store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over)?;
        if overview.environment.revision != self.lease.revision {
            return Err(Interrupted::Over);
        }
        if !overview.environment.refresh || self.engine.faults.has(Fault::Unconfirmed) {
            return Ok(overview);
        }
        let stored = &overview.pull_request;
        // Where access was taken away GitHub can say nothing, and what was told of it is enough.
        if stored.repository_state != RepositoryState::Active {
            return Ok(overview);
        }
        self.app_installation_id = stored.facts.repository.app_installation_id;
        self.github_read().await?;
        let facts = self.engine.github.pull_request(&access(&overview), stored.facts.number).await?;
        match store.confirm_pull_request(&self.lease, facts).await?? {
            Confirmed::News => Err(Interrupted::Over),
            Confirmed::AsStored => store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over),
        }
    }

    /// None where the commit has no recipe.
    async fn read_recipe(&mut self, overview: &Overview) -> Result<Option<Result<String, Cause>>, Interrupted> {
        let pull_request = &overview.pull_request.facts;
        let place = recipe_place(pull_request);
        let refused = |rule: &str| {
            Some(Err(Cause::InvalidRecipe {
                file: RECIPE_FILE.to_owned(),
                line: 1,
                field: "the file".to_owned(),
                rule: rule.to_owned(),
            }))
        };
        self.github_read().await?;
        Ok(match self.engine.github.file(&access(overview), RECIPE_FILE, place).await? {
            RepositoryFile::Text(text) => Some(Ok(text)),
            RepositoryFile::Missing => None,
            RepositoryFile::TooLong => refused(&format!("must be at most {} KiB", RECIPE_LIMIT / 1024)),
            RepositoryFile::NotText => refused("must be UTF-8 text"),
        })
    }

    async fn read_namespace(
        &mut self,
        overview: &Overview,
        owner: &Owner,
    ) -> Result<(NamespaceFacts, Option<String>), Interrupted> {
        self.fence(cluster::CALL_TIMEOUT).await?;
        let state = self.engine.cluster.namespace(&overview.environment.namespace, owner).await?;
        self.observed_cluster = true;
        Ok(match state {
            NamespaceState::Absent => (NamespaceFacts::Absent, None),
            NamespaceState::Foreign => (NamespaceFacts::Foreign, None),
            NamespaceState::Ours { uid, terminating: None } => (NamespaceFacts::Ours, Some(uid)),
            NamespaceState::Ours { terminating: Some(_), .. } if self.engine.faults.has(Fault::EarlyFarewell) => {
                (NamespaceFacts::Absent, None)
            }
            NamespaceState::Ours { uid, terminating: Some(terminating) } => {
                (NamespaceFacts::Terminating { blocked_by: terminating.blocked_by }, Some(uid))
            }
        })
    }

    /// What shows that what is ready is the deployment's commit, and that people reach it.
    async fn prove(
        &self,
        environment: &Environment,
        deployment: &Deployment,
        workloads: &Workloads,
    ) -> Result<Readiness, Cause> {
        let pods_at = self.lease.now();
        let url = match &self.engine.prober {
            None => None,
            Some(prober) => {
                let url = PublicUrl::of(&environment.namespace, &self.engine.base_domain);
                let recipe = deployment.recipe.as_deref().and_then(|text| Recipe::parse(RECIPE_FILE, text).ok());
                // The pods say the same of themselves at this path.
                let path = recipe.map_or_else(|| "/".to_owned(), |recipe| recipe.health().as_str().to_owned());
                match prober.ask(&url, &path, self.lease.token()).await {
                    Some(status) if (200..400).contains(&status) => Some(UrlAnswer { status, at: self.lease.now() }),
                    answered => return Err(Cause::UrlUnreachable { answered }),
                }
            }
        };
        Ok(Readiness { pods_at, images: workloads.running_images(&deployment.commit), url })
    }

    /// What runs of what is applied, and how far it is.
    async fn read_workloads(
        &mut self,
        environment: &Environment,
        phases: Option<i64>,
        attempt_deadline: Option<Millis>,
        owner: &Owner,
    ) -> Result<(Workloads, Progress), Interrupted> {
        let inventory = self.engine.store.inventory_until(&environment.id, phases.unwrap_or(Millis::MAX)).await?;
        let waited_for: Vec<(WorkloadKind, String)> =
            inventory.into_iter().filter_map(|key| Some((WorkloadKind::of(&key.kind)?, key.name))).collect();
        let kinds: Vec<WorkloadKind> = waited_for.iter().map(|(kind, _)| *kind).collect();
        self.fence(cluster::CALL_TIMEOUT).await?;
        let workloads = self.engine.cluster.workloads(&environment.namespace, owner, &kinds).await?;
        let progress =
            assess(&workloads, &expected(&waited_for, attempt_deadline, self.engine.patience, self.lease.now()));
        Ok((workloads, progress))
    }
}

/// Where the recipe and what it names is read. A stranger does not say what runs, not even after an approval, which is
/// for the commit's code.
pub(super) fn recipe_place(pull_request: &PullRequestFacts) -> GitRef<'_> {
    if pull_request.from_fork { GitRef::Branch(&pull_request.base_ref) } else { GitRef::Commit(&pull_request.head_sha) }
}

/// Spreads the attempts of environments that failed together, and those of one environment: -1 to 1.
fn jitter(environment: &Environment, deployment: Option<&Deployment>) -> f64 {
    let mut hasher = DefaultHasher::new();
    let attempt = deployment.map(|deployment| (deployment.round, deployment.attempt));
    (environment.namespace.as_str(), attempt).hash(&mut hasher);
    (hasher.finish() % 2_001) as f64 / 1_000.0 - 1.0
}

pub(super) fn expected(
    workloads: &[(WorkloadKind, String)],
    attempt_deadline: Option<Millis>,
    patience: Patience,
    now: Millis,
) -> Expected<'_> {
    let deadline = attempt_deadline.unwrap_or(now);
    Expected { workloads, attempt_started_at: deadline - patience.attempt.millis(), attempt_deadline: deadline, now }
}

/// Whether the recipe must be read from GitHub: not where the row keeps it, nor where nothing is started any more.
fn needs_recipe(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else { return true };
    match deployment.status {
        DeploymentStatus::Succeeded | DeploymentStatus::Failed => false,
        DeploymentStatus::Pending
        | DeploymentStatus::Deploying
        | DeploymentStatus::Superseded
        | DeploymentStatus::Cancelled => deployment.recipe.is_none(),
    }
}

/// What only keeps a commit from starting, such as a draft, comes too late for this one.
fn has_started(deployment: &Deployment) -> bool {
    match deployment.status {
        DeploymentStatus::Deploying | DeploymentStatus::Succeeded | DeploymentStatus::Failed => true,
        DeploymentStatus::Pending | DeploymentStatus::Superseded | DeploymentStatus::Cancelled => false,
    }
}

/// Whether there is something to take away, or it was just taken away.
fn exists(environment: &Environment) -> bool {
    let is_going = matches!(environment.status, EnvironmentStatus::Deleting | EnvironmentStatus::Deleted);
    is_going || environment.applied_commit.is_some()
}

impl Engine {
    /// What the recipe says of what is deployed. One that cannot be read says nothing; that it cannot be read is told
    /// when it is to be deployed.
    fn triggers_of(&self, recipe: Option<&Recipe>) -> Triggers {
        let own = recipe.map(|recipe| recipe.triggers.clone()).unwrap_or_default();
        Triggers::new(&own, &self.triggers, self.limits.forks)
    }
}

pub(super) fn access(overview: &Overview) -> RepositoryAccess {
    let repository = &overview.pull_request.facts.repository;
    RepositoryAccess { name: repository.name.clone(), app_installation_id: repository.app_installation_id }
}
