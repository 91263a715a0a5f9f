//! Where the URL leads, as far as the recipe alone shows it: to a Service that there is, on a port that it has, and to pods
//! that it selects. A preview that leads nowhere would run, and show nothing.

use serde_json::Value;

use super::{
    super::{Backend, Backends, Context, Object, Recipe, backend::is_tcp, mistakes::Findings, pods},
    Review, few, keys, list,
    ports::Port,
    shown,
};

/// Labels that controllers put on pods, and no template has.
const LABELS_OF_CONTROLLERS: [&str; 6] = [
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "controller-revision-hash",
    "pod-template-hash",
    "job-name",
    "batch.kubernetes.io/job-name",
];

/// What a route may name a port of a Service by.
#[derive(Clone, Copy)]
enum PortName<'a> {
    Number(u64),
    Name(&'a str),
}

/// The objects of a recipe, to look for what others name.
struct Objects<'a> {
    all: Vec<&'a Object>,
    /// Services, and which of their ports, that the URL leads to.
    led_to: Vec<(&'a Object, usize)>,
    /// What the recipe itself says of the URL.
    backend: Option<&'a Backend>,
    has_router: bool,
}

/// Refuses a recipe of manifests or of a chart whose URL leads nowhere.
pub(in super::super) fn admit_leads(
    recipe: &Recipe,
    phases: &[Vec<Object>],
    backend: Option<&Backend>,
    context: &Context<'_>,
    findings: &mut Findings,
) {
    let has_router = context.policy.has_router;
    let mut objects = Objects { all: phases.iter().flatten().collect(), led_to: Vec::new(), backend, has_router };
    if let Some(Backend { service, port }) = backend {
        match (objects.service(service), objects.port(service, PortName::Number(u64::from(*port)))) {
            (None, _) => {
                let rule = format!("must name a Service of the recipe; there are: {}", objects.services());
                findings.refuse(recipe.refuse("expose.service", rule));
            }
            (Some(found), None) => {
                let rule = format!("must be a port of Service {}; it has: {}", found.name, ports_of(found));
                findings.refuse(recipe.refuse("expose.port", rule));
            }
            (Some(found), Some(index)) => objects.led_to.push((found, index)),
        }
    }
    let mut leads = backend.is_some();
    for (number, object) in objects.all.clone().into_iter().enumerate() {
        let named = match object.kind.as_str() {
            "Ingress" => of_ingress(&object.body["spec"]),
            "HTTPRoute" => of_http_route(&object.body["spec"]),
            _ => continue,
        };
        leads |= !named.is_empty();
        let mut review = Review::of(&object.body, number, findings);
        named.iter().for_each(|named| objects.follow(named, &mut review));
        // What the recipe itself says counts for every path.
        if has_router && backend.is_none() {
            objects.admit_paths(object, &mut review);
        }
    }
    if !leads {
        let rule =
            "must say which Service the URL leads to, unless an Ingress or HTTPRoute leads there from {{ host }}";
        findings.refuse(recipe.refuse("expose", rule));
    }
    if backend.is_none() {
        objects.admit_kinds(context, findings);
    }
    let routes = Backends::of_routes(objects.all.iter().copied());
    let is_nowhere = |path: &str| match has_router {
        true => routes.of(path).is_none(),
        false => routes.are_without(path),
    };
    if let Some(health) = recipe.health().filter(|path| leads && backend.is_none() && is_nowhere(path)) {
        let there = few(routes.paths());
        let rule = format!("must be a path that a route leads to a Service; {health} is none, there are: {there}");
        findings.refuse(recipe.refuse("expose.health", rule));
    }
    objects.led_to.sort_by_key(|(service, index)| (service.name.clone(), *index));
    objects.led_to.dedup_by_key(|(service, index)| (service.name.clone(), *index));
    for (number, object) in objects.all.iter().enumerate().filter(|(_, object)| object.kind == "Service") {
        let ports = objects.led_to.iter().filter(|(service, _)| service.name == object.name).map(|(_, index)| *index);
        objects.admit_service(object, &ports.collect::<Vec<_>>(), &mut Review::of(&object.body, number, findings));
    }
}

/// A Service that a route names: where in the route, and by what.
struct Named<'a> {
    place: String,
    service: &'a Value,
    port_place: String,
    port: Option<PortName<'a>>,
}

fn of_ingress(spec: &Value) -> Vec<Named<'_>> {
    let mut named = Vec::new();
    for (rule, paths) in list(&spec["rules"]).iter().map(|rule| &rule["http"]["paths"]).enumerate() {
        for (index, path) in list(paths).iter().enumerate() {
            let place = format!("spec.rules[{rule}].http.paths[{index}].backend.service");
            let service = &path["backend"]["service"];
            let number = service["port"]["number"].as_u64().map(PortName::Number);
            let port = number.or_else(|| service["port"]["name"].as_str().map(PortName::Name));
            let port_place = format!("{place}.port");
            named.push(Named { place: format!("{place}.name"), service: &service["name"], port_place, port });
        }
    }
    named
}

fn of_http_route(spec: &Value) -> Vec<Named<'_>> {
    let mut named = Vec::new();
    for (rule, backends) in list(&spec["rules"]).iter().map(|rule| &rule["backendRefs"]).enumerate() {
        for (index, backend) in list(backends).iter().enumerate() {
            let place = format!("spec.rules[{rule}].backendRefs[{index}]");
            let (name, port_place) = (format!("{place}.name"), format!("{place}.port"));
            let port = backend["port"].as_u64().map(PortName::Number);
            named.push(Named { place: name, service: &backend["name"], port_place, port });
        }
    }
    named
}

