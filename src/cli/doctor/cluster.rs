//! What the cluster is asked.

use previewd::{
    cluster::{Cluster, ClusterError, GatewayState},
    config::Config,
    environment::MANAGED_BY,
};

use super::{Check, told};

const GIVE_ROLE: &str = "give it the role that `previewd schema cluster-role` prints";

/// All checks of it. Of a cluster that tells nothing, that alone is said.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let (check, answers) = api_server(config).await;
    let mut checks = vec![check];
    if let Some(cluster) = answers {
        checks.push(ingress(config, &cluster).await);
        checks.push(network_policies(&cluster).await);
        checks.push(metrics_api(&cluster).await);
    }
    checks
}

/// With the cluster where it answers.
async fn api_server(config: &Config) -> (Check, Option<Cluster>) {
    const NAME: &str = "cluster";
    let cluster = match Cluster::new(config.kubernetes.clone()).await {
        Ok(cluster) => cluster,
        Err(error) => {
            return (Check::fail(NAME, told(&error), "set kubernetes.kubeconfig or kubernetes.context"), None);
        }
    };
    let id = match cluster.id().await {
        Ok(id) => id,
        Err(error @ ClusterError::Forbidden { .. }) => return (Check::fail(NAME, told(&error), GIVE_ROLE), None),
        Err(error) => {
            return (Check::fail(NAME, told(&error), "check that the API server can be reached from here"), None);
        }
    };
    let check = match cluster.missing_permissions().await {
        Ok(missing) if missing.is_empty() => {
            Check::ok(NAME, format!("answers, and allows all that is needed; its id is {id}"))
        }
        Ok(missing) => Check::fail(NAME, format!("previewd's account may not {}", missing.join(", ")), GIVE_ROLE),
        Err(error) => Check::warn(NAME, told(&error), "see that its account may ask for its own permissions"),
    };
    (check, Some(cluster))
}

/// Where the cluster does not tell what was asked.
fn untold(name: &'static str, error: &ClusterError) -> Check {
    let mend = match error {
        ClusterError::Forbidden { .. } => GIVE_ROLE,
        _ => "check that the API server can be reached from here, and ask again",
    };
    Check::warn(name, told(error), mend)
}

/// What leads from outside to an environment.
async fn ingress(config: &Config, cluster: &Cluster) -> Check {
    const NAME: &str = "ingress";
    if config.router.enabled {
        return Check::ok(NAME, "previewd's own router");
    }
    if let Some(gateway) = &config.ingress.gateway {
        let name = format!("the Gateway {}/{}", gateway.namespace, gateway.name);
        let (key, value) = MANAGED_BY;
        return match cluster.gateway(gateway).await {
            Ok(GatewayState::Open) => Check::ok(NAME, format!("{name} takes routes of environments")),
            Ok(GatewayState::Selects) => Check::warn(
                NAME,
                format!("{name} takes routes of namespaces with labels that those of environments may lack"),
                format!("let a listener select {key}: {value} and nothing else, or take routes from All"),
            ),
            Ok(GatewayState::Closed) => Check::fail(
                NAME,
                format!("{name} takes no routes of other namespaces"),
                "set allowedRoutes.namespaces.from of one of its listeners to All",
            ),
            Ok(GatewayState::Absent) => Check::fail(
                NAME,
                format!("{name} is not there"),
                "make it, with the Gateway API where the cluster has none, or correct ingress.gateway",
            ),
            Err(error) => untold(NAME, &error),
        };
    }
    let classes = match cluster.ingress_classes().await {
        Ok(classes) => classes,
        Err(error) => return untold(NAME, &error),
    };
    let mend = if classes.is_empty() {
        "install an ingress controller, or turn previewd's own router on (router.enabled)".to_owned()
    } else {
        format!("set ingress.class to one of {}", classes.keys().cloned().collect::<Vec<_>>().join(", "))
    };
    match &config.ingress.class {
        Some(class) if classes.contains_key(class) => Check::ok(NAME, format!("the ingress class {class}")),
        Some(class) => Check::fail(NAME, format!("the cluster has no ingress class {class}"), mend),
        // Some controllers serve what names no class.
        None => match classes.iter().filter(|(_, is_default)| **is_default).collect::<Vec<_>>()[..] {
            [(class, _)] => Check::ok(NAME, format!("the default ingress class, {class}")),
            [] => {
                Check::warn(NAME, "the cluster has no default ingress class, so that nothing may serve the URLs", mend)
            }
            _ => Check::warn(NAME, "the cluster has more than one default ingress class", mend),
        },
    }
}

/// Previews are kept from each other, and from all else, by NetworkPolicies, which the API server only stores.
async fn network_policies(cluster: &Cluster) -> Check {
    const NAME: &str = "network policies";
    let mend = "see that the cluster's network plugin enforces NetworkPolicies: kindnet, kube-router and k3s do without a \
                sign, Amazon's VPC CNI where it is told to, flannel does not; Calico and Cilium can be installed for it";
    match cluster.network_plugin().await {
        Ok(Some(plugin)) => Check::ok(
            NAME,
            format!("the cluster has the API of {plugin}, which enforces them by default where it runs"),
        ),
        Ok(None) => Check::warn(
            NAME,
            "nothing that is known to enforce them shows; where nothing does, previews reach each other and all else",
            mend,
        ),
        Err(error) => untold(NAME, &error),
    }
}

async fn metrics_api(cluster: &Cluster) -> Check {
    const NAME: &str = "metrics API";
    let mend = "install metrics-server, or see that it runs; environments do without it, and nobody sees what they use";
    match cluster.usage("previewd-doctor").await {
        Ok(Some(_)) => Check::ok(NAME, "answers"),
        Ok(None) => Check::warn(NAME, "the cluster has none", mend),
        Err(error @ ClusterError::Forbidden { .. }) => untold(NAME, &error),
        Err(error) => Check::warn(NAME, told(&error), mend),
    }
}
