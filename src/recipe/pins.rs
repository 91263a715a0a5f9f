//! Which content a render's images are: a tag may be moved, and what runs must be what was there when it was deployed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Object, Render,
    image::is_of_pull_request,
    pods::{containers_mut, template_mut},
};

/// The digests of images, by their names as the recipe has them.
pub type Pins = BTreeMap<String, String>;

impl Render {
    /// The images of all pods as the recipe names them, each once.
    pub fn images(&self) -> BTreeSet<String> {
        let images = self.making_pods().flat_map(Object::containers);
        let images = images.filter_map(|container| container["image"].as_str());
        images.map(|image| self.unpinned(image).to_owned()).collect()
    }

    /// Those of [`Self::images`] whose tag is pushed anew for each commit of the pull request. A render of a version that did
    /// not write them down is asked for what looks like it.
    pub fn images_of_pull_request(&self, number: i64, branch: &str) -> BTreeSet<String> {
        let is_own = |image: &String| self.own_images.contains(image) || is_of_pull_request(image, number, branch);
        self.images().into_iter().filter(is_own).collect()
    }

    /// Has every image that `pins` knows named by that digest. Gives whether that changed something.
    pub fn pin(&mut self, pins: Pins) -> bool {
        let before = std::mem::take(&mut self.pins);
        let mut pinned = before.clone();
        pinned.extend(pins);
        pinned.retain(|image, _| !image.contains('@'));
        if pinned == before {
            self.pins = before;
            return false;
        }
        let rename = |container: &mut Value| {
            let Some(image) = container["image"].as_str() else { return };
            let written = written(image, &before);
            if let Some(digest) = pinned.get(written) {
                container["image"] = format!("{written}@{digest}").into();
            }
        };
        for object in &mut self.objects {
            if let Some(template) = template_mut(object) {
                containers_mut(&mut template["spec"]).for_each(rename);
            }
        }
        self.pins = pinned;
        true
    }

    fn unpinned<'a>(&self, image: &'a str) -> &'a str {
        written(image, &self.pins)
    }
}

/// An image as the recipe names it: without the digest that previewd gave it.
fn written<'a>(image: &'a str, pins: &Pins) -> &'a str {
    match image.split_once('@') {
        Some((written, digest)) if pins.get(written).is_some_and(|pin| pin == digest) => written,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render() -> Render {
        let pod = json!({ "containers": [{ "name": "app", "image": "ghcr.io/acme/shop:pr-7" }],
            "initContainers": [{ "name": "first", "image": "tool" }] });
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "app" },
            "spec": { "template": { "spec": pod } } });
        Render {
            namespace: Object::from_body(
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "n" } }),
            ),
            walls: Vec::new(),
            objects: vec![Object::from_body(deployment)],
            phase_ends: Vec::new(),
            backend: None,
            notes: Vec::new(),
            pins: Pins::new(),
            own_images: BTreeSet::new(),
            upgrades: None,
        }
    }

    #[test]
    fn images_are_pinned_and_pinned_anew() {
        let mut render = render();
        let images = BTreeSet::from(["ghcr.io/acme/shop:pr-7".to_owned(), "tool".to_owned()]);
        assert_eq!(render.images(), images);
        assert_eq!(render.images_of_pull_request(7, "x"), BTreeSet::from(["ghcr.io/acme/shop:pr-7".to_owned()]));
        let written_down = Render { own_images: BTreeSet::from(["tool".to_owned()]), ..render.clone() };
        assert_eq!(written_down.images_of_pull_request(7, "x"), images);
        let digest = |of: &str| format!("sha256:{}", of.repeat(64));
        let pins = |of: &str| Pins::from([("ghcr.io/acme/shop:pr-7".to_owned(), digest(of))]);
        assert!(render.pin(pins("a")));
        let image =
            |render: &Render| render.objects[0].body["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        assert_eq!(image(&render), format!("ghcr.io/acme/shop:pr-7@{}", digest("a")));
        assert_eq!(render.images(), images, "as the recipe has them");
        assert!(!render.pin(pins("a")), "it is so already");
        assert!(render.pin(pins("b")));
        assert_eq!(image(&render), format!("ghcr.io/acme/shop:pr-7@{}", digest("b")));
        assert_eq!(render.objects[0].body["spec"]["template"]["spec"]["initContainers"][0]["image"], "tool");
        let again = Render::from_json(&render.to_json()).unwrap();
        assert_eq!(again.pins, pins("b"));
    }
}
