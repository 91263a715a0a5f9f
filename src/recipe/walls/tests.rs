//! The network policies, judged as a cluster judges them: <https://kubernetes.io/docs/concepts/services-networking/network-policies/>.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::Value;

use super::super::{Charted, Context, Files, Policy};
use super::*;
use crate::environment::{CommitSha, Namespace, PublicUrl, RepositoryName};

/// Somebody who sends packets, or gets them.
#[derive(Debug, Clone)]
struct Peer {
    /// The labels of its namespace; None outside of the cluster's pods.
    namespace: Option<BTreeMap<String, String>>,
    labels: BTreeMap<String, String>,
    address: IpAddr,
    is_ours: bool,
}

fn pairs(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A pod of the preview.
fn ours(address: &str) -> Peer {
    Peer { is_ours: true, ..pod("pr-7-shop", &[], address) }
}

/// A pod of another namespace.
fn pod(namespace: &str, labels: &[(&str, &str)], address: &str) -> Peer {
    let namespace = Some(pairs(&[("kubernetes.io/metadata.name", namespace)]));
    Peer { namespace, labels: pairs(labels), address: address.parse().expect("an address"), is_ours: false }
}

/// Nobody's pod: a node, a machine on the network, the internet.
fn machine(address: &str) -> Peer {
    Peer { namespace: None, labels: BTreeMap::new(), address: address.parse().expect("an address"), is_ours: false }
}

fn is_within(address: IpAddr, cidr: &str) -> bool {
    let (network, length) = cidr.split_once('/').expect("a range");
    let (network, length): (IpAddr, u32) = (network.parse().expect("an address"), length.parse().expect("a length"));
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector["matchLabels"].as_object().cloned().unwrap_or_default();
    wanted.iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
}

fn is_peer(rule: &Value, peer: &Peer) -> bool {
    if let Some(block) = rule.get("ipBlock") {
        let except = block["except"].as_array().cloned().unwrap_or_default();
        return is_within(peer.address, block["cidr"].as_str().expect("a range"))
            && !except.iter().any(|range| is_within(peer.address, range.as_str().expect("a range")));
    }
    let in_namespace = match (rule.get("namespaceSelector"), &peer.namespace) {
        (Some(selector), Some(labels)) => selects(selector, labels),
        (Some(_), None) => false,
        (None, _) => peer.is_ours,
    };
    in_namespace && rule.get("podSelector").is_none_or(|selector| selects(selector, &peer.labels))
}

fn is_port(rule: &Value, protocol: &str, port: u64) -> bool {
    rule.get("ports").and_then(Value::as_array).is_none_or(|ports| {
        ports.iter().any(|allowed| allowed["protocol"] == protocol && allowed["port"].as_u64() == Some(port))
    })
}

/// Whether `other` and one of our pods may talk in `direction`.
fn allows(policies: &[Object], direction: &str, other: &Peer, protocol: &str, port: u64) -> bool {
    let (rules, peers) = if direction == "Egress" { ("egress", "to") } else { ("ingress", "from") };
    let of_direction = policies.iter().map(|policy| &policy.body["spec"]).filter(|spec| {
        let types = spec["policyTypes"].as_array().expect("policy types");
        types.iter().any(|named| named == direction)
    });
    let specs: Vec<&Value> = of_direction.collect();
    assert!(!specs.is_empty(), "nothing denies");
    specs.iter().flat_map(|spec| spec[rules].as_array().into_iter().flatten()).any(|rule| {
        let is_named =
            rule.get(peers).and_then(Value::as_array).is_none_or(|list| list.iter().any(|p| is_peer(p, other)));
        is_named && is_port(rule, protocol, port)
    })
}

/// Whether a connection comes about.
fn verdict(policies: &[Object], from: &Peer, to: &Peer, protocol: &str, port: u64) -> bool {
    let leaves = !from.is_ours || allows(policies, "Egress", to, protocol, port);
    let enters = !to.is_ours || allows(policies, "Ingress", from, protocol, port);
    leaves && enters
}

fn policies_under(policy: &Policy) -> Vec<Object> {
    let repository: RepositoryName = "acme/shop".parse().expect("a repository");
    let namespace = Namespace::of_pull_request(42, &repository, 7);
    let commit: CommitSha = "a".repeat(40).parse().expect("a commit");
    let context = Context {
        repository: &repository,
        pull_request: 7,
        commit: &commit,
        branch: "main",
        namespace: &namespace,
        url: &PublicUrl::of(&namespace, &"preview.example.com".parse().expect("a domain")),
        environment_id: "environment",
        installation_id: "installation",
        policy,
        passwords: &BTreeMap::new(),
        secrets: None,
        registries: None,
        files: &Files::new(),
        charted: &Charted::default(),
    };
    network_policies(&context)
}

/// So many rows are asked for.
const AT_LEAST: usize = 30;

#[test]
fn who_may_reach_whom() {
    let policies = policies_under(&Policy::default());
    let (us, other_of_us) = (|| ours("10.1.0.5"), || ours("10.1.0.6"));
    let rows = [
        // Within the environment.
        (us(), other_of_us(), "TCP", 5432, true),
        (us(), other_of_us(), "UDP", 9999, true),
        (other_of_us(), us(), "TCP", 80, true),
        // Names.
        (us(), pod("kube-system", &[("k8s-app", "kube-dns")], "10.1.0.2"), "UDP", 53, true),
        (us(), pod("kube-system", &[("k8s-app", "kube-dns")], "10.1.0.2"), "TCP", 53, true),
        (us(), machine("169.254.20.10"), "UDP", 53, true),
        (us(), machine("169.254.20.10"), "TCP", 53, true),
        (us(), machine("169.254.20.10"), "TCP", 80, false),
        (us(), machine("169.254.20.11"), "UDP", 53, false),
        (us(), pod("kube-system", &[("k8s-app", "node-local-dns")], "10.1.0.4"), "UDP", 53, true),
        (us(), pod("kube-system", &[("k8s-app", "kube-dns")], "10.1.0.2"), "UDP", 5353, false),
        (us(), pod("kube-system", &[("k8s-app", "kube-dns")], "10.1.0.2"), "TCP", 9153, false),
        (us(), pod("monitoring", &[], "10.1.0.3"), "UDP", 53, false),
        // Other previews, and everything else in the cluster.
        (us(), pod("pr-8-shop", &[], "10.1.0.7"), "TCP", 80, false),
        (us(), pod("pr-8-shop", &[], "10.1.0.7"), "UDP", 53, false),
        (pod("pr-8-shop", &[], "10.1.0.7"), us(), "TCP", 80, false),
        (pod("kube-system", &[], "10.1.0.2"), us(), "TCP", 80, false),
        (us(), pod("previewd", &[], "10.1.0.8"), "TCP", 8787, false),
        (us(), pod("kube-system", &[("component", "kube-apiserver")], "10.1.0.9"), "TCP", 6443, false),
        (pod("default", &[], "10.1.0.10"), us(), "TCP", 80, false),
        // What previews are reached through.
        (pod("ingress-nginx", &[("app", "controller")], "10.1.0.11"), us(), "TCP", 8080, true),
        (pod("traefik", &[], "10.1.0.12"), us(), "TCP", 8080, true),
        (us(), pod("ingress-nginx", &[], "10.1.0.11"), "TCP", 443, false),
        (machine("203.0.113.9"), us(), "TCP", 80, false),
        (machine("10.0.0.4"), us(), "TCP", 80, false),
        // The clouds' credentials, private networks, and the API server's address.
        (us(), machine("169.254.169.254"), "TCP", 80, false),
        (us(), machine("169.254.169.254"), "TCP", 53, false),
        (us(), machine("169.254.169.254"), "UDP", 53, false),
        (us(), machine("fd00:ec2::254"), "TCP", 80, false),
        (us(), machine("10.0.0.1"), "TCP", 443, false),
        (us(), machine("10.96.0.1"), "TCP", 443, false),
        (us(), machine("172.16.0.1"), "TCP", 443, false),
        (us(), machine("172.31.255.255"), "TCP", 22, false),
        (us(), machine("192.168.1.1"), "TCP", 80, false),
        (us(), machine("100.64.0.1"), "TCP", 80, false),
        (us(), machine("100.127.255.254"), "TCP", 80, false),
        (us(), machine("fd00::1"), "TCP", 443, false),
        (us(), machine("fdff:ffff::1"), "UDP", 53, false),
        (us(), machine("fe80::1"), "TCP", 443, false),
        (us(), machine("febf::1"), "TCP", 443, false),
        (machine("2001:db8::9"), us(), "TCP", 80, false),
        // The internet, and what only looks private.
        (us(), machine("8.8.8.8"), "UDP", 53, true),
        (us(), machine("140.82.112.3"), "TCP", 443, true),
        (us(), machine("172.32.0.1"), "TCP", 443, true),
        (us(), machine("100.128.0.1"), "TCP", 443, true),
        (us(), machine("192.169.0.1"), "TCP", 25, true),
        (us(), machine("172.15.255.255"), "TCP", 443, true),
        (us(), machine("100.63.255.255"), "TCP", 443, true),
        (us(), machine("169.253.255.255"), "TCP", 443, true),
        (us(), machine("2606:4700::1111"), "TCP", 443, true),
        (us(), machine("2606:4700::1111"), "UDP", 443, true),
        (us(), machine("203.0.113.9"), "TCP", 443, true),
    ];
    assert!(rows.len() >= AT_LEAST, "{} rows", rows.len());
    for (from, to, protocol, port, expected) in rows {
        let found = verdict(&policies, &from, &to, protocol, port);
        assert_eq!(found, expected, "{} to {} at {protocol} {port}", from.address, to.address);
    }
}

#[test]
fn the_operators_ranges_and_sources_count() {
    let policy: Policy = toml::from_str(
        r#"
        denied_egress = ["203.0.113.0/24", "2001:db8::/32"]
        [ingress]
        from = [{ range = "198.51.100.0/24" }, { pods = { namespace_labels = { edge = "yes" }, labels = { app = "proxy" } } }]
        "#,
    )
    .expect("a policy");
    let policies = policies_under(&policy);
    let us = || ours("10.1.0.5");
    let mut proxy = pod("edge", &[("app", "proxy")], "10.1.0.20");
    let unlabelled = proxy.clone();
    proxy.namespace = Some(pairs(&[("edge", "yes")]));
    let mut other_app = proxy.clone();
    other_app.labels = pairs(&[("app", "other")]);
    for (from, to, expected) in [
        (us(), machine("203.0.113.9"), false),
        (us(), machine("203.0.114.9"), true),
        (us(), machine("203.0.112.255"), true),
        (us(), machine("2001:db8::9"), false),
        (us(), machine("2001:db9::9"), true),
        (us(), machine("169.254.169.254"), false),
        (us(), machine("10.96.0.1"), false),
        (us(), ours("10.1.0.6"), true),
        (machine("203.0.113.9"), us(), false),
        // Whom they let in is not whom they may reach.
        (us(), proxy.clone(), false),
        (pod("pr-8-shop", &[("app", "proxy")], "10.1.0.21"), us(), false),
        (machine("198.51.100.7"), us(), true),
        (machine("198.51.101.7"), us(), false),
        (proxy, us(), true),
        (unlabelled, us(), false),
        (other_app, us(), false),
        (pod("ingress-nginx", &[], "10.1.0.11"), us(), false),
    ] {
        assert_eq!(verdict(&policies, &from, &to, "TCP", 443), expected, "{} to {}", from.address, to.address);
    }
}
