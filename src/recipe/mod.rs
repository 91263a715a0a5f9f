//! `.preview.yaml` to Kubernetes objects. Pure: text and a context come in, objects or a [`Cause`] go out.
//!
//! [`Recipe::parse`] reads the file: what it returns is valid as far as the file alone can tell. [`render`] makes the
//! objects of one commit from it, and the walls around them from the operator's [`Policy`].
//!
//! [`Cause`]: crate::environment::Cause

mod admission;
mod app;
mod backend;
mod cidr;
mod dependencies;
mod documents;
mod files;
mod format;
mod helm;
mod hooks;
mod image;
mod made_up;
mod manifests;
mod mistakes;
mod outline;
mod parse;
mod pins;
mod pods;
mod policy;
mod quantity;
mod references;
mod render;
pub mod room;
mod route;
mod shares;
mod tags;
mod template;
mod values;
mod walls;

pub use backend::{Backend, Backends};
pub use cidr::Cidr;
pub use dependencies::{ChartDependency, ChartMetadata, files_in};
pub use files::{LARGEST_FILE, LARGEST_FILES, MOST_FILES};
use format::Content;
pub use format::{Expose, Helm, Recipe, Resources, Service};
pub use helm::{ChartRequest, ChartSource, Charted};
pub use hooks::STAYS;
pub use image::{ImageReference, InvalidImage};
pub use mistakes::Mistakes;
pub use pins::Pins;
pub use pods::MadePod;
pub use policy::{DatabaseImages, Gateway, IngressPolicy, IngressSource, PodSelector, Policy, Quota};
pub use quantity::{Bytes, Millicores, nanocores};
use render::Draft;
pub use render::{Context, Files, Render, Secrets, render};
pub use template::{Template, Variable};
pub use values::{Bounded, ChartName, ChartRepository, ChartVersion, FilePattern, HealthPath, VariableName};
pub(crate) use walls::OPERATORS_SECRET;
pub use walls::SERVICE_ACCOUNT;

/// Where a repository keeps its recipe.
pub const RECIPE_FILE: &str = ".preview.yaml";

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Why a value of a recipe or of the policy was refused: the rule that it breaks, as the end of a sentence that begins
/// with the field, without a period. Never the refused value itself, which may be anything at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BrokenRule(String);

impl BrokenRule {
    fn new(rule: impl Into<String>) -> Self {
        Self(rule.into())
    }
}

/// One Kubernetes object of an environment, as it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Value", into = "Value")]
pub struct Object {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// The whole object, `apiVersion` and `kind` included. It names no namespace: whoever applies it does.
    pub body: Value,
}

/// The annotation of what does its work for each commit.
pub const RUN: &str = "previewd.dev/run";
/// The annotation of what does its work once.
pub const ONCE: &str = "previewd.dev/once";

/// The items of a list; none where it is something else.
fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

impl From<Value> for Object {
    fn from(body: Value) -> Self {
        Self::from_body(body)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        object.body
    }
}

impl Object {
    /// The object whose body is `body`; `apiVersion`, `kind` and `metadata.name` are read from there.
    fn from_body(body: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            api_version: text(&body["apiVersion"]),
            kind: text(&body["kind"]),
            name: text(&body["metadata"]["name"]),
            body,
        }
    }

    /// Whether it says how many pods there are.
    pub fn has_replicas(&self) -> bool {
        matches!(self.kind.as_str(), "Deployment" | "StatefulSet")
    }

    /// Whether its pods stop while the environment sleeps.
    pub fn sleeps(&self) -> bool {
        self.has_replicas() || self.kind == "CronJob"
    }

    /// Whether it does its work once in the life of an environment.
    pub fn is_done_once(&self) -> bool {
        self.body["metadata"]["annotations"][ONCE] == "true"
    }

    /// Whether an event of its chart has it made.
    pub fn is_hook(&self) -> bool {
        self.body["metadata"]["annotations"][crate::environment::HOOK].is_string()
    }

    /// Has it run once more for `commit`, although it may be there from an earlier one.
    fn run_anew_for(&mut self, commit: &str) {
        self.body["metadata"]["annotations"][RUN] = Value::String(commit.to_owned());
    }

    /// What it runs for, where it is to run anew for each.
    pub fn run(&self) -> Option<&str> {
        self.body["metadata"]["annotations"][RUN].as_str()
    }

    fn rename(&mut self, name: String) {
        self.body["metadata"]["name"] = Value::String(name.clone());
        self.name = name;
    }

    /// Hex SHA-256 of the body. serde_json keeps maps sorted, so equal objects have equal digests.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.body.to_string()))
    }
}
