//! Applying: everything of a recipe into the environment's namespace, in an order that leaves nothing of ours outside
//! the inventory, lets nothing run before the walls stand, and nothing of a phase before the ones before it are ready.

use std::time::Duration;

use tracing::warn;

use super::{
    interrupted::{Interrupted, NotApplied},
    observe::{Observed, expected, tasks_of},
    pass::Pass,
    records,
};
use crate::{
    cluster::{
        CALL_TIMEOUT, ClusterError, Creation, NamespaceState, Owner, Standing, WorkloadKind, Workloads, blocking_pods,
        completed_jobs, failed_jobs, failed_pods, has_completed, is_claim_of, jobs_to_restart, pods_to_restart,
        pods_with_claim, running,
    },
    environment::{
        Cause, CommitSha, DeploymentStatus, Hitch, Millis, Namespace, NamespaceFacts, Obstacle, VolumeProblem,
    },
    faults::Fault,
    recipe::{ONCE, Object, RUN, Render, STAYS, room},
    store::{Deployment, Environment, Inventoried, Made, ObjectKey, Settled},
};

/// How long a pass waits for an object to go that is made anew, and how often it looks.
const GOES: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// What cannot be removed is tried for so many milliseconds after the attempt of a commit that is ready, before it is left:
/// a few tries, each of which may meet a cluster that was only away.
const LEAVES_AFTER: Millis = 20_000;

/// How many commits are looked at for one that ran.
const LOOKS_BACK: i64 = 100;

/// What becomes of volumes that are there and are not what an object asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Volumes {
    /// They grow, or the commit needs a reset.
    AsAsked,
    /// One that grew since serves an older commit as well.
    AsTheyAre,
}

/// How far an attempt has come.
pub(super) struct Applied {
    /// So many phases are in the cluster.
    pub phases: i64,
    /// Of what is there, where that is everything.
    pub digest: Option<String>,
}

