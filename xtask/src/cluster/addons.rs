//! What a cluster has beside Kubernetes itself: names of Services (CoreDNS) and the pods' usage (metrics-server).

use std::fs;

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use serde_json::{Value, json};

use super::binaries::{DNS, METRICS};
use super::certificates::Authority;
use super::control_plane::flags;
use super::node::Node;
use super::process::{Component, Launch};
use super::slot::Slot;

const METRICS_PORT: u16 = 4443;
const METRICS_SERVICE: &str = "metrics-server";

/// Starts CoreDNS on the node's address, where pods look for it.
pub(super) fn start_dns(slot: &Slot, authority: &Authority, server: &str, node: &Node) -> Result<Component> {
    let kubeconfig = authority.write_kubeconfig(server, "coredns", "coredns", Some("system:masters"))?;
    // Pods have no way out, so every other name is one that does not exist, said at once.
    let config = format!(
        "cluster.local in-addr.arpa {{
            bind {address}
            errors
            kubernetes cluster.local in-addr.arpa {{
                kubeconfig {kubeconfig}
            }}
        }}
        . {{
            bind {address}
            template ANY ANY {{
                rcode NXDOMAIN
            }}
        }}\n",
        address = slot.node(),
        kubeconfig = kubeconfig.display(),
    );
    let file = slot.directory.join("Corefile");
    fs::write(&file, config)?;
    let args = vec!["-conf".into(), file.display().to_string()];
    Component::start(&slot.directory, Launch { name: "coredns", program: &DNS.path()?, args, inside: Some(node.init) })
}

/// Starts metrics-server on the node's address.
pub(super) fn start_metrics(slot: &Slot, authority: &Authority, server: &str, node: &Node) -> Result<Component> {
    let user = "metrics-server";
    let kubeconfig = authority.write_kubeconfig(server, user, user, Some("system:masters"))?.display().to_string();
    let names = [format!("{METRICS_SERVICE}.kube-system.svc")];
    let serving = authority.issue("metrics-server-serving", user, None, &names)?;
    let args = flags([
        ("kubeconfig", kubeconfig.clone()),
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig),
        ("bind-address", slot.node().to_string()),
        ("secure-port", METRICS_PORT.to_string()),
        ("tls-cert-file", serving.certificate_file.display().to_string()),
        ("tls-private-key-file", serving.key_file.display().to_string()),
        ("kubelet-certificate-authority", authority.certificate_file().display().to_string()),
        ("kubelet-preferred-address-types", "InternalIP".into()),
        // The shortest resolution that it allows; the timeout must be below it.
        ("metric-resolution", "10s".into()),
        ("kubelet-request-timeout", "9s".into()),
    ]);
    let launch = Launch { name: "metrics-server", program: &METRICS.path()?, args, inside: Some(node.init) };
    Component::start(&slot.directory, launch)
}

/// Registers metrics-server with the API server, through a Service whose one endpoint is not a pod.
pub(super) async fn register_metrics(client: &Client, slot: &Slot, authority: &Authority) -> Result<()> {
    let services = "/api/v1/namespaces/kube-system/services";
    create(
        client,
        services,
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": METRICS_SERVICE },
            "spec": { "ports": [{ "name": "https", "port": 443, "targetPort": METRICS_PORT }] },
        }),
    )
    .await?;
    create(
        client,
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": METRICS_SERVICE, "labels": { "kubernetes.io/service-name": METRICS_SERVICE } },
            "addressType": "IPv4",
            "ports": [{ "name": "https", "port": METRICS_PORT, "protocol": "TCP" }],
            "endpoints": [{ "addresses": [slot.node()], "conditions": { "ready": true } }],
        }),
    )
    .await?;
    create(
        client,
        "/apis/apiregistration.k8s.io/v1/apiservices",
        json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": { "name": "v1beta1.metrics.k8s.io" },
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": authority.bundle(),
                "service": { "name": METRICS_SERVICE, "namespace": "kube-system", "port": 443 },
            },
        }),
    )
    .await
}

async fn create(client: &Client, collection: &str, object: Value) -> Result<()> {
    let request =
        Request::post(collection).header("content-type", "application/json").body(object.to_string().into())?;
    client
        .request::<Value>(request)
        .await
        .with_context(|| format!("cannot create {} in {collection}", object["kind"]))?;
    Ok(())
}
