//! What pods use, from the metrics API (`metrics.k8s.io`), where the cluster has one.

use std::collections::BTreeMap;

use kube::{api::ListParams, core::Request as Build};
use serde::Deserialize;

use super::{
    Cluster, ClusterError,
    client::parse,
    error::{Call, Failure},
};
use crate::{
    environment::{INSTALLATION_LABEL, Namespace},
    recipe,
};

/// What the pods of one environment use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    pub cpu_millicores: u64,
    pub memory_bytes: u64,
}

#[derive(Deserialize)]
struct PodMetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Metadata {
    namespace: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    usage: Quantities,
}

#[derive(Deserialize)]
struct Quantities {
    cpu: String,
    memory: String,
}

impl Cluster {
    /// What each namespace of this installation uses now; those without pods that were measured are left out. None where
    /// the cluster has no metrics API. One request.
    pub async fn usage(&self, installation_id: &str) -> Result<Option<BTreeMap<Namespace, Used>>, ClusterError> {
        let call = Call::new("list", "metrics of Pods", "");
        let selected = ListParams::default().labels(&format!("{INSTALLATION_LABEL}={installation_id}"));
        let request = Build::new("/apis/metrics.k8s.io/v1beta1/pods").list(&selected);
        match self.try_send(&call, request).await {
            Ok(body) => {
                let list: PodMetricsList = parse(&call, &body)?;
                sums(&list).map(Some).ok_or_else(|| ClusterError::Unexpected {
                    call: call.to_string(),
                    why: "an amount is none that Kubernetes knows".to_owned(),
                })
            }
            Err(Failure::Status(status)) if status.code == 404 => Ok(None),
            Err(failure) => Err(failure.into_error(&call)),
        }
    }
}

/// None where an amount cannot be read.
fn sums(list: &PodMetricsList) -> Option<BTreeMap<Namespace, Used>> {
    // Added up in billionths of a core: small amounts would be rounded up one by one.
    let mut found: BTreeMap<Namespace, (u64, u64)> = BTreeMap::new();
    // A pod that just began is listed before its containers are measured.
    for pod in list.items.iter().filter(|pod| !pod.containers.is_empty()) {
        let Ok(namespace) = pod.metadata.namespace.parse() else { continue };
        let (cpu, memory) = found.entry(namespace).or_default();
        for ContainerMetrics { usage } in &pod.containers {
            *cpu = cpu.saturating_add(recipe::nanocores(&usage.cpu)?);
            *memory = memory.saturating_add(usage.memory.parse::<recipe::Bytes>().ok()?.0);
        }
    }
    let used =
        |(nanocores, memory_bytes): (u64, u64)| Used { cpu_millicores: nanocores.div_ceil(1_000_000), memory_bytes };
    Some(found.into_iter().map(|(namespace, sum)| (namespace, used(sum))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, containers: &[(&str, &str)]) -> serde_json::Value {
        let containers: Vec<_> =
            containers.iter().map(|(cpu, memory)| json!({ "usage": { "cpu": cpu, "memory": memory } })).collect();
        json!({ "metadata": { "namespace": namespace, "name": "web" }, "containers": containers })
    }

    fn list(items: &[serde_json::Value]) -> PodMetricsList {
        serde_json::from_value(json!({ "items": items })).unwrap()
    }

    #[test]
    fn pods_of_a_namespace_are_added_up() {
        let found = sums(&list(&[
            pod("pr-7", &[("1500000n", "10Mi"), ("1500000n", "512Ki")]),
            pod("pr-7", &[("12m", "1Mi")]),
            pod("pr-8", &[]),
        ]))
        .unwrap();
        let of = |name: &str| found[&name.parse::<Namespace>().unwrap()];
        assert_eq!(of("pr-7"), Used { cpu_millicores: 15, memory_bytes: (11 << 20) + (512 << 10) });
        assert_eq!(found.len(), 1, "a pod that was not measured has no figures");
    }

    #[test]
    fn nonsense_is_no_amount() {
        assert!(sums(&list(&[pod("pr-7", &[("much", "10Mi")])])).is_none());
        assert!(sums(&list(&[pod("pr-7", &[("-3", "10Mi")])])).is_none());
    }
}
