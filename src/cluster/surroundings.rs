//! What previewd finds in a cluster and does not make: the way in from outside, and the network plugin.

use std::collections::BTreeMap;

use http::Request;
use k8s_openapi::{api::networking::v1::IngressClass, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    api::{GetParams, ListParams, ObjectList, Resource},
    core::Request as Build,
};
use serde::Deserialize;

use super::{Cluster, ClusterError, client::parse, error::Call};
use crate::{environment::MANAGED_BY, recipe::Gateway};

/// Says which class counts for an Ingress that names none:
/// <https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class>
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// The groups of the API that come with a network plugin that enforces NetworkPolicies where it runs unless it is told not
/// to, and its name. That of Amazon's VPC CNI is left out, which enforces none unless it is told to.
const PLUGINS: [(&str, &str); 6] = [
    ("crd.projectcalico.org", "Calico"),
    ("projectcalico.org", "Calico"),
    ("cilium.io", "Cilium"),
    ("crd.antrea.io", "Antrea"),
    ("k8s.ovn.org", "OVN-Kubernetes"),
    ("kubeovn.io", "Kube-OVN"),
];

/// A gateway, as far as routes of environments depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayState {
    /// It takes routes of all namespaces, or of all that previewd makes.
    Open,
    /// It takes routes of namespaces with other labels, which those of environments may lack.
    Selects,
    /// None of its listeners for HTTP takes routes of other namespaces, which those of environments are.
    Closed,
    /// There is none, or no such kind.
    Absent,
}

#[derive(Deserialize)]
struct ApiGroups {
    groups: Vec<ApiGroup>,
}

#[derive(Deserialize)]
struct ApiGroup {
    name: String,
}

#[derive(Deserialize)]
struct GatewayObject {
    spec: GatewaySpec,
}

#[derive(Deserialize)]
struct GatewaySpec {
    #[serde(default)]
    listeners: Vec<Listener>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listener {
    protocol: String,
    allowed_routes: Option<AllowedRoutes>,
}

#[derive(Deserialize)]
struct AllowedRoutes {
    namespaces: Option<RouteNamespaces>,
}

#[derive(Deserialize)]
struct RouteNamespaces {
    from: Option<String>,
    selector: Option<LabelSelector>,
}

impl Listener {
    /// How it stands for HTTPRoutes of environments. By default a listener takes those of its gateway's own namespace:
    /// <https://gateway-api.sigs.k8s.io/reference/spec/#routenamespaces>
    fn state(&self) -> GatewayState {
        let namespaces = self.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
        let Some(RouteNamespaces { from: Some(from), selector }) = namespaces else { return GatewayState::Closed };
        match (self.protocol.as_str(), from.as_str()) {
            ("HTTP" | "HTTPS", "All") => GatewayState::Open,
            ("HTTP" | "HTTPS", "Selector") if selector.as_ref().is_some_and(selects_ours) => GatewayState::Open,
            ("HTTP" | "HTTPS", "Selector") => GatewayState::Selects,
            _ => GatewayState::Closed,
        }
    }
}

fn selects_ours(selector: &LabelSelector) -> bool {
    let labels = selector.match_labels.iter().flatten();
    selector.match_expressions.iter().flatten().next().is_none()
        && labels.map(|(name, value)| (name.as_str(), value.as_str())).all(|label| label == MANAGED_BY)
}

fn is_default(class: &IngressClass) -> bool {
    let mut annotations = class.metadata.annotations.iter().flatten();
    annotations.any(|(name, value)| name == DEFAULT_CLASS && value == "true")
}

impl Cluster {
    /// The cluster's ingress classes, and whether each is the default. One request.
    pub async fn ingress_classes(&self) -> Result<BTreeMap<String, bool>, ClusterError> {
        let call = Call::new("list", "IngressClasses", "");
        let request = Build::new(IngressClass::url_path(&(), None)).list(&ListParams::default());
        let classes: ObjectList<IngressClass> = self.read(&call, request).await?;
        let named = |class: IngressClass| {
            let is_default = is_default(&class);
            class.metadata.name.map(|name| (name, is_default))
        };
        Ok(classes.items.into_iter().filter_map(named).collect())
    }

    /// How a gateway stands. One request.
    pub async fn gateway(&self, gateway: &Gateway) -> Result<GatewayState, ClusterError> {
        let call = Call::new("read", "Gateway", &gateway.name);
        let path = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{}/gateways", gateway.namespace);
        let request = Build::new(path).get(&gateway.name, &GetParams::default());
        let Some(body) = self.send_optional(&call, request).await? else { return Ok(GatewayState::Absent) };
        let found: GatewayObject = parse(&call, &body)?;
        let states: Vec<GatewayState> = found.spec.listeners.iter().map(Listener::state).collect();
        let best = [GatewayState::Open, GatewayState::Selects].into_iter().find(|state| states.contains(state));
        Ok(best.unwrap_or(GatewayState::Closed))
    }

    /// The name of a network plugin that can enforce NetworkPolicies and whose API is in the cluster, as it was installed
    /// there once. None where none shows: some leave no sign in the API. One request.
    pub async fn network_plugin(&self) -> Result<Option<&'static str>, ClusterError> {
        let call = Call::new("read", "API groups", "/apis");
        let request = Request::get("/apis").body(Vec::new()).map_err(|error| call.unexpected(&error))?;
        let found: ApiGroups = self.read(&call, Ok(request)).await?;
        let is_there = |group: &str| found.groups.iter().any(|found| found.name == group);
        Ok(PLUGINS.iter().find(|(group, _)| is_there(group)).map(|(_, name)| *name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_default_class_is_marked() {
        let class = |annotations: serde_json::Value| {
            let metadata = json!({ "name": "nginx", "annotations": annotations });
            is_default(&serde_json::from_value(json!({ "metadata": metadata })).unwrap())
        };
        assert!(class(json!({ "ingressclass.kubernetes.io/is-default-class": "true" })));
        assert!(!class(json!({ "ingressclass.kubernetes.io/is-default-class": "false" })));
        assert!(!class(json!({})));
    }
}
