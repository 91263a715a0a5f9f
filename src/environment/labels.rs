//! Labels and annotations by which objects in the cluster are known.

/// The label of everything that previewd makes, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "previewd");
/// The label that names the installation. Every listing selects on it.
pub const INSTALLATION_LABEL: &str = "previewd.dev/installation";
/// The label that names the environment.
pub const ENVIRONMENT_LABEL: &str = "previewd.dev/environment";
/// The label of pods whose template uses the commit.
pub const COMMIT_LABEL: &str = "previewd.dev/commit";
/// The annotation that makes a chart's object a hook: <https://helm.sh/docs/topics/charts_hooks/>.
pub const HOOK: &str = "helm.sh/hook";
