//! The walls around every environment: what it may use, whom it may reach, who may reach it. They come from the
//! operator's policy alone; nothing in a recipe changes them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::{Bytes, Context, IngressSource, Millicores, Object, PodSelector};
use crate::environment::{ENVIRONMENT_LABEL, INSTALLATION_LABEL, MANAGED_BY};

/// The ServiceAccount of every pod.
pub const SERVICE_ACCOUNT: &str = "preview";

/// The Secret with what the operator gives a repository's recipes.
pub(crate) const OPERATORS_SECRET: &str = "preview-secrets";
/// The Secret with which images are pulled. No pod may read it.
pub(super) const REGISTRY_SECRET: &str = "previewd-registry";

/// Where pods may not connect to: private networks (RFC 1918), carrier-grade NAT (RFC 6598) and link-local addresses
/// (RFC 3927), where clouds serve their credentials.
const PRIVATE_IPV4: [&str; 5] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"];
/// The same in IPv6: unique local (RFC 4193) and link-local (RFC 4291) addresses.
const PRIVATE_IPV6: [&str; 2] = ["fc00::/7", "fe80::/10"];
/// Where NodeLocal DNSCache listens on every node, by Kubernetes' documentation.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";

/// A pod that states no limits gets this part of the quota, so that the application and a few such pods fit together.
const PARTS_OF_QUOTA: u64 = 4;

/// How many objects of a kind there may be.
pub(super) struct Count {
    pub kind: &'static str,
    /// The kind as a ResourceQuota counts it.
    pub resource: &'static str,
    pub allowed: u64,
    /// Those of them that are the cluster's and previewd's.
    pub not_the_recipes: u64,
}

const fn count(kind: &'static str, resource: &'static str, allowed: u64, not_the_recipes: u64) -> Count {
    Count { kind, resource, allowed, not_the_recipes }
}

/// More than any preview needs, and little enough for the cluster's database.
pub(super) const COUNTS: [Count; 8] = [
    count("Service", "services", 10, 0),
    // kube-root-ca.crt is in every namespace.
    count("ConfigMap", "configmaps", 20, 1),
    // What the operator gives, and the credentials of registries.
    count("Secret", "secrets", 20, 2),
    count("Deployment", "count/deployments.apps", 10, 0),
    count("StatefulSet", "count/statefulsets.apps", 10, 0),
    count("Job", "count/jobs.batch", 20, 0),
    count("CronJob", "count/cronjobs.batch", 5, 0),
    count("Ingress", "count/ingresses.networking.k8s.io", 5, 0),
];

/// The labels of everything that belongs to an environment.
pub(super) fn labels(context: &Context<'_>) -> Value {
    json!({
        MANAGED_BY.0: MANAGED_BY.1,
        INSTALLATION_LABEL: context.installation_id,
        ENVIRONMENT_LABEL: context.environment_id,
    })
}

/// The namespace, under the Pod Security standard `restricted`. Its version is the cluster's own: a hole that a new
/// version of the standard closes is closed here too.
pub(super) fn namespace(context: &Context<'_>) -> Object {
    let mut labels = labels(context);
    for mode in ["enforce", "warn", "audit"] {
        labels[format!("pod-security.kubernetes.io/{mode}")] = json!("restricted");
        labels[format!("pod-security.kubernetes.io/{mode}-version")] = json!("latest");
    }
    Object::from_body(json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": context.namespace,
            "labels": labels,
            "annotations": {
                "previewd.dev/pull-request": format!("{}#{}", context.repository, context.pull_request),
            },
        },
    }))
}

/// Everything that limits an environment, in the order in which it is applied.
pub(super) fn walls(context: &Context<'_>) -> Vec<Object> {
    let mut walls = vec![resource_quota(context), limit_range(context)];
    walls.extend(network_policies(context));
    if let Some(registries) = context.registries {
        let data = json!({ ".dockerconfigjson": BASE64.encode(registries) });
        let fields = json!({ "type": "kubernetes.io/dockerconfigjson", "data": data });
        walls.push(wall(context, "v1", "Secret", REGISTRY_SECRET, fields));
    }
    walls.push(service_account(context));
    walls
}

fn wall(context: &Context<'_>, api_version: &str, kind: &str, name: &str, fields: Value) -> Object {
    let mut body = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": { "name": name, "labels": labels(context) },
    });
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    Object::from_body(body)
}

/// What a commit has stays until the next one runs, so the cluster's quota has room for two; that a commit by itself keeps
/// to the policy is seen to when it is rendered. Pods are another matter: one commit's make room for the other's.
const COMMITS: u64 = 2;

