//! Applying: everything of a recipe into the environment's namespace, in an order that leaves nothing of ours outside
//! the inventory and lets nothing run before the walls stand.

use super::{
    interrupted::{Interrupted, NotApplied},
    observe::{Observed, expected},
    pass::Pass,
};
use crate::{
    cluster::{CALL_TIMEOUT, ClusterError, Creation, NamespaceState, Owner, pods_to_restart},
    environment::{Cause, CommitSha, Namespace, PublicUrl, Reason},
    recipe::{self, Context, Object, RECIPE_FILE, Recipe, Render},
    store::{Environment, ObjectKey},
};

impl Pass<'_> {
    /// Applies the recipe at the head commit. Gives the digest of what is in the cluster now.
    pub(super) async fn apply(&mut self, observed: &Observed, restart_pods: bool) -> Result<String, NotApplied> {
        let environment = &observed.overview.environment;
        let head = &observed.overview.pull_request.facts.head_sha;
        let render = self.render(observed).map_err(NotApplied::Refused)?;
        self.put(environment, head, &render).await?;
        if restart_pods {
            let names: Vec<String> = render
                .objects
                .iter()
                .filter(|object| object.kind == "Deployment")
                .map(|object| object.name.clone())
                .collect();
            let cluster = &self.engine.cluster;
            let workloads = cluster.workloads(&environment.namespace, &self.owner(&environment.id)).await?;
            let attempt_deadline = observed.deployment.as_ref().and_then(|deployment| deployment.attempt_deadline);
            let left_behind = pods_to_restart(&workloads, &expected(&names, attempt_deadline, self.lease.now()));
            for pod in &left_behind {
                self.fence(CALL_TIMEOUT).await?;
                self.engine.cluster.restart_pod(&environment.namespace, pod).await?;
            }
        }
        Ok(render.digest())
    }

    /// Puts back what was applied for a commit that ran. Gives whether it still, or already, serves.
    pub(super) async fn put_back(&mut self, environment: &Environment, commit: &CommitSha) -> Result<bool, NotApplied> {
        let render = self.engine.store.render(&environment.id, commit).await?;
        // It is kept for as long as the row names the commit.
        let render =
            render.ok_or_else(|| Interrupted::failed("what was applied for the last good commit is missing"))?;
        self.put(environment, commit, &render).await?;
        let owner = self.owner(&environment.id);
        let workloads = self.engine.cluster.workloads(&environment.namespace, &owner).await?;
        Ok(workloads.serves(commit))
    }

    /// Puts what was applied for a commit into the cluster once more, as it sleeps or runs. What is as it was stays
    /// untouched by that.
    pub(super) async fn reapply(&mut self, environment: &Environment, commit: &CommitSha) -> Result<(), NotApplied> {
        let Some(render) = self.engine.store.render(&environment.id, commit).await? else { return Ok(()) };
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
        for object in render.asleep().objects.iter().filter(|object| object.kind == "Deployment") {
            self.fence(CALL_TIMEOUT).await?;
            self.engine.cluster.apply(&environment.namespace, object).await?;
        }
        Ok(())
    }

    /// Makes the namespace hold this render and nothing else of ours.
    async fn put(&mut self, environment: &Environment, commit: &CommitSha, render: &Render) -> Result<(), NotApplied> {
        let (cluster, store) = (&self.engine.cluster, &self.engine.store);
        let namespace = &environment.namespace;
        self.ensure_namespace(namespace, &environment.id, &render.namespace).await?;
        let before = store.inventory(&environment.id).await?;
        store.begin_apply(&self.lease, commit, render).await??;
        for wall in &render.walls {
            self.fence(CALL_TIMEOUT).await?;
            cluster.apply(namespace, wall).await?;
        }
        for pod in &render.pod_templates {
            self.fence(CALL_TIMEOUT).await?;
            match cluster.dry_run_pod(namespace, pod).await {
                // The pods of the commit before may still hold the quota; the sum was checked when rendering.
                Ok(()) | Err(ClusterError::Refused(Cause::QuotaExceeded { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for object in &render.objects {
            self.fence(CALL_TIMEOUT).await?;
            cluster.apply(namespace, object).await?;
        }

        let superfluous: Vec<ObjectKey> = before.into_iter().filter(|key| !key.is_among(render.applied())).collect();
        for ObjectKey { api_version, kind, name } in &superfluous {
            self.fence(CALL_TIMEOUT).await?;
            cluster.delete_object(namespace, api_version, kind, name, None).await?;
        }
        if !superfluous.is_empty() {
            store.remove_from_inventory(&self.lease, &superfluous).await??;
        }
        Ok(())
    }

    fn render(&self, observed: &Observed) -> Result<Render, Cause> {
        let stored = observed.deployment.as_ref().and_then(|deployment| deployment.recipe.as_ref());
        let text = match (&observed.recipe, stored) {
            (Some(Ok(text)), _) | (None, Some(text)) => text,
            (Some(Err(cause)), _) => return Err(cause.clone()),
            (None, None) => return Err(Cause::NoRecipe),
        };
        let recipe = Recipe::parse(RECIPE_FILE, text)?;
        let (environment, pull_request) = (&observed.overview.environment, &observed.overview.pull_request.facts);
        recipe::render(
            &recipe,
            &Context {
                repository: &pull_request.repository.name,
                pull_request: pull_request.number,
                commit: &pull_request.head_sha,
                branch: &pull_request.head_ref,
                namespace: &environment.namespace,
                url: &PublicUrl::of(&environment.namespace, &self.engine.base_domain),
                environment_id: &environment.id,
                installation_id: &self.installation.id,
                policy: &self.engine.policy,
            },
        )
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
