//! Which commit still answers while a newer one is on its way.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::Workloads;
use crate::environment::{COMMIT_LABEL, CommitSha, Millis, RunningImage};

impl Workloads {
    /// The names of the ready pods that run `commit`. Pods whose template does not use the commit run every one of them.
    pub fn ready_pods(&self, commit: &CommitSha) -> Vec<&str> {
        self.ready_pods_of(commit).filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    /// Since when the last of the ready pods is ready, by the nodes' clocks. None where there is none.
    pub fn ready_since(&self) -> Option<Millis> {
        let conditions = self.pods.iter().filter_map(|pod| pod.status.as_ref()?.conditions.as_ref()).flatten();
        let ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
        ready.filter_map(|condition| Some(condition.last_transition_time.as_ref()?.0.as_millisecond())).max()
    }

    /// When the newest pod that is no Job's was made, by the API server's clock. None where there is none.
    pub fn newest_pod_at(&self) -> Option<Millis> {
        let pods = self.pods.iter().filter(|pod| !is_of_job(pod));
        pods.filter_map(|pod| Some(pod.metadata.creation_timestamp.as_ref()?.0.as_millisecond())).max()
    }

    /// A commit that a ready pod says it runs.
    pub fn served(&self) -> Option<CommitSha> {
        let ready = self.pods.iter().filter(|pod| is_ready(pod) && !is_of_job(pod));
        ready.filter_map(|pod| commit_of(pod)?.parse().ok()).next()
    }

    /// Whether the pod of this name says that it runs another commit.
    pub fn runs_another(&self, pod: &str, commit: &CommitSha) -> bool {
        let named = self.pods.iter().filter(|known| known.metadata.name.as_deref() == Some(pod));
        named.filter_map(commit_of).any(|label| label != commit.as_str())
    }

    /// The images that the ready pods of `commit` run, each once.
    pub fn running_images(&self, commit: &CommitSha) -> Vec<RunningImage> {
        let statuses = self.ready_pods_of(commit).filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        let images = statuses.flatten().map(|status| RunningImage {
            container: status.name.clone(),
            image: status.image.clone(),
            digest: digest(&status.image_id),
        });
        images.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Where the commit is on none of the templates, every ready pod runs every commit; elsewhere a database beside the
    /// application says nothing.
    fn ready_pods_of(&self, commit: &CommitSha) -> impl Iterator<Item = &Pod> {
        let pods = || self.pods.iter().filter(|pod| !is_of_job(pod));
        let of_commits = pods().any(|pod| commit_of(pod).is_some()) || self.has_stamped_template();
        pods().filter(move |pod| is_ready(pod) && commit_of(pod).map_or(!of_commits, |label| label == commit.as_str()))
    }

    fn has_stamped_template(&self) -> bool {
        let deployments = self.deployments.iter().filter_map(|deployment| Some(&deployment.spec.as_ref()?.template));
        let stateful_sets = self.stateful_sets.iter().filter_map(|set| Some(&set.spec.as_ref()?.template));
        let labels =
            deployments.chain(stateful_sets).filter_map(|template| template.metadata.as_ref()?.labels.as_ref());
        labels.into_iter().any(|labels| labels.contains_key(COMMIT_LABEL))
    }
}

fn commit_of(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(COMMIT_LABEL)
}

/// What runs to its end answers nobody.
fn is_of_job(pod: &Pod) -> bool {
    pod.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Job")
}

/// A pod that ends keeps the condition for a while, and nothing new is sent to it any more.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| &status.conditions).flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Of what the kubelet calls an image's id: `name@sha256:…`, or the digest alone.
fn digest(image_id: &str) -> Option<String> {
    let digest = image_id.rsplit_once('@').map_or(image_id, |(_, digest)| digest);
    digest.starts_with("sha256:").then(|| digest.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(commit: char, ready: &str, image_id: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "app-1", "labels": { COMMIT_LABEL: commit.to_string().repeat(40) } },
            "status": {
                "conditions": [{ "type": "Ready", "status": ready }],
                "containerStatuses": [{
                    "name": "app", "image": "shop:1", "imageID": image_id, "ready": true, "restartCount": 0,
                }],
            },
        }))
        .expect("a pod")
    }

    #[test]
    fn the_images_of_a_commit_are_those_of_its_ready_pods() {
        let digest = format!("sha256:{}", "1".repeat(64));
        let pods = vec![
            pod('a', "True", &format!("registry.example.com/shop@{digest}")),
            pod('a', "True", &digest),
            pod('a', "False", "shop@sha256:2"),
            pod('b', "True", "shop@sha256:3"),
            pod('c', "True", "shop:1"),
        ];
        let workloads = Workloads { pods, ..Workloads::default() };
        let of = |commit: char| workloads.running_images(&commit.to_string().repeat(40).parse().expect("a commit"));
        let image = |digest| RunningImage { container: "app".to_owned(), image: "shop:1".to_owned(), digest };
        assert_eq!(of('a'), [image(Some(digest))]);
        assert_eq!(of('c'), [image(None)]);
        assert_eq!(of('d'), []);
        assert_eq!(workloads.served(), Some("a".repeat(40).parse().expect("a commit")));
        assert_eq!(Workloads::default().served(), None);
    }

    /// A database beside the application says nothing of its commit, and a job nothing of who answers.
    #[test]
    fn only_what_answers_counts() {
        let commit = |digit: char| digit.to_string().repeat(40).parse().expect("a commit");
        let mut database = pod('a', "True", "");
        database.metadata.labels = None;
        let mut job = pod('b', "True", "");
        let owner =
            json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "setup", "uid": "1", "controller": true }]);
        job.metadata.owner_references = serde_json::from_value(owner).expect("an owner");
        let with =
            |pods: &[&Pod]| Workloads { pods: pods.iter().map(|pod| (*pod).clone()).collect(), ..Workloads::default() };
        let serves = |pods: &[&Pod]| !with(pods).ready_pods(&commit('a')).is_empty();
        assert!(serves(&[&database, &job]), "nothing that answers is of a commit of its own");
        assert_eq!(with(&[&database, &job]).served(), None);
        let app = pod('a', "False", "");
        assert!(!serves(&[&database, &app]), "the application is not ready yet");
        let mut ends = pod('a', "True", "");
        assert!(serves(&[&ends]));
        ends.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        assert!(!serves(&[&ends]), "it ends");
        assert_eq!(with(&[&ends]).served(), None);
    }
}
