//! Observing: everything that the plan decides on, read anew for each step.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{
    Engine, Prober,
    interrupted::Interrupted,
    pass::Pass,
    probe::{Answer, Question, Silence, TIMEOUT},
    records::Seen,
    usage,
};
use crate::{
    cluster::{
        self, Endpoint, Expected, NamespaceState, Owner, Tasks, Terminating, WorkloadKind, Workloads, assess,
        blocking_pods, has_completed, is_down, needs_explaining,
    },
    environment::{
        Cause, CommitSha, Decision, DeploymentFacts, DeploymentStatus, EnvironmentStatus, Facts, GateFacts, Hitches,
        Hold, Images, LabelName, Leftovers, Millis, NamespaceFacts, Patience, Progress, PublicUrl, PullRequestFacts,
        PullRequestState, Readiness, RecipeFacts, RepositoryState, Terms, Triggers, UrlAnswer, gate,
        gate_without_recipe,
    },
    faults::Fault,
    github::{GitHubError, GitRef, Page, RECIPE_LIMIT, RepositoryAccess, RepositoryFile},
    recipe::{Backend, Backends, RECIPE_FILE, Recipe},
    store::{Confirmed, Deployment, Environment, EnvironmentChanges, Inventoried, Overview, Record, Standing},
};

/// Service, ingress controller and DNS learn of a ready pod within this time; before, nothing is wrong. In milliseconds.
const TOLD_AFTER: Millis = 5_000;
/// One of so many parts of an attempt a chart's pods have to become ready before its last hooks run all the same: helm by
/// itself waits for none, and there are pods that wait for what these hooks do.
const PARTS_BEFORE_HOOKS: i64 = 4;

/// What a step works on.
pub(super) struct Observed {
    pub overview: Overview,
    /// The head commit's deployment.
    pub deployment: Option<Deployment>,
    /// Read in this pass, because the row has none.
    pub recipe: Option<Result<String, Cause>>,
    pub standing: Standing,
    /// Of the attempt that is under way.
    pub hitches: Hitches,
    pub namespace_uid: Option<String>,
    pub workloads: Option<Workloads>,
    /// Of the head commit, where it is ready.
    pub readiness: Option<Readiness>,
    /// The commit that answers although it is not known to run: the one that served before, if it still does, or one
    /// that became ready just as it was superseded.
    pub still_serving: Option<CommitSha>,
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
            still_serving: self.still_serving.clone(),
            readiness: self.readiness.as_ref(),
            holds_objects: self.overview.environment.applied_commit.is_some(),
            rebuilt: self.facts.rebuilt,
            outcome: deployment.map(|row| (row.status, row.reason, row.message.as_deref())),
        }
    }
}

