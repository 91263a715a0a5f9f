//! The way to what a Service leads to: its ready pods, and a connection to one of them through the API server.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::{Pod, Service, ServicePort},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    api::{GetParams, ListParams, Resource},
    core::Request as Build,
};
use tokio::io::DuplexStream;

use super::{
    Cluster, ClusterError,
    client::parse,
    error::{Call, Failure},
};
use crate::environment::Namespace;

/// The label that names a slice's Service:
/// <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#ownership>.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A ready pod behind a Service, and the port of it that the Service's port leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub pod: String,
    pub address: IpAddr,
    pub port: u16,
}

impl Cluster {
    /// The ready endpoints of a Service's port; none where there is no such Service. Two requests at once.
    pub async fn endpoints(
        &self,
        namespace: &Namespace,
        service: &str,
        port: u16,
    ) -> Result<Vec<Endpoint>, ClusterError> {
        let within = Some(namespace.as_str());
        let call = Call::new("read", "Service", service).in_namespace(namespace);
        let of_service = Build::new(Service::url_path(&(), within)).get(service, &GetParams::default());
        let selected = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
        let slices = Build::new(EndpointSlice::url_path(&(), within)).list(&selected);
        let (found, slices) = tokio::try_join!(
            self.send_optional(&call, of_service),
            self.list::<EndpointSlice>(namespace, slices, "EndpointSlices")
        )?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let found: Service = parse(&call, &found)?;
        let ports = found.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let Some(wanted) = ports.iter().find(|known| is_tcp_at(known, port)) else { return Ok(Vec::new()) };
        Ok(ready(&slices, wanted.name.as_deref().unwrap_or_default()))
    }

    /// Opens a connection to a port of a pod through the API server. One that the pod does not take ends at once. It ends
    /// as well where nothing comes for as long as calls of the API server may be silent.
    pub async fn port_forward(
        &self,
        namespace: &Namespace,
        pod: &str,
        port: u16,
    ) -> Result<DuplexStream, ClusterError> {
        let call = Call::new("reach", "Pod", pod).in_namespace(namespace);
        let opened = async {
            let client = self.client().await?;
            let pods: Api<Pod> = Api::namespaced(client, namespace.as_str());
            pods.portforward(pod, &[port]).await.map_err(|error| match error {
                kube::Error::Api(status) => Failure::Status(status),
                error => Failure::Transport(error),
            })
        };
        match opened.await {
            Ok(mut forwarder) => {
                let stream = forwarder.take_stream(port);
                stream.ok_or_else(|| call.unexpected(&"the connection has no stream"))
            }
            Err(failure) => {
                self.forget_refused_credentials(&failure).await;
                Err(failure.into_error(&call))
            }
        }
    }
}

/// Whether connections to this number get to the port of a Service: one for another protocol may have the same.
fn is_tcp_at(known: &ServicePort, number: u16) -> bool {
    known.port == i32::from(number) && known.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
}

/// What of the slices is ready behind the Service's port of this name. One without a name is its Service's only one.
fn ready(slices: &[EndpointSlice], port_name: &str) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    for slice in slices {
        let mut ports = slice.ports.iter().flatten();
        let port = ports.find(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in &slice.endpoints {
            // Left out, it is to be taken for ready. What ends is not.
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            let pod = pod.and_then(|target| target.name.clone());
            let address = endpoint.addresses.first().and_then(|address| address.parse().ok());
            // Where Services have addresses of both families, each pod is in two slices.
            if let (true, Some(pod), Some(address)) = (is_ready, pod, address)
                && !found.iter().any(|known| known.pod == pod)
            {
                found.push(Endpoint { pod, address, port });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(ports: Value, endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4", "metadata": {}, "ports": ports, "endpoints": endpoints,
        }))
        .expect("a slice")
    }

    fn endpoint(address: &str, pod: &str, conditions: Value) -> Value {
        json!({ "addresses": [address], "conditions": conditions, "targetRef": { "kind": "Pod", "name": pod } })
    }

    #[test]
    fn connections_get_to_a_port_of_their_protocol() {
        let port = |port: Value| serde_json::from_value::<ServicePort>(port).expect("a port");
        for (known, is_it) in [
            (json!({ "port": 80 }), true),
            (json!({ "port": 80, "protocol": "TCP" }), true),
            (json!({ "port": 80, "protocol": "UDP" }), false),
            (json!({ "port": 81, "protocol": "TCP" }), false),
        ] {
            assert_eq!(is_tcp_at(&port(known.clone()), 80), is_it, "{known}");
        }
    }

    #[test]
    fn only_ready_pods_are_endpoints_each_once() {
        let ports = json!([{ "name": "metrics", "port": 9000 }, { "name": "http", "port": 8080 }]);
        let slices = [
            slice(
                ports.clone(),
                json!([
                    endpoint("10.0.0.1", "web-1", json!({ "ready": true })),
                    endpoint("10.0.0.2", "web-2", json!({ "ready": false, "serving": true, "terminating": true })),
                    endpoint("10.0.0.3", "web-3", json!({})),
                    { "addresses": ["192.0.2.1"], "conditions": { "ready": true } },
                ]),
            ),
            slice(ports, json!([endpoint("fd00::1", "web-1", json!({ "ready": true }))])),
        ];
        let found = |name: &str| {
            let ready = ready(&slices, name);
            ready
                .into_iter()
                .map(|Endpoint { pod, address, port }| format!("{pod} {address} {port}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(found("http"), ["web-1 10.0.0.1 8080", "web-3 10.0.0.3 8080"]);
        assert_eq!(found("metrics").len(), 2);
        assert_eq!(found(""), Vec::<String>::new());
    }
}
