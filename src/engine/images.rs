//! The images that a commit's own build makes: it is deployed once their registries have them, and by their digests where
//! their tags may be moved.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::{
    builds::Build,
    interrupted::{Interrupted, NotApplied},
    observe::Observed,
    pass::Pass,
};
use crate::{
    environment::{CommitSha, DeploymentStatus, Images, Millis},
    recipe::{ImageReference, Pins, Render},
    registry::{Presence, Registries},
    store::{Deployment, DeploymentChanges, Environment, Made, Overview, Record},
};

/// More than any commit builds; nodes tell of the others.
const ASKED_AT_MOST: usize = 8;
/// What stands for the digest that an image was deployed with where its registry did not say it.
const UNKNOWN: &str = "unknown";
/// What stands for it where the registry says what the tag means, and nobody knows of which commit that is.
const MOVED: &str = "moved";
/// How long an image is awaited at most of which nobody says which build makes it: one of the workflows may itself wait for
/// the preview. In milliseconds.
const UNTOLD: Millis = 5 * 60_000;
/// The same for one that has moved: what its build leaves it at is seen, and takes its place. In milliseconds.
const MOVED_AT_MOST: Millis = 90_000;
/// So many commits are looked at for one whose build may be under way.
const LOOKS_BACK: i64 = 16;

/// What is still being built, and until when it is waited for.
pub(super) struct Awaited {
    /// Images, or what is to be replaced: an image with the digest that it had for the commit before, as far as it is known.
    pub missing: Vec<String>,
    pub deadline: Option<Millis>,
}

