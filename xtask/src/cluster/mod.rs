//! A real Kubernetes on this machine, from packages alone, for the demo, the tests and the benchmarks.
//!
//! [`LocalCluster::start`] gives etcd, API server and controllers as processes; with `node: true` also one node that
//! runs pods. Everything ends with the process that started it, whichever way that ends.

mod addons;
pub mod api_proxy;
pub mod binaries;
pub(crate) mod certificates;
mod control_plane;
mod database;
mod image;
pub mod ingress;
mod leftovers;
mod node;
mod own_image;
mod process;
mod registry;
pub(crate) mod requirements;
mod sample;
mod slot;
mod volumes;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node as NodeObject, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

pub(crate) use binaries::cache_directory;
pub use binaries::gateway_definitions;
use certificates::Authority;
pub use database::{POSTGRES_IMAGE, POSTGRES_VERSION, postgres_image};
pub use image::{ImageFile, ImageSpec, Layer, NON_ROOT, architecture, import, import_archive};
pub use node::NODE_NAME;
use node::Node;
pub use own_image::previewd_image;
use process::Component;
pub(crate) use process::crash_process;
pub use registry::{REGISTRY_PASSWORD, REGISTRY_USER, Registry};
pub use sample::{SAMPLE_PORT, sample_image, sample_image_name, sample_image_of_any_commit};
use slot::Slot;
pub use slot::{RunningCluster, clean_leftovers, running_clusters, state_directory};

/// How long each part may take to become ready. A machine that also compiles takes several times the usual.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// What people call it; any number of clusters may have one name.
    pub name: String,
    /// Whether pods can run. Needs root.
    pub node: bool,
    /// Whether pods are scheduled; always so where there is a node.
    pub scheduler: bool,
}

impl Options {
    /// API server and controllers only: objects are real, pods stay pending. Needs no root.
    pub fn api_only(name: impl Into<String>) -> Options {
        Options { name: name.into(), node: false, scheduler: false }
    }

    /// A cluster that runs pods. Needs root.
    pub fn with_node(name: impl Into<String>) -> Options {
        Options { name: name.into(), node: true, scheduler: true }
    }
}

/// A cluster that lives as long as this value, and no longer than this process; or another process' one.
pub struct LocalCluster {
    name: String,
    kubeconfig: PathBuf,
    has_node: bool,
    /// Where there is a node that is this process'.
    node: Option<Node>,
    volumes: Option<AbortOnDropHandle<()>>,
    components: Mutex<Vec<Component>>,
    slot: Slot,
}

impl LocalCluster {
    /// Starts a cluster and waits until it takes work. Builds its programs first where the cache lacks them.
    ///
    /// # Errors
    /// One that names everything that the machine lacks; or the component that ended early, with its log's end.
    pub async fn start(options: Options) -> Result<LocalCluster> {
        let Options { name, node, scheduler } = options;
        let mut cluster = tokio::task::spawn_blocking(move || LocalCluster::prepare(name, node)).await??;
        let authority = Authority::new(cluster.slot.directory.join("pki"))?;
        let address = if node { cluster.slot.host() } else { Ipv4Addr::LOCALHOST };
        let server = format!("https://{address}:{}", cluster.slot.port());
        let admin = authority.write_kubeconfig(&server, "admin", "admin", Some("system:masters"))?;
        cluster.kubeconfig = admin;
        let slot = &cluster.slot;

        cluster.add(control_plane::start_etcd(slot)?);
        cluster.add(control_plane::start_api_server(slot, &authority, address)?);
        if let Some(node) = &cluster.node {
            cluster.add(node.start_containerd(slot)?);
            cluster.wait_for("containerd", || async { node::containerd_answers(slot) }).await?;
            cluster.import_image(&image::pause_image()?).await?;
        }
        let client = cluster.client().await?;
        cluster.wait_for("the API server", || async { is_ready(&client).await }).await?;

        cluster.add(control_plane::start_controller_manager(slot, &authority, &server)?);
        if scheduler || node {
            cluster.add(control_plane::start_scheduler(slot, &authority, &server)?);
        }
        if let Some(node) = &cluster.node {
            cluster.add(node.start_kubelet(slot, &authority, &server)?);
            cluster.add(node.start_kube_proxy(slot, &authority, &server)?);
            cluster.add(addons::start_dns(slot, &authority, &server, node)?);
            let nodes = Api::<NodeObject>::all(client.clone());
            cluster
                .wait_for("the node", || async { nodes.get(NODE_NAME).await.is_ok_and(|node| takes_pods(&node)) })
                .await?;
            let dns = SocketAddr::from((slot.node(), 53));
            cluster.wait_for("the cluster's DNS", || async { TcpStream::connect(dns).is_ok() }).await?;
            cluster.add(addons::start_metrics(slot, &authority, &server, node)?);
            addons::register_metrics(&client, slot, &authority).await?;
            let folder = slot.directory.join("volumes");
            cluster.volumes = Some(volumes::provide(client.clone(), folder).await?);
        }
        // Pods are refused in a namespace until the controllers have made its service account.
        let accounts = Api::<ServiceAccount>::namespaced(client, "default");
        cluster.wait_for("the controllers", || async { accounts.get("default").await.is_ok() }).await?;

        slot.announce(&RunningCluster {
            name: cluster.name.clone(),
            owner: std::process::id(),
            kubeconfig: cluster.kubeconfig.clone(),
            containerd: cluster.has_node.then(|| node::containerd_socket(slot)),
        })?;
        Ok(cluster)
    }

