//! etcd, the API server, the controllers and the scheduler, as processes of this machine.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::binaries::{API_SERVER, CONTROLLER_MANAGER, ETCD, SCHEDULER};
use super::certificates::Authority;
use super::process::{Component, Launch};
use super::slot::Slot;

/// Turns `(flag, value)` into `--flag=value`.
pub(super) fn flags<const N: usize>(pairs: [(&str, String); N]) -> Vec<String> {
    pairs.into_iter().map(|(flag, value)| format!("--{flag}={value}")).collect()
}

/// Sockets in the cluster's own folder need no port and let nobody else in.
fn etcd_socket(slot: &Slot, file: &str) -> String {
    format!("unix://{}/{file}.sock", slot.directory.display())
}

pub(super) fn start_etcd(slot: &Slot) -> Result<Component> {
    let clients = etcd_socket(slot, "etcd");
    let peers = etcd_socket(slot, "etcd-peer");
    let args = flags([
        ("name", "default".into()),
        ("data-dir", slot.directory.join("etcd").display().to_string()),
        ("listen-client-urls", clients.clone()),
        ("advertise-client-urls", clients),
        ("listen-peer-urls", peers.clone()),
        ("initial-advertise-peer-urls", peers.clone()),
        ("initial-cluster", format!("default={peers}")),
        // The data goes with the cluster, so there is no crash to survive.
        ("unsafe-no-fsync", "true".into()),
        ("log-level", "warn".into()),
    ]);
    Component::start(&slot.directory, Launch { name: "etcd", program: &ETCD.path()?, args, inside: None })
}

/// Starts the API server on `address`, which pods must reach where there is a node.
pub(super) fn start_api_server(slot: &Slot, authority: &Authority, address: Ipv4Addr) -> Result<Component> {
    let names = [
        address.to_string(),
        slot.first_service().to_string(),
        "kubernetes".into(),
        "kubernetes.default".into(),
        "kubernetes.default.svc".into(),
        "kubernetes.default.svc.cluster.local".into(),
    ];
    let serving = authority.issue("kube-apiserver", "kube-apiserver", None, &names)?;
    let to_kubelet = authority.issue("kubelet-client", "kube-apiserver", Some("system:masters"), &[])?;
    let front_proxy = authority.issue("front-proxy", "front-proxy", None, &[])?;
    let (token_key, token_public_key) = authority.token_keys()?;
    let ca = authority.certificate_file().display().to_string();
    let mut args = flags([
        ("etcd-servers", etcd_socket(slot, "etcd")),
        ("bind-address", address.to_string()),
        ("secure-port", slot.port().to_string()),
        ("service-cluster-ip-range", slot.services()),
        ("authorization-mode", "Node,RBAC".into()),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("allow-privileged", "true".into()),
        ("client-ca-file", ca.clone()),
        ("tls-cert-file", serving.certificate_file.display().to_string()),
        ("tls-private-key-file", serving.key_file.display().to_string()),
        ("kubelet-preferred-address-types", "InternalIP".into()),
        ("kubelet-certificate-authority", ca.clone()),
        ("kubelet-client-certificate", to_kubelet.certificate_file.display().to_string()),
        ("kubelet-client-key", to_kubelet.key_file.display().to_string()),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".into()),
        ("service-account-key-file", token_public_key.display().to_string()),
        ("service-account-signing-key-file", token_key.display().to_string()),
        // Both certificate authorities are one, and then it wants to know which of its clients is the front proxy.
        ("requestheader-client-ca-file", ca),
        ("requestheader-allowed-names", "front-proxy".into()),
        ("requestheader-username-headers", "X-Remote-User".into()),
        ("requestheader-group-headers", "X-Remote-Group".into()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
        ("proxy-client-cert-file", front_proxy.certificate_file.display().to_string()),
        ("proxy-client-key-file", front_proxy.key_file.display().to_string()),
        // There is no kube-proxy where the API server runs, so it goes to the endpoints themselves.
        ("enable-aggregator-routing", "true".into()),
        ("profiling", "false".into()),
    ]);
    args.push(if address.is_loopback() {
        // It refuses to publish a loopback address as the endpoint of `kubernetes`, and without pods nobody looks.
        "--endpoint-reconciler-type=none".into()
    } else {
        format!("--advertise-address={address}")
    });
    let program = API_SERVER.path()?;
    Component::start(&slot.directory, Launch { name: "kube-apiserver", program: &program, args, inside: None })
}

pub(super) fn start_controller_manager(slot: &Slot, authority: &Authority, server: &str) -> Result<Component> {
    let user = "system:kube-controller-manager";
    let kubeconfig = authority.write_kubeconfig(server, "kube-controller-manager", user, None)?;
    let args = flags([
        ("kubeconfig", kubeconfig.display().to_string()),
        ("leader-elect", "false".into()),
        ("bind-address", Ipv4Addr::LOCALHOST.to_string()),
        // Nobody asks it for its health, and so it needs no port.
        ("secure-port", "0".into()),
        ("service-account-private-key-file", authority.token_key_file().display().to_string()),
        ("root-ca-file", authority.certificate_file().display().to_string()),
        ("use-service-account-credentials", "true".into()),
        // The defaults (20 and 30 a second) are for clusters that share their API server with others.
        ("kube-api-qps", "200".into()),
        ("kube-api-burst", "400".into()),
    ]);
    let program = CONTROLLER_MANAGER.path()?;
    Component::start(&slot.directory, Launch { name: "kube-controller-manager", program: &program, args, inside: None })
}

pub(super) fn start_scheduler(slot: &Slot, authority: &Authority, server: &str) -> Result<Component> {
    let kubeconfig = authority.write_kubeconfig(server, "kube-scheduler", "system:kube-scheduler", None)?;
    let args = flags([
        ("kubeconfig", kubeconfig.display().to_string()),
        ("leader-elect", "false".into()),
        ("bind-address", Ipv4Addr::LOCALHOST.to_string()),
        ("secure-port", "0".into()),
        ("kube-api-qps", "200".into()),
        ("kube-api-burst", "400".into()),
    ]);
    Component::start(
        &slot.directory,
        Launch { name: "kube-scheduler", program: &SCHEDULER.path()?, args, inside: None },
    )
}