impl Pass<'_> {
    /// What the head commit's row says of its images, looked at again where some were missing.
    pub(super) async fn images(&mut self, overview: &Overview, deployment: &Deployment) -> Result<Images, Interrupted> {
        let Some(registries) = &self.engine.registries else { return Ok(Images::There) };
        let Some(awaited) = &deployment.awaited_images else { return Ok(Images::Unknown) };
        let (old, missing) = outdated_and_missing(awaited);
        // One that was missing is there once its registry says so: an answer that is none ends no wait.
        let mut absent = that_are_not(registries, &missing, Presence::There).await;
        absent.sort_by_key(|(_, presence)| *presence != Presence::Missing);
        match absent.into_iter().next() {
            Some((image, Presence::Missing)) => return self.missing(overview, deployment, image).await,
            Some((image, Presence::Unknown | Presence::There)) => return Ok(Images::Untold { image }),
            None => {}
        }
        let now = digests(registries, old.keys().cloned().collect()).await;
        let same = may_still_be(old.clone(), &now);
        // What was pushed under such a tag since may be a commit's that came before this one.
        let is_pushed = |image: &&String| !same.contains_key(*image);
        let under_no_commit = missing.iter().filter(|image| !carries(image, &deployment.commit));
        let pushed = old.keys().filter(is_pushed).chain(under_no_commit).next().cloned();
        if same.is_empty() && pushed.is_none() {
            return Ok(Images::There);
        }
        let rows = self.engine.store.deployments_of(&overview.environment.id, LOOKS_BACK).await?;
        let waited = self.lease.now() - self.looked_at(deployment, &rows);
        let outdated = still_awaited(same, waited);
        let image = match (outdated.keys().next(), pushed) {
            (Some(image), _) => image.clone(),
            (None, Some(image)) if waited < UNTOLD && self.follows_another(overview, deployment, &rows) => image,
            (None, _) => return Ok(Images::There),
        };
        Ok(match self.build(overview, deployment, &rows).await? {
            Build::MayCome => Images::Outdated { image },
            Build::Failed => match that_surely_are(&outdated, &now).next() {
                Some((image, _)) => Images::Unchanged { image: image.clone() },
                None => Images::There,
            },
            Build::MayHaveFailed | Build::Over => Images::There,
        })
    }

    /// What is missing, by what the workflows of the commit say of it.
    async fn missing(
        &mut self,
        overview: &Overview,
        deployment: &Deployment,
        image: String,
    ) -> Result<Images, Interrupted> {
        let rows = self.engine.store.deployments_of(&overview.environment.id, LOOKS_BACK).await?;
        Ok(match self.build_lately(overview, deployment, &rows).await? {
            Build::Failed | Build::MayHaveFailed => {
                Images::Unbuilt { image, until: self.looked_at(deployment, &rows) + UNTOLD }
            }
            Build::MayCome | Build::Over => Images::Missing { image },
        })
    }

    /// Makes what is to be applied, keeps it, and asks for the images in it that carry the commit or the pull request: those
    /// that everybody shares were built before.
    pub(super) async fn look_for_images(&mut self, observed: &Observed) -> Result<Awaited, NotApplied> {
        let made = self.make(observed).await?;
        let facts = &observed.overview.pull_request.facts;
        let head = &facts.head_sha;
        // What ran of this very commit is kept until something else is applied of it.
        if made.is_new && observed.overview.environment.good_commit.as_ref() != Some(head) {
            let kept = Made { render: &made.render, key: &made.key, remakes: false };
            self.engine.store.keep_render(&self.lease, head, kept).await??;
        }
        let mut moving = made.render.images_of_pull_request(facts.number, &facts.head_ref);
        let is_own = |image: &String| (carries(image, head) || moving.contains(image)) && !image.contains('@');
        let own: Vec<String> = made.render.images().into_iter().filter(is_own).collect();
        let absent = match &self.engine.registries {
            Some(registries) => that_are_not(registries, &own, Presence::There).await,
            None => Vec::new(),
        };
        let missing = absent.into_iter().filter(|(_, presence)| *presence == Presence::Missing).map(|(image, _)| image);
        let mut awaited: Vec<String> = missing.collect();
        // Of several that one build makes, each is awaited.
        moving.retain(|image| !awaited.contains(image) && !carries(image, head));
        awaited.extend(self.outdated(observed, moving).await?);
        let deadline = self.longest_wait(&awaited).map(|wait| self.lease.now().saturating_add(wait));
        Ok(Awaited { deadline: deadline.filter(|_| !awaited.is_empty()), missing: awaited })
    }

    /// How long these are awaited. None: for as long as it takes.
    fn longest_wait(&self, awaited: &[String]) -> Option<Millis> {
        longest_wait(self.engine.image_wait.millis(), awaited)
    }

    /// When this round began to look for its images. The row of one that waits for as long as it takes does not say it: no
    /// sooner than the newest commit was heard of. `rows`: of the environment, the newest first.
    pub(super) fn looked_at(&self, deployment: &Deployment, rows: &[Deployment]) -> Millis {
        let Some(awaited) = &deployment.awaited_images else { return self.lease.now() };
        let said = deployment.images_deadline.zip(self.longest_wait(awaited)).map(|(at, wait)| at - wait);
        said.unwrap_or_else(|| rows.first().map_or(deployment.created_at, |newest| newest.created_at))
    }

    /// Has the images of a render whose tags may be moved deployed by what they mean now. Gives whether that changed it.
    pub(super) async fn pin_images(&mut self, observed: &Observed, render: &mut Render) -> Result<bool, Interrupted> {
        let Some(registries) = &self.engine.registries else { return Ok(false) };
        let facts = &observed.overview.pull_request.facts;
        let own = render.images_of_pull_request(facts.number, &facts.head_ref);
        let moving = render.images().into_iter().filter(|image| !carries(image, &facts.head_sha));
        let (mut images, others): (Vec<_>, Vec<_>) = moving.partition(|image| own.contains(image));
        images.extend(others);
        let pins = self.keep_lease(digests(registries, images)).await?;
        let is_changed = render.pin(pins);
        self.remember_what_is_tried(observed, render, &own).await?;
        Ok(is_changed)
    }

    /// Keeps in the row what the tags of the pull request mean in this attempt: once something else is put back, nothing
    /// says it any more.
    async fn remember_what_is_tried(
        &self,
        observed: &Observed,
        render: &Render,
        own: &BTreeSet<String>,
    ) -> Result<(), Interrupted> {
        let Some(row) = &observed.deployment else { return Ok(()) };
        let tried = own.iter().filter_map(|image| Some(format!("{image}@{}", render.pins.get(image)?)));
        let tried: Vec<String> = tried.collect();
        if row.tried_images == tried {
            return Ok(());
        }
        let changes = DeploymentChanges::default().tried(row.awaited_images.as_deref().unwrap_or(&[]), &tried);
        let head = row.commit.clone();
        self.record(Record { deployment: Some((head, changes)), ..Record::default() }).await
    }

    /// Whether a tag of the pull request means something else by now than what the head commit was tried with, or what it
    /// failed for want of is there.
    pub(super) async fn is_rebuilt(
        &mut self,
        overview: &Overview,
        deployment: &Deployment,
    ) -> Result<bool, Interrupted> {
        let Some(registries) = &self.engine.registries else { return Ok(false) };
        let tried = match deployment.status {
            DeploymentStatus::Succeeded => self.deployed_with(overview).await?,
            DeploymentStatus::Failed => {
                let began = deployment.attempt > 0;
                let waited_for = deployment.awaited_images.as_deref().unwrap_or(&[]);
                let images = if began { deployment.tried_images.as_slice() } else { waited_for };
                let (mut tried, missing) = outdated_and_missing(images);
                if !missing.is_empty() {
                    let absent = that_are_not(registries, &missing, Presence::There);
                    return Ok(self.keep_lease(absent).await?.is_empty());
                }
                tried.retain(|_, digest| is_known(digest));
                tried
            }
            DeploymentStatus::Pending
            | DeploymentStatus::Deploying
            | DeploymentStatus::Superseded
            | DeploymentStatus::Cancelled => return Ok(false),
        };
        let now = self.keep_lease(digests(registries, tried.keys().cloned().collect())).await?;
        Ok(differ(&tried, &now))
    }

    /// What the tags of the pull request meant when the head commit was deployed, as far as that is known.
    async fn deployed_with(&self, overview: &Overview) -> Result<Pins, Interrupted> {
        let facts = &overview.pull_request.facts;
        let render = self.engine.store.render(&overview.environment.id, &facts.head_sha).await?;
        let Some(render) = render.filter(|render| !render.pins.is_empty()) else { return Ok(Pins::new()) };
        let moving = render.images_of_pull_request(facts.number, &facts.head_ref);
        Ok(render.pins.into_iter().filter(|(image, _)| moving.contains(image)).collect())
    }

    /// Those of `moving` that may not be the head commit's: while a build is under way all of them, whatever their tags mean,
    /// and where all failed what an earlier commit was deployed with. Each with the digest of that, as far as it is known.
    async fn outdated(&mut self, observed: &Observed, moving: BTreeSet<String>) -> Result<Vec<String>, NotApplied> {
        // Those that were asked for when the commit before was pinned.
        let moving: BTreeSet<String> = moving.into_iter().take(ASKED_AT_MOST).collect();
        let Some(registries) = &self.engine.registries else { return Ok(Vec::new()) };
        let Some(deployment) = observed.deployment.as_ref().filter(|_| !moving.is_empty()) else {
            return Ok(Vec::new());
        };
        let Environment { id, good_commit, applied_commit, .. } = &observed.overview.environment;
        let rows = self.engine.store.deployments_of(id, LOOKS_BACK).await?;
        // Of the first commit there is no other whose image that could be.
        if rows.iter().all(|row| row.commit == deployment.commit) {
            return Ok(Vec::new());
        }
        let build = self.build(&observed.overview, deployment, &rows).await?;
        if matches!(build, Build::MayHaveFailed | Build::Over) {
            return Ok(Vec::new());
        }
        let mut before = Pins::new();
        for commit in good_commit.iter().chain(applied_commit).filter(|&it| *it != deployment.commit) {
            if let Some(render) = self.engine.store.render(id, commit).await? {
                add_what_they_were(&mut before, &render, &moving);
            }
        }
        let now = digests(registries, moving.iter().cloned().collect()).await;
        let same = may_still_be(before, &now);
        Ok(if build == Build::Failed {
            that_surely_are(&same, &now).map(|(image, old)| format!("{image}@{old}")).collect()
        } else {
            let of_nobody = |image: &String| if now.contains_key(image) { MOVED } else { UNKNOWN };
            let old = |image: &String| same.get(image).map_or_else(|| of_nobody(image), String::as_str);
            moving.iter().map(|image| format!("{image}@{}", old(image))).collect()
        })
    }

    /// Whether another commit was the head since the one that ran last, whose build may still push.
    fn follows_another(&self, overview: &Overview, deployment: &Deployment, rows: &[Deployment]) -> bool {
        let rows: Vec<(&CommitSha, Millis)> = rows.iter().map(|row| (&row.commit, row.created_at)).collect();
        // Nobody waits for a build for longer than that.
        let since = self.engine.image_wait.millis().map_or(Millis::MIN, |wait| self.lease.now().saturating_sub(wait));
        has_another(&rows, &deployment.commit, overview.environment.good_commit.as_ref(), since)
    }
}

