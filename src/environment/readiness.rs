//! What shows that a commit runs: seen, not concluded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Millis;

/// An image as a container of a ready pod has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct RunningImage {
    pub container: String,
    /// As the recipe names it.
    pub image: String,
    /// `sha256:` and 64 hexadecimal digits. Absent where the node's container runtime does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The proof that a commit runs. Every ready pod is of the commit that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// When the pods were seen ready.
    pub pods_at: Millis,
    pub images: Vec<RunningImage>,
    /// What the public URL answered. None: it was not asked.
    pub url: Option<UrlAnswer>,
}

/// How previewd names itself where it asks a public URL: that is no use of an environment.
pub const PROBER: &str = "previewd";
/// With the lease that the environment's pass has: its question is answered, with the status alone, where others sign in.
pub const PROBE_HEADER: &str = "previewd-probe";

/// An answer of the public URL that counts as one of the application: 200 to 399.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlAnswer {
    pub status: u16,
    pub at: Millis,
}
