//! Which ways in an environment may have: its own host to its own pods.

use serde_json::Value;

use super::{super::Context, Review, is_left_out_or, is_set, list};

pub(super) fn admit_service(spec: &Value, review: &mut Review<'_>) {
    if !is_left_out_or(&spec["type"], &["ClusterIP"]) {
        review.refuse("spec.type must be ClusterIP; the URL leads in, and nothing else does");
    }
    // An address of one's choice may be the one that another Service of the cluster is about to get.
    let addresses = list(&spec["clusterIPs"]).iter().chain([&spec["clusterIP"]]);
    if addresses.into_iter().any(|address| is_set(address) && address != "None") {
        review.refuse("spec.clusterIP must be None, or left out");
    }
    for field in ["externalIPs", "externalName", "loadBalancerIP", "loadBalancerClass", "healthCheckNodePort"] {
        if is_set(&spec[field]) {
            review.refuse(format!("spec.{field} must not be set"));
        }
    }
    if !is_set(&spec["selector"]) {
        review.refuse("spec.selector must be set: a Service leads to pods of the environment");
    }
}

const HOST_RULE: &str = "must be {{ host }}: an environment answers at its own host only";

pub(super) fn admit_ingress(spec: &Value, context: &Context<'_>, review: &mut Review<'_>) {
    let host = context.url.host();
    if is_set(&spec["defaultBackend"]) {
        review.refuse("spec.defaultBackend must not be set");
    }
    if list(&spec["rules"]).is_empty() {
        review.refuse("spec.rules must have a rule for {{ host }}");
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        if rule["host"] != host {
            review.refuse(format!("spec.rules[{index}].host {HOST_RULE}"));
        }
        for (place, path) in list(&rule["http"]["paths"]).iter().enumerate() {
            if is_set(&path["backend"]["resource"]) {
                let rule = "must be a service";
                review.refuse(format!("spec.rules[{index}].http.paths[{place}].backend {rule}"));
            }
        }
    }
    for (index, tls) in list(&spec["tls"]).iter().enumerate() {
        if list(&tls["hosts"]).iter().any(|named| named != host) {
            review.refuse(format!("spec.tls[{index}].hosts {HOST_RULE}"));
        }
    }
    let class = context.policy.ingress.class.as_deref();
    if spec["ingressClassName"].as_str().is_some_and(|named| Some(named) != class) {
        review.refuse("spec.ingressClassName must be the operator's (ingress.class), or left out");
    }
}

pub(super) fn admit_http_route(spec: &Value, context: &Context<'_>, review: &mut Review<'_>) {
    let host = context.url.host();
    if list(&spec["hostnames"]).is_empty() || list(&spec["hostnames"]).iter().any(|named| named != host) {
        review.refuse(format!("spec.hostnames {HOST_RULE}"));
    }
    let Some(gateway) = &context.policy.ingress.gateway else {
        return review.refuse("the operator names no gateway (ingress.gateway) that it could belong to");
    };
    for (index, parent) in list(&spec["parentRefs"]).iter().enumerate() {
        let is_gateway = parent["name"] == gateway.name.as_str()
            && parent["namespace"] == gateway.namespace.as_str()
            && is_left_out_or(&parent["kind"], &["Gateway"])
            && is_left_out_or(&parent["group"], &["gateway.networking.k8s.io"]);
        if !is_gateway {
            review.refuse(format!("spec.parentRefs[{index}] must be the operator's gateway (ingress.gateway)"));
        }
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        for (place, backend) in list(&rule["backendRefs"]).iter().enumerate() {
            let is_service =
                is_left_out_or(&backend["kind"], &["Service"]) && is_left_out_or(&backend["group"], &["", "core"]);
            if !is_service || !is_left_out_or(&backend["namespace"], &[context.namespace.as_str()]) {
                review.refuse(format!("spec.rules[{index}].backendRefs[{place}] must be a Service of the environment"));
            }
            if is_set(&backend["filters"]) {
                review.refuse(format!("spec.rules[{index}].backendRefs[{place}].filters must not be set"));
            }
        }
        if is_set(&rule["filters"]) {
            review.refuse(format!("spec.rules[{index}].filters must not be set"));
        }
    }
}
