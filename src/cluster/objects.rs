//! The objects in an environment's namespace: tried, applied, deleted.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::{
    api::{ApiResource, GetParams, ListParams, PartialObjectMeta, Patch, PatchParams, PostParams, Resource},
    core::{DynamicObject, GroupVersion, Request as Build},
};
use serde_json::{Value, json};

use super::{
    APPLIED, Cluster, ClusterError, Deletion, FIELD_MANAGER, Owner, PodReference, WorkloadKind,
    client::{Built, metadata_only, parse},
    error::Call,
    refusal::cannot_be_tried,
};
use crate::{
    environment::Namespace,
    recipe::{MadePod, Object},
};

/// What becomes of an object that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Stays,
    /// Somebody deleted it before: it is gone once what holds it lets go.
    Goes,
}

/// Whether a claim's name is one that a StatefulSet's controller gives: the template's, the set's and the pod's number.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-storage>
pub fn is_claim_of(claim: &str, stateful_set: &str) -> bool {
    let pod = claim.rsplit_once('-').filter(|(_, ordinal)| ordinal.parse::<u32>().is_ok());
    pod.and_then(|(rest, _)| rest.strip_suffix(stateful_set)).is_some_and(|rest| rest.len() > 1 && rest.ends_with('-'))
}

impl Cluster {
    /// Asks the API server whether it would take a pod as this object makes them, without making it. Pod Security,
    /// LimitRange, quota and the cluster's own policies refuse pods only when a controller makes them, long after their
    /// Deployment was taken. What is refused is refused in the object's name, with the field's place in the object.
    /// Nothing is asked of what makes no pods.
    pub async fn dry_run_pod(&self, namespace: &Namespace, object: &Object) -> Result<(), ClusterError> {
        let Some(MadePod { pod, place }) = object.pod() else { return Ok(()) };
        let call = Call::new("try", &object.kind, &object.name).in_namespace(namespace).with_object(&pod.body);
        let call = call.at(&place);
        let parameters = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let pods = Build::new(Pod::url_path(&(), Some(namespace.as_str())));
        self.try_out(&call, pods.create(&parameters, pod.body.to_string().into_bytes())).await
    }

    /// Asks the API server whether it would take the object where there is none of its name, without making it. It is tried
    /// under a name that nothing has, and refused under its own.
    pub async fn dry_run(&self, namespace: &Namespace, object: &Object) -> Result<(), ClusterError> {
        let call = Call::new("try", &object.kind, &object.name).in_namespace(namespace).with_object(&object.body);
        let resource = resource(&call, namespace, &object.api_version, &object.kind)?;
        let parameters = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let mut body = marked(object).into_owned();
        body["metadata"]["name"] = json!(unused_name(&object.name));
        self.try_out(&call, resource.create(&parameters, body.to_string().into_bytes())).await
    }

    /// Asks the API server whether it would take the object as a change of the one that is there.
    pub async fn try_to_apply(&self, namespace: &Namespace, object: &Object) -> Result<(), ClusterError> {
        let call = Call::new("try", &object.kind, &object.name).in_namespace(namespace).with_object(&object.body);
        let resource = resource(&call, namespace, &object.api_version, &object.kind)?;
        let parameters = PatchParams { dry_run: true, ..PatchParams::apply(FIELD_MANAGER).force() };
        let body = marked(object);
        self.try_out(&call, resource.patch(&object.name, &parameters, &Patch::Apply(&*body))).await
    }

