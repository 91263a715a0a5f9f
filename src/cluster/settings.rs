//! Which cluster, and how its address and credentials are found.

use std::path::PathBuf;

use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which Kubernetes cluster the environments run in. With neither key set, the cluster that previewd itself runs in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesSettings {
    /// A kubeconfig file. Its current context is used where `context` names no other.
    pub kubeconfig: Option<PathBuf>,
    /// A context of `kubeconfig`, or else of the user's own kubeconfig (`KUBECONFIG`, `~/.kube/config`).
    pub context: Option<String>,
}

/// Why the settings lead to no cluster. Nothing of a kubeconfig's content is in its text.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot use {source_name}: {why}")]
    Kubeconfig { source_name: String, why: String },
    #[error(
        "no Kubernetes cluster is configured: previewd does not run in one ({not_in_cluster}), and the user's current \
         context is never taken unasked; set kubernetes.context, or kubernetes.kubeconfig"
    )]
    NothingConfigured { not_in_cluster: &'static str },
}

impl KubernetesSettings {
    /// Reads the files that these settings lead to. Nothing is sent over the network.
    ///
    /// A context of the user's own kubeconfig must be named: previewd creates and removes namespaces, and whatever
    /// cluster somebody last looked at is no place for that.
    pub(super) async fn load(&self) -> Result<Config, SettingsError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let refused = |error| SettingsError::Kubeconfig {
                    source_name: format!("the kubeconfig {}", path.display()),
                    why: explain_kubeconfig(error),
                };
                let kubeconfig = Kubeconfig::read_from(path).map_err(refused)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(refused)
            }
            (None, Some(context)) => {
                Config::from_kubeconfig(&options).await.map_err(|error| SettingsError::Kubeconfig {
                    source_name: format!(
                        "the context {context} of the user's kubeconfig (KUBECONFIG, else ~/.kube/config)"
                    ),
                    why: explain_kubeconfig(error),
                })
            }
            (None, None) => Config::incluster()
                .map_err(|error| SettingsError::NothingConfigured { not_in_cluster: explain_in_cluster(&error) }),
        }
    }
}

/// kube's own texts quote the file for some of these, and a kubeconfig holds credentials.
fn explain_kubeconfig(error: KubeconfigError) -> String {
    match error {
        KubeconfigError::CurrentContextNotSet => "it has no current context; set kubernetes.context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("it has no context {name}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("it has no cluster {name}, which its context names"),
        KubeconfigError::FindPath => "there is no home directory to find it in".to_owned(),
        KubeconfigError::ReadConfig(error, path) => format!("cannot read {}: {error}", path.display()),
        KubeconfigError::KindMismatch | KubeconfigError::ApiVersionMismatch => {
            "the files of KUBECONFIG are of different kinds or versions".to_owned()
        }
        KubeconfigError::Parse(_) => "it is not a kubeconfig in YAML".to_owned(),
        KubeconfigError::MissingClusterUrl => "its cluster has no server address".to_owned(),
        KubeconfigError::ParseClusterUrl(_) => "the server address of its cluster is not a URL".to_owned(),
        KubeconfigError::ParseProxyUrl(_) => "the proxy address of its cluster is not a URL".to_owned(),
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            "its certificate authority cannot be read".to_owned()
        }
        KubeconfigError::LoadClientCertificate(_) => "its client certificate cannot be read".to_owned(),
        KubeconfigError::LoadClientKey(_) => "its client key cannot be read".to_owned(),
    }
}

fn explain_in_cluster(error: &InClusterError) -> &'static str {
    match error {
        InClusterError::ReadEnvironmentVariable(_) => "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set",
        InClusterError::ParseClusterPort(_) | InClusterError::ParseClusterUrl(_) => {
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no address"
        }
        InClusterError::ReadDefaultNamespace(_)
        | InClusterError::ReadCertificateBundle(_)
        | InClusterError::ParseCertificates(_) => "its service account is not mounted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(content: &str, context: Option<&str>) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let settings =
            KubernetesSettings { kubeconfig: Some(file.path().to_owned()), context: context.map(str::to_owned) };
        settings.load().await.expect_err("the kubeconfig is refused").to_string()
    }

    #[tokio::test]
    async fn a_broken_kubeconfig_is_never_quoted() {
        let canary = "canary-2f6b";
        let broken = format!("users:\n- name: me\n  user: {{ token: {canary}\n   :::");
        let text = refusal(&broken, None).await;
        assert!(text.contains("not a kubeconfig in YAML"), "{text}");
        assert!(!text.contains(canary), "{text}");
    }

    #[tokio::test]
    async fn a_missing_context_is_named() {
        let empty = "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n";
        assert!(refusal(empty, None).await.contains("no current context"));
        assert!(refusal(empty, Some("staging")).await.contains("no context staging"));
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let settings = KubernetesSettings { kubeconfig: Some("/nonexistent/kubeconfig".into()), context: None };
        let text = settings.load().await.expect_err("the file is missing").to_string();
        assert!(text.contains("/nonexistent/kubeconfig"), "{text}");
    }
}