fn carries(image: &str, commit: &CommitSha) -> bool {
    image.contains(commit.as_str()) || image.contains(commit.short())
}

/// Whether it is a digest, and not what stands for one.
fn is_known(digest: &str) -> bool {
    digest != UNKNOWN && digest != MOVED
}

/// How long a tag is awaited at most, by what it is to replace.
fn awaited_for(digest: &str) -> Millis {
    match digest {
        UNKNOWN => UNTOLD,
        MOVED => MOVED_AT_MOST,
        _ => Millis::MAX,
    }
}

/// How long these are awaited, each for `wait` at most. None: for as long as it takes.
fn longest_wait(wait: Option<Millis>, awaited: &[String]) -> Option<Millis> {
    let of_each = |image: &String| image.split_once('@').map_or(Millis::MAX, |(_, digest)| awaited_for(digest));
    let longest = awaited.iter().map(of_each).max().unwrap_or(Millis::MAX).min(wait.unwrap_or(Millis::MAX));
    (longest < Millis::MAX).then_some(longest)
}

/// Those that were not `waited` for as long as they are at most. In milliseconds.
fn still_awaited(images: Pins, waited: Millis) -> Pins {
    images.into_iter().filter(|(_, digest)| waited < awaited_for(digest)).collect()
}

/// Of what is awaited: the images that are to be replaced, each with its digest, and those that are missing.
fn outdated_and_missing(awaited: &[String]) -> (Pins, Vec<String>) {
    let (mut outdated, mut missing) = (Pins::new(), Vec::new());
    for image in awaited {
        match image.split_once('@') {
            Some((image, digest)) => drop(outdated.insert(image.to_owned(), digest.to_owned())),
            None => missing.push(image.clone()),
        }
    }
    (outdated, missing)
}