    /// Sends what is only tried. Where a webhook can be asked about nothing of that kind, nothing is known against it.
    async fn try_out(&self, call: &Call<'_>, request: Built) -> Result<(), ClusterError> {
        match self.try_send(call, metadata_only(request)).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.status().is_some_and(|status| cannot_be_tried(&status.message)) => Ok(()),
            Err(failure) => Err(failure.into_error(call)),
        }
    }

    /// Applies the object. Fields that somebody else manages are taken over. What makes pods says in an annotation what
    /// was applied.
    pub async fn apply(&self, namespace: &Namespace, object: &Object) -> Result<Standing, ClusterError> {
        let call = Call::new("apply", &object.kind, &object.name).in_namespace(namespace).with_object(&object.body);
        let resource = resource(&call, namespace, &object.api_version, &object.kind)?;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let body = marked(object);
        let request = resource.patch(&object.name, &parameters, &Patch::Apply(&*body));
        let applied: PartialObjectMeta = parse(&call, &self.send(&call, metadata_only(request)).await?)?;
        Ok(if applied.metadata.deletion_timestamp.is_some() { Standing::Goes } else { Standing::Stays })
    }

    /// An object's annotations, be it on its way out. None where there is no such object.
    pub async fn annotations(
        &self,
        namespace: &Namespace,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, ClusterError> {
        let call = Call::new("read", kind, name).in_namespace(namespace).by_name();
        let request = resource(&call, namespace, api_version, kind)?.get(name, &GetParams::default());
        let Some(body) = self.send_optional(&call, metadata_only(request)).await? else { return Ok(None) };
        let found: PartialObjectMeta = parse(&call, &body)?;
        Ok(Some(found.metadata.annotations.unwrap_or_default()))
    }

    /// The names of the claims that a StatefulSet's controller made by its templates. It leaves them behind.
    pub async fn claims_of(
        &self,
        namespace: &Namespace,
        owner: &Owner,
        stateful_set: &str,
    ) -> Result<Vec<String>, ClusterError> {
        let claims = self.claims(namespace, owner).await?;
        let names = claims.into_iter().filter_map(|claim| claim.metadata.name);
        Ok(names.filter(|name| is_claim_of(name, stateful_set)).collect())
    }

    /// The names of the environment's claims that are deleted and still there, because something holds them.
    pub async fn claims_that_go(&self, namespace: &Namespace, owner: &Owner) -> Result<Vec<String>, ClusterError> {
        let claims = self.claims(namespace, owner).await?;
        let going = claims.into_iter().filter(|claim| claim.metadata.deletion_timestamp.is_some());
        Ok(going.filter_map(|claim| claim.metadata.name).collect())
    }

    async fn claims(&self, namespace: &Namespace, owner: &Owner) -> Result<Vec<PersistentVolumeClaim>, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let request = Build::new(PersistentVolumeClaim::url_path(&(), Some(namespace.as_str()))).list(&selected);
        self.list(namespace, request, "PersistentVolumeClaims").await
    }

    /// The values of the environment's Secrets in base64, by name and key. None are there where there is no namespace.
    pub async fn secrets(
        &self,
        namespace: &Namespace,
        owner: &Owner,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ClusterError> {
        let selected = ListParams::default().labels(&owner.selector());
        let request = Build::new(Secret::url_path(&(), Some(namespace.as_str()))).list(&selected);
        let secrets: Vec<Secret> = self.list(namespace, request, "Secrets").await?;
        let encoded = |secret: Secret| {
            let data = secret.data.unwrap_or_default().into_iter();
            let data = data.map(|(key, value)| (key, BASE64.encode(value.0)));
            Some((secret.metadata.name?, data.collect()))
        };
        Ok(secrets.into_iter().filter_map(encoded).collect())
    }

    /// Deletes an object. What it owns goes after it.
    pub async fn delete_object(
        &self,
        namespace: &Namespace,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Deletion, ClusterError> {
        let call = Call::new("delete", kind, name).in_namespace(namespace).by_name();
        let resource = resource(&call, namespace, api_version, kind)?;
        self.delete(&call, &resource, name, None).await
    }

    /// Deletes a pod, so that its controller makes a new one. One that is gone already is as good as deleted.
    pub async fn restart_pod(&self, namespace: &Namespace, pod: &PodReference) -> Result<(), ClusterError> {
        let resource = Build::new(Pod::url_path(&(), Some(namespace.as_str())));
        let call = Call::new("delete", "Pod", &pod.name).in_namespace(namespace).by_name();
        self.delete(&call, &resource, &pod.name, Some(&pod.uid)).await.map(drop)
    }
}

/// The object with its digest, where it makes pods.
fn marked(object: &Object) -> Cow<'_, Value> {
    if WorkloadKind::of(&object.kind).is_none() {
        return Cow::Borrowed(&object.body);
    }
    let mut body = object.body.clone();
    body["metadata"]["annotations"][APPLIED] = json!(object.digest());
    Cow::Owned(body)
}