    /// The cluster of another process, by its folder. It stays when this value goes.
    ///
    /// # Errors
    /// If none is up there.
    pub fn join(folder: &Path) -> Result<LocalCluster> {
        let RunningCluster { name, owner: _, kubeconfig, containerd } = slot::announced(folder)?;
        let slot = Slot::of_another(folder)?;
        let has_node = containerd.is_some();
        Ok(LocalCluster { name, kubeconfig, has_node, node: None, volumes: None, components: Mutex::default(), slot })
    }

    fn prepare(name: String, with_node: bool) -> Result<LocalCluster> {
        requirements::ensure_machine(with_node)?;
        binaries::ensure(binaries::FOR_AN_API)?;
        if with_node {
            binaries::ensure(binaries::FOR_A_NODE)?;
        }
        let slot = Slot::take(with_node)?;
        std::fs::create_dir(slot.directory.join("pki"))?;
        // From here on dropping it removes what there is so far.
        let mut cluster = LocalCluster {
            name,
            kubeconfig: PathBuf::new(),
            has_node: with_node,
            node: None,
            volumes: None,
            components: Mutex::default(),
            slot,
        };
        if with_node {
            let (node, holder) = Node::create(&cluster.slot)?;
            cluster.node = Some(node);
            cluster.add(holder);
        }
        Ok(cluster)
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The administrator's kubeconfig, readable by this user only.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The logs of its components, one file each.
    pub fn logs(&self) -> PathBuf {
        self.slot.directory.join("logs")
    }

    /// Everything that it keeps, and what [`LocalCluster::join`] is given.
    pub fn folder(&self) -> &Path {
        &self.slot.directory
    }

    /// The address at which pods reach this machine; none without a node.
    pub fn host_address(&self) -> Option<Ipv4Addr> {
        self.has_node.then(|| self.slot.host())
    }

    /// A client for the administrator that answers as the API server does: it retries nothing.
    ///
    /// # Errors
    /// If the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig).await
    }

    /// Makes an image and imports it into the node. When this returns, pods with `imagePullPolicy: IfNotPresent` can
    /// start from it.
    ///
    /// # Errors
    /// If the cluster has no node, or containerd refuses the image.
    pub async fn import_image(&self, image: &ImageSpec) -> Result<()> {
        if !self.has_node {
            bail!("{} has no node to import {} into", self.name, image.name);
        }
        import(&node::containerd_socket(&self.slot), image).await
    }

    /// A registry that the node pulls images from.
    ///
    /// # Errors
    /// If the cluster has no node, or the registry does not start.
    pub async fn start_registry(&self, asks_for_credentials: bool) -> Result<Registry> {
        let host = self.host_address().context("the cluster has no node to pull images")?;
        let registry = Registry::start(host, asks_for_credentials).await?;
        node::trust_registry(&self.slot, registry.host())?;
        Ok(registry)
    }

