//! The environments' namespaces: created, never adopted; deleted by UID.

use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, NamespaceCondition};
use kube::{
    api::{DeleteParams, GetParams, ListParams, ObjectList, PartialObjectMeta, PostParams, Preconditions, Resource},
    core::Request as Build,
};

use super::{
    Cluster, ClusterError, FIELD_MANAGER, Owner,
    client::{metadata_only, parse, uid_of},
    error::Call,
};
use crate::{
    environment::{ENVIRONMENT_LABEL, INSTALLATION_LABEL, Millis, Namespace},
    recipe::Object,
};

/// What stands under an environment's namespace name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceState {
    Absent,
    /// It carries our installation's and the environment's label.
    Ours {
        uid: String,
        terminating: Option<Terminating>,
    },
    /// It is somebody else's, or another environment's. Never touched.
    Foreign,
}

/// A namespace that is being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminating {
    /// When its removal was asked for, by the API server's clock.
    pub since: Millis,
    /// What still holds it, in words of ours. Pods that are shutting down are named here too, so this says why only
    /// when it lasts.
    pub blocked_by: Option<String>,
}

/// How a creation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    Created {
        uid: String,
    },
    /// There is one by that name; look whose it is.
    AlreadyThere,
}

/// How a deletion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The API server took it; the object goes now, or once what holds it is gone.
    Accepted,
    /// It was gone already.
    Gone,
    /// Under that name is another object by now, with a UID of its own. Nothing was deleted.
    AnotherOne,
}

/// A namespace that carries the installation's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledNamespace {
    pub namespace: Namespace,
    pub uid: String,
    pub environment_id: Option<String>,
    /// By the API server's clock.
    pub created_at: Millis,
    pub is_terminating: bool,
}

impl Cluster {
    /// Looks at a namespace. One request.
    pub async fn namespace(&self, namespace: &Namespace, owner: &Owner) -> Result<NamespaceState, ClusterError> {
        let call = Call::new("read", "Namespace", namespace.as_str());
        let request = cluster_wide().get(namespace.as_str(), &GetParams::default());
        let body = match self.try_send(&call, request).await {
            Ok(body) => body,
            Err(failure) if failure.status().is_some_and(|status| status.is_not_found()) => {
                return Ok(NamespaceState::Absent);
            }
            Err(failure) => return Err(failure.into_error(&call)),
        };
        let found: ApiNamespace = parse(&call, &body)?;
        if !owner.owns(found.metadata.labels.as_ref()) {
            return Ok(NamespaceState::Foreign);
        }
        let uid = uid_of(&call, &found)?;
        let terminating = found.metadata.deletion_timestamp.as_ref().map(|time| Terminating {
            since: time.0.as_millisecond(),
            blocked_by: blocked_by(found.status.and_then(|status| status.conditions).unwrap_or_default().as_slice()),
        });
        Ok(NamespaceState::Ours { uid, terminating })
    }

    /// Creates the namespace. It must be new: one that is there already is not touched.
    pub async fn create_namespace(&self, object: &Object) -> Result<Creation, ClusterError> {
        let call = Call::new("create", "Namespace", &object.name).with_object(&object.body);
        let parameters = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let request = metadata_only(cluster_wide().create(&parameters, object.body.to_string().into_bytes()));
        match self.try_send(&call, request).await {
            Ok(body) => {
                let created: PartialObjectMeta = parse(&call, &body)?;
                Ok(Creation::Created { uid: uid_of(&call, &created)? })
            }
            Err(failure) if failure.status().is_some_and(|status| status.is_already_exists()) => {
                Ok(Creation::AlreadyThere)
            }
            Err(failure) => Err(failure.into_error(&call)),
        }
    }

    /// Asks for the removal of the namespace with this UID and all that is in it. It takes seconds to go, or as long as
    /// something holds it; [`Self::namespace`] says how it stands.
    pub async fn delete_namespace(&self, namespace: &Namespace, uid: &str) -> Result<Deletion, ClusterError> {
        let call = Call::new("delete", "Namespace", namespace.as_str());
        self.delete(&call, &cluster_wide(), namespace.as_str(), Some(uid)).await
    }

    /// Deletes by name, and by UID where one is given.
    pub(super) async fn delete(
        &self,
        call: &Call<'_>,
        resource: &Build,
        name: &str,
        uid: Option<&str>,
    ) -> Result<Deletion, ClusterError> {
        let mut parameters = DeleteParams::background();
        parameters.preconditions = uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let failure = match self.try_send(call, metadata_only(resource.delete(name, &parameters))).await {
            Ok(_) => return Ok(Deletion::Accepted),
            Err(failure) => failure,
        };
        match failure.status() {
            Some(status) if status.is_not_found() => Ok(Deletion::Gone),
            Some(status) if status.code == 409 && is_about_uid(&status.message) => Ok(Deletion::AnotherOne),
            _ => Err(failure.into_error(call)),
        }
    }

