//! Image references.
//!
//! Source of the grammar: `github.com/distribution/reference`, which containerd and Kubernetes use too.

use std::str::FromStr;

/// The longest name of an image, its registry included, without tag and digest.
const LONGEST_NAME: usize = 255;
/// The longest tag.
const LONGEST_TAG: usize = 128;

/// An image, as far as its registry has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    registry: String,
    pub repository: String,
    /// A digest, or a tag.
    pub reference: String,
}

/// What an image's name means where it begins with no registry.
const DOCKER_HUB: &str = "docker.io";
/// Docker Hub by other names: as Docker calls it among credentials, and the host that is asked.
const ALSO_DOCKER_HUB: [&str; 2] = ["index.docker.io", DOCKER_HUB_HOST];
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

impl ImageReference {
    /// As names of images begin with it, and as operators name it.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Where it is asked: host, and port where needed.
    pub fn host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_HOST } else { &self.registry }
    }

    /// Whether it can mean only one content: it is named by its digest.
    pub fn is_pinned(&self) -> bool {
        is_digest(&self.reference)
    }
}

/// What stands before a pull request's number in a tag: the last word of `pr-7`, `pull-7`, `pull-request-7`, `mr-7`,
/// `merge-request-7` and `preview-7`. Any other may be a system or a build: `debian-12`, `r5`.
const MARKS: [&str; 5] = ["pr", "pull", "request", "mr", "preview"];

/// Whether an image's tag is one of the pull request, and so is pushed anew for each of its commits: `pr-7`, or its branch
/// as build actions write it.
pub(super) fn is_of_pull_request(image: &str, number: i64, branch: &str) -> bool {
    let Ok(reference) = image.parse::<ImageReference>() else { return false };
    let tag = reference.reference.to_ascii_lowercase();
    let number = number.to_string();
    let words: Vec<&str> = tag.split(['.', '_', '-']).collect();
    let is_marked = |word: &&str| MARKS.iter().any(|mark| word.strip_prefix(*mark) == Some(number.as_str()));
    let is_numbered =
        words.windows(2).any(|pair| MARKS.contains(&pair[0]) && pair[1] == number) || words.iter().any(is_marked);
    let slug: String = branch
        .to_ascii_lowercase()
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() || "._".contains(it) { it } else { '-' })
        .collect();
    let is_branch =
        slug.len() > 2 && (tag == slug || tag.ends_with(&format!("-{slug}")) || tag.starts_with(&format!("{slug}-")));
    !reference.is_pinned() && (is_numbered || is_branch)
}

impl FromStr for ImageReference {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        if !is_image_reference(text) {
            return Err(InvalidImage);
        }
        let (text, digest) = text.split_once('@').map_or((text, None), |(text, digest)| (text, Some(digest)));
        let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match text[name_start..].find(':') {
            Some(colon) => (&text[..name_start + colon], &text[name_start + colon + 1..]),
            None => (text, "latest"),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if ALSO_DOCKER_HUB.contains(&first) => (DOCKER_HUB, path),
            Some((first, path)) if names_registry(first) => (first, path),
            Some(_) | None => (DOCKER_HUB, name),
        };
        let is_official = registry == DOCKER_HUB && !path.contains('/');
        let repository = if is_official { format!("library/{path}") } else { path.to_owned() };
        let reference = digest.unwrap_or(tag).to_owned();
        Ok(Self { registry: registry.to_owned(), repository, reference })
    }
}

/// Not `[registry/]name[:tag][@digest]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the name of an image such as ghcr.io/acme/shop:1")]
pub struct InvalidImage;

/// Whether the first part of a name is a registry's: others are Docker Hub's.
fn names_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

