//! The cluster: the only module that speaks to the Kubernetes API.
//!
//! [`Cluster`] sends one request per call, each with a timeout and without hidden retries: whoever calls is a pass that
//! comes again. Its errors say what to do ([`ClusterError`]); nothing of the API server's own words gets into a
//! [`Cause`](crate::environment::Cause). [`assess`] judges what was read and is pure.

mod assess;
mod client;
mod error;
mod follow;
mod log_text;
mod logs;
mod namespaces;
mod objects;
mod permissions;
mod pods;
mod reach;
mod refusal;
mod serving;
mod settings;
mod surroundings;
mod usage;
mod watch;
mod words;
mod workloads;

use std::collections::BTreeMap;

use crate::environment::{ENVIRONMENT_LABEL, INSTALLATION_LABEL};

pub use assess::{
    Expected, Tasks, assess, blocking_pods, completed_jobs, failed_jobs, failed_pods, has_completed, is_down,
    jobs_to_restart, needs_explaining, pods_to_restart, pods_with_claim, running,
};
pub use client::{CALL_TIMEOUT, Cluster};
pub use error::ClusterError;
pub use follow::{Following, LogEnd, LogSource};
pub use log_text::{LogLine, SHOWN_OF_LINE};
pub use logs::{CONTAINERS_AT_MOST, ContainerLog, LogRequest, Logs, NoLog, SEARCHED_LINES};
pub use namespaces::{Creation, Deletion, LabelledNamespace, NamespaceState, Terminating};
pub use objects::{Standing, is_claim_of};
pub use permissions::cluster_role;
pub use pods::PodState;
pub use reach::Endpoint;
pub use settings::{KubernetesSettings, SettingsError};
pub use surroundings::GatewayState;
pub use usage::Used;
pub use watch::WatchHealth;
pub use workloads::{PodReference, WorkloadKind, Workloads};

/// The field manager of everything that previewd applies.
pub const FIELD_MANAGER: &str = "previewd";

/// The annotation of what makes pods: the digest of what was applied ([`crate::recipe::Object::digest`]).
const APPLIED: &str = "previewd.dev/applied";

/// Whom an object belongs to, by its labels. Both ids are valid label values: previewd makes them itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub installation_id: String,
    pub environment_id: String,
}

impl Owner {
    fn owns(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let label = |name| labels.and_then(|labels| labels.get(name)).map(String::as_str);
        label(INSTALLATION_LABEL) == Some(&self.installation_id)
            && label(ENVIRONMENT_LABEL) == Some(&self.environment_id)
    }

    fn selector(&self) -> String {
        let Self { installation_id, environment_id } = self;
        format!("{INSTALLATION_LABEL}={installation_id},{ENVIRONMENT_LABEL}={environment_id}")
    }
}
