//! The way in: what leads from the environment's URL to one of its Services.

use serde_json::json;

use super::{Backend, Context, Object};

/// The name of the route.
const NAME: &str = "preview";

/// An HTTPRoute or an Ingress for the environment's host, as the operator has them.
pub(super) fn route(context: &Context<'_>, backend: &Backend) -> Object {
    let policy = &context.policy.ingress;
    if let Some(gateway) = &policy.gateway {
        return Object::from_body(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": NAME },
            "spec": {
                "parentRefs": [{ "name": gateway.name, "namespace": gateway.namespace }],
                "hostnames": [context.url.host()],
                "rules": [{ "backendRefs": [{ "name": backend.service, "port": backend.port }] }],
            },
        }));
    }
    let host = context.url.host();
    let service = json!({ "service": { "name": backend.service, "port": { "number": backend.port } } });
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": service });

    let mut spec = json!({ "rules": [{ "host": host, "http": { "paths": [path] } }] });
    if let Some(class) = &policy.class {
        spec["ingressClassName"] = json!(class);
    }
    if context.url.as_str().starts_with("https://") {
        let mut tls = json!({ "hosts": [host] });
        if let Some(secret) = &policy.tls_secret {
            tls["secretName"] = json!(secret);
        }
        spec["tls"] = json!([tls]);
    }
    let mut metadata = json!({ "name": NAME });
    if !policy.annotations.is_empty() {
        metadata["annotations"] = json!(policy.annotations);
    }
    Object::from_body(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": spec,
    }))
}
