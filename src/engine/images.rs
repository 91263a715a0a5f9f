//! The images that a commit's own build makes: it is deployed once their registries have them.

use futures::future::join_all;

use super::{interrupted::NotApplied, observe::Observed, pass::Pass};
use crate::{
    environment::{Images, Millis},
    recipe::{ImageReference, Render},
    registry::Presence,
    store::{Deployment, Made},
};

/// More than any commit builds; of the others the nodes tell.
const ASKED_AT_MOST: usize = 8;

/// What is still being built, and until when it is waited for.
pub(super) struct Awaited {
    pub missing: Vec<String>,
    pub deadline: Option<Millis>,
}

impl Pass<'_> {
    /// What the head commit's row says of its images, looked at again where some were missing.
    pub(super) async fn images(&self, deployment: &Deployment) -> Images {
        if self.engine.registries.is_none() {
            return Images::There;
        }
        let Some(awaited) = &deployment.awaited_images else { return Images::Unknown };
        // One that was missing is there once its registry says so: an answer that is none ends no wait.
        match self.that_are_not(awaited, |presence| presence == Presence::There).await.into_iter().next() {
            Some(image) => Images::Missing { image },
            None => Images::There,
        }
    }

    /// Makes what is to be applied, keeps it, and asks for the images in it that carry the commit: those that everybody
    /// shares were built before.
    pub(super) async fn look_for_images(&mut self, observed: &Observed) -> Result<Awaited, NotApplied> {
        let made = self.make(observed).await?;
        let head = &observed.overview.pull_request.facts.head_sha;
        if made.is_new {
            let kept = Made { render: &made.render, key: &made.key };
            self.engine.store.keep_render(&self.lease, head, kept).await??;
        }
        let carries_commit = |image: &String| image.contains(head.as_str()) || image.contains(head.short());
        let own: Vec<String> = images_of(&made.render).into_iter().filter(carries_commit).collect();
        let missing = self.that_are_not(&own, |presence| presence != Presence::Missing).await;
        let deadline = self.engine.image_wait.millis().map(|wait| self.lease.now().saturating_add(wait));
        Ok(Awaited { deadline: deadline.filter(|_| !missing.is_empty()), missing })
    }

    /// Those of `images` of which their registries do not say what is expected of them.
    async fn that_are_not(&self, images: &[String], is_expected: impl Fn(Presence) -> bool) -> Vec<String> {
        let Some(registries) = &self.engine.registries else { return Vec::new() };
        let asked = images.iter().take(ASKED_AT_MOST).map(async |image| {
            // What is no reference the cluster refuses, in its own words.
            let reference: ImageReference = image.parse().ok()?;
            (!is_expected(registries.presence(&reference).await)).then(|| image.clone())
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// The images of all pods, each once.
fn images_of(render: &Render) -> Vec<String> {
    let mut images: Vec<String> = render
        .pod_templates
        .iter()
        .flat_map(|pod| ["initContainers", "containers"].map(|list| pod.body["spec"][list].as_array()))
        .flatten()
        .flatten()
        .filter_map(|container| container["image"].as_str().map(str::to_owned))
        .collect();
    images.sort_unstable();
    images.dedup();
    images
}
