//! A real registry of images and charts on this machine.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use super::binaries::{self, REGISTRY};
use super::image::{ImageSpec, architecture};
use super::process::{Component, Launch};
use crate::{github::http_client, stand::free_port};

const START: Duration = Duration::from_secs(30);
/// Who may read and write where credentials are asked for.
pub const REGISTRY_USER: &str = "ci";
pub const REGISTRY_PASSWORD: &str = "registry-password";
/// The password's hash, as `htpasswd -B` makes it.
const HASH: &str = "$2b$05$f/KJVCOBTUyyp/H1VbFFmekn7s8UThNar1bppBdfpEVE4yBdWA566";

/// A registry that ends, with all that is in it, when this is dropped.
pub struct Registry {
    host: String,
    asks_for_credentials: bool,
    http: Client,
    component: Component,
    _folder: TempDir,
}

impl Registry {
    /// Starts one on any port of an address, over plain HTTP. Builds it first where the cache lacks it.
    ///
    /// # Errors
    /// If it cannot be built, or does not answer.
    pub async fn start(address: Ipv4Addr, asks_for_credentials: bool) -> Result<Self> {
        tokio::task::spawn_blocking(|| binaries::ensure(&[&REGISTRY])).await??;
        let folder = tempfile::Builder::new().prefix("previewd-registry-").tempdir()?;
        let path = folder.path();
        std::fs::create_dir(path.join("logs"))?;
        let host = format!("{address}:{}", free_port()?);
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": path.join("data") } },
            "http": { "addr": host, "relativeurls": true },
        });
        if asks_for_credentials {
            std::fs::write(path.join("users"), format!("{REGISTRY_USER}:{HASH}\n"))?;
            config["auth"] = json!({ "htpasswd": { "realm": "registry", "path": path.join("users") } });
        }
        let file = path.join("config.yml");
        // YAML holds all of JSON.
        std::fs::write(&file, config.to_string())?;
        let args = vec!["serve".to_owned(), file.display().to_string()];
        let component =
            Component::start(path, Launch { name: "registry", program: &REGISTRY.path()?, args, inside: None })?;
        let mut registry = Self { host, asks_for_credentials, http: http_client()?, component, _folder: folder };
        let deadline = Instant::now() + START;
        while registry.request(Method::GET, "").send().await.is_err() {
            registry.component.check()?;
            if Instant::now() > deadline {
                bail!("the registry did not answer within {} s", START.as_secs());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(registry)
    }

    /// Address and port, as names of images begin.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Pushes an image, as a CI would; `image.name` is `HOST/NAME:TAG` with this registry's host. One for another
    /// architecture comes in an index, as images do that are built for named platforms.
    ///
    /// # Errors
    /// If the registry refuses a part of it.
    pub async fn push(&self, image: &ImageSpec) -> Result<()> {
        let name = image.name.strip_prefix(&format!("{}/", self.host)).context("the image is of another registry")?;
        let (name, tag) = name.rsplit_once(':').context("the image has no tag")?;
        let content = image.content()?;
        let mut layers = Vec::new();
        for layer in &content.layers {
            layers.push(self.push_blob(name, "application/vnd.oci.image.layer.v1.tar", layer).await?);
        }
        let config = self.push_blob(name, "application/vnd.oci.image.config.v1+json", &content.config).await?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
        let manifest = manifest.to_string();
        if image.architecture == architecture() {
            return self.push_manifest(name, tag, kind, manifest).await;
        }
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&manifest)));
        let platform = json!({ "os": "linux", "architecture": image.architecture });
        let listed = json!({ "mediaType": kind, "digest": digest, "size": manifest.len(), "platform": platform });
        self.push_manifest(name, &digest, kind, manifest).await?;
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [listed] });
        self.push_manifest(name, tag, kind, index.to_string()).await
    }

    async fn push_manifest(&self, name: &str, reference: &str, kind: &str, manifest: String) -> Result<()> {
        let request = self.request(Method::PUT, &format!("{name}/manifests/{reference}"));
        let answer = request.header(header::CONTENT_TYPE, kind).body(manifest).send().await?;
        expect(answer.status(), StatusCode::CREATED, "the manifest")
    }

    /// Gives the blob's descriptor.
    async fn push_blob(&self, name: &str, kind: &str, content: &[u8]) -> Result<serde_json::Value> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(content)));
        let begun = self.request(Method::POST, &format!("{name}/blobs/uploads/")).send().await?;
        expect(begun.status(), StatusCode::ACCEPTED, "an upload")?;
        let place = begun.headers().get(header::LOCATION).context("no place to upload to")?.to_str()?.to_owned();
        let join = if place.contains('?') { '&' } else { '?' };
        let place = place.trim_start_matches("/v2/");
        let request = self.request(Method::PUT, &format!("{place}{join}digest={digest}"));
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream").body(content.to_vec());
        expect(request.send().await?.status(), StatusCode::CREATED, "a blob")?;
        Ok(json!({ "mediaType": kind, "digest": digest, "size": content.len() }))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("http://{}/v2/{path}", self.host));
        if self.asks_for_credentials { request.basic_auth(REGISTRY_USER, Some(REGISTRY_PASSWORD)) } else { request }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.component.end();
    }
}

fn expect(found: StatusCode, expected: StatusCode, what: &str) -> Result<()> {
    if found != expected {
        bail!("the registry answered {found} to {what}");
    }
    Ok(())
}