/// Whether `text` is `[registry/]name[:tag][@digest]`.
pub(super) fn is_image_reference(text: &str) -> bool {
    let (text, digest) = text.split_once('@').map_or((text, None), |(text, digest)| (text, Some(digest)));
    // A colon before the last slash is the registry's port.
    let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match text[name_start..].find(':') {
        Some(colon) => (&text[..name_start + colon], Some(&text[name_start + colon + 1..])),
        None => (text, None),
    };
    name.len() <= LONGEST_NAME && is_name(name) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

/// Whether `text` may stand as a tag, or in one.
pub(super) fn is_tag(text: &str) -> bool {
    (1..=LONGEST_TAG).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && !text.starts_with(['.', '-'])
}

fn is_name(name: &str) -> bool {
    match name.split_once('/') {
        Some((first, path)) if names_registry(first) => is_registry(first) && path.split('/').all(is_path_component),
        _ => name.split('/').all(is_path_component),
    }
}

/// A DNS name or IPv4 address, with a port where needed.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Lower-case letters and digits, divided by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut divider = String::new();
    for byte in text.bytes() {
        if !alphanumeric(byte) {
            divider.push(char::from(byte));
        } else if matches!(divider.as_str(), "" | "." | "_" | "__") || divider.bytes().all(|byte| byte == b'-') {
            divider.clear();
        } else {
            return false;
        }
    }
    divider.is_empty() && text.bytes().next().is_some_and(alphanumeric)
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, digits)| {
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_a_registry_and_what_is_in_it() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, registry, host, repository, reference) in [
            ("shop", "docker.io", "registry-1.docker.io", "library/shop", "latest"),
            ("acme/shop:1", "docker.io", "registry-1.docker.io", "acme/shop", "1"),
            ("docker.io/acme/shop:1", "docker.io", "registry-1.docker.io", "acme/shop", "1"),
            ("docker.io/nginx:1", "docker.io", "registry-1.docker.io", "library/nginx", "1"),
            ("docker.io/library/nginx", "docker.io", "registry-1.docker.io", "library/nginx", "latest"),
            ("index.docker.io/nginx:1", "docker.io", "registry-1.docker.io", "library/nginx", "1"),
            ("registry-1.docker.io/acme/shop:1", "docker.io", "registry-1.docker.io", "acme/shop", "1"),
            ("ghcr.io/acme/a/b:v1", "ghcr.io", "ghcr.io", "acme/a/b", "v1"),
            ("localhost/shop:1", "localhost", "localhost", "shop", "1"),
            ("127.0.0.1:5000/shop", "127.0.0.1:5000", "127.0.0.1:5000", "shop", "latest"),
            (&format!("ghcr.io/shop:1@{digest}"), "ghcr.io", "ghcr.io", "shop", &digest),
        ] {
            let found: ImageReference = text.parse().expect(text);
            assert_eq!((found.registry(), found.host()), (registry, host), "{text}");
            assert_eq!((found.repository.as_str(), found.reference.as_str()), (repository, reference), "{text}");
        }
        assert_eq!("Shop".parse::<ImageReference>(), Err(InvalidImage));
    }

    #[test]
    fn tags_of_a_pull_request_are_known() {
        let digest = format!("shop:pr-7@sha256:{}", "0a".repeat(32));
        for (image, is_its_own) in [
            ("ghcr.io/acme/shop:pr-7", true),
            ("ghcr.io/acme/shop:pr7", true),
            ("shop:PR_7-amd64", true),
            ("shop:pull-request-7", true),
            ("shop:merge_request_7", true),
            ("shop:mr-7", true),
            ("shop:web.preview7", true),
            ("shop:1.2-pr.7.3", true),
            ("shop:feature-cart", true),
            ("shop:web-feature-cart", true),
            ("shop:pr-71", false),
            ("postgres:7", false),
            ("postgres:7-alpine", false),
            ("postgres:17.7", false),
            // Of others, who count systems and builds.
            ("bitnami/redis:8.0.3-debian-7-r5", false),
            ("bitnami/redis:8.0.3-debian-12-r7", false),
            ("alpine-7", false),
            ("shop:v-7", false),
            ("shop:compr7", false),
            ("shop:latest", false),
            ("shop", false),
            (&digest, false),
            ("not an image", false),
        ] {
            assert_eq!(is_of_pull_request(image, 7, "Feature/cart"), is_its_own, "{image}");
        }
    }

    #[test]
    fn references_are_told_from_other_text() {
        let digest = format!("shop@sha256:{}", "0a".repeat(32));
        for reference in [
            "shop",
            "acme/shop",
            "acme/shop:1",
            "ghcr.io/acme/shop:v1.2_x-3",
            "localhost:5000/a__b/c--d:t",
            "127.0.0.1:5000/a",
            &digest,
        ] {
            assert!(is_image_reference(reference), "{reference}");
        }
        let long_tag = format!("shop:{}", "a".repeat(129));
        let long_name = format!("shop/{}", "a".repeat(255));
        for text in [
            "",
            ":",
            "shop:",
            "shop:a/b",
            "Shop",
            "acme//shop",
            "/shop",
            "shop/",
            "a___b",
            "a.-b",
            ".a",
            "a-",
            "shop:-x",
            "shop tag",
            "shop\n",
            "https://ghcr.io/shop",
            "ghcr.io:0/shop",
            "-ghcr.io/shop",
            "shop@sha256:abc",
            "shop@md5:abc",
            "shop:a:b",
            "shop:a@b@c",
            "$(X)",
            "{{ sha }}",
            &long_tag,
            &long_name,
        ] {
            assert!(!is_image_reference(text), "{text}");
        }
    }
}
