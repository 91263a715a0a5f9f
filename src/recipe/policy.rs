//! What the operator decides for every environment: how much it may use, who may reach it, and whom it may not reach.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, Cidr, Millicores};

/// The operator's settings for every environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How much one environment may use.
    pub quota: Quota,
    /// How environments are reached.
    pub ingress: IngressPolicy,
    /// Ranges that environments may not reach, besides private and link-local addresses: the public addresses of nodes,
    /// of the API server, of a database.
    pub denied_egress: Vec<Cidr>,
    /// Where the databases of recipes come from.
    pub database_images: DatabaseImages,
    /// previewd's own router leads to environments: they get no route besides those of their recipes.
    pub has_router: bool,
}

/// The images of databases, without their tags, which recipes choose. Others must behave as the official ones do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseImages {
    /// PostgreSQL: what `docker.io/library/postgres` is.
    pub postgres: String,
    /// Redis: what `docker.io/library/redis` is.
    pub redis: String,
}

impl Default for DatabaseImages {
    fn default() -> Self {
        Self { postgres: "docker.io/library/postgres".to_owned(), redis: "docker.io/library/redis".to_owned() }
    }
}

/// How much one environment may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// CPU, as the sum of all requests and as the sum of all limits.
    pub cpu: Millicores,
    /// Memory, as the sum of all requests and as the sum of all limits.
    pub memory: Bytes,
    /// Pods at once, those that are ending included.
    pub pods: u32,
    /// Storage, as the sum of what all volume claims ask for.
    pub storage: Bytes,
    /// Volume claims.
    pub persistent_volume_claims: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            cpu: Millicores(500),
            memory: Bytes::mebibytes(512),
            pods: 10,
            storage: Bytes::mebibytes(1_024),
            persistent_volume_claims: 2,
        }
    }
}

/// How environments are reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IngressPolicy {
    /// The IngressClass. The cluster's default class where it is left out.
    pub class: Option<String>,
    /// Annotations of every Ingress, such as `cert-manager.io/cluster-issuer`.
    pub annotations: BTreeMap<String, String>,
    /// The Secret, in the environment's namespace, that holds the certificate: what cert-manager is to fill. The ingress
    /// controller's default certificate serves where it is left out. On localhost there is none.
    pub tls_secret: Option<String>,
    /// Who may open connections to an environment: the ingress controller, and previewd where it runs in the cluster. By
    /// default every pod of the namespaces `ingress-nginx` and `traefik`.
    pub from: Vec<IngressSource>,
    /// Annotations that Services and routes of charts and manifests may carry. All others are refused: controllers read
    /// DNS names and load balancers from them.
    pub allowed_annotations: Vec<String>,
    /// A gateway of the Gateway API that leads to environments, instead of Ingresses.
    pub gateway: Option<Gateway>,
}

/// A Gateway, by its name and namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// The namespace that it is in.
    pub namespace: String,
}

impl Default for IngressPolicy {
    fn default() -> Self {
        let pods_of = |namespace: &str| {
            // Every namespace carries its name in this label since Kubernetes 1.22.
            let label = ("kubernetes.io/metadata.name".to_owned(), namespace.to_owned());
            IngressSource::Pods(PodSelector { namespace_labels: [label].into(), labels: BTreeMap::new() })
        };
        Self {
            class: None,
            annotations: BTreeMap::new(),
            tls_secret: None,
            from: vec![pods_of("ingress-nginx"), pods_of("traefik")],
            allowed_annotations: Vec::new(),
            gateway: None,
        }
    }
}

/// One source of connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IngressSource {
    /// A range of addresses.
    Range(Cidr),
    /// Pods of the cluster.
    Pods(PodSelector),
}

/// Pods that carry `labels` in namespaces that carry `namespace_labels`. No labels are those of every pod, and of every
/// namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PodSelector {
    pub namespace_labels: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_may_leave_out_what_is_not_changed() {
        let policy: Policy = toml::from_str(
            r#"
            denied_egress = ["203.0.113.0/24", "2001:db8::/32"]
            [quota]
            cpu = 2
            memory = "1Gi"
            [ingress]
            class = "nginx"
            from = [{ range = "192.0.2.0/24" }, { pods = { labels = { app = "edge" } } }]
            "#,
        )
        .expect("a policy");
        assert_eq!(policy.quota, Quota { cpu: Millicores(2_000), memory: Bytes::mebibytes(1_024), ..Quota::default() });
        assert_eq!(policy.ingress.class.as_deref(), Some("nginx"));
        assert_eq!(policy.ingress.from.len(), 2);
        assert_eq!(policy.denied_egress.len(), 2);
        let again: Policy = toml::from_str(&toml::to_string(&policy).expect("TOML")).expect("a policy");
        assert_eq!(again, policy);
    }

    #[test]
    fn bad_settings_are_refused_with_their_key() {
        for (text, key, rule) in [
            ("quota.cpu = \"half\"", "cpu", "must be an amount of CPU"),
            ("quota.memory = \"1MB\"", "memory", "must be an amount of bytes"),
            ("quota.pods = -1", "pods", "-1"),
            ("quota.cpus = 1", "cpus", "unknown field"),
            ("denied_egress = [\"10.0.0.1/8\"]", "denied_egress", "beyond the prefix"),
            ("ingress.from = [{ range = \"everywhere\" }]", "from", "must be a range of addresses"),
            ("ingress.from = [{ host = \"a\" }]", "from", "unknown variant"),
        ] {
            let error = toml::from_str::<Policy>(text).expect_err(text).to_string();
            assert!(error.contains(key) && error.contains(rule), "{text}: {error}");
        }
    }
}
