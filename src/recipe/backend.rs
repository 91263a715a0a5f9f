//! What an environment's URL leads to, read from its render: for a router that is no object of the cluster.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Object, Render, list};

/// A Service's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub service: String,
    pub port: u32,
}

impl Backend {
    /// Whether it is this port of this Service.
    pub(super) fn is_port(&self, service: &Object, port: &Value) -> bool {
        self.service == service.name && port["port"] == self.port
    }
}

/// The Services that a URL leads to, by its paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backends(Vec<Lead>);

/// One way from a path to a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lead {
    /// As the route has it, or the prefix that it stands for.
    path: String,
    /// The path alone, and nothing below it.
    is_exact: bool,
    backend: Backend,
}

impl Backends {
    /// Where a path leads, as Ingresses and HTTPRoutes have it: exact ones first, and the longest.
    pub fn of(&self, path: &str) -> Option<&Backend> {
        let path = path.split('?').next().unwrap_or_default();
        let fits = self.0.iter().filter(|lead| lead.fits(path));
        fits.max_by_key(|lead| (lead.is_exact, lead.path.len())).map(|lead| &lead.backend)
    }

    /// Whether a path leads nowhere, as far as paths tell: ingress controllers have expressions of their own.
    pub(super) fn are_without(&self, path: &str) -> bool {
        self.of(path).is_none() && self.0.iter().all(|lead| is_plain(&lead.path))
    }

    /// The paths that lead somewhere.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|lead| lead.path.as_str())
    }

    /// Whether there is a path among them that means the same to whoever reads it. Expressions are their controller's.
    pub(super) fn can_be_followed(&self) -> bool {
        self.0.iter().any(Lead::can_be_followed)
    }

    /// All that they lead to, each once.
    pub fn all(&self) -> Vec<&Backend> {
        let mut all: Vec<&Backend> = Vec::new();
        for backend in self.0.iter().map(|lead| &lead.backend) {
            if !all.contains(&backend) {
                all.push(backend);
            }
        }
        all
    }

    /// The page that the URL is opened with, where the recipe names none: `/`, or else the shortest path that leads
    /// somewhere.
    pub fn entry(&self) -> Option<&str> {
        if self.of("/").is_some() {
            return Some("/");
        }
        let paths = self.0.iter().filter(|lead| lead.can_be_followed()).map(|lead| lead.path.as_str());
        paths.min_by_key(|path| path.len())
    }

    /// Where the routes among `objects` lead. Their hosts are the environment's, because nothing else is admitted.
    pub(super) fn of_routes<'a>(objects: impl Iterator<Item = &'a Object> + Clone) -> Self {
        let mut leads = Vec::new();
        for object in objects.clone() {
            match object.kind.as_str() {
                "Ingress" => leads.extend(of_ingress(object, objects.clone())),
                "HTTPRoute" => leads.extend(of_http_route(object)),
                _ => {}
            }
        }
        Self(leads)
    }
}

/// No expression of an ingress controller's.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b))
}

/// What makes an expression of a path.
const OF_EXPRESSIONS: [char; 13] = ['*', '(', ')', '[', ']', '{', '}', '|', '?', '+', '^', '$', '\\'];
/// How expressions end that lead a path and all below it, as ingress-nginx documents them:
/// <https://kubernetes.github.io/ingress-nginx/examples/rewrite/>.
const WITH_ALL_BELOW: [&str; 5] = ["(/|$)(.*)", "(/|$).*", "/?(.*)", "/?.*", "(/.*)?"];
/// How they end that lead all below a path, after its slash. The last is how controllers of clouds have it.
const ALL_BELOW: [&str; 3] = ["(.*)", ".*", "*"];

/// The prefix that a path stands for, where it is an expression of no more than that.
fn as_prefix(path: &str) -> &str {
    let ends_with = |ends: &[&str]| ends.iter().find_map(|end| path.strip_suffix(*end));
    let below = || ends_with(&ALL_BELOW).filter(|prefix| prefix.ends_with('/'));
    match ends_with(&WITH_ALL_BELOW).or_else(below) {
        Some("") => "/",
        Some(prefix) if is_plain(prefix) => prefix,
        Some(_) | None => path,
    }
}

impl Lead {
    fn can_be_followed(&self) -> bool {
        self.is_exact || !self.path.contains(OF_EXPRESSIONS)
    }