    /// Ends all of it and waits until that is done, as dropping it also does.
    ///
    /// # Errors
    /// If something of it could not be removed.
    pub async fn shutdown(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.end()).await?
    }

    /// An error about the first component that is no longer running, with the end of its log.
    ///
    /// # Errors
    /// That one.
    pub fn check(&self) -> Result<()> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().try_for_each(Component::check)
    }

    fn add(&self, component: Component) {
        self.components.lock().unwrap_or_else(PoisonError::into_inner).push(component);
    }

    /// Waits until `is_ready`, and no longer than every component runs.
    async fn wait_for<F>(&self, what: &str, is_ready: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_ready().await {
            self.check()?;
            if Instant::now() > deadline {
                bail!("{what} was not ready within {} s; see {}", START_TIMEOUT.as_secs(), self.logs().display());
            }
            sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    fn end(&self) -> Result<()> {
        if !self.slot.is_ours() {
            return Ok(());
        }
        if let Some(volumes) = &self.volumes {
            volumes.abort();
        }
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        // The kernel ends all that is in the node with it, and whoever holds a part of it then ends by itself.
        if let Some(node) = &self.node {
            process::kill_process(node.init);
        }
        while let Some(mut component) = components.pop() {
            component.end();
        }
        if self.slot.directory.exists() {
            leftovers::clean(self.slot.number, &self.slot.directory)?;
        }
        Ok(())
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        // The next start cleans what could not be cleaned now.
        if let Err(error) = self.end() {
            tracing::warn!("the local cluster {} left something behind: {error:#}", self.name);
        }
    }
}

/// Builds every program that the cache lacks, of clusters and of what tests run beside them. Blocks, for tens of minutes
/// where there is none.
///
/// # Errors
/// If Go is missing, or one cannot be built.
pub fn build_programs() -> Result<()> {
    binaries::ensure(binaries::FOR_AN_API)?;
    binaries::ensure(binaries::FOR_A_NODE)?;
    binaries::ensure(binaries::FOR_TESTS)?;
    binaries::gateway_definitions().map(drop)
}

/// The kubectl command of the cluster's version. Blocks while it is built, once per version.
///
/// # Errors
/// If it cannot be built.
pub fn kubectl() -> Result<PathBuf> {
    binaries::ensure(&[&binaries::KUBECTL])?;
    binaries::KUBECTL.path()
}

/// The helm command. Blocks while it is built, once per version.
///
/// # Errors
/// If it cannot be built.
pub fn helm() -> Result<PathBuf> {
    binaries::ensure(&[&binaries::HELM])?;
    binaries::HELM.path()
}

/// The reference reader of Compose files, which says what is wrong with one. Blocks where it has to be built first.
///
/// # Errors
/// If it cannot be built.
pub fn compose() -> Result<PathBuf> {
    binaries::ensure(&[&binaries::COMPOSE])?;
    binaries::COMPOSE.path()
}

/// Prometheus' reader of the rule files and Grafana's dashboards that it is given: it says what is wrong with one. Blocks
/// where it has to be built first.
///
/// # Errors
/// If it cannot be built.
pub fn prometheus_rules() -> Result<PathBuf> {
    binaries::ensure(&[&binaries::RULES])?;
    binaries::RULES.path()
}

/// A kubeconfig for a server that asks for no credentials. JSON, which is YAML too.
pub fn bare_kubeconfig(server: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": { "server": server } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
        "users": [{ "name": "it", "user": {} }],
    });
    config.to_string()
}

/// A client for the cluster that a kubeconfig's current context names.
///
/// # Errors
/// If the kubeconfig cannot be read or used.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Asks without a word in anybody's log: the client reports each refusal as an error, and here they are usual.
async fn is_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("the request is valid");
    client.request_text(request).with_subscriber(NoSubscriber::new()).await.is_ok()
}

/// Ready, and past the taints that a new node starts with.
fn takes_pods(node: &NodeObject) -> bool {
    let tainted = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_some_and(|taints| !taints.is_empty());
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    !tainted && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