/// A name of the same form that nothing has.
fn unused_name(name: &str) -> String {
    /// CronJobs, whose names must be the shortest:
    /// <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#writing-a-cronjob-spec>
    const LONGEST: usize = 52;
    const SUFFIX: &str = "-tried-anew";
    let kept = name.get(..LONGEST - SUFFIX.len()).unwrap_or(name);
    format!("{}{SUFFIX}", kept.trim_end_matches(['-', '.']))
}

/// The path of a kind in the namespace. The plural is guessed as kube does it, which is right for every kind that a
/// recipe may have, and saves the discovery.
fn resource(call: &Call<'_>, namespace: &Namespace, api_version: &str, kind: &str) -> Result<Build, ClusterError> {
    let version: GroupVersion = api_version.parse().map_err(|error| call.unexpected(&error))?;
    let resource = ApiResource::from_gvk(&version.with_kind(kind));
    Ok(Build::new(DynamicObject::url_path(&resource, Some(namespace.as_str()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_a_stateful_set_are_known_by_their_names() {
        for (claim, set, is_its) in [
            ("data-shop-0", "shop", true),
            ("data-shop-12", "shop", true),
            ("my-data-my-shop-0", "my-shop", true),
            ("data-shop", "shop", false),
            ("data-shop-a", "shop", false),
            ("data-workshop-0", "shop", false),
            ("shop-0", "shop", false),
            ("-shop-0", "shop", false),
        ] {
            assert_eq!(is_claim_of(claim, set), is_its, "{claim} of {set}");
        }
    }

    #[test]
    fn what_is_tried_has_a_name_of_the_form_that_its_own_has() {
        let long = |length: usize| "a".repeat(length);
        for (name, tried) in [
            ("shop.example".to_owned(), "shop.example-tried-anew".to_owned()),
            (long(63), format!("{}-tried-anew", long(41))),
            (format!("{}.b-c-d", long(39)), format!("{}.b-tried-anew", long(39))),
            (format!("{}.bcd", long(40)), format!("{}-tried-anew", long(40))),
        ] {
            assert_eq!(unused_name(&name), tried);
        }
    }

    #[test]
    fn every_kind_of_a_recipe_has_its_path() {
        let table = [
            ("apps/v1", "Deployment", "/apis/apps/v1/namespaces/pr-7/deployments"),
            ("apps/v1", "StatefulSet", "/apis/apps/v1/namespaces/pr-7/statefulsets"),
            ("batch/v1", "Job", "/apis/batch/v1/namespaces/pr-7/jobs"),
            ("batch/v1", "CronJob", "/apis/batch/v1/namespaces/pr-7/cronjobs"),
            ("v1", "Service", "/api/v1/namespaces/pr-7/services"),
            ("v1", "ConfigMap", "/api/v1/namespaces/pr-7/configmaps"),
            ("v1", "Secret", "/api/v1/namespaces/pr-7/secrets"),
            ("v1", "PersistentVolumeClaim", "/api/v1/namespaces/pr-7/persistentvolumeclaims"),
            ("v1", "ServiceAccount", "/api/v1/namespaces/pr-7/serviceaccounts"),
            ("v1", "ResourceQuota", "/api/v1/namespaces/pr-7/resourcequotas"),
            ("v1", "LimitRange", "/api/v1/namespaces/pr-7/limitranges"),
            ("policy/v1", "PodDisruptionBudget", "/apis/policy/v1/namespaces/pr-7/poddisruptionbudgets"),
            (
                "autoscaling/v2",
                "HorizontalPodAutoscaler",
                "/apis/autoscaling/v2/namespaces/pr-7/horizontalpodautoscalers",
            ),
            ("networking.k8s.io/v1", "Ingress", "/apis/networking.k8s.io/v1/namespaces/pr-7/ingresses"),
            ("networking.k8s.io/v1", "NetworkPolicy", "/apis/networking.k8s.io/v1/namespaces/pr-7/networkpolicies"),
            (
                "gateway.networking.k8s.io/v1",
                "HTTPRoute",
                "/apis/gateway.networking.k8s.io/v1/namespaces/pr-7/httproutes",
            ),
        ];
        let namespace: Namespace = "pr-7".parse().unwrap();
        for (api_version, kind, path) in table {
            let found = resource(&Call::new("apply", kind, "x"), &namespace, api_version, kind).unwrap();
            assert_eq!(found.url_path, path);
        }
    }
}