    /// Every namespace that carries the installation's label, 500 to a request.
    pub async fn namespaces(&self, installation_id: &str) -> Result<Vec<LabelledNamespace>, ClusterError> {
        let call = Call::new("list", "Namespaces", "");
        let mut parameters =
            ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation_id}")).limit(500);
        let mut namespaces = Vec::new();
        loop {
            let page: ObjectList<PartialObjectMeta> =
                self.read(&call, cluster_wide().list_metadata(&parameters)).await?;
            for item in page.items {
                let uid = uid_of(&call, &item)?;
                let Some(namespace) = item.metadata.name.and_then(|name| name.parse().ok()) else { continue };
                let labels = item.metadata.labels.unwrap_or_default();
                namespaces.push(LabelledNamespace {
                    namespace,
                    uid,
                    environment_id: labels.get(ENVIRONMENT_LABEL).cloned(),
                    created_at: item.metadata.creation_timestamp.map_or(0, |time| time.0.as_millisecond()),
                    is_terminating: item.metadata.deletion_timestamp.is_some(),
                });
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok(namespaces),
            }
        }
    }
}

/// k8s.io/apiserver, `registry/rest/delete.go` and `storage/interfaces.go`.
fn is_about_uid(message: &str) -> bool {
    message.contains("the UID in the precondition") || message.contains("UID in precondition")
}

fn cluster_wide() -> Build {
    Build::new(ApiNamespace::url_path(&(), None))
}

/// The namespace controller's conditions (`pkg/controller/namespace/deletion/status_condition_utils.go`) in words of
/// ours. Finalizers before remaining objects: they are what makes objects remain.
fn blocked_by(conditions: &[NamespaceCondition]) -> Option<String> {
    let message = |kind: &str| {
        let condition = conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")?;
        Some(condition.message.as_deref().unwrap_or_default())
    };
    if let Some(message) = message("NamespaceFinalizersRemaining") {
        return Some(match counted(message, " in ") {
            Some((finalizer, count)) => format!("the finalizer {finalizer} holds {count} of its objects"),
            None => "finalizers hold some of its objects".to_owned(),
        });
    }
    if let Some(message) = message("NamespaceContentRemaining") {
        return Some(match counted(message, " has ") {
            Some((resource, count)) => format!("{count} of {resource} remain"),
            None => "some of its objects remain".to_owned(),
        });
    }
    if message("NamespaceDeletionDiscoveryFailure").is_some()
        || message("NamespaceDeletionGroupVersionParsingFailure").is_some()
    {
        return Some("an API of the cluster does not answer, so its objects cannot be listed".to_owned());
    }
    message("NamespaceDeletionContentFailure").map(|_| "some of its objects cannot be deleted".to_owned())
}

/// The first of `…: NAME<between>COUNT resource instances, …`, both of strict form.
fn counted<'a>(message: &'a str, between: &str) -> Option<(&'a str, u64)> {
    let (_, list) = message.split_once(": ")?;
    let (name, rest) = list.split_once(between)?;
    let name = name.trim_end_matches('.');
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'-');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(is_name) {
        return None;
    }
    Some((name, rest.split(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, message: &str) -> NamespaceCondition {
        NamespaceCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            message: Some(message.to_owned()),
            ..NamespaceCondition::default()
        }
    }

    #[test]
    fn what_holds_a_namespace_is_named() {
        let remaining = "Some resources are remaining: persistentvolumeclaims. has 1 resource instances, pods. has 2 resource instances";
        let finalizers =
            "Some content in the namespace has finalizers remaining: example.com/hold in 3 resource instances";
        let table = [
            (vec![], None),
            (vec![condition("NamespaceContentRemaining", remaining)], Some("1 of persistentvolumeclaims remain")),
            (
                vec![
                    condition("NamespaceContentRemaining", remaining),
                    condition("NamespaceFinalizersRemaining", finalizers),
                ],
                Some("the finalizer example.com/hold holds 3 of its objects"),
            ),
            (
                vec![condition("NamespaceFinalizersRemaining", "anything: <b>else</b> in 1 resource instances")],
                Some("finalizers hold some of its objects"),
            ),
            (
                vec![condition("NamespaceDeletionDiscoveryFailure", "Discovery failed for some groups, 1 failing: …")],
                Some("an API of the cluster does not answer, so its objects cannot be listed"),
            ),
        ];
        for (conditions, expected) in table {
            assert_eq!(blocked_by(&conditions).as_deref(), expected, "{conditions:?}");
        }
    }
}