impl<'a> Objects<'a> {
    fn service(&self, name: &str) -> Option<&'a Object> {
        self.all.iter().copied().find(|object| object.kind == "Service" && object.name == name)
    }

    fn services(&self) -> String {
        few(self.all.iter().filter(|object| object.kind == "Service").map(|object| object.name.as_str()))
    }

    /// Which of a Service's ports it is: of several for different protocols, the one that the URL can lead to.
    fn port(&self, service: &str, named: PortName<'_>) -> Option<usize> {
        let ports = list(&self.service(service)?.body["spec"]["ports"]);
        let is_it = |port: &Value| match named {
            PortName::Number(number) => port["port"].as_u64() == Some(number),
            PortName::Name(name) => port["name"] == name,
        };
        let tcp = ports.iter().position(|port| is_it(port) && is_tcp(port));
        tcp.or_else(|| ports.iter().position(is_it))
    }

    /// Goes where a route leads.
    fn follow(&mut self, named: &Named<'_>, review: &mut Review<'_>) {
        let Named { place, service, port_place, port } = named;
        let Some(found) = service.as_str().and_then(|name| self.service(name)) else {
            return review.refuse(format!("{place} must name a Service of the recipe; there are: {}", self.services()));
        };
        match port.and_then(|port| self.port(&found.name, port)) {
            Some(index) => self.led_to.push((found, index)),
            None => {
                let rule =
                    format!("{port_place} must be a port of Service {}; it has: {}", found.name, ports_of(found));
                review.refuse(rule);
            }
        }
    }

    /// Refuses Ingresses that nobody serves, where there is no other way in. An operator who names a class beside the
    /// gateway has a controller for Ingresses too; previewd's own router reads every kind.
    fn admit_kinds(&self, context: &Context<'_>, findings: &mut Findings) {
        let policy = &context.policy.ingress;
        let has_gateway_alone = policy.gateway.is_some() && policy.class.is_none() && !self.has_router;
        if !has_gateway_alone || self.all.iter().any(|object| object.kind == "HTTPRoute") {
            return;
        }
        for (number, ingress) in self.all.iter().enumerate().filter(|(_, object)| object.kind == "Ingress") {
            Review::of(&ingress.body, number, findings).refuse(
                "kind must be HTTPRoute, unless expose says which Service the URL leads to: the operator's gateway \
                 (ingress.gateway) is the only way in",
            );
        }
    }

    /// A route, which previewd's own router reads in its controller's place.
    fn admit_paths(&self, route: &Object, review: &mut Review<'_>) {
        let of_route = |object: &&Object| object.kind == "Service" || std::ptr::eq(*object, route);
        let backends = Backends::of_routes(self.all.iter().copied().filter(of_route));
        if !backends.can_be_followed() && backends.paths().next().is_some() {
            review.refuse(format!(
                "{} must be a path such as /api: previewd's router follows no expressions but /* and (.*) at their end",
                first_path(route)
            ));
        }
    }

    /// A Service, to whose ports of these numbers in its list the URL leads.
    fn admit_service(&self, service: &Object, ports: &[usize], review: &mut Review<'_>) {
        let selector = &service.body["spec"]["selector"];
        let selected: Vec<&Object> = self.all.iter().copied().filter(|object| is_selected(object, selector)).collect();
        if selected.is_empty() {
            let makers = self.all.iter().filter(|object| pods::template(object).is_some());
            let makers: Vec<String> = makers.map(|object| format!("{} {}", object.kind, object.name)).collect();
            let makers = makers.join(", ");
            match (ports, makers.as_str()) {
                ([], _) => review.note("spec.selector selects none of the recipe's pods"),
                (_, "") => review.refuse("spec.selector selects no pods: the recipe makes none"),
                (_, makers) => {
                    review.refuse(format!("spec.selector must be labels that the pods of one of these have: {makers}"));
                }
            }
            return;
        }
        if !ports.is_empty()
            && selected.iter().all(|object| object.has_replicas() && object.body["spec"]["replicas"] == 0)
        {
            review.refuse(format!(
                "spec.selector selects pods of which there are none; spec.replicas of {} {} must be more than 0",
                selected[0].kind, selected[0].name
            ));
        }
        for index in ports {
            let port = &service.body["spec"]["ports"][index];
            let is_of_router = self.has_router && self.backend.is_none_or(|backend| backend.is_port(service, port));
            Port { port, index: *index, selected: &selected, is_of_router }.admit(review);
        }
    }
}

/// Where a route has its first path.
fn first_path(route: &Object) -> String {
    let is_ingress = route.kind == "Ingress";
    let leads = |rule: &Value| match is_ingress {
        true => !list(&rule["http"]["paths"]).is_empty(),
        false => !list(&rule["backendRefs"]).is_empty(),
    };
    let rule = list(&route.body["spec"]["rules"]).iter().position(leads).unwrap_or_default();
    let path = if is_ingress { "http.paths[0].path" } else { "matches[0].path.value" };
    format!("spec.rules[{rule}].{path}")
}

fn is_selected(object: &Object, selector: &Value) -> bool {
    let Some((template, _)) = pods::template(object) else { return false };
    let labels = &template["metadata"]["labels"];
    let mut keys = keys(selector).filter(|key| !LABELS_OF_CONTROLLERS.contains(key));
    keys.all(|key| labels[key] == selector[key])
}

/// As people read them: `80 (http), 443`.
fn ports_of(service: &Object) -> String {
    let port = |port: &Value| match (port["port"].as_u64(), port["name"].as_str()) {
        (Some(number), Some(name)) => format!("{number} ({})", shown(name)),
        (Some(number), None) => number.to_string(),
        (None, _) => "?".to_owned(),
    };
    let ports: Vec<String> = list(&service.body["spec"]["ports"]).iter().take(8).map(port).collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
}
