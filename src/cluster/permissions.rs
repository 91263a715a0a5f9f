//! What previewd's account in the cluster must be allowed to do: as much as its calls need, and no more.

use kube::core::Request as Build;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cluster, ClusterError, error::Call};

/// The resources of one API group, and what previewd does with each of them.
struct Rule {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

/// Server-side apply needs `patch`, and `create` for what is not there yet; `get` is for what is made anew.
const APPLIED: &[&str] = &["get", "create", "patch", "delete"];
const APPLIED_AND_LISTED: &[&str] = &["get", "list", "create", "patch", "delete"];
const APPLIED_AND_WATCHED: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

const RULES: [Rule; 17] = [
    Rule { group: "", resources: &["namespaces"], verbs: &["get", "list", "watch", "create", "delete"] },
    // Created as dry runs only.
    Rule { group: "", resources: &["pods"], verbs: &["list", "watch", "create", "delete"] },
    Rule { group: "", resources: &["pods/log"], verbs: &["get"] },
    // The router's way in from outside. Clusters before 1.35 want `get` of whoever asks by WebSocket, later ones `create`.
    Rule { group: "", resources: &["pods/portforward"], verbs: &["get", "create"] },
    Rule {
        group: "",
        resources: &["configmaps", "limitranges", "resourcequotas", "serviceaccounts", "services"],
        verbs: APPLIED,
    },
    // What a chart or a database made up is read, so that it stays what it is; and which claims a StatefulSet left.
    Rule { group: "", resources: &["persistentvolumeclaims", "secrets"], verbs: APPLIED_AND_LISTED },
    Rule { group: "apps", resources: &["deployments", "statefulsets"], verbs: APPLIED_AND_WATCHED },
    Rule { group: "apps", resources: &["replicasets"], verbs: &["list"] },
    Rule { group: "batch", resources: &["jobs"], verbs: APPLIED_AND_WATCHED },
    Rule { group: "batch", resources: &["cronjobs"], verbs: APPLIED },
    Rule { group: "autoscaling", resources: &["horizontalpodautoscalers"], verbs: APPLIED },
    Rule { group: "policy", resources: &["poddisruptionbudgets"], verbs: APPLIED },
    Rule { group: "networking.k8s.io", resources: &["ingresses", "networkpolicies"], verbs: APPLIED },
    Rule { group: "gateway.networking.k8s.io", resources: &["httproutes"], verbs: APPLIED },
    // Why something does not come up.
    Rule { group: "", resources: &["events"], verbs: &["list"] },
    // Which pods are ready behind a Service.
    Rule { group: "discovery.k8s.io", resources: &["endpointslices"], verbs: &["list"] },
    // What environments use. Where there is no such API, this allows nothing.
    Rule { group: "metrics.k8s.io", resources: &["pods"], verbs: &["list"] },
];
/// What only `previewd doctor` asks: whether the way in is there.
const RULES_OF_DOCTOR: [Rule; 2] = [
    Rule { group: "networking.k8s.io", resources: &["ingressclasses"], verbs: &["list"] },
    Rule { group: "gateway.networking.k8s.io", resources: &["gateways"], verbs: &["get"] },
];
/// Whether it answers, which version it is, and which kinds it knows.
const PATHS: [&str; 3] = ["/readyz", "/version", "/apis"];

/// The ClusterRole of previewd's account.
pub fn cluster_role() -> Value {
    let mut rules: Vec<Value> = RULES
        .iter()
        .chain(&RULES_OF_DOCTOR)
        .map(|Rule { group, resources, verbs }| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs }))
        .collect();
    rules.push(json!({ "nonResourceURLs": PATHS, "verbs": ["get"] }));
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "previewd" },
        "rules": rules,
    })
}

impl Cluster {
    /// What previewd's account may not do although it must, as `verb resource`. One request.
    pub async fn missing_permissions(&self) -> Result<Vec<String>, ClusterError> {
        let call = Call::new("review", "permissions", "of previewd's own account");
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": { "namespace": "default" },
        });
        let request = Build::new("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews")
            .create(&kube::api::PostParams::default(), review.to_string().into_bytes());
        let review: Review = self.read(&call, request).await?;
        let granted = |group: &str, resource: &str, verb: &str| {
            review.status.resource_rules.iter().any(|rule| {
                let has = |list: &[String], wanted: &str| list.iter().any(|item| item == "*" || item == wanted);
                has(&rule.api_groups, group)
                    && has(&rule.resources, resource)
                    && has(&rule.verbs, verb)
                    && rule.resource_names.is_empty()
            })
        };
        let mut missing = Vec::new();
        for Rule { group, resources, verbs } in &RULES {
            for resource in *resources {
                let lacking = verbs.iter().filter(|verb| !granted(group, resource, verb));
                missing.extend(lacking.map(|verb| format!("{verb} {resource}")));
            }
        }
        Ok(missing)
    }
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewStatus {
    resource_rules: Vec<Granted>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Granted {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    resource_names: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_by_a_wildcard() {
        let role = cluster_role().to_string();
        assert!(!role.contains('*'), "{role}");
        for never in ["escalate", "bind", "impersonate", "deletecollection", "pods/exec", "nodes", "roles"] {
            assert!(!role.contains(&format!("\"{never}\"")), "{never}");
        }
    }
}