/// Whether a tag means another digest `now`. One of which nobody says what it means has not changed.
fn differ(before: &Pins, now: &Pins) -> bool {
    before.iter().any(|(image, digest)| now.get(image).is_some_and(|now| now != digest))
}

/// Those of `images` of which their registries do not say this, each with what they say.
async fn that_are_not(registries: &Registries, images: &[String], expected: Presence) -> Vec<(String, Presence)> {
    let asked = images.iter().take(ASKED_AT_MOST).map(async |image| {
        // What is no reference the cluster refuses, in its own words.
        let reference: ImageReference = image.parse().ok()?;
        Some((image.clone(), registries.presence(&reference).await))
    });
    let answered = join_all(asked).await.into_iter().flatten();
    answered.filter(|(_, presence)| *presence != expected).collect()
}

/// What the tags of `images` mean now, as far as their registries say it.
async fn digests(registries: &Registries, images: Vec<String>) -> Pins {
    let asked = images.into_iter().take(ASKED_AT_MOST).map(async |image| {
        let reference: ImageReference = image.parse().ok()?;
        let digest = if reference.is_pinned() { None } else { registries.digest(&reference).await };
        digest.map(|digest| (image, digest))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Adds what those of `moving` were deployed with that an earlier commit has: what is known of an image stays.
fn add_what_they_were(before: &mut Pins, render: &Render, moving: &BTreeSet<String>) {
    for image in render.images().into_iter().filter(|image| moving.contains(image)) {
        match render.pins.get(&image) {
            Some(digest) => drop(before.insert(image, digest.clone())),
            None => drop(before.entry(image).or_insert_with(|| UNKNOWN.to_owned())),
        }
    }
}

/// Whether one of the commits with these rows, from the newest back to the one that ran last, is another than the head and
/// came later than `since`.
fn has_another(rows: &[(&CommitSha, Millis)], head: &CommitSha, good: Option<&CommitSha>, since: Millis) -> bool {
    let mut later = rows.iter().take_while(|(commit, _)| Some(*commit) != good);
    later.any(|(commit, created_at)| *commit != head && *created_at > since)
}

/// Those whose tag means the digest that stands beside it, as their registries say.
fn that_surely_are<'a>(before: &'a Pins, now: &'a Pins) -> impl Iterator<Item = (&'a String, &'a String)> {
    before.iter().filter(move |(image, digest)| now.get(*image) == Some(*digest))
}

/// A registry that does not say what a tag means now, or did not say it before, may have either.
fn may_still_be(before: Pins, now: &Pins) -> Pins {
    let may_be = |image: &String, digest: &String| !is_known(digest) || now.get(image).is_none_or(|now| now == digest);
    before.into_iter().filter(|(image, digest)| may_be(image, digest)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A render of one Deployment that runs these images by these digests.
    fn render(images: &[(&str, Option<&str>)]) -> Render {
        let containers: Vec<_> = images.iter().map(|(image, _)| json!({ "name": "a", "image": image })).collect();
        let pins = images.iter().filter_map(|(image, digest)| Some(((*image).to_owned(), (*digest)?.to_owned())));
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "app" },
            "spec": { "template": { "spec": { "containers": containers } } } });
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } });
        let kept = json!({ "namespace": namespace, "walls": [], "objects": [deployment] });
        Render { pins: pins.collect(), ..Render::from_json(&kept.to_string()).expect("a render") }
    }

    #[test]
    fn what_is_awaited_is_kept_with_what_it_is_to_replace() {
        let awaited = ["shop:pr-7@sha256:a".to_owned(), "side:0123456".to_owned(), format!("job:pr-7@{UNKNOWN}")];
        let (outdated, missing) = outdated_and_missing(&awaited);
        let pins = |pins: &[(&str, &str)]| -> Pins {
            pins.iter().map(|(image, digest)| ((*image).to_owned(), (*digest).to_owned())).collect()
        };
        assert_eq!(outdated, pins(&[("shop:pr-7", "sha256:a"), ("job:pr-7", UNKNOWN)]));
        assert_eq!(missing, ["side:0123456"]);
        let before = pins(&[("shop:pr-7", "a"), ("side:pr-7", "b")]);
        assert!(differ(&before, &pins(&[("shop:pr-7", "a"), ("side:pr-7", "c")])));
        assert!(
            !differ(&before, &pins(&[("shop:pr-7", "a"), ("other:pr-7", "c")])),
            "nobody says what the other means"
        );
    }

    #[test]
    fn a_commit_between_may_still_push() {
        let commit = |digit: &str| digit.repeat(40).parse::<CommitSha>().expect("a commit");
        let (good, between, head) = (commit("a"), commit("b"), commit("c"));
        let rows = [(&head, 30), (&between, 20), (&good, 10)];
        assert!(has_another(&rows, &head, Some(&good), 0));
        assert!(has_another(&rows[..2], &head, None, 0), "nothing ran yet");
        assert!(!has_another(&rows, &head, Some(&good), 20), "its build is waited for no longer");
        assert!(!has_another(&rows, &head, Some(&between), 0), "it ran");
        assert!(!has_another(&rows[..1], &head, None, 0), "there is none");
        let back = [(&between, 20), (&head, 10)];
        assert!(has_another(&back, &head, None, 0), "the branch went back from it");
    }

    #[test]
    fn what_is_known_of_a_tag_says_how_long_it_is_awaited() {
        let known = "shop:pr-7@sha256:a".to_owned();
        let (unknown, moved) = (format!("side:pr-7@{UNKNOWN}"), format!("job:pr-7@{MOVED}"));
        for (wait, awaited, expected) in [
            (Some(1_800_000), vec![moved.clone()], Some(MOVED_AT_MOST)),
            (Some(1_800_000), vec![moved.clone(), unknown.clone()], Some(UNTOLD)),
            (Some(1_800_000), vec![moved.clone(), known.clone()], Some(1_800_000)),
            (Some(1_800_000), vec!["shop:0123456".to_owned(), unknown.clone()], Some(1_800_000)),
            (Some(60_000), vec![moved.clone()], Some(60_000)),
            (None, vec![unknown.clone()], Some(UNTOLD)),
            (None, vec![known.clone(), unknown.clone()], None),
        ] {
            assert_eq!(longest_wait(wait, &awaited), expected, "{wait:?} {awaited:?}");
        }
        // Where one is awaited for longer, the others are not.
        let (all, _) = outdated_and_missing(&[known, unknown, moved]);
        let left = |waited| still_awaited(all.clone(), waited).into_keys().collect::<Vec<_>>();
        assert_eq!(left(MOVED_AT_MOST - 1), ["job:pr-7", "shop:pr-7", "side:pr-7"]);
        assert_eq!(left(MOVED_AT_MOST), ["shop:pr-7", "side:pr-7"]);
        assert_eq!(left(UNTOLD), ["shop:pr-7"]);
        let now = Pins::from([("job:pr-7".to_owned(), "sha256:b".to_owned())]);
        assert!(may_still_be(all.clone(), &now).contains_key("job:pr-7"), "whatever it means by now");
    }

    #[test]
    fn what_nobody_says_may_still_be_the_image_of_the_commit_before() {
        let moving = BTreeSet::from(["shop:pr-7".to_owned(), "side:pr-7".to_owned()]);
        let pins = |pins: &[(&str, &str)]| -> Pins {
            pins.iter().map(|(image, digest)| ((*image).to_owned(), (*digest).to_owned())).collect()
        };
        for (good, applied, now, expected) in [
            // Its registry tells.
            (Some("a"), None, Some("a"), Some("a")),
            (Some("a"), None, Some("b"), None),
            (Some("a"), Some("b"), Some("b"), Some("b")),
            (Some("a"), Some("b"), Some("a"), None),
            // It does not, now or ever.
            (Some("a"), None, None, Some("a")),
            (None, None, None, Some(UNKNOWN)),
            (None, None, Some("a"), Some(UNKNOWN)),
            (None, Some("b"), Some("c"), None),
        ] {
            let mut before = Pins::new();
            add_what_they_were(&mut before, &render(&[("shop:pr-7", good), ("db:1", None)]), &moving);
            add_what_they_were(&mut before, &render(&[("shop:pr-7", applied)]), &moving);
            let now = pins(&now.map(|now| [("shop:pr-7", now)]).into_iter().flatten().collect::<Vec<_>>());
            let expected = pins(&expected.map(|it| [("shop:pr-7", it)]).into_iter().flatten().collect::<Vec<_>>());
            let is_sure = !now.is_empty() && expected == now;
            assert_eq!(that_surely_are(&before, &now).next().is_some(), is_sure, "{good:?} {applied:?} {now:?}");
            assert_eq!(may_still_be(before, &now), expected, "{good:?} {applied:?} {now:?}");
        }
        let mut before = Pins::new();
        add_what_they_were(&mut before, &render(&[("db:1", None), ("shop:sha", None)]), &moving);
        assert!(before.is_empty(), "what the commit before did not have, and what is everybody's, is not waited for");
    }
}