impl Pass<'_> {
    /// Applies a phase of the recipe at the head commit. Where nobody answers one write, it is told whether the cluster is
    /// away, which is no attempt's time, or that object is not taken, which is.
    pub(super) async fn apply_or_tell(
        &mut self,
        observed: &Observed,
        phase: i64,
        restart_pods: bool,
    ) -> Result<Applied, NotApplied> {
        match self.apply(observed, phase, restart_pods).await {
            Ok(applied) => Ok(applied),
            Err(not_applied) => Err(self.tell_apart(&observed.overview.environment, not_applied).await),
        }
    }

    /// Where a call about one object was not answered, and a question is, that object is not taken.
    pub(super) async fn tell_apart(&mut self, environment: &Environment, not_applied: NotApplied) -> NotApplied {
        let NotApplied::Unanswered { not_taken, away } = not_applied else { return not_applied };
        if let Err(interrupted) = self.fence(CALL_TIMEOUT).await {
            return NotApplied::Interrupted(interrupted);
        }
        let owner = self.owner(&environment.id);
        match self.engine.cluster.namespace(&environment.namespace, &owner).await {
            Ok(_) => NotApplied::NotTaken(*not_taken),
            Err(_) => NotApplied::Interrupted(away),
        }
    }

    /// Its first phase with the namespace and the walls. What earlier commits left stays as long as something may go back
    /// to it.
    async fn apply(&mut self, observed: &Observed, phase: i64, restart_pods: bool) -> Result<Applied, NotApplied> {
        let environment = &observed.overview.environment;
        let head = &observed.overview.pull_request.facts.head_sha;
        let mut made = self.make(observed).await?;
        // What it begins with it goes on with.
        if phase == 0 && self.pin_images(observed, &mut made.render).await? {
            made.is_new = true;
        }
        // What is made from something else than before begins at its beginning.
        let phase = if made.is_new { 0 } else { usize::try_from(phase).unwrap_or(0) };
        let phases = made.render.phases();
        let fresh = observed.facts.namespace == NamespaceFacts::Absent;
        let ran = match &environment.good_commit {
            Some(good) => self.engine.store.what_ran(&environment.id, good).await?,
            None => None,
        };
        let is_good = environment.good_commit.as_ref() == Some(head);
        // A tag may mean another image than the one that it ran with, and a chart or a setting may be another by now.
        let remakes = is_good
            && made.is_new
            && !(fresh || observed.standing.fresh)
            && ran.as_ref().is_some_and(|ran| ran.digest() != made.render.digest());
        let good = ran.filter(|_| !is_good || remakes || observed.facts.remade);
        if phase == 0 {
            if environment.applied_commit.as_ref() != Some(head) {
                self.end_jobs(observed).await?;
            }
            let kept = made.is_new.then_some(Made { render: &made.render, key: &made.key, remakes });
            if !fresh {
                self.admit_what_is_named(environment, &made.render).await?;
            }
            self.prepare(environment, head, &made.render, kept, fresh).await?;
            // What belongs neither to this commit nor to the one that a failure goes back to never ran; where nothing is left
            // to go back to, what served may have left volumes.
            let had_served = good.is_none() && self.has_served(environment).await?;
            let prunes_at_once = self.engine.faults.has(Fault::PrunesAtOnce);
            let removed = self
                .remove_leftovers(environment, false, |key| match &good {
                    _ if prunes_at_once => false,
                    Some(good) => key.is_among(good.applied()) || is_claimed_by(good, key),
                    None => had_served && key.is_volume(),
                })
                .await?;
            self.record_removed(&removed).await?;
        }
        let objects = phases.get(phase).copied().unwrap_or_default();
        if !self.has_room(observed, good.as_ref(), &made.render, phase).await? {
            // It makes room, which takes until pods are gone.
            let makes_pods = |object: &&Object| WorkloadKind::of(&object.kind).is_some();
            let first = objects.iter().find(makes_pods).or(objects.first());
            let first = first.ok_or_else(|| Interrupted::failed("an empty phase has no room"))?;
            let (kind, name) = (first.kind.clone(), first.name.clone());
            return Err(NotApplied::NotTaken(Cause::PodsTerminating { kind, name }));
        }
        for object in made.render.departing(phase) {
            self.remove(&environment.namespace, &ObjectKey::of(object)).await?;
        }
        self.restart(observed, objects, restart_pods).await?;
        self.put_all(observed, objects, Volumes::AsAsked).await?;
        let is_last = phase + 1 >= phases.len();
        Ok(Applied { phases: phase as i64 + 1, digest: is_last.then(|| made.render.digest()) })
    }

    /// Puts back what was applied for a commit that ran. Gives whether people still, or already, reach it.
    pub(super) async fn put_back(&mut self, observed: &Observed, commit: &CommitSha) -> Result<bool, NotApplied> {
        let environment = &observed.overview.environment;
        let was_remade = self.engine.store.keep_what_ran(&self.lease, commit).await??;
        let render = self.engine.store.render(&environment.id, commit).await?;
        // It is kept for as long as the row names the commit; the key that it was sealed with may be gone.
        let render = render.ok_or_else(|| {
            let rule = "what was applied for it is sealed with a key that is not there any more".to_owned();
            NotApplied::Refused(Cause::ObjectRefused { kind: "Commit".to_owned(), name: commit.to_string(), rule })
        })?;
        let fresh = observed.facts.namespace == NamespaceFacts::Absent;
        // Its hooks are those of an upgrade, and nothing is left that they could upgrade. An installation is another render,
        // in phases that wait for each other: a commit's own attempt.
        if render.upgrades == Some(true) && (fresh || observed.standing.fresh) {
            let rule = "ran as an upgrade of what its namespace has no longer".to_owned();
            return Err(NotApplied::Refused(Cause::ChartFailed { rule }));
        }
        // Where it was put back half-way, the Jobs are its own.
        if was_remade || environment.applied_commit.as_ref() != Some(commit) {
            self.end_jobs(observed).await?;
        }
        self.prepare(environment, commit, &render, None, fresh).await?;
        // What took its place never ran, and holds what there is of the quota.
        let removed = self.remove_leftovers(environment, false, |_| false).await?;
        self.record_removed(&removed).await?;
        // In a namespace that is newer than it none of its Jobs ever ran.
        let fresh = fresh || observed.standing.fresh;
        if !fresh {
            // It ran, so all of its Jobs did their work, whatever the commits since made of them.
            let jobs = render.objects.iter().filter(|object| object.kind == "Job").map(|job| job.name.clone());
            self.engine.store.take_for_done(&self.lease, &jobs.collect::<Vec<_>>()).await??;
        }
        // What ran to its end is not run again, unless it went with its namespace.
        let render = if fresh { render } else { render.lasting() };
        self.put_all(observed, &render.objects, Volumes::AsTheyAre).await?;
        let owner = self.owner(&environment.id);
        let kinds = [WorkloadKind::Deployment, WorkloadKind::StatefulSet];
        let workloads = self.engine.cluster.workloads(&environment.namespace, &owner, &kinds).await?;
        Ok(self.is_reached(environment, commit, &workloads).await?)
    }

    /// Puts what was applied for a commit into the cluster once more, as it sleeps or runs. What is as it was stays
    /// untouched by that. What the cluster kept of other commits goes, where it lets go of it by now.
    pub(super) async fn reapply(
        &mut self,
        environment: &Environment,
        commit: &CommitSha,
        asleep: bool,
    ) -> Result<(), NotApplied> {
        let Some(render) = self.engine.store.render(&environment.id, commit).await? else { return Ok(()) };
        let render = render.lasting();
        let render = if asleep { render.asleep() } else { render };
        for object in render.applied() {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.apply(&environment.namespace, object).await?;
        }
        self.remove_what_was_kept(environment).await
    }

    /// Stops the pods of what runs, and leaves everything else as it is. Where one of them must not be stopped, none is.
    pub(super) async fn stop_pods(&mut self, environment: &Environment, commit: &CommitSha) -> Result<(), NotApplied> {
        let render = self.engine.store.render(&environment.id, commit).await?;
        let render = render.ok_or_else(|| Interrupted::failed("what was applied for the commit is missing"))?;
        let render = render.asleep();
        let stopped = || render.objects.iter().filter(|object| object.sleeps());
        for object in stopped() {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.try_to_apply(&environment.namespace, object).await?;
        }
        for object in stopped() {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.apply(&environment.namespace, object).await?;
        }
        if render.objects.iter().any(|object| object.kind == "CronJob") {
            self.end_scheduled(environment, |_| false).await?;
        }
        Ok(())
    }

    /// The namespace with its walls, and the inventory of what is to come. What the cluster would refuse of its pods
    /// shows here.
    async fn prepare(
        &mut self,
        environment: &Environment,
        commit: &CommitSha,
        render: &Render,
        made: Option<Made<'_>>,
        fresh: bool,
    ) -> Result<(), NotApplied> {
        let namespace = &environment.namespace;
        if fresh {
            // Before it is there: what was done in the one before is not done in this one.
            self.engine.store.begin_apply(&self.lease, commit, render, made, true).await??;
            self.ensure_namespace(namespace, &environment.id, &render.namespace).await?;
        } else {
            self.ensure_namespace(namespace, &environment.id, &render.namespace).await?;
            self.engine.store.begin_apply(&self.lease, commit, render, made, false).await??;
        }
        for wall in &render.walls {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.apply(namespace, wall).await?;
        }
        for mut object in render.to_try() {
            if self.engine.faults.has(Fault::ClaimsUnmounted) {
                object.to_mut().body["spec"]["volumeClaimTemplates"].take();
            }
            self.fence(CALL_TIMEOUT).await?;
            match self.engine.cluster.dry_run_pod(namespace, &object).await {
                // The pods of the commit before may still hold the quota; the sum was checked when rendering.
                Ok(()) | Err(ClusterError::Refused(Cause::QuotaExceeded { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Applies objects, one after the other. Of a claim that goes the pods are ended that hold it: what is on it is lost
    /// already, and another of its name does not come before they are gone. What the quota has no room for is refused only
    /// where nothing makes room for it.
    async fn put_all(&mut self, observed: &Observed, objects: &[Object], volumes: Volumes) -> Result<(), NotApplied> {
        let environment = &observed.overview.environment;
        let done = self.done_jobs(&environment.id).await?;
        for object in objects {
            // It would take a change for its own, and not run.
            let ended = observed.workloads.as_ref().is_some_and(|workloads| ended_as_another(workloads, object));
            if ended && !done.contains(&object.name) {
                self.remove(&environment.namespace, &ObjectKey::of(object)).await?;
            }
            let put = self.put(&environment.namespace, object, &done, volumes).await;
            if let Err(NotApplied::NotTaken(Cause::VolumeUnavailable { .. })) = &put {
                self.end_pods_with(observed, &object.name).await?;
            }
            if let Err(NotApplied::Refused(Cause::QuotaExceeded { .. })) = &put {
                let (kind, name) = (object.kind.clone(), object.name.clone());
                let no_room = Cause::NotTaken { kind, name, why: Obstacle::NoRoom };
                if self.comes_to_have_room(observed, &no_room).await? {
                    return Err(NotApplied::NotTaken(no_room));
                }
            }
            put?;
        }
        Ok(())
    }

    /// Whether the quota comes to have room for what a recipe has that fits into it by itself: something of before goes, or
    /// has just gone, and is counted until the cluster has looked. What another commit left with its volume is ended.
    /// `no_room`: what was told of it where that was so before.
    async fn comes_to_have_room(&mut self, observed: &Observed, no_room: &Cause) -> Result<bool, NotApplied> {
        let environment = &observed.overview.environment;
        let owner = self.owner(&environment.id);
        self.fence(CALL_TIMEOUT).await?;
        let going = self.engine.cluster.claims_that_go(&environment.namespace, &owner).await?;
        let known = self.engine.store.inventory(&environment.id).await?;
        for claim in going.iter().filter(|claim| is_nobodys(claim, &known)) {
            self.end_pods_with(observed, claim).await?;
        }
        let was_told = observed.hitches.now.as_ref() == Some(&Hitch::from(no_room));
        Ok(self.makes_room || was_told || !going.is_empty())
    }

    /// Ends the pods that hold a claim.
    async fn end_pods_with(&mut self, observed: &Observed, claim: &str) -> Result<(), NotApplied> {
        let namespace = &observed.overview.environment.namespace;
        for pod in observed.workloads.iter().flat_map(|workloads| pods_with_claim(workloads, claim)) {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.restart_pod(namespace, &pod).await?;
        }
        Ok(())
    }

    /// Applies an object; where it must not be changed in place, or is to run again, it is made anew. A Job that is
    /// among `done` has done its work, whatever became of it.
    async fn put(
        &mut self,
        namespace: &Namespace,
        object: &Object,
        done: &[String],
        volumes: Volumes,
    ) -> Result<(), NotApplied> {
        let is_done = object.kind == "Job" && done.contains(&object.name);
        if is_done {
            return Ok(());
        }
        if let Some(run) = object.run() {
            self.fence(CALL_TIMEOUT).await?;
            let Object { api_version, kind, name, body: _ } = object;
            let there = self.engine.cluster.annotations(namespace, api_version, kind, name).await?;
            if there.is_some_and(|annotations| annotations.get(RUN).map(String::as_str) != Some(run)) {
                self.remove(namespace, &ObjectKey::of(object)).await?;
            }
        }
        self.fence(CALL_TIMEOUT).await?;
        match self.engine.cluster.apply(namespace, object).await {
            Ok(Standing::Stays) => return Ok(()),
            Ok(Standing::Goes) if object.kind == "PersistentVolumeClaim" => {
                let (name, why) = (Some(object.name.clone()), VolumeProblem::Going);
                return Err(NotApplied::NotTaken(Cause::VolumeUnavailable { name, why }));
            }
            // What was put into it would go with it.
            Ok(Standing::Goes) => return Err(NotApplied::not_yet(&ObjectKey::of(object), Obstacle::Goes)),
            Err(ClusterError::Immutable(_)) if object.kind == "PersistentVolumeClaim" => {
                return match volumes {
                    Volumes::AsAsked => Err(needs_reset(object)),
                    Volumes::AsTheyAre => Ok(()),
                };
            }
            Err(ClusterError::Immutable(_)) if volumes == Volumes::AsAsked => {
                self.grow_claims(namespace, object).await?;
            }
            Err(ClusterError::Immutable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.admit_anew(namespace, object).await?;
        self.remove(namespace, &ObjectKey::of(object)).await?;
        self.fence(CALL_TIMEOUT).await?;
        self.engine.cluster.apply(namespace, object).await?;
        Ok(())
    }

    /// Refuses what would be refused once the one that is there is gone: that one may serve.
    async fn admit_anew(&mut self, namespace: &Namespace, object: &Object) -> Result<(), NotApplied> {
        self.fence(CALL_TIMEOUT).await?;
        match self.engine.cluster.dry_run(namespace, object).await {
            // The one that is there is still counted.
            Ok(()) | Err(ClusterError::Refused(Cause::QuotaExceeded { .. })) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the claims that a StatefulSet's pods have already be as large as its templates say: its controller makes claims,
    /// and changes none.
    async fn grow_claims(&mut self, namespace: &Namespace, object: &Object) -> Result<(), NotApplied> {
        for claim in object.claims() {
            self.fence(CALL_TIMEOUT).await?;
            let Object { api_version, kind, name, body: _ } = &claim;
            if self.engine.cluster.annotations(namespace, api_version, kind, name).await?.is_none() {
                continue;
            }
            self.fence(CALL_TIMEOUT).await?;
            match self.engine.cluster.apply(namespace, &claim).await {
                Ok(_) => {}
                Err(ClusterError::Immutable(_)) => return Err(needs_reset(&claim)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Refuses what names something that is there and goes as soon as it runs, because its own recipe leaves it out: its
    /// pods would start now, and never again.
    async fn admit_what_is_named(&mut self, environment: &Environment, render: &Render) -> Result<(), NotApplied> {
        let known = self.engine.store.known_inventory(&environment.id).await?;
        for (object, (kind, name)) in render.missing().filter(|_| !self.engine.faults.has(Fault::LeftOutServes)) {
            let is_it = |known: &&Inventoried| known.key.kind == kind && known.key.name == name && !known.is_kept();
            let Some(Inventoried { key, .. }) = known.iter().find(is_it) else { continue };
            if is_claimed_by(render, key) {
                continue;
            }
            self.fence(CALL_TIMEOUT).await?;
            let there = self.engine.cluster.annotations(&environment.namespace, &key.api_version, kind, name).await?;
            // Where it is gone, somebody else may bring it.
            if there.is_none_or(|annotations| annotations.contains_key(STAYS)) {
                continue;
            }
            let rule = format!("its pods need {kind} {name}, which an earlier commit made and this one leaves out");
            let (kind, name) = (object.kind.clone(), object.name.clone());
            return Err(NotApplied::Refused(Cause::ObjectRefused { kind, name, rule }));
        }
        Ok(())
    }

    async fn record_removed(&self, volumes: &[String]) -> Result<(), Interrupted> {
        if volumes.is_empty() { Ok(()) } else { self.record(records::pruned(volumes)).await }
    }

    /// Whether a commit of it was ever seen to run.
    async fn has_served(&self, environment: &Environment) -> Result<bool, NotApplied> {
        let deployments = self.engine.store.deployments_of(&environment.id, LOOKS_BACK).await?;
        Ok(deployments.iter().any(|deployment| deployment.readiness.is_some()))
    }

    /// The Jobs of the inventory that were seen to complete.
    async fn done_jobs(&self, environment_id: &str) -> Result<Vec<String>, NotApplied> {
        let known = self.engine.store.known_inventory(environment_id).await?;
        Ok(known.into_iter().filter(|object| object.done).map(|object| object.key.name).collect())
    }

    /// Ends what another commit began and did not come to an end with: it is nobody's any more.
    async fn end_jobs(&mut self, observed: &Observed) -> Result<(), NotApplied> {
        let environment = &observed.overview.environment;
        let known = self.engine.store.known_inventory(&environment.id).await?;
        // Seen in this very pass, perhaps, and not recorded yet.
        let completed = observed.workloads.as_ref().map(completed_jobs).unwrap_or_default();
        let is_open =
            |object: &Inventoried| object.key.kind == "Job" && !object.done && !completed.contains(&object.key.name);
        let has_schedules = known.iter().any(|object| object.key.kind == "CronJob");
        for Inventoried { key, .. } in known.into_iter().filter(is_open) {
            self.remove(&environment.namespace, &key).await?;
        }
        if has_schedules {
            // What names no commit is of the one that is applied.
            let goes_on = environment.good_commit.as_ref();
            let unnamed_goes_on = goes_on.is_some() && environment.applied_commit.as_ref() == goes_on;
            self.end_scheduled(environment, |commit| match commit {
                Some(commit) => goes_on.is_some_and(|goes_on| goes_on.as_str() == commit),
                None => unnamed_goes_on,
            })
            .await?;
        }
        Ok(())
    }

    /// Ends what CronJobs began, but for what `goes_on`, by the commit that it names. One that hangs keeps the next from its
    /// turn, whatever became of what it was made from.
    async fn end_scheduled(
        &mut self,
        environment: &Environment,
        goes_on: impl Fn(Option<&str>) -> bool,
    ) -> Result<(), NotApplied> {
        let owner = self.owner(&environment.id);
        self.fence(CALL_TIMEOUT).await?;
        let jobs = self.engine.cluster.scheduled_jobs(&environment.namespace, &owner).await?;
        for (name, _) in jobs.iter().filter(|(_, commit)| !goes_on(commit.as_deref())) {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.delete_object(&environment.namespace, "batch/v1", "Job", name).await?;
        }
        Ok(())
    }

    /// Ends the Jobs of a commit that nobody asks for any more, while nothing comes in its place. Where that fails they end
    /// with whatever is applied next.
    pub(super) async fn end_abandoned_jobs(&mut self, observed: &Observed) {
        let environment = &observed.overview.environment;
        let head = &observed.overview.pull_request.facts.head_sha;
        let is_abandoned = environment.applied_commit.as_ref().is_some_and(|applied| applied != head);
        if !is_abandoned || environment.good_commit.is_some() {
            return;
        }
        if let Err(later) = self.end_abandoned(observed).await {
            self.put_off(later.interrupts());
        }
    }

    async fn end_abandoned(&mut self, observed: &Observed) -> Result<(), NotApplied> {
        let environment = &observed.overview.environment;
        let owner = self.owner(&environment.id);
        self.fence(CALL_TIMEOUT).await?;
        let state = self.engine.cluster.namespace(&environment.namespace, &owner).await?;
        if !matches!(state, NamespaceState::Ours { terminating: None, .. }) {
            return Ok(());
        }
        // What came to its end stays known to have.
        self.fence(CALL_TIMEOUT).await?;
        let workloads = self.engine.cluster.workloads(&environment.namespace, &owner, &[WorkloadKind::Job]).await?;
        let known = self.engine.store.known_inventory(&environment.id).await?;
        self.remember_what_is_done(&known, &workloads).await?;
        match self.end_jobs(observed).await {
            // It is on its way out.
            Err(NotApplied::NotTaken(_) | NotApplied::NamespaceGoes) => Ok(()),
            ended => ended,
        }
    }

    /// Deletes an object and waits until it is gone: what is applied to one that goes would go with it.
    async fn remove(&mut self, namespace: &Namespace, key: &ObjectKey) -> Result<(), NotApplied> {
        let ObjectKey { api_version, kind, name } = key;
        self.fence(CALL_TIMEOUT).await?;
        self.engine.cluster.delete_object(namespace, api_version, kind, name).await?;
        self.makes_room = true;
        for _ in 0..GOES.as_millis() / LOOK.as_millis() {
            self.fence(CALL_TIMEOUT).await?;
            if self.engine.cluster.annotations(namespace, api_version, kind, name).await?.is_none() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(NotApplied::not_yet(key, Obstacle::Goes))
    }

    /// Has the pods made anew that failed before this attempt, and the Jobs: they would end it before it began.
    /// `unready`: those too that are not ready, and have not done their work.
    async fn restart(&mut self, observed: &Observed, objects: &[Object], unready: bool) -> Result<(), NotApplied> {
        let Some(workloads) = &observed.workloads else { return Ok(()) };
        let namespace = &observed.overview.environment.namespace;
        let waited_for: Vec<(WorkloadKind, String)> =
            objects.iter().filter_map(|object| Some((WorkloadKind::of(&object.kind)?, object.name.clone()))).collect();
        let attempt_deadline = observed.deployment.as_ref().and_then(|deployment| deployment.attempt_deadline);
        let tasks = tasks_of(observed.deployment.as_ref());
        let expected = expected(&waited_for, (attempt_deadline, tasks), self.engine.patience, self.lease.now());
        let (jobs, pods) = if unready {
            (jobs_to_restart(workloads, &expected), pods_to_restart(workloads, &expected))
        } else {
            (failed_jobs(workloads, &expected), failed_pods(workloads, &expected))
        };
        for name in jobs {
            let key = ObjectKey { api_version: "batch/v1".to_owned(), kind: "Job".to_owned(), name };
            self.remove(namespace, &key).await?;
        }
        for pod in &pods {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.restart_pod(namespace, pod).await?;
        }
        Ok(())
    }

    /// Deletes what earlier commits left, or all of it but what only holds something. Gives the names of the volumes that
    /// went. What the cluster does not let go of is left soon after the attempt's end: the commit is ready.
    pub(super) async fn prune(&mut self, observed: &Observed, volumes: bool) -> Result<Vec<String>, NotApplied> {
        let now = self.lease.now();
        let row = observed.deployment.as_ref().filter(|row| row.status == DeploymentStatus::Deploying);
        let is_late = |row: &Deployment| row.attempt_deadline.is_none_or(|deadline| deadline + LEAVES_AFTER <= now);
        let gives_up = row.is_some_and(is_late);
        self.remove_leftovers(&observed.overview.environment, gives_up, |key| key.only_holds() && !volumes).await
    }

    /// Deletes what is in the inventory and not in what is applied, but for what `stays` for now, what a chart leaves in the
    /// namespace, and what a policy of the cluster keeps. `gives_up`: but for whatever else the cluster does not let go of.
    async fn remove_leftovers(
        &mut self,
        environment: &Environment,
        gives_up: bool,
        stays: impl Fn(&ObjectKey) -> bool,
    ) -> Result<Vec<String>, NotApplied> {
        let known = self.engine.store.known_inventory(&environment.id).await?;
        let (left, stands): (Vec<_>, Vec<_>) = known.into_iter().partition(Inventoried::is_superfluous);
        let (mut deleted, mut in_use, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for object in left.into_iter().filter(|object| !stays(&object.key)) {
            if stands.iter().any(|other| is_part_of(&object.key, &other.key)) {
                in_use.push(object.key);
                continue;
            }
            let removed = match self.remove_leftover(environment, &object).await {
                Ok(is_kept) => Ok(is_kept),
                Err(not_removed) => Err(self.tell_apart(environment, not_removed).await),
            };
            let is_kept = match removed {
                Ok(is_kept) => is_kept,
                Err(NotApplied::NotTaken(cause)) if gives_up || is_denied(&cause) => {
                    warn!(%cause, "what an earlier commit left stays in the cluster");
                    true
                }
                Err(not_removed) => return Err(not_removed),
            };
            if is_kept { &mut kept } else { &mut deleted }.push(object.key);
        }
        let settled = Settled { deleted: &deleted, in_use: &in_use, kept: &kept };
        if !settled.is_empty() {
            self.engine.store.settle_inventory(&self.lease, settled).await??;
        }
        Ok(deleted.into_iter().filter(ObjectKey::is_volume).map(|key| key.name).collect())
    }

    /// Deletes an object that an earlier commit left, unless a chart leaves it in the namespace. Gives whether the inventory
    /// keeps it.
    async fn remove_leftover(&mut self, environment: &Environment, left: &Inventoried) -> Result<bool, NotApplied> {
        let Inventoried { key: ObjectKey { api_version, kind, name }, done, once, .. } = left;
        self.fence(CALL_TIMEOUT).await?;
        let there = self.engine.cluster.annotations(&environment.namespace, api_version, kind, name).await?;
        let says = |annotation| there.as_ref().is_some_and(|annotations| annotations.contains_key(annotation));
        if says(STAYS) {
            return Ok(true);
        }
        // That it was done is known for as long as what it was done to is there; one of an earlier previewd says it itself.
        let is_done_once = *done && (*once || says(ONCE));
        if kind == "StatefulSet" {
            self.leave_claims(environment, name).await?;
        }
        self.fence(CALL_TIMEOUT).await?;
        self.engine.cluster.delete_object(&environment.namespace, api_version, kind, name).await?;
        self.makes_room = true;
        Ok(is_done_once)
    }

    /// Deletes what the cluster kept of earlier commits, where it lets go of it by now. What a chart leaves there stays, and
    /// what only holds something: pods may name it since.
    async fn remove_what_was_kept(&mut self, environment: &Environment) -> Result<(), NotApplied> {
        let known = self.engine.store.known_inventory(&environment.id).await?;
        let is_it = |object: &&Inventoried| object.is_kept() && !object.done && !object.key.only_holds();
        let (mut deleted, mut in_use) = (Vec::new(), Vec::new());
        for object in known.iter().filter(is_it) {
            // It may be applied again by now, in another version of its kind.
            if known.iter().any(|other| other.is_applied() && is_part_of(&object.key, &other.key)) {
                in_use.push(object.key.clone());
                continue;
            }
            match self.remove_leftover(environment, object).await {
                Ok(true) => {}
                Ok(false) => deleted.push(object.key.clone()),
                Err(NotApplied::NotTaken(cause)) => warn!(%cause, "what an earlier commit left stays in the cluster"),
                Err(not_removed) => return Err(not_removed),
            }
        }
        let settled = Settled { deleted: &deleted, in_use: &in_use, kept: &[] };
        if !settled.is_empty() {
            self.engine.store.settle_inventory(&self.lease, settled).await??;
        }
        Ok(())
    }

    /// Notes the claims of a StatefulSet that goes: like other volumes they go once it is sure that nothing comes back to
    /// them.
    async fn leave_claims(&mut self, environment: &Environment, stateful_set: &str) -> Result<(), Interrupted> {
        let owner = self.owner(&environment.id);
        self.fence(CALL_TIMEOUT).await?;
        let claims = self.engine.cluster.claims_of(&environment.namespace, &owner, stateful_set).await?;
        if !claims.is_empty() {
            self.engine.store.leave_claims(&self.lease, &claims).await??;
        }
        Ok(())
    }

    /// Deletes what a chart wants gone once the hook `job` has failed.
    pub(super) async fn remove_failed_hook(
        &mut self,
        environment: &Environment,
        commit: &CommitSha,
        job: &str,
    ) -> Result<(), Interrupted> {
        let Some(render) = self.engine.store.render(&environment.id, commit).await? else { return Ok(()) };
        for Object { api_version, kind, name, body: _ } in render.departing_after_failure(job) {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.delete_object(&environment.namespace, api_version, kind, name).await?;
        }
        Ok(())
    }

    /// Has the pods made anew that keep a StatefulSet from making those of its newest revision.
    pub(super) async fn remove_blocking_pods(&mut self, observed: &Observed) -> Result<(), NotApplied> {
        let environment = &observed.overview.environment;
        for pod in observed.workloads.iter().flat_map(blocking_pods) {
            self.fence(CALL_TIMEOUT).await?;
            if let Err(error) = self.engine.cluster.restart_pod(&environment.namespace, &pod).await {
                return Err(self.tell_apart(environment, error.into()).await);
            }
        }
        Ok(())
    }

    /// Whether the quota has room for what a phase makes, beside what runs. Where it has none, what ran before and is to
    /// be replaced is stopped; the phase waits for its pods to go.
    async fn has_room(
        &mut self,
        observed: &Observed,
        good: Option<&Render>,
        render: &Render,
        phase: usize,
    ) -> Result<bool, NotApplied> {
        if self.engine.faults.has(Fault::QuotaBlind) {
            return Ok(true);
        }
        let Some(workloads) = &observed.workloads else { return Ok(true) };
        let running = running(workloads);
        if room::has_room(render, phase, &running, &self.engine.policy.quota) {
            return Ok(true);
        }
        let environment = &observed.overview.environment;
        let in_the_way = room::in_the_way(render, phase, &running);
        if in_the_way.is_empty() {
            // Either it goes already, or nobody can make room.
            return Ok(!running.pods.iter().any(|pod| pod.goes));
        }
        let (mut any_stops, mut stays) = (running.pods.iter().any(|pod| pod.goes), None);
        for (kind, name) in in_the_way {
            let is_it = |object: &&Object| (&object.kind, &object.name) == (&kind, &name);
            let stopped = good.map(Render::asleep).and_then(|good| good.objects.iter().find(is_it).cloned());
            match self.make_way(&environment.namespace, &kind, &name, stopped).await {
                Ok(()) => any_stops = true,
                // Others may make way.
                Err(NotApplied::NotTaken(cause)) if is_denied(&cause) => stays = Some(cause),
                Err(not_applied) => return Err(not_applied),
            }
        }
        match stays {
            Some(cause) if !any_stops => Err(NotApplied::NotTaken(cause)),
            Some(_) | None => Ok(false),
        }
    }

    /// Stops what ran before, as `stopped` has it. None: it never served, and goes.
    async fn make_way(
        &mut self,
        namespace: &Namespace,
        kind: &str,
        name: &str,
        stopped: Option<Object>,
    ) -> Result<(), NotApplied> {
        self.fence(CALL_TIMEOUT).await?;
        match stopped {
            Some(stopped) => drop(self.engine.cluster.apply(namespace, &stopped).await?),
            None => {
                self.engine.cluster.delete_object(namespace, "apps/v1", kind, name).await?;
                self.makes_room = true;
            }
        }
        Ok(())
    }

    /// Creates the namespace where there is none. One that somebody else made is left alone.
    async fn ensure_namespace(
        &mut self,
        namespace: &Namespace,
        environment_id: &str,
        object: &Object,
    ) -> Result<(), NotApplied> {
        let owner = self.owner(environment_id);
        let mut state = self.engine.cluster.namespace(namespace, &owner).await?;
        if state == NamespaceState::Absent {
            self.fence(CALL_TIMEOUT).await?;
            match self.engine.cluster.create_namespace(object).await {
                Ok(Creation::Created { .. }) => return Ok(()),
                Ok(Creation::AlreadyThere) => state = self.engine.cluster.namespace(namespace, &owner).await?,
                Err(error) => return Err(error.into()),
            }
        }
        match state {
            NamespaceState::Ours { terminating: None, .. } => Ok(()),
            NamespaceState::Ours { terminating: Some(_), .. } | NamespaceState::Absent => {
                Err(NotApplied::NamespaceGoes)
            }
            NamespaceState::Foreign => {
                Err(NotApplied::Refused(Cause::NamespaceTaken { namespace: namespace.to_string() }))
            }
        }
    }

    pub(super) fn owner(&self, environment_id: &str) -> Owner {
        Owner { installation_id: self.installation.id.clone(), environment_id: environment_id.to_owned() }
    }
}

/// Whether what an earlier commit left is `other` all the same, in another version of its kind, or a claim that is its own.
fn is_part_of(left: &ObjectKey, other: &ObjectKey) -> bool {
    let is_of_set = other.kind == "StatefulSet" && left.is_volume();
    other.is_same_object(left) || (is_of_set && is_claim_of(&left.name, &other.name))
}

/// Whether there is a Job of this object's name that ended well as something else.
fn ended_as_another(workloads: &Workloads, object: &Object) -> bool {
    object.kind == "Job"
        && completed_jobs(workloads).contains(&object.name)
        && !has_completed(workloads, &object.name, &object.digest())
}

/// Whether a claim belongs to no commit that something may go back to, or on to.
fn is_nobodys(claim: &str, known: &[ObjectKey]) -> bool {
    let has_it = |key: &ObjectKey| {
        (key.is_volume() && key.name == claim) || (key.kind == "StatefulSet" && is_claim_of(claim, &key.name))
    };
    !known.iter().any(has_it)
}

/// Whether a policy of the cluster keeps the object.
fn is_denied(cause: &Cause) -> bool {
    matches!(cause, Cause::NotTaken { why: Obstacle::RemovalDenied { .. }, .. })
}

fn needs_reset(claim: &Object) -> NotApplied {
    NotApplied::Refused(Cause::NeedsReset { kind: claim.kind.clone(), name: claim.name.clone() })
}

/// Whether a claim is one of a StatefulSet of `render`.
fn is_claimed_by(render: &Render, key: &ObjectKey) -> bool {
    let is_its = |object: &Object| object.kind == "StatefulSet" && is_claim_of(&key.name, &object.name);
    key.is_volume() && render.objects.iter().any(is_its)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_that_ended_as_another_has_not_done_the_work_of_this_one() {
        let of = |completions: u32| {
            let spec = json!({ "completions": completions, "parallelism": completions });
            let metadata = json!({ "name": "import" });
            Object::from(json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec }))
        };
        let that = |status: &str| {
            let annotations = json!({ "previewd.dev/applied": of(2).digest() });
            let conditions = json!([{ "type": "Complete", "status": status }]);
            let metadata = json!({ "name": "import", "annotations": annotations });
            let job = json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "status": { "conditions": conditions },
            });
            Workloads { jobs: vec![serde_json::from_value(job).unwrap()], ..Workloads::default() }
        };
        assert!(ended_as_another(&that("True"), &of(4)));
        assert!(!ended_as_another(&that("True"), &of(2)), "this one");
        assert!(!ended_as_another(&that("False"), &of(4)), "it goes on");
        assert!(!ended_as_another(&Workloads::default(), &of(4)), "there is none");
    }

    fn key(api_version: &str, kind: &str, name: &str) -> ObjectKey {
        let [api_version, kind, name] = [api_version, kind, name].map(str::to_owned);
        ObjectKey { api_version, kind, name }
    }

    #[test]
    fn a_claim_is_nobodys_once_neither_it_nor_its_set_is_known() {
        let known = [key("v1", "PersistentVolumeClaim", "uploads"), key("apps/v1", "StatefulSet", "db")];
        for (claim, expected) in [("uploads", false), ("data-db-0", false), ("archive", true), ("data-other-0", true)] {
            assert_eq!(is_nobodys(claim, &known), expected, "{claim}");
        }
    }

    #[test]
    fn what_another_version_or_a_set_has_is_no_leftover_of_its_own() {
        let set = key("apps/v1", "StatefulSet", "db");
        let claim = key("v1", "PersistentVolumeClaim", "data-db-0");
        let scaler = |version: &str| key(version, "HorizontalPodAutoscaler", "web");
        assert!(is_part_of(&claim, &set) && !is_part_of(&set, &claim));
        assert!(is_part_of(&scaler("autoscaling/v1"), &scaler("autoscaling/v2")));
        assert!(!is_part_of(&key("v1", "PersistentVolumeClaim", "uploads"), &set));
    }
}
