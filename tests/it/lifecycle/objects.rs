//! What there is of an environment, and what the rows say there is.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{LimitRange, ResourceQuota, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
};
use kube::{Api, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use previewd::{
    environment::ENVIRONMENT_LABEL,
    store::{Environment, Store},
};
use serde::de::DeserializeOwned;

use super::life::Life;

/// The environment's inventory, by kind and name.
pub async fn in_the_inventory(store: &Store, row: &Environment) -> BTreeSet<(String, String)> {
    let inventory = store.inventory(&row.id).await.unwrap();
    inventory.into_iter().map(|key| (key.kind, key.name)).collect()
}

async fn keys<K>(life: &Life, namespace: &str, environment_id: &str) -> Vec<(String, String)>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let ours = ListParams::default().labels(&format!("{ENVIRONMENT_LABEL}={environment_id}"));
    let found = Api::<K>::namespaced(life.kube.clone(), namespace).list(&ours).await.unwrap();
    found.items.iter().map(|object| (K::kind(&()).into_owned(), object.name_any())).collect()
}

/// Everything of the environment in the cluster, by kind and name, but for what the controllers make of it.
pub async fn in_the_cluster(life: &Life, row: &Environment) -> BTreeSet<(String, String)> {
    let (namespace, id) = (row.namespace.as_str(), row.id.as_str());
    let kinds = tokio::join!(
        keys::<ResourceQuota>(life, namespace, id),
        keys::<LimitRange>(life, namespace, id),
        keys::<NetworkPolicy>(life, namespace, id),
        keys::<ServiceAccount>(life, namespace, id),
        keys::<Deployment>(life, namespace, id),
        keys::<Service>(life, namespace, id),
        keys::<Ingress>(life, namespace, id),
    );
    let (a, b, c, d, e, f, g) = kinds;
    [a, b, c, d, e, f, g].into_iter().flatten().collect()
}
