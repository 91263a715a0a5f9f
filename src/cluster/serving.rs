//! Which commit still answers while a newer one is on its way.

use super::Workloads;
use crate::environment::CommitSha;

/// The label of pods whose template uses the commit.
const COMMIT_LABEL: &str = "previewd.dev/commit";

impl Workloads {
    /// Whether a ready pod runs `commit`. Pods whose template does not use the commit run every one of them.
    pub fn serves(&self, commit: &CommitSha) -> bool {
        self.pods.iter().any(|pod| {
            let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(COMMIT_LABEL));
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            let is_ready = conditions.is_some_and(|conditions| {
                conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
            });
            is_ready && label.is_none_or(|label| label == commit.as_str())
        })
    }
}
