//! The configuration of a row.

use std::{collections::BTreeMap, path::Path};

use xtask::cluster::{POSTGRES_IMAGE, REGISTRY_PASSWORD, REGISTRY_USER};

use super::row::Row;

/// What the operator gives the repository.
pub const SECRET: (&str, &str) = ("STRIPE_KEY", "canary-of-the-operator-0123456789");
/// What Services and routes of the repository's own may carry.
pub const ANNOTATION: &str = "example.com/allowed";
/// The label that pull requests of these rows need.
pub const LABEL: &str = "preview";
/// How long it is used by nobody until it sleeps, where a row is about sleeping: the least that may be said.
const SOON_ASLEEP: &str = "1m";
/// Longer than any row.
const LATER: &str = "1h";

/// When it sleeps, whoever says it.
pub fn sleep_after(row: &Row) -> &'static str {
    if row.has("sleep") { SOON_ASLEEP } else { LATER }
}

/// Adds what a row wants to the configuration of a previewd at `url`, before it begins. `registry` is the host of the one
/// with the commits' images.
pub fn configure(config: &Path, url: &str, row: &Row, registry: Option<&str>, helm: Option<&Path>) {
    let mut text = std::fs::read_to_string(config).expect("a configuration");
    let mut say_first = |key: &str, value: &str| {
        let others = text.lines().filter(|line| !line.starts_with(&format!("{key} = ")));
        text = format!("{key} = {value}\n{}\n", others.collect::<Vec<_>>().join("\n"));
    };
    if row.has("proved") {
        say_first("probe_urls", "true");
    }
    if row.has("router") {
        say_first("base_domain", &format!("\"localhost:{}\"", url.rsplit_once(':').expect("a port").1));
    }
    if row.has("login") {
        say_first("public_url", &format!("{url:?}"));
    }
    if row.has("ranges") {
        say_first("denied_egress", "[\"203.0.113.0/24\"]");
    }
    for (section, lines) in sections(row, registry, helm) {
        let (header, lines) = (format!("[{section}]\n"), format!("{}\n", lines.join("\n")));
        match text.find(&header) {
            Some(place) => text.insert_str(place + header.len(), &lines),
            None => text.push_str(&format!("{header}{lines}")),
        }
    }
    std::fs::write(config, text).expect("a configuration");
}

/// The lines of each section.
fn sections(row: &Row, registry: Option<&str>, helm: Option<&Path>) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut say = |is_so: bool, section: &str, lines: &[&str]| {
        if is_so {
            sections.entry(section.to_owned()).or_default().extend(lines.iter().map(|line| (*line).to_owned()));
        }
    };
    say(row.has("router"), "router", &["enabled = true"]);
    say(row.has("direct"), "router", &["reach = \"direct\""]);
    say(row.has("login"), "router", &["login = true"]);
    say(row.has("gateway"), "ingress.gateway", &["name = \"public\"", "namespace = \"gateways\""]);
    say(
        row.has("dressed"),
        "ingress",
        &[
            "class = \"public\"",
            "tls_secret = \"preview-tls\"",
            "annotations = { \"example.com/issuer\" = \"letsencrypt\" }",
            &format!("allowed_annotations = [{ANNOTATION:?}]"),
        ],
    );
    let from_pods =
        "{ pods = { namespace_labels = { \"kubernetes.io/metadata.name\" = \"edge\" }, labels = { app = \"edge\" } } }";
    say(row.has("ranges"), "ingress", &[&format!("from = [{{ range = \"10.0.0.0/8\" }}, {from_pods}]")]);
    say(row.has("both"), "github", &["report = \"both\""]);
    say(row.has("unasked"), "images", &["ask_registries = false"]);
    // A retry comes once the wait is over.
    let wait = if row.has("retry") { "wait = \"3s\"" } else { "wait = \"10m\"" };
    say(row.has("built"), "images", &[wait]);
    if let Some(registry) = registry {
        let (user, password) = (format!("username = {REGISTRY_USER:?}"), format!("password = {REGISTRY_PASSWORD:?}"));
        say(true, &format!("registries.{:?}", registry), &["plain_http = true", &user, &password]);
    }
    say(row.has("sleepy"), "lifetime", &[&format!("sleep_after = {:?}", sleep_after(row))]);
    say(row.has("hours"), "lifetime", &["ttl = \"24h\""]);
    say(row.has("hours"), "limits", &["ttl = \"12h\""]);
    say(row.has("limited"), "limits", &["environments = 1", "environments_per_repository = 1"]);
    say(row.has("limited"), "teams.shop", &["environments = 1"]);
    say(row.has("narrow"), "quota", &["cpu = \"250m\""]);
    let wide =
        ["cpu = \"400m\"", "memory = \"768Mi\"", "pods = 20", "storage = \"2Gi\"", "persistent_volume_claims = 4"];
    say(row.has("wide"), "quota", &wide);
    let filter = ["drafts = false", "forks = \"approve\"", "branches = [\"main\"]", "paths = [\"**\"]"];
    say(row.has("filtered"), "triggers", &filter);
    say(row.has("filtered"), "triggers", &[&format!("label = {LABEL:?}")]);
    say(row.has("filtered"), "limits", &["forks = \"approve\""]);
    say(row.has("secrets"), "secrets", &[&format!("\"acme/*\" = {{ {} = {:?} }}", SECRET.0, SECRET.1)]);
    let keys =
        format!("keys = [{:?}, {:?}]", "a-new-key-of-32-characters-or-more", "an-old-key-of-32-characters-or-more");
    say(row.has("sealed"), "sealing", &[&keys]);
    say(row.has("hurried"), "patience", &["attempt = \"2m\"", "deletion = \"30s\""]);
    say(row.has("single"), "engine", &["workers = 1"]);
    // Nobody listens there.
    say(row.has("watched"), "alerts", &["webhook_url = \"http://127.0.0.1:9/chat\""]);
    let traces = ["endpoint = \"http://127.0.0.1:9/v1/traces\"", "headers = { authorization = \"Bearer collector\" }"];
    say(row.has("watched"), "traces", &traces);
    say(row.has("watched"), "prices", &["cpu_core_hour = 0.04", "memory_gib_hour = 0.005", "currency = \"EUR\""]);
    say(row.has("postgres"), "database_images", &[&format!("postgres = {POSTGRES_IMAGE:?}")]);
    if let Some(helm) = helm {
        say(true, "helm", &[&format!("path = {helm:?}")]);
    }
    sections
}
