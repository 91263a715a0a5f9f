//! What the cluster is asked.

use previewd::{
    cluster::{Cluster, GatewayState},
    config::Config,
};

use super::{Check, told};

pub(super) async fn api_server(config: &Config) -> Check {
    const NAME: &str = "cluster";
    let cluster = match Cluster::new(config.kubernetes.clone()).await {
        Ok(cluster) => cluster,
        Err(error) => return Check::fail(NAME, told(&error), "set kubernetes.kubeconfig or kubernetes.context"),
    };
    let id = match cluster.id().await {
        Ok(id) => id,
        Err(error) => return Check::fail(NAME, told(&error), "check that the API server can be reached from here"),
    };
    match cluster.missing_permissions().await {
        Ok(missing) if missing.is_empty() => {
            Check::ok(NAME, format!("answers, and allows all that is needed; its id is {id}"))
        }
        Ok(missing) => {
            let problem = format!("previewd's account may not {}", missing.join(", "));
            Check::fail(NAME, problem, "give it the role that `previewd schema cluster-role` prints")
        }
        Err(error) => Check::warn(NAME, told(&error), "see that its account may ask for its own permissions"),
    }
}

/// That the cluster is away is said by its own check.
const NO_CLUSTER: &str = "not looked for, for want of a cluster";

pub(super) async fn way_in(config: &Config) -> Check {
    const NAME: &str = "way in";
    if config.router.enabled {
        return Check::ok(NAME, "previewd's own router");
    }
    let Ok(cluster) = Cluster::new(config.kubernetes.clone()).await else { return Check::ok(NAME, NO_CLUSTER) };
    if let Some(gateway) = &config.ingress.gateway {
        let name = format!("the Gateway {}/{}", gateway.namespace, gateway.name);
        return match cluster.gateway(gateway).await {
            Ok(GatewayState::Open) => Check::ok(NAME, format!("{name} takes routes of other namespaces")),
            Ok(GatewayState::Closed) => Check::fail(
                NAME,
                format!("{name} takes no routes of other namespaces"),
                "set allowedRoutes.namespaces.from of one of its listeners to All",
            ),
            Ok(GatewayState::Absent) => {
                Check::fail(NAME, format!("{name} is not there"), "make it, or correct ingress.gateway")
            }
            Err(error) => Check::warn(NAME, told(&error), "give previewd the role of `previewd schema cluster-role`"),
        };
    }
    let classes = match cluster.ingress_classes().await {
        Ok(classes) => classes,
        Err(error) => {
            return Check::warn(NAME, told(&error), "give previewd the role of `previewd schema cluster-role`");
        }
    };
    let there = classes.keys().cloned().collect::<Vec<_>>().join(", ");
    match &config.ingress.class {
        Some(class) if classes.contains_key(class) => Check::ok(NAME, format!("the ingress class {class}")),
        Some(class) => Check::fail(
            NAME,
            format!("the cluster has no ingress class {class}"),
            if classes.is_empty() {
                "install an ingress controller, or turn previewd's own router on (router.enabled)".to_owned()
            } else {
                format!("set ingress.class to one of {there}")
            },
        ),
        None => match classes.iter().find(|(_, is_default)| **is_default) {
            Some((class, _)) => Check::ok(NAME, format!("the default ingress class, {class}")),
            None if classes.is_empty() => Check::warn(
                NAME,
                "the cluster has no ingress class, so no environment can be opened by its URL",
                "install an ingress controller, or turn previewd's own router on (router.enabled)",
            ),
            None => Check::warn(
                NAME,
                "none of the cluster's ingress classes is its default, so that nothing may serve the URLs",
                format!("set ingress.class to one of {there}"),
            ),
        },
    }
}

/// Previews are kept from each other, and from all else, by NetworkPolicies, which the API server only stores.
pub(super) async fn network_policies(config: &Config) -> Check {
    const NAME: &str = "network policies";
    let mend = "see that the cluster's network plugin enforces NetworkPolicies; kindnet and kube-router do without a \
                sign, flannel does not. Calico and Cilium can be installed for it";
    let Ok(cluster) = Cluster::new(config.kubernetes.clone()).await else { return Check::ok(NAME, NO_CLUSTER) };
    match cluster.enforces_network_policies().await {
        Ok(Some(enforcer)) => Check::ok(NAME, format!("{enforcer} is there, which enforces them")),
        Ok(None) => Check::warn(
            NAME,
            "nothing that is known to enforce them shows; where nothing does, previews reach each other and all else",
            mend,
        ),
        Err(error) => Check::warn(NAME, told(&error), mend),
    }
}

pub(super) async fn metrics_api(config: &Config) -> Check {
    const NAME: &str = "metrics API";
    let Ok(cluster) = Cluster::new(config.kubernetes.clone()).await else { return Check::ok(NAME, NO_CLUSTER) };
    let mend = "install metrics-server; environments run without it, and nobody sees what they use";
    match cluster.usage("previewd-doctor").await {
        Ok(Some(_)) => Check::ok(NAME, "answers"),
        Ok(None) => Check::warn(NAME, "the cluster has none", mend),
        Err(error) => Check::warn(NAME, told(&error), mend),
    }
}
