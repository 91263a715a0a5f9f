//! What of a request's query counts.

use serde_json::Value;

#[derive(Debug, Clone)]
pub(super) struct Query {
    pub watch: bool,
    labels: Vec<(String, String)>,
    pub resource_version: usize,
    pub timeout_seconds: u64,
    pub dry_run: bool,
}

impl Query {
    pub fn of(text: &str) -> Self {
        let mut query =
            Self { watch: false, labels: Vec::new(), resource_version: 0, timeout_seconds: 285, dry_run: false };
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "watch" => query.watch = value == "true" || value == "1",
                "labelSelector" => {
                    let labels = value.split(',').filter_map(|label| label.split_once('='));
                    query.labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                }
                "resourceVersion" => query.resource_version = value.parse().unwrap_or(0),
                "dryRun" => query.dry_run = value == "All",
                "timeoutSeconds" => query.timeout_seconds = value.parse().unwrap_or(285),
                _ => {}
            }
        }
        query
    }

    pub fn selects(&self, labels: &Value) -> bool {
        self.labels.iter().all(|(name, value)| labels[name] == value.as_str())
    }

    /// The Service whose EndpointSlices are asked for.
    pub fn service(&self) -> Option<&str> {
        let of_service = self.labels.iter().find(|(name, _)| name == "kubernetes.io/service-name");
        of_service.map(|(_, service)| service.as_str())
    }
}
