//! Which ways in an environment may have: its own host to its own pods.

use serde_json::Value;

use super::{super::Context, Refusal, is_left_out_or, is_set, list};

pub(super) fn admit_service(spec: &Value) -> Refusal {
    if !is_left_out_or(&spec["type"], &["ClusterIP"]) {
        return Err("spec.type must be ClusterIP; the URL leads in, and nothing else does".to_owned());
    }
    // An address of one's choice may be the one that another Service of the cluster is about to get.
    let addresses = list(&spec["clusterIPs"]).iter().chain([&spec["clusterIP"]]);
    if addresses.into_iter().any(|address| is_set(address) && address != "None") {
        return Err("spec.clusterIP must be None, or left out".to_owned());
    }
    for field in ["externalIPs", "externalName", "loadBalancerIP", "loadBalancerClass", "healthCheckNodePort"] {
        if is_set(&spec[field]) {
            return Err(format!("spec.{field} must not be set"));
        }
    }
    if !is_set(&spec["selector"]) {
        return Err("spec.selector must be set: a Service leads to pods of the environment".to_owned());
    }
    Ok(())
}

const HOST_RULE: &str = "must be {{ host }}: an environment answers at its own host only";

pub(super) fn admit_ingress(spec: &Value, context: &Context<'_>) -> Refusal {
    let host = context.url.host();
    if is_set(&spec["defaultBackend"]) {
        return Err("spec.defaultBackend must not be set".to_owned());
    }
    if list(&spec["rules"]).is_empty() {
        return Err("spec.rules must have a rule for {{ host }}".to_owned());
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        if rule["host"] != host {
            return Err(format!("spec.rules[{index}].host {HOST_RULE}"));
        }
        for (place, path) in list(&rule["http"]["paths"]).iter().enumerate() {
            if is_set(&path["backend"]["resource"]) {
                let rule = "must be a service";
                return Err(format!("spec.rules[{index}].http.paths[{place}].backend {rule}"));
            }
        }
    }
    for (index, tls) in list(&spec["tls"]).iter().enumerate() {
        if list(&tls["hosts"]).iter().any(|named| named != host) {
            return Err(format!("spec.tls[{index}].hosts {HOST_RULE}"));
        }
    }
    let class = context.policy.ingress.class.as_deref();
    if spec["ingressClassName"].as_str().is_some_and(|named| Some(named) != class) {
        return Err("spec.ingressClassName must be the operator's (ingress.class), or left out".to_owned());
    }
    Ok(())
}

pub(super) fn admit_http_route(spec: &Value, context: &Context<'_>) -> Refusal {
    let host = context.url.host();
    if list(&spec["hostnames"]).is_empty() || list(&spec["hostnames"]).iter().any(|named| named != host) {
        return Err(format!("spec.hostnames {HOST_RULE}"));
    }
    let Some(gateway) = &context.policy.ingress.gateway else {
        return Err("the operator names no gateway (ingress.gateway) that it could belong to".to_owned());
    };
    for (index, parent) in list(&spec["parentRefs"]).iter().enumerate() {
        let is_gateway = parent["name"] == gateway.name.as_str()
            && parent["namespace"] == gateway.namespace.as_str()
            && is_left_out_or(&parent["kind"], &["Gateway"])
            && is_left_out_or(&parent["group"], &["gateway.networking.k8s.io"]);
        if !is_gateway {
            return Err(format!("spec.parentRefs[{index}] must be the operator's gateway (ingress.gateway)"));
        }
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        for (place, backend) in list(&rule["backendRefs"]).iter().enumerate() {
            let is_service =
                is_left_out_or(&backend["kind"], &["Service"]) && is_left_out_or(&backend["group"], &["", "core"]);
            if !is_service || !is_left_out_or(&backend["namespace"], &[context.namespace.as_str()]) {
                return Err(format!("spec.rules[{index}].backendRefs[{place}] must be a Service of the environment"));
            }
            if is_set(&backend["filters"]) {
                return Err(format!("spec.rules[{index}].backendRefs[{place}].filters must not be set"));
            }
        }
        if is_set(&rule["filters"]) {
            return Err(format!("spec.rules[{index}].filters must not be set"));
        }
    }
    Ok(())
}