fn resource_quota(context: &Context<'_>) -> Object {
    let quota = &context.policy.quota;
    let mut hard = json!({
        "requests.cpu": quota.cpu,
        "limits.cpu": quota.cpu,
        "requests.memory": quota.memory,
        "limits.memory": quota.memory,
        "pods": quota.pods.to_string(),
        "requests.storage": Bytes(quota.storage.0.saturating_mul(COMMITS)),
        "persistentvolumeclaims": u64::from(quota.persistent_volume_claims).saturating_mul(COMMITS).to_string(),
        // Only an Ingress leads in from outside.
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        "replicationcontrollers": "0",
    });
    for Count { resource, allowed, .. } in COUNTS {
        hard[resource] = json!(allowed.saturating_mul(COMMITS).to_string());
    }
    wall(context, "v1", "ResourceQuota", "preview", json!({ "spec": { "hard": hard } }))
}

fn limit_range(context: &Context<'_>) -> Object {
    let quota = &context.policy.quota;
    let part = json!({
        "cpu": Millicores(quota.cpu.0 / PARTS_OF_QUOTA),
        "memory": Bytes(quota.memory.0 / PARTS_OF_QUOTA),
    });
    let limits = json!([{ "type": "Container", "default": part, "defaultRequest": part }]);
    wall(context, "v1", "LimitRange", "preview", json!({ "spec": { "limits": limits } }))
}

fn service_account(context: &Context<'_>) -> Object {
    wall(context, "v1", "ServiceAccount", SERVICE_ACCOUNT, json!({ "automountServiceAccountToken": false }))
}

/// Everything is denied; what is allowed has a policy of its own, named for what it allows.
fn network_policies(context: &Context<'_>) -> Vec<Object> {
    let policy = |name: &str, rules: Value| {
        let types: &[&str] = match (rules.get("ingress"), rules.get("egress")) {
            (Some(_), None) => &["Ingress"],
            (None, Some(_)) => &["Egress"],
            (Some(_), Some(_)) | (None, None) => &["Ingress", "Egress"],
        };
        let mut spec = rules;
        spec["podSelector"] = json!({});
        spec["policyTypes"] = json!(types);
        wall(context, "networking.k8s.io/v1", "NetworkPolicy", name, json!({ "spec": spec }))
    };

    let same_namespace = json!([{ "podSelector": {} }]);
    let mut policies = vec![
        policy("deny-everything", json!({})),
        policy(
            "allow-within-namespace",
            json!({ "ingress": [{ "from": same_namespace }], "egress": [{ "to": same_namespace }] }),
        ),
        policy("allow-dns", json!({ "egress": [dns_rule()] })),
    ];
    // A rule without peers would allow everybody.
    let sources: Vec<Value> = context.policy.ingress.from.iter().map(ingress_peer).collect();
    if !sources.is_empty() {
        policies.push(policy("allow-ingress", json!({ "ingress": [{ "from": sources }] })));
    }
    let internet = internet_peers(context);
    if !internet.is_empty() {
        policies.push(policy("allow-internet", json!({ "egress": [{ "to": internet }] })));
    }
    policies
}

fn dns_rule() -> Value {
    json!({
        "to": [
            {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
                "podSelector": {},
            },
            { "ipBlock": { "cidr": NODE_LOCAL_DNS } },
        ],
        "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }],
    })
}

fn ingress_peer(source: &IngressSource) -> Value {
    match source {
        IngressSource::Range(range) => json!({ "ipBlock": { "cidr": range } }),
        IngressSource::Pods(PodSelector { namespace_labels, labels }) => json!({
            "namespaceSelector": { "matchLabels": namespace_labels },
            "podSelector": { "matchLabels": labels },
        }),
    }
}

/// The internet, without what is private and what the operator denies.
fn internet_peers(context: &Context<'_>) -> Vec<Value> {
    let families = [("0.0.0.0/0", PRIVATE_IPV4.as_slice(), true), ("::/0", PRIVATE_IPV6.as_slice(), false)];
    let mut peers = Vec::new();
    for (everything, private, is_ipv4) in families {
        let denied = || context.policy.denied_egress.iter().filter(|range| range.is_ipv4() == is_ipv4);
        // Kubernetes refuses an exception that is the whole range.
        if denied().any(|range| range.is_everything()) {
            continue;
        }
        let except: Vec<String> =
            private.iter().map(ToString::to_string).chain(denied().map(ToString::to_string)).collect();
        peers.push(json!({ "ipBlock": { "cidr": everything, "except": except } }));
    }
    peers
}

#[cfg(test)]
mod tests;
