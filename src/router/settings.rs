//! Whether previewd serves previews itself, and how it gets to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// previewd's own way to environments: `previewd serve` answers their hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouterSettings {
    /// Whether `previewd serve` answers for every host below `base_domain`, at `listen`. Environments then get no Ingress
    /// and no HTTPRoute.
    pub enabled: bool,
    /// How it gets to pods.
    pub reach: Reach,
    /// Whether visitors sign in before they see a preview, and see those of their teams' repositories. Needs `public_url`,
    /// where they do.
    pub login: bool,
}

/// How the router gets to pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// `direct` where previewd runs in the cluster, `port_forward` elsewhere.
    #[default]
    Auto,
    /// By their addresses. `ingress.from` must let previewd in.
    Direct,
    /// Through the API server, from wherever that is reached.
    PortForward,
}