impl Pass<'_> {
    pub(super) async fn observe(&mut self) -> Result<Observed, Interrupted> {
        let overview = self.read_confirmed().await?;
        let environment = &overview.environment;
        let pull_request = &overview.pull_request.facts;
        let deployment = self.engine.store.deployment(&environment.id, &pull_request.head_sha).await?;

        let standing = self.engine.store.standing(&environment.id).await?;
        let hitches = match environment.status {
            EnvironmentStatus::Deploying => self.engine.store.hitches(&environment.id).await?,
            _ => Hitches::default(),
        };

        let repository = overview.pull_request.repository_state;
        let hold = hold_at(environment, self.lease.now());
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
                self.remember(&overview, recipe_text.as_ref(), &triggers).await?;
                let started = deployment.as_ref().is_some_and(has_started);
                // What waits for its images was let in before, and asks nobody again.
                let waits = deployment.as_ref().is_some_and(|row| row.awaited_images.is_some());
                gate(&GateFacts {
                    repository,
                    pull_request,
                    hold,
                    approved: pull_request.from_fork && self.is_approved(pull_request).await?,
                    requested: environment.requested,
                    renamed: overview.renamed_label().is_some(),
                    in_paths: started
                        || waits
                        || environment.requested
                        || self.is_in_paths(&overview, &triggers).await?,
                    started,
                    exists: exists(environment),
                    has_place: environment.has_place,
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
            Decision::Wait(_) if !is_of_interest(environment, standing) => (NamespaceFacts::Absent, None),
            Decision::Wait(_) | Decision::Deploy(_) | Decision::Gone(_) => {
                self.read_namespace(&overview, &owner).await?
            }
        };
        let applied = environment.applied_commit.clone().filter(|_| namespace == NamespaceFacts::Ours);
        let known = match &applied {
            Some(_) => self.engine.store.known_inventory(&environment.id).await?,
            None => Vec::new(),
        };
        let leftovers = leftovers(&known);
        let (workloads, mut progress, is_down) = match (&decision, &applied) {
            (Decision::Deploy(_) | Decision::Wait(_), Some(_)) => {
                let since = deployment.as_ref().and_then(|deployment| deployment.attempt_deadline);
                // Of an attempt that is under way only what was applied of it.
                let under_way = deployment.as_ref().filter(|row| is_of(row) && row.applied_digest.is_none());
                let phases = under_way.filter(|row| applied.as_ref() == Some(&row.commit)).map(|row| row.phase);
                let expected = waited_for(&known, phases);
                // What earlier commits left may be in the way of it.
                let kinds: Vec<_> = known.iter().filter_map(|object| WorkloadKind::of(&object.key.kind)).collect();
                let tasks = tasks_of(deployment.as_ref());
                let (workloads, progress, is_down) =
                    self.read_workloads(environment, &expected, &kinds, (since, tasks), &owner).await?;
                self.remember_what_is_done(&known, &workloads).await?;
                (Some(workloads), Some(progress), is_down)
            }
            (Decision::Gone(_), _) | (_, None) => (None, None, false),
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
            (Decision::Deploy(_), Some(deployment)) => self.images(&overview, deployment).await?,
            _ => Images::There,
        };

        let mut readiness = None;
        if let (Some(workloads), Some(Progress::Ready)) = (&workloads, &progress)
            && let Some(commit) = self.to_prove(&decision, environment, deployment.as_ref(), leftovers)
            && applied.as_ref() == Some(&commit)
        {
            match self.prove(environment, &commit, workloads).await? {
                Ok(proof) => readiness = Some(proof),
                Err(cause) => {
                    let told = workloads.ready_since().is_none_or(|since| self.lease.now() - since >= TOLD_AFTER);
                    progress = Some(Progress::Unproved { cause, told });
                }
            }
        }
        // What is put back serves once a pod of it is reached: what else is ready says nothing of it.
        if let (Some(workloads), Some(Progress::Ready), Some(good)) = (&workloads, &progress, &applied)
            && environment.serving_commit.is_none()
            && environment.good_commit.as_ref() == Some(good)
            && (decision != Decision::Deploy(good.clone()) || !deployment.as_ref().is_some_and(is_of))
            && !self.is_reached(environment, good, workloads).await?
        {
            progress = Some(Progress::Progressing);
        }
        let hooks_at = match (&deployment, &workloads) {
            (Some(row), Some(workloads)) if applied.as_ref() == Some(&row.commit) => {
                self.hooks_at(environment, row, &known, workloads).await?
            }
            (_, None) | (_, Some(_)) => None,
        };
        // What is known to run is asked of its pods alone.
        let is_known = deployment.as_ref().is_some_and(|row| row.status == DeploymentStatus::Succeeded)
            && matches!(decision, Decision::Deploy(_));
        let serving = environment.serving_commit.clone();
        let still_serving = match &workloads {
            Some(workloads) if !is_known => self.still_serving(environment, workloads).await?,
            // Nothing was touched yet.
            Some(_) | None => serving.clone(),
        };
        let answers = workloads.is_some() && serving.is_some() && still_serving == serving;
        let rebuilt = match &deployment {
            Some(row) if environment.check_is_due && !standing.asleep && matches!(decision, Decision::Deploy(_)) => {
                self.is_rebuilt(&overview, row).await?
            }
            Some(_) | None => false,
        };

        let remade = match &environment.good_commit {
            Some(good) if applied.as_ref() == Some(good) && !is_known => {
                self.engine.store.is_remade(&environment.id, good).await?
            }
            Some(_) | None => false,
        };

        let upgrades = matches!(decision, Decision::Deploy(_))
            && applied.is_some()
            && applied == environment.good_commit
            && is_chart(deployment.as_ref());

        let faults = &self.engine.faults;
        let sleeps_on = faults.has(Fault::SleepsOn)
            && standing.asleep
            && deployment.as_ref().is_some_and(|row| row.status == DeploymentStatus::Failed);
        let facts = Facts {
            decision,
            status: environment.status,
            reason: environment.reason,
            serving,
            good: environment.good_commit.clone().filter(|_| !faults.has(Fault::NoRollback)),
            deployment: deployment.as_ref().map(|deployment| DeploymentFacts {
                status: deployment.status,
                reason: deployment.reason,
                attempt: deployment.attempt,
                attempt_deadline: deployment.attempt_deadline,
                retry_at: deployment.retry_at,
                images_deadline: deployment.images_deadline,
                phase: if applied.as_ref() == Some(&deployment.commit) { deployment.phase } else { 0 },
                applied: (deployment.applied_digest.is_some() || faults.has(Fault::LastPhaseSkipped))
                    && applied.as_ref() == Some(&deployment.commit),
                hooks_at,
            }),
            applied,
            images,
            rebuilt,
            namespace,
            progress,
            answers: answers || sleeps_on,
            is_down,
            down_since: standing.down_since,
            remade,
            half_applied: standing.half_applied,
            upgrades,
            asleep: standing.asleep && !sleeps_on,
            leftovers,
            has_blocking_pods: !faults.has(Fault::BlockingPodStays)
                && workloads.as_ref().is_some_and(|workloads| !blocking_pods(workloads).is_empty()),
            resets: standing.reset_at.is_some(),
            has_place: environment.has_place,
            lifetime: environment.lifetime,
            check_is_due: environment.check_is_due,
            deletion_started_at: environment.deletion_started_at,
            observed_at: environment.observed_at,
            jitter: jitter(environment, deployment.as_ref()),
            patience: self.engine.patience,
        };
        Ok(Observed {
            overview,
            deployment,
            recipe,
            standing,
            hitches,
            namespace_uid,
            workloads,
            readiness,
            still_serving,
            facts,
        })
    }

    /// Keeps in the row what the recipe says and others need, who do not read it: which label means that somebody wants
    /// the environment, how long it lasts, and how the pull request is told.
    async fn remember(
        &self,
        overview: &Overview,
        recipe: Option<&Recipe>,
        triggers: &Triggers,
    ) -> Result<(), Interrupted> {
        let Overview { environment, pull_request } = overview;
        let Engine { lifetime, limits, report_to, .. } = self.engine;
        let terms = Terms {
            ttl: recipe.and_then(|recipe| recipe.ttl).unwrap_or(lifetime.ttl).at_most(limits.ttl).millis(),
            sleep_after: recipe.and_then(|recipe| recipe.sleep_after).unwrap_or(lifetime.sleep_after).millis(),
            report_to: recipe.and_then(|recipe| recipe.report).unwrap_or(*report_to),
            label_id: triggers.label.as_ref().and_then(|label| {
                let known = environment.terms.and_then(|terms| terms.label_id);
                let known = known.filter(|_| environment.trigger_label.as_deref() == Some(label.as_str()));
                pull_request.facts.label_id(label).or(known)
            }),
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

    /// The environment and its pull request, confirmed by GitHub where something was asked for since it last was. What
    /// goes because somebody asked for that, or because its time is over, goes whatever GitHub answers.
    async fn read_confirmed(&mut self) -> Result<Overview, Interrupted> {
        let store = &self.engine.store;
        let overview = store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over)?;
        if overview.environment.revision != self.lease.revision {
            return Err(Interrupted::Over);
        }
        if !overview.environment.refresh || self.unconfirmed || self.engine.faults.has(Fault::Unconfirmed) {
            return Ok(overview);
        }
        let stored = &overview.pull_request;
        // Where access was taken away GitHub can say nothing, and what was told of it is enough.
        if stored.repository_state != RepositoryState::Active {
            return Ok(overview);
        }
        self.app_installation_id = stored.facts.repository.app_installation_id;
        let facts = match self.ask_for_pull_request(&overview).await {
            Ok(facts) => facts,
            Err(later) if hold_at(&overview.environment, self.lease.now()) == Hold::None => return Err(later),
            Err(Interrupted::Over) => return Err(Interrupted::Over),
            Err(later) => {
                self.unconfirmed = true;
                self.put_off(later);
                return Ok(overview);
            }
        };
        match store.confirm_pull_request(&self.lease, facts).await?? {
            Confirmed::News => Err(Interrupted::Over),
            Confirmed::AsStored => store.find_environment(&self.lease.environment_id).await?.ok_or(Interrupted::Over),
        }
    }

    /// What GitHub says of the pull request. Where it told that it is closed, and shows nothing of it any more, nobody
    /// ever says more than that.
    pub(super) async fn ask_for_pull_request(&mut self, overview: &Overview) -> Result<PullRequestFacts, Interrupted> {
        self.github_read().await?;
        let stored = &overview.pull_request.facts;
        match self.engine.github.pull_request(&access(overview), stored.number).await {
            Err(GitHubError::NotFound { .. }) if stored.state != PullRequestState::Open => Ok(stored.clone()),
            answer => Ok(answer?),
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
                let Terminating { since, blocked_by } = terminating;
                let since = if self.engine.faults.has(Fault::HangUntold) { self.lease.now() } else { since };
                (NamespaceFacts::Terminating { since, blocked_by }, Some(uid))
            }
        })
    }

    async fn still_serving(
        &mut self,
        environment: &Environment,
        workloads: &Workloads,
    ) -> Result<Option<CommitSha>, Interrupted> {
        let candidates = [environment.serving_commit.clone(), workloads.served()];
        for commit in candidates.into_iter().flatten() {
            if self.is_reached(environment, &commit, workloads).await? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Whether people reach `commit`: a ready pod of it is behind what the URL leads to. Other pods of it, such as a
    /// worker's, answer nobody.
    pub(super) async fn is_reached(
        &mut self,
        environment: &Environment,
        commit: &CommitSha,
        workloads: &Workloads,
    ) -> Result<bool, Interrupted> {
        let ready = workloads.ready_pods(commit);
        if ready.is_empty() {
            return Ok(false);
        }
        let way_in = self.way_in(environment, commit).await?;
        let leads = way_in.leads();
        for Backend { service, port } in &leads {
            let endpoints = self.endpoints(environment, service, *port).await?;
            if endpoints.iter().any(|endpoint| ready.contains(&endpoint.pod.as_str())) {
                return Ok(true);
            }
        }
        // Of a render that is not kept nobody knows where it leads.
        Ok(leads.is_empty())
    }

    /// Why nobody gets to the application, where that is so: of what its URL may lead to nothing is ready.
    async fn nothing_behind(
        &mut self,
        environment: &Environment,
        way_in: &WayIn,
    ) -> Result<Option<Cause>, Interrupted> {
        let leads = way_in.leads();
        for Backend { service, port } in &leads {
            if !self.endpoints(environment, service, *port).await?.is_empty() {
                return Ok(None);
            }
        }
        let first = leads.first();
        Ok(first.map(|Backend { service, port }| Cause::NothingBehind { service: service.clone(), port: *port }))
    }

    async fn endpoints(
        &mut self,
        environment: &Environment,
        service: &str,
        port: u32,
    ) -> Result<Vec<Endpoint>, Interrupted> {
        self.fence(cluster::CALL_TIMEOUT).await?;
        let port = u16::try_from(port).unwrap_or_default();
        Ok(self.engine.cluster.endpoints(&environment.namespace, service, port).await?)
    }

    async fn way_in(&self, environment: &Environment, commit: &CommitSha) -> Result<WayIn, Interrupted> {
        let deployment = self.engine.store.deployment(&environment.id, commit).await?;
        let text = deployment.and_then(|deployment| deployment.recipe);
        let recipe = text.and_then(|text| Recipe::parse(RECIPE_FILE, &text).ok());
        let named = recipe.as_ref().and_then(Recipe::health).map(str::to_owned);
        let render = self.engine.store.render(&environment.id, commit).await?;
        let backends = render.map(|render| render.backends()).unwrap_or_default();
        Ok(WayIn { named, backends })
    }

    /// What shows that what is ready is the commit, and that people reach it.
    async fn prove(
        &mut self,
        environment: &Environment,
        commit: &CommitSha,
        workloads: &Workloads,
    ) -> Result<Result<Readiness, Cause>, Interrupted> {
        let pods_at = self.lease.now();
        let way_in = self.way_in(environment, commit).await?;
        if let Some(nothing) = self.nothing_behind(environment, &way_in).await? {
            return Ok(Err(nothing));
        }
        let url = match &self.engine.prober {
            None => None,
            // A render of an earlier previewd may have no path that the router follows: there is nothing to ask.
            Some(prober) if prober.asks_the_application() && way_in.backend().is_none() => None,
            Some(prober) => match self.ask(prober, environment, commit, &way_in).await {
                Ok(answer) => Some(answer),
                Err(cause) => return Ok(Err(cause)),
            },
        };
        Ok(Ok(Readiness { pods_at, images: workloads.running_images(commit), url }))
    }

    /// What the URL answers, where that shows that people reach the application.
    async fn ask(
        &self,
        prober: &Prober,
        environment: &Environment,
        commit: &CommitSha,
        way_in: &WayIn,
    ) -> Result<UrlAnswer, Cause> {
        let (path, backend) = (way_in.path(), way_in.backend());
        let url = PublicUrl::of(&environment.namespace, &self.engine.base_domain);
        let (namespace, lease) = (&environment.namespace, self.lease.token());
        let question = Question { namespace, url: &url, path, backend, commit, lease };
        let asks_the_application = prober.asks_the_application();
        let answered = match prober.ask(&question).await {
            Ok(Answer { status: _, leads_back: true }) => {
                return Err(Cause::RedirectsToItself { path: path.to_owned() });
            }
            Ok(Answer { status, leads_back: false }) => Some(status),
            Err(Silence::TooSlow) => {
                return Err(Cause::SlowAnswer { path: path.to_owned(), seconds: TIMEOUT.as_secs() });
            }
            Err(Silence::Broken) => None,
        };
        match (answered, backend) {
            (Some(status), _) if is_proof(status, way_in.named.is_some(), asks_the_application) => {
                Ok(UrlAnswer { status, at: self.lease.now() })
            }
            (answered, Some(Backend { service, port })) if asks_the_application => {
                let (service, port, path) = (service.clone(), *port, path.to_owned());
                Err(Cause::BadAnswer { service, port, path, answered })
            }
            // No path is known to lead anywhere, and something is ready behind those that there are.
            (Some(status @ 404), None) if way_in.named.is_none() => Ok(UrlAnswer { status, at: self.lease.now() }),
            (Some(404), Some(_)) if way_in.named.is_none() => Err(Cause::NoPage { path: path.to_owned() }),
            (answered, _) => Err(Cause::UrlUnreachable { answered }),
        }
    }

    /// The commit whose URL is to be asked once its pods are ready: the head's once all of it is applied and nothing else
    /// answers in its place, or the one that was put back.
    fn to_prove(
        &self,
        decision: &Decision,
        environment: &Environment,
        deployment: Option<&Deployment>,
        leftovers: Leftovers,
    ) -> Option<CommitSha> {
        match (decision, deployment) {
            (Decision::Deploy(head), Some(row)) if environment.applied_commit.as_ref() == Some(head) && is_of(row) => {
                let is_whole = row.applied_digest.is_some() && leftovers != Leftovers::Objects;
                let is_whole = is_whole || self.engine.faults.has(Fault::ProvesEachPhase);
                (is_whole && row.status != DeploymentStatus::Succeeded).then(|| head.clone())
            }
            (Decision::Deploy(_) | Decision::Wait(_), _) => {
                environment.good_commit.clone().filter(|good| environment.serving_commit.as_ref() != Some(good))
            }
            (Decision::Gone(_), _) => None,
        }
    }

    /// Keeps in the inventory which Jobs ended well: they may be gone when somebody looks again.
    pub(super) async fn remember_what_is_done(
        &self,
        known: &[Inventoried],
        workloads: &Workloads,
    ) -> Result<(), Interrupted> {
        if self.engine.faults.has(Fault::JobsForgotten) {
            return Ok(());
        }
        let is_news = |object: &&Inventoried| {
            object.key.kind == "Job" && !object.done && has_completed(workloads, &object.key.name, &object.digest)
        };
        let done: Vec<String> = known.iter().filter(is_news).map(|object| object.key.name.clone()).collect();
        if !done.is_empty() {
            self.engine.store.record_done(&self.lease, &done).await??;
        }
        Ok(())
    }

    /// When a chart's last hooks come next although its pods are not ready. None where something else comes next, or
    /// the hooks before them are not done.
    async fn hooks_at(
        &self,
        environment: &Environment,
        row: &Deployment,
        known: &[Inventoried],
        workloads: &Workloads,
    ) -> Result<Option<Millis>, Interrupted> {
        let is_under_way = row.status == DeploymentStatus::Deploying && row.phase > 0 && row.applied_digest.is_none();
        let waits = |object: &Inventoried| {
            let is_among = object.key.kind == "Job" && object.is_applied() && object.phase < row.phase;
            is_among && !object.done && !has_completed(workloads, &object.key.name, &object.digest)
        };
        if !is_under_way || known.iter().any(waits) {
            return Ok(None);
        }
        let Some(render) = self.engine.store.render(&environment.id, &row.commit).await? else { return Ok(None) };
        let next = usize::try_from(row.phase).unwrap_or(0);
        let patience = self.engine.patience.attempt.millis();
        Ok(workloads
            .newest_pod_at()
            .filter(|_| render.has_last_hooks(next))
            .map(|at| at + patience / PARTS_BEFORE_HOOKS))
    }

    /// What runs of what is applied, and how far it is.
    async fn read_workloads(
        &mut self,
        environment: &Environment,
        waited_for: &[(WorkloadKind, String)],
        kinds: &[WorkloadKind],
        (attempt_deadline, tasks): (Option<Millis>, Tasks),
        owner: &Owner,
    ) -> Result<(Workloads, Progress, bool), Interrupted> {
        self.fence(cluster::CALL_TIMEOUT).await?;
        let mut workloads = self.engine.cluster.workloads(&environment.namespace, owner, kinds).await?;
        if needs_explaining(&workloads, self.lease.now()) {
            self.fence(cluster::CALL_TIMEOUT).await?;
            workloads.events = self.engine.cluster.events(&environment.namespace).await;
        }
        let expected = expected(waited_for, (attempt_deadline, tasks), self.engine.patience, self.lease.now());
        let progress = assess(&workloads, &expected);
        let is_down = is_down(&workloads, &expected);
        Ok((workloads, progress, is_down))
    }
}

/// How people come to a commit.
struct WayIn {
    /// The path that its recipe names for asking it.
    named: Option<String>,
    backends: Backends,
}

impl WayIn {
    /// Where it is asked. The pods say the same of themselves at a path that is named.
    fn path(&self) -> &str {
        self.named.as_deref().or_else(|| self.backends.entry()).unwrap_or("/")
    }

    /// Where that path leads. None where only an ingress controller knows that, because it is an expression's matter.
    fn backend(&self) -> Option<&Backend> {
        self.backends.of(self.path())
    }

    /// What it may lead to. Empty where nothing is known of it.
    fn leads(&self) -> Vec<&Backend> {
        match self.backend() {
            Some(backend) => vec![backend],
            None => self.backends.all(),
        }
    }
}

/// Whether an answer shows that people reach the application. At a path that the recipe names for it, it must be good; at
/// any other one the application may want a login, or have no page: but a 404 may be of what is in front of it.
fn is_proof(status: u16, is_named: bool, is_the_applications: bool) -> bool {
    match status {
        200..=399 => true,
        404 => !is_named && is_the_applications,
        400..=499 => !is_named,
        _ => false,
    }
}

/// Whether what is applied of the commit is this round's. What ran of it before, and what was put back, is not.
fn is_of(row: &Deployment) -> bool {
    row.status == DeploymentStatus::Deploying || row.applied_digest.is_some()
}

/// What of the inventory is waited for: of as many phases as are applied (None: of all), without the Jobs that did their
/// work, whatever became of them since.
fn waited_for(known: &[Inventoried], phases: Option<i64>) -> Vec<(WorkloadKind, String)> {
    let is_applied = |object: &&Inventoried| {
        object.is_applied() && phases.is_none_or(|phases| object.phase < phases) && !object.done
    };
    let applied = known.iter().filter(is_applied);
    applied.filter_map(|object| Some((WorkloadKind::of(&object.key.kind)?, object.key.name.clone()))).collect()
}

fn leftovers(known: &[Inventoried]) -> Leftovers {
    let left = known.iter().filter(|object| object.is_superfluous());
    left.map(|object| if object.key.only_holds() { Leftovers::Volumes } else { Leftovers::Objects })
        .max()
        .unwrap_or(Leftovers::None)
}

/// What keeps the environment away, be it that its time is over just now.
fn hold_at(environment: &Environment, now: Millis) -> Hold {
    let has_expired = environment.has_place && environment.lifetime.has_expired(now);
    if has_expired && environment.hold == Hold::None { Hold::Expired } else { environment.hold }
}

/// Whether a namespace matters although nothing new may start: something runs in it, or it is to go.
fn is_of_interest(environment: &Environment, standing: Standing) -> bool {
    environment.good_commit.is_some() || environment.serving_commit.is_some() || standing.reset_at.is_some()
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
    (attempt_deadline, tasks): (Option<Millis>, Tasks),
    patience: Patience,
    now: Millis,
) -> Expected<'_> {
    let attempt_deadline = attempt_deadline.unwrap_or(now);
    let attempt_started_at = attempt_deadline - patience.attempt.millis();
    Expected { workloads, attempt_started_at, attempt_deadline, now, tasks }
}

