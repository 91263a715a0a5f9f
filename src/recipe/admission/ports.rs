//! A Service's port that the URL leads to: whether visitors get from there to an application that they can speak to.

use serde_json::Value;

use super::{
    super::{Object, backend::is_tcp, pods, shares},
    Review, few, list, shown,
};

/// What `appProtocol` says where plain HTTP/1.1 is spoken: the names of IANA, of Kubernetes and of Istio.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#application-protocol>
const PLAIN: [&str; 4] = ["http", "kubernetes.io/ws", "ws", "grpc-web"];
/// What it says where something else is: TLS, HTTP/2 alone, or no HTTP.
const OTHERS: [&str; 9] =
    ["https", "tls", "kubernetes.io/wss", "wss", "kubernetes.io/h2c", "h2c", "http2", "grpc", "tcp"];

/// A port of a Service that the URL leads to.
pub(super) struct Port<'a> {
    pub port: &'a Value,
    /// Which of the Service's ports it is.
    pub index: usize,
    /// What makes the pods that the Service selects.
    pub selected: &'a [&'a Object],
    /// previewd's own router leads to it.
    pub is_of_router: bool,
}

impl Port<'_> {
    pub(super) fn admit(&self, review: &mut Review<'_>) {
        if !is_tcp(self.port) {
            return review.refuse(format!("spec.ports[{}].protocol must be TCP: the URL leads to it", self.index));
        }
        self.admit_speech(review);
        self.admit_target(review);
    }

    /// What is spoken there, as far as the Service tells.
    fn admit_speech(&self, review: &mut Review<'_>) {
        let Self { port, index, selected: _, is_of_router } = self;
        let said = port["appProtocol"].as_str().unwrap_or_default().to_ascii_lowercase();
        match said.as_str() {
            "" if self.looks_like_tls() => {
                let unless = if *is_of_router { "" } else { ", or where whatever leads to it is told otherwise" };
                review.note(&format!(
                    "spec.ports[{index}] looks like a port for TLS: the URL answers only if plain HTTP is spoken there{unless}"
                ));
            }
            "" => {}
            said if PLAIN.contains(&said) => {}
            said if *is_of_router && OTHERS.contains(&said) => review.refuse(format!(
                "spec.ports[{index}].appProtocol must be http, or left out: previewd's router speaks plain HTTP/1.1 to it"
            )),
            said => {
                let what = match is_of_router {
                    true => "plain HTTP/1.1 is spoken there too",
                    false => "whatever leads to it speaks that",
                };
                review.note(&format!(
                    "spec.ports[{index}].appProtocol is {}: the URL answers only if {what}",
                    shown(said)
                ));
            }
        }
    }

    fn looks_like_tls(&self) -> bool {
        let (own, target) = (&self.port["port"], &self.port["targetPort"]);
        let target = if target.is_null() { own } else { target };
        *own == 443 || self.port["name"] == "https" || *target == 8443 || *target == "https"
    }

    /// Where it leads within the pods.
    fn admit_target(&self, review: &mut Review<'_>) {
        let place = format!("spec.ports[{}].targetPort", self.index);
        let there: Vec<&Value> = self.selected.iter().flat_map(|object| ports_of_pods(object)).collect();
        match &self.port["targetPort"] {
            Value::String(name) if !there.iter().any(|port| port["name"] == name.as_str()) => {
                let names = few(there.iter().filter_map(|port| port["name"].as_str()));
                review.refuse(format!("{place} must name a port of the pods that it selects; they have: {names}"));
            }
            Value::String(_) => {}
            number => {
                if let Some(number) = number.as_u64().or_else(|| self.port["port"].as_u64()) {
                    self.admit_number(number, &place, review);
                }
            }
        }
    }

    /// A port of this number, which visitors are led to in each of the pods, whether it has it or not. By its name they
    /// would be led to those alone that have it.
    fn admit_number(&self, number: u64, place: &str, review: &mut Review<'_>) {
        let declares =
            |object: &Object| ports_of_pods(object).iter().any(|port| port["containerPort"].as_u64() == Some(number));
        if !self.selected.iter().any(|object| declares(object)) {
            return review.note(&format!(
                "{place} is {number}, and no container says that it listens there: the URL answers only if one does"
            ));
        }
        // Jobs end.
        let stays = |object: &Object| object.has_replicas() && object.body["spec"]["replicas"] != 0;
        let others = self.selected.iter().filter(|object| stays(object) && !declares(object));
        let others: Vec<String> = others.map(|object| format!("{} {}", object.kind, object.name)).collect();
        if !others.is_empty() {
            review.note(&format!(
                "spec.selector also selects pods of {}, which do not declare port {number}: part of the visits fail, \
                 unless they listen there",
                others.join(", ")
            ));
        }
    }
}

/// The TCP ports of containers that run along with each other: what only runs before the others takes no visits, and
/// what a Service's port names is looked for among those of its own protocol.
fn ports_of_pods(object: &Object) -> Vec<&Value> {
    let Some((template, _)) = pods::template(object) else { return Vec::new() };
    let spec = &template["spec"];
    let staying = list(&spec["initContainers"]).iter().filter(|container| shares::stays(container));
    let containers = list(&spec["containers"]).iter().chain(staying);
    containers.flat_map(|container| list(&container["ports"])).filter(|port| is_tcp(port)).collect()
}
