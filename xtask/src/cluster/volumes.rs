//! Volumes of the local cluster: a folder of its own for each claim, for as long as the claim is there.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

const CLASS: &str = "folders";
/// The same, whose volumes may be made larger.
const GROWING: &str = "growing-folders";

/// Makes the default StorageClass and one whose volumes grow, and from now on a volume for each claim of them.
pub(super) async fn provide(client: Client, folder: PathBuf) -> Result<AbortOnDropHandle<()>> {
    let classes = Api::<StorageClass>::all(client.clone());
    for (name, grows) in [(CLASS, false), (GROWING, true)] {
        let is_default = (!grows).to_string();
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": { "name": name, "annotations": { "storageclass.kubernetes.io/is-default-class": is_default } },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "Immediate",
            "allowVolumeExpansion": grows,
        }))?;
        classes.create(&PostParams::default(), &class).await.with_context(|| format!("cannot make {name}"))?;
    }
    let claims = watcher(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default());
    let events = claims.default_backoff();
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let volumes = Api::<PersistentVolume>::all(client);
        let mut events = events.boxed();
        while let Some(event) = events.next().await {
            let done = match event {
                Ok(watcher::Event::Apply(claim) | watcher::Event::InitApply(claim)) => {
                    make(&volumes, &folder, &claim).await
                }
                Ok(watcher::Event::Delete(claim)) => remove(&volumes, &folder, &claim).await,
                Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!("a volume of the local cluster: {error:#}");
            }
        }
    })))
}

fn name_of(claim: &PersistentVolumeClaim) -> Option<String> {
    Some(format!("folder-{}", claim.uid()?))
}

async fn make(volumes: &Api<PersistentVolume>, folder: &std::path::Path, claim: &PersistentVolumeClaim) -> Result<()> {
    let Some(name) = name_of(claim) else { return Ok(()) };
    let is_ours = |class: &str| [CLASS, GROWING].contains(&class);
    let Some(spec) = claim.spec.as_ref().filter(|spec| spec.storage_class_name.as_deref().is_some_and(is_ours)) else {
        return Ok(());
    };
    if spec.volume_name.is_some() || claim.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let path = folder.join(&name);
    fs::create_dir_all(&path)?;
    // The kubelet gives folders of the host to nobody: not even to a pod's fsGroup.
    fs::set_permissions(&path, Permissions::from_mode(0o777))?;
    let asked = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
    let capacity: BTreeMap<_, _> = asked.unwrap_or_default();
    let volume = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "capacity": capacity,
            "accessModes": spec.access_modes,
            "storageClassName": spec.storage_class_name,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": { "path": path },
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": claim.uid(),
                "namespace": claim.namespace(), "name": claim.name_any(),
            },
        },
    }))?;
    match volumes.create(&PostParams::default(), &volume).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn remove(
    volumes: &Api<PersistentVolume>,
    folder: &std::path::Path,
    claim: &PersistentVolumeClaim,
) -> Result<()> {
    let Some(name) = name_of(claim) else { return Ok(()) };
    match volumes.delete(&name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    match fs::remove_dir_all(folder.join(&name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