/// What the Jobs of the head commit are for.
pub(super) fn tasks_of(deployment: Option<&Deployment>) -> Tasks {
    let text = deployment.and_then(|deployment| deployment.recipe.as_deref());
    match text.and_then(|text| Recipe::parse(RECIPE_FILE, text).ok()) {
        Some(recipe) if recipe.app.is_some() => Tasks::Recipes { databases: !recipe.databases.is_empty() },
        Some(_) | None => Tasks::Repositorys,
    }
}

fn is_chart(deployment: Option<&Deployment>) -> bool {
    let text = deployment.and_then(|deployment| deployment.recipe.as_deref());
    text.and_then(|text| Recipe::parse(RECIPE_FILE, text).ok()).is_some_and(|recipe| recipe.helm.is_some())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe::Render;

    /// Where only its controller knows what a path leads to, all that its routes name is looked at: nothing of it being
    /// ready is no proof.
    #[test]
    fn a_url_may_lead_to_what_its_routes_name() {
        let way_in = |paths: &[(&str, &str)]| {
            let path = |(path, service): &(&str, &str)| {
                let service = json!({ "name": service, "port": { "number": 80 } });
                json!({ "path": path, "backend": { "service": service } })
            };
            let paths: Vec<_> = paths.iter().map(path).collect();
            let ingress = json!({ "kind": "Ingress", "spec": { "rules": [{ "http": { "paths": paths } }] } });
            let render = json!({ "namespace": {}, "walls": [], "objects": [ingress] }).to_string();
            WayIn { named: None, backends: Render::from_json(&render).expect("a render").backends() }
        };
        for (paths, path, backend, leads) in [
            (&[("/(.*)", "web"), ("/api", "api")][..], "/", Some("web"), &["web"][..]),
            (&[("/(en|de)/.*", "web"), ("/(api|rpc)", "api"), ("/(a|b)", "web")], "/", None, &["web", "api"]),
            (&[], "/", None, &[]),
        ] {
            let way_in = way_in(paths);
            let services: Vec<&str> = way_in.leads().iter().map(|backend| backend.service.as_str()).collect();
            let found = way_in.backend().map(|backend| backend.service.as_str());
            assert_eq!((way_in.path(), found, services.as_slice()), (path, backend, leads), "{paths:?}");
        }
    }

    /// Whether an answer is proof: at a path that the recipe names, at another one where an Ingress answers, and at
    /// another one where previewd asks the application itself.
    #[test]
    fn an_answer_shows_the_application_where_nothing_else_can_have_said_it() {
        for (status, named, of_ingress, of_application) in [
            (200, true, true, true),
            (302, true, true, true),
            (399, true, true, true),
            (400, false, true, true),
            (401, false, true, true),
            (403, false, true, true),
            (404, false, false, true),
            (405, false, true, true),
            (499, false, true, true),
            (500, false, false, false),
            (502, false, false, false),
            (503, false, false, false),
            (101, false, false, false),
        ] {
            assert_eq!(is_proof(status, true, false), named, "{status}, named");
            assert_eq!(is_proof(status, true, true), named, "{status}, named, of the application");
            assert_eq!(is_proof(status, false, false), of_ingress, "{status}, of an Ingress");
            assert_eq!(is_proof(status, false, true), of_application, "{status}, of the application");
        }
    }
}
