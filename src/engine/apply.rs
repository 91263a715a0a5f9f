//! Applying: everything of a recipe into the environment's namespace, in an order that leaves nothing of ours outside
//! the inventory, lets nothing run before the walls stand, and nothing of a phase before the ones before it are ready.

use std::time::Duration;

use super::{
    interrupted::{Interrupted, NotApplied},
    observe::{Observed, expected},
    pass::Pass,
};
use crate::{
    cluster::{
        CALL_TIMEOUT, ClusterError, Creation, NamespaceState, Owner, WorkloadKind, jobs_to_restart, pods_to_restart,
    },
    environment::{Cause, CommitSha, Namespace, Reason},
    recipe::{Object, RUN, Render},
    store::{Environment, Made, ObjectKey},
};

/// How long a pass waits for an object to go that is made anew, and how often it looks.
const GOES: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// How far an attempt has come.
pub(super) struct Applied {
    /// So many phases are in the cluster.
    pub phases: i64,
    /// The digest of what is there, where that is everything.
    pub digest: Option<String>,
}

impl Pass<'_> {
    /// Applies a phase of the recipe at the head commit: its first with the namespace and the walls, and after its last
    /// one nothing else of ours is left.
    pub(super) async fn apply(
        &mut self,
        observed: &Observed,
        phase: i64,
        restart_pods: bool,
    ) -> Result<Applied, NotApplied> {
        let environment = &observed.overview.environment;
        let head = &observed.overview.pull_request.facts.head_sha;
        let made = self.make(observed).await?;
        // What is made from something else than before begins at its beginning.
        let phase = if made.is_new { 0 } else { usize::try_from(phase).unwrap_or(0) };
        let phases = made.render.phases();
        if phase == 0 {
            let kept = made.is_new.then_some(Made { render: &made.render, key: &made.key });
            self.prepare(environment, head, &made.render, kept).await?;
        }
        let objects = phases.get(phase).copied().unwrap_or_default();
        if restart_pods {
            self.restart(observed, objects).await?;
        }
        for object in objects {
            self.put(&environment.namespace, object).await?;
        }
        let is_last = phase + 1 >= phases.len();
        if is_last {
            self.prune(environment, &made.render).await?;
        }
        Ok(Applied { phases: phase as i64 + 1, digest: is_last.then(|| made.render.digest()) })
    }

    /// Puts back what was applied for a commit that ran. Gives whether it still, or already, serves.
    pub(super) async fn put_back(&mut self, environment: &Environment, commit: &CommitSha) -> Result<bool, NotApplied> {
        let render = self.engine.store.render(&environment.id, commit).await?;
        // It is kept for as long as the row names the commit; the key that it was sealed with may be gone.
        let render = render.ok_or_else(|| {
            let rule = "what was applied for it is sealed with a key that is not there any more".to_owned();
            NotApplied::Refused(Cause::ObjectRefused { kind: "Commit".to_owned(), name: commit.to_string(), rule })
        })?;
        let render = render.lasting();
        self.prepare(environment, commit, &render, None).await?;
        for object in &render.objects {
            self.put(&environment.namespace, object).await?;
        }
        self.prune(environment, &render).await?;
        let owner = self.owner(&environment.id);
        let kinds = [WorkloadKind::Deployment, WorkloadKind::StatefulSet];
        let workloads = self.engine.cluster.workloads(&environment.namespace, &owner, &kinds).await?;
        Ok(workloads.serves(commit))
    }

    /// Puts what was applied for a commit into the cluster once more, as it sleeps or runs. What is as it was stays
    /// untouched by that.
    pub(super) async fn reapply(&mut self, environment: &Environment, commit: &CommitSha) -> Result<(), NotApplied> {
        let Some(render) = self.engine.store.render(&environment.id, commit).await? else { return Ok(()) };
        let render = render.lasting();
        let render = if environment.reason == Some(Reason::Asleep) { render.asleep() } else { render };
        for object in render.applied() {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.apply(&environment.namespace, object).await?;
        }
        Ok(())
    }

    /// Stops the pods of what runs, and leaves everything else as it is.
    pub(super) async fn stop_pods(&mut self, environment: &Environment, commit: &CommitSha) -> Result<(), Interrupted> {
        let render = self.engine.store.render(&environment.id, commit).await?;
        let render = render.ok_or_else(|| Interrupted::failed("what was applied for the commit is missing"))?;
        for object in render.asleep().objects.iter().filter(|object| object.has_replicas()) {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.apply(&environment.namespace, object).await?;
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
    ) -> Result<(), NotApplied> {
        let namespace = &environment.namespace;
        self.ensure_namespace(namespace, &environment.id, &render.namespace).await?;
        self.engine.store.begin_apply(&self.lease, commit, render, made).await??;
        for wall in &render.walls {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.apply(namespace, wall).await?;
        }
        for pod in &render.pod_templates {
            self.fence(CALL_TIMEOUT).await?;
            match self.engine.cluster.dry_run_pod(namespace, pod).await {
                // The pods of the commit before may still hold the quota; the sum was checked when rendering.
                Ok(()) | Err(ClusterError::Refused(Cause::QuotaExceeded { .. })) => {}
                // A ServiceAccount of the recipe's own comes with its objects.
                Err(ClusterError::Refused(Cause::ObjectRefused { .. })) if render.has_account_of(pod) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Applies an object; where it must not be changed in place, or is to run again, it is made anew.
    async fn put(&mut self, namespace: &Namespace, object: &Object) -> Result<(), NotApplied> {
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
            Ok(_) => return Ok(()),
            // It did its work in this environment already.
            Err(ClusterError::Immutable(_)) if object.is_done_once() => return Ok(()),
            Err(ClusterError::Immutable(_)) if object.kind == "PersistentVolumeClaim" => {
                let (kind, name) = (object.kind.clone(), object.name.clone());
                return Err(NotApplied::Refused(Cause::NeedsReset { kind, name }));
            }
            Err(ClusterError::Immutable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.remove(namespace, &ObjectKey::of(object)).await?;
        self.fence(CALL_TIMEOUT).await?;
        self.engine.cluster.apply(namespace, object).await?;
        Ok(())
    }

    /// Deletes an object and waits until it is gone: what is applied to one that goes would go with it.
    async fn remove(&mut self, namespace: &Namespace, key: &ObjectKey) -> Result<(), NotApplied> {
        let ObjectKey { api_version, kind, name } = key;
        self.fence(CALL_TIMEOUT).await?;
        self.engine.cluster.delete_object(namespace, api_version, kind, name).await?;
        for _ in 0..GOES.as_millis() / LOOK.as_millis() {
            self.fence(CALL_TIMEOUT).await?;
            if self.engine.cluster.annotations(namespace, api_version, kind, name).await?.is_none() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(NotApplied::Interrupted(Interrupted::NotYet(Duration::from_secs(1))))
    }

    /// Has the pods that failed made anew, and the Jobs that did not do their work.
    async fn restart(&mut self, observed: &Observed, objects: &[Object]) -> Result<(), NotApplied> {
        let environment = &observed.overview.environment;
        let namespace = &environment.namespace;
        let waited_for: Vec<(WorkloadKind, String)> =
            objects.iter().filter_map(|object| Some((WorkloadKind::of(&object.kind)?, object.name.clone()))).collect();
        let kinds: Vec<WorkloadKind> = waited_for.iter().map(|(kind, _)| *kind).collect();
        let owner = self.owner(&environment.id);
        self.fence(CALL_TIMEOUT).await?;
        let workloads = self.engine.cluster.workloads(namespace, &owner, &kinds).await?;
        let attempt_deadline = observed.deployment.as_ref().and_then(|deployment| deployment.attempt_deadline);
        let expected = expected(&waited_for, attempt_deadline, self.engine.patience, self.lease.now());
        for name in jobs_to_restart(&workloads, &expected) {
            let key = ObjectKey { api_version: "batch/v1".to_owned(), kind: "Job".to_owned(), name };
            self.remove(namespace, &key).await?;
        }
        for pod in &pods_to_restart(&workloads, &expected) {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.restart_pod(namespace, pod).await?;
        }
        Ok(())
    }

    /// Deletes what was applied before and belongs to this render no more.
    async fn prune(&mut self, environment: &Environment, render: &Render) -> Result<(), NotApplied> {
        let store = &self.engine.store;
        let there = store.inventory(&environment.id).await?;
        let superfluous: Vec<ObjectKey> = there.into_iter().filter(|key| !key.is_among(render.applied())).collect();
        for ObjectKey { api_version, kind, name } in &superfluous {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.delete_object(&environment.namespace, api_version, kind, name).await?;
        }
        if !superfluous.is_empty() {
            self.engine.store.remove_from_inventory(&self.lease, &superfluous).await??;
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
