//! Volumes of earlier commits: people are told which of them go, before and after.

use super::{interrupted::Interrupted, pass::Pass};
use crate::{
    cluster::is_claim_of,
    environment::EnvironmentStatus,
    recipe::{Object, STAYS},
    store::{Deployment, Environment, EventFilter, EventKind, Inventoried, ObjectKey},
};

impl Pass<'_> {
    /// The volumes that go with what is in them once the commit that is being deployed runs: its recipe has them no
    /// longer.
    pub(super) async fn volumes_to_go(&self, environment: &Environment) -> Result<Vec<String>, Interrupted> {
        if environment.status != EnvironmentStatus::Deploying {
            return Ok(Vec::new());
        }
        let store = &self.engine.store;
        let known = store.known_inventory(&environment.id).await?;
        let (left, stands): (Vec<_>, Vec<_>) = known.into_iter().partition(Inventoried::is_superfluous);
        let is_set = |key: &ObjectKey| key.kind == "StatefulSet";
        // Claims whose StatefulSet is back, or stays.
        let is_in_use = |key: &ObjectKey| {
            let has_it = |set: &Inventoried| is_set(&set.key) && is_claim_of(&key.name, &set.key.name);
            key.is_volume() && stands.iter().any(has_it)
        };
        let leave: Vec<ObjectKey> = left
            .into_iter()
            .map(|Inventoried { key, .. }| key)
            .filter(|key| (key.is_volume() || is_set(key)) && !is_in_use(key))
            .collect();
        if leave.is_empty() {
            return Ok(Vec::new());
        }
        let good = match &environment.good_commit {
            Some(good) => store.render(&environment.id, good).await?,
            None => None,
        };
        let objects = good.map(|render| render.objects).unwrap_or_default();
        Ok(volumes(&leave, &objects))
    }

    /// The names of the volumes that went when the head commit had come to run. None: none did.
    pub(super) async fn volumes_gone(
        &self,
        environment: &Environment,
        head: Option<&Deployment>,
    ) -> Result<Option<String>, Interrupted> {
        let since = head.and_then(|row| row.started_at).filter(|_| environment.status == EnvironmentStatus::Running);
        let Some(since) = since else { return Ok(None) };
        let filter = EventFilter {
            environment_id: Some(environment.id.clone()),
            kind: Some(EventKind::VolumesRemoved),
            limit: 20,
            ..EventFilter::default()
        };
        let mut events = self.engine.store.list_events(&filter).await?;
        events.retain(|event| event.at >= since);
        let gone: Vec<String> = events.into_iter().rev().filter_map(|event| event.detail).collect();
        Ok((!gone.is_empty()).then(|| gone.join(", ")))
    }
}

/// The volumes among what leaves, and those that its StatefulSets claim; `objects` has what it was made from. What a chart
/// leaves in the namespace is not among them.
fn volumes(leave: &[ObjectKey], objects: &[Object]) -> Vec<String> {
    let mut volumes = Vec::new();
    for key in leave {
        let made_from = objects.iter().find(|object| key.is_same_object(&ObjectKey::of(object)));
        if made_from.is_some_and(|object| !object.body["metadata"]["annotations"][STAYS].is_null()) {
            continue;
        }
        if key.is_volume() {
            volumes.push(key.name.clone());
            continue;
        }
        volumes.extend(made_from.into_iter().flat_map(Object::claims).map(|claim| claim.name));
    }
    volumes.sort_unstable();
    volumes.dedup();
    volumes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(kind: &str, name: &str, annotations: Value, spec: Value) -> Object {
        let api_version = if kind == "StatefulSet" { "apps/v1" } else { "v1" };
        let metadata = json!({ "name": name, "annotations": annotations });
        Object::from(json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec }))
    }

    #[test]
    fn claims_of_a_stateful_set_go_with_it_and_what_a_chart_keeps_does_not() {
        let templates = json!([{ "metadata": { "name": "data" } }, { "metadata": { "name": "log" } }]);
        let objects = [
            object("PersistentVolumeClaim", "uploads", json!({}), json!({})),
            object("PersistentVolumeClaim", "archive", json!({ STAYS: "true" }), json!({})),
            object("StatefulSet", "db", json!(null), json!({ "replicas": 2, "volumeClaimTemplates": templates })),
            object("StatefulSet", "cache", json!(null), json!({})),
        ];
        let leave: Vec<ObjectKey> = objects.iter().map(ObjectKey::of).collect();
        let expected = ["data-db-0", "data-db-1", "log-db-0", "log-db-1", "uploads"];
        assert_eq!(volumes(&leave, &objects), expected);
        // The key that sealed what it was made from is gone: the inventory alone knows its volumes.
        assert_eq!(volumes(&leave[..1], &[]), ["uploads"]);
    }
}
