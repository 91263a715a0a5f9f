//! What previewd finds in a cluster and does not make: the way in from outside, and the network plugin.

use std::collections::BTreeMap;

use http::Request;
use k8s_openapi::api::networking::v1::IngressClass;
use kube::{
    api::{GetParams, ListParams, ObjectList, Resource},
    core::Request as Build,
};
use serde::Deserialize;

use super::{Cluster, ClusterError, client::parse, error::Call};
use crate::recipe::Gateway;

/// Says which class counts for an Ingress that names none:
/// <https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class>
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// The groups of the API that come with a network plugin that enforces NetworkPolicies unless it is told not to, and its
/// name. That of Amazon's VPC CNI is left out, which enforces none unless it is told to.
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
    /// It takes routes of all namespaces.
    Open,
    /// It takes routes of namespaces with certain labels.
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
}

impl Listener {
    /// Of which namespaces it takes HTTPRoutes. By default of the gateway's own:
    /// <https://gateway-api.sigs.k8s.io/reference/spec/#routenamespaces>
    fn takes(&self) -> &str {
        let namespaces = self.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
        let from = namespaces.and_then(|namespaces| namespaces.from.as_deref());
        from.filter(|_| matches!(self.protocol.as_str(), "HTTP" | "HTTPS")).unwrap_or("Same")
    }
}

impl Cluster {
    /// The cluster's ingress classes, and whether each is the default. One request.
    pub async fn ingress_classes(&self) -> Result<BTreeMap<String, bool>, ClusterError> {
        let call = Call::new("list", "IngressClasses", "");
        let request = Build::new(IngressClass::url_path(&(), None)).list(&ListParams::default());
        let classes: ObjectList<IngressClass> = self.read(&call, request).await?;
        let named = |class: IngressClass| {
            let annotations = class.metadata.annotations.unwrap_or_default();
            let is_default = annotations.get(DEFAULT_CLASS).is_some_and(|value| value == "true");
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
        let takes = |from: &str| found.spec.listeners.iter().any(|listener| listener.takes() == from);
        Ok(match (takes("All"), takes("Selector")) {
            (true, _) => GatewayState::Open,
            (false, true) => GatewayState::Selects,
            (false, false) => GatewayState::Closed,
        })
    }

    /// The name of a network plugin that was installed in the cluster and can enforce NetworkPolicies. None where none
    /// shows: some leave no sign in the API. One request.
    pub async fn network_plugin(&self) -> Result<Option<&'static str>, ClusterError> {
        let call = Call::new("read", "API groups", "/apis");
        let request = Request::get("/apis").body(Vec::new()).map_err(|error| call.unexpected(&error))?;
        let found: ApiGroups = self.read(&call, Ok(request)).await?;
        let is_there = |group: &str| found.groups.iter().any(|found| found.name == group);
        Ok(PLUGINS.iter().find(|(group, _)| is_there(group)).map(|(_, name)| *name))
    }
}