    fn fits(&self, path: &str) -> bool {
        if self.is_exact {
            return path == self.path;
        }
        // A prefix matches whole elements: /shop has /shop/cart below it, not /shopping.
        let rest = path.strip_prefix(self.path.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Render {
    /// What the URL leads to: the recipe's own word for it, or else what its routes say.
    pub fn backends(&self) -> Backends {
        if let Some(backend) = &self.backend {
            return Backends(vec![Lead { path: "/".to_owned(), is_exact: false, backend: backend.clone() }]);
        }
        Backends::of_routes(self.objects.iter())
    }
}

fn of_ingress<'a>(ingress: &Object, objects: impl Iterator<Item = &'a Object> + Clone) -> Vec<Lead> {
    let named_port = |service: &str, name: &str| {
        let object = objects.clone().find(|object| object.kind == "Service" && object.name == service)?;
        let port = list(&object.body["spec"]["ports"]).iter().find(|port| port["name"] == name && is_tcp(port))?;
        port_of(&port["port"])
    };
    let paths = list(&ingress.body["spec"]["rules"]).iter().flat_map(|rule| list(&rule["http"]["paths"]));
    let lead = |path: &Value| {
        let service = path["backend"]["service"]["name"].as_str()?.to_owned();
        let port = &path["backend"]["service"]["port"];
        let port = port_of(&port["number"]).or_else(|| named_port(&service, port["name"].as_str()?))?;
        let is_exact = path["pathType"] == "Exact";
        let path = path["path"].as_str().unwrap_or("/");
        // With one expression among an Ingress' paths, ingress-nginx takes those of every type for expressions.
        let path = if is_exact { path } else { as_prefix(path) };
        Some(Lead { path: path.to_owned(), is_exact, backend: Backend { service, port } })
    };
    paths.filter_map(lead).collect()
}

fn of_http_route(route: &Object) -> Vec<Lead> {
    let mut leads = Vec::new();
    for rule in list(&route.body["spec"]["rules"]) {
        let backend = list(&rule["backendRefs"]).iter().find_map(|backend| {
            Some(Backend { service: backend["name"].as_str()?.to_owned(), port: port_of(&backend["port"])? })
        });
        let Some(backend) = backend else { continue };
        let lead = |path: &Value| {
            let value = path["value"].as_str().unwrap_or("/");
            let value = if path["type"] == "RegularExpression" { as_prefix(value) } else { value };
            Lead { path: value.to_owned(), is_exact: path["type"] == "Exact", backend: backend.clone() }
        };
        match list(&rule["matches"]) {
            [] => leads.push(lead(&Value::Null)),
            matches => leads.extend(matches.iter().map(|one| lead(&one["path"]))),
        }
    }
    leads
}

/// Whether a port of a Service or of a container takes TCP, which is Kubernetes' default.
pub(super) fn is_tcp(port: &Value) -> bool {
    port["protocol"].as_str().is_none_or(|protocol| matches!(protocol, "" | "TCP"))
}

fn port_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|port| port.try_into().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(backend: Option<Backend>, objects: Vec<Value>) -> Render {
        let render = json!({
            "namespace": {}, "walls": [], "objects": objects, "backend": backend,
        });
        Render::from_json(&render.to_string()).expect("a render")
    }

    fn leads_to(render: &Render, path: &str) -> Option<(String, u32)> {
        render.backends().of(path).map(|Backend { service, port }| (service.clone(), *port))
    }

    #[test]
    fn the_recipes_word_counts_for_every_path() {
        let backend = Backend { service: "app".to_owned(), port: 80 };
        let render = render(Some(backend), Vec::new());
        for path in ["/", "/a/b", "//", "/healthz"] {
            assert_eq!(leads_to(&render, path), Some(("app".to_owned(), 80)), "{path}");
        }
    }

    #[test]
    fn a_recipes_own_ingress_leads_by_path() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "api" },
            "spec": { "ports": [
                { "name": "http", "port": 53, "protocol": "UDP" },
                { "name": "metrics", "port": 9000 },
                { "name": "http", "port": 8081 },
            ] },
        });
        let path = |path: &str, kind: &str, service: Value| json!({ "path": path, "pathType": kind, "backend": { "service": service } });
        let web = json!({ "name": "web", "port": { "number": 80 } });
        let api = json!({ "name": "api", "port": { "name": "http" } });
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "shop" },
            "spec": { "rules": [{ "host": "h", "http": { "paths": [
                path("/", "Prefix", web.clone()), path("/api/", "Prefix", api), path("/api/page", "Exact", web),
            ] } }] },
        });
        let render = render(None, vec![service, ingress]);
        assert_eq!(render.backends().entry(), Some("/"));
        for (path, service, port) in [
            ("/", "web", 80),
            ("/apinot", "web", 80),
            ("/api", "api", 8081),
            ("/api/x", "api", 8081),
            ("/api/page", "web", 80),
            ("/api/page/x", "api", 8081),
        ] {
            assert_eq!(leads_to(&render, path), Some((service.to_owned(), port)), "{path}");
        }
    }

    #[test]
    fn a_recipes_own_http_route_leads_by_path() {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "shop" },
            "spec": { "rules": [
                { "backendRefs": [{ "name": "web", "port": 80 }] },
                { "matches": [{ "path": { "type": "PathPrefix", "value": "/api" } }],
                  "backendRefs": [{ "name": "api", "port": 81 }] },
            ] },
        });
        let render = render(None, vec![route]);
        assert_eq!(leads_to(&render, "/cart"), Some(("web".to_owned(), 80)));
        assert_eq!(leads_to(&render, "/api/cart"), Some(("api".to_owned(), 81)));
    }

    #[test]
    fn where_nothing_is_at_the_root_another_path_is_asked() {
        let path =
            |path: &str| json!({ "path": path, "backend": { "service": { "name": "web", "port": { "number": 80 } } } });
        let ingress = |paths: &[&str]| {
            let paths: Vec<Value> = paths.iter().map(|text| path(text)).collect();
            json!({ "kind": "Ingress", "spec": { "rules": [{ "http": { "paths": paths } }] } })
        };
        assert_eq!(render(None, vec![ingress(&["/api/v1", "/api"])]).backends().entry(), Some("/api"));
        assert_eq!(render(None, vec![ingress(&["/a(.*)"])]).backends().entry(), None);
    }

    #[test]
    fn an_expression_that_is_a_prefix_is_read_as_one() {
        for (written, prefix) in [
            ("/", "/"),
            ("/*", "/"),
            ("/.*", "/"),
            ("/(.*)", "/"),
            ("/?(.*)", "/"),
            ("/api", "/api"),
            ("/api/*", "/api/"),
            ("/api/.*", "/api/"),
            ("/api/(.*)", "/api/"),
            ("/api(/|$)(.*)", "/api"),
            ("/api(/|$).*", "/api"),
            ("/api/?(.*)", "/api"),
            ("/api(/.*)?", "/api"),
            // More than one prefix, and a part of an element.
            ("/(api|web)(/|$)(.*)", "/(api|web)(/|$)(.*)"),
            ("/v[0-9]+/(.*)", "/v[0-9]+/(.*)"),
            ("/api(.*)", "/api(.*)"),
            ("/api*", "/api*"),
        ] {
            assert_eq!(as_prefix(written), prefix, "{written}");
        }
    }

    #[test]
    fn a_path_that_is_an_expression_leads_where_its_prefix_does() {
        let ingress = |path: &str, kind: &str| {
            let service = json!({ "name": "web", "port": { "number": 80 } });
            let path = json!({ "path": path, "pathType": kind, "backend": { "service": service } });
            json!({ "kind": "Ingress", "spec": { "rules": [{ "http": { "paths": [path] } }] } })
        };
        let route = |path: &str, kind: &str| {
            let matches = json!([{ "path": { "type": kind, "value": path } }]);
            let rule = json!({ "matches": matches, "backendRefs": [{ "name": "web", "port": 80 }] });
            json!({ "kind": "HTTPRoute", "spec": { "rules": [rule] } })
        };
        for (route, entry, can_be_followed) in [
            (ingress("/*", "ImplementationSpecific"), Some("/"), true),
            (ingress("/(.*)", "Prefix"), Some("/"), true),
            (ingress("/api(/|$)(.*)", "ImplementationSpecific"), Some("/api"), true),
            (ingress("/(api|web)/.*", "ImplementationSpecific"), None, false),
            // It is the path of this very text.
            (ingress("/*", "Exact"), Some("/*"), true),
            (route("/.*", "RegularExpression"), Some("/"), true),
            (route("/[a-z]+", "RegularExpression"), None, false),
            (route("/@app", "PathPrefix"), Some("/@app"), true),
        ] {
            let backends = render(None, vec![route.clone()]).backends();
            assert_eq!((backends.entry(), backends.can_be_followed()), (entry, can_be_followed), "{route}");
            let backend = Backend { service: "web".to_owned(), port: 80 };
            assert_eq!(backends.all(), [&backend], "{route}");
        }
    }

    #[test]
    fn what_has_no_way_in_leads_nowhere() {
        assert_eq!(leads_to(&render(None, Vec::new()), "/"), None);
    }
}
