//! What is on the volumes of an environment: whether it stays, and whether it goes.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, Client, ResourceExt, api::ListParams};
use xtask::testing::eventually;

use crate::lifecycle::life::{Life, SOON};

/// A file that only this finds.
const MARK: &str = "kept-by-a-row";

/// The volumes of an environment at a moment, each with a file of ours.
pub struct Volumes {
    kube: Client,
    namespace: String,
    /// By the claim's name.
    folders: BTreeMap<String, PathBuf>,
}

impl Volumes {
    /// Puts a file into each of them.
    pub async fn mark(life: &Life, namespace: &str) -> Self {
        let (kube, namespace) = (life.kube.clone(), namespace.to_owned());
        let folders = folders(&kube, &namespace).await;
        for folder in folders.values() {
            std::fs::write(folder.join(MARK), "").unwrap();
        }
        Self { kube, namespace, folders }
    }

    pub async fn assert_kept(&self) {
        let now = folders(&self.kube, &self.namespace).await;
        for (name, before) in &self.folders {
            assert_eq!(now.get(name), Some(before), "the volume of {name} is another one");
            assert!(before.join(MARK).exists(), "what was on the volume of {name} is lost");
        }
    }

    /// The same claims, with nothing on them of what was there.
    pub async fn assert_new(&self) {
        let now = folders(&self.kube, &self.namespace).await;
        assert_eq!(now.keys().collect::<Vec<_>>(), self.folders.keys().collect::<Vec<_>>());
        for (name, folder) in now {
            assert!(!folder.join(MARK).exists(), "the volume of {name} is the one of before");
        }
    }
}

/// The folders of all claims, once each has its own.
async fn folders(kube: &Client, namespace: &str) -> BTreeMap<String, PathBuf> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(kube.clone(), namespace);
    let volumes: Api<PersistentVolume> = Api::all(kube.clone());
    eventually("every claim has its volume", SOON, async || {
        let mut folders = BTreeMap::new();
        for claim in claims.list(&ListParams::default()).await.unwrap().items {
            let volume = volumes.get_opt(claim.spec.as_ref()?.volume_name.as_deref()?).await.unwrap()?;
            let folder = volume.spec?.host_path?.path;
            folders.insert(claim.name_any(), PathBuf::from(folder));
        }
        Some(folders)
    })
    .await
}
