//! The node: a set of namespaces of its own (network, mounts, processes), and in it containerd, kubelet and kube-proxy.
//!
//! One namespace set per node keeps nodes apart, whose kube-proxies would otherwise fight over one firewall table, and
//! ends all that is in it with its first process: when the owner dies, the kernel kills that process, and with it go
//! containers and shims, mounts, the bridge and the pods' networks.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use serde_json::json;

use super::binaries::{KUBE_PROXY, KUBELET, PAUSE};
use super::certificates::Authority;
use super::control_plane::flags;
use super::image;
use super::leftovers::{cgroup_hierarchies, cgroup_name, link_name};
use super::process::{Component, Launch, NODE, enter_node, run};
use super::requirements::find;
use super::slot::Slot;

/// The name of every cluster's one node.
pub const NODE_NAME: &str = "node";

/// More than the default of 110: a node of previews has many small pods.
const MAX_PODS: u32 = 250;

/// The controllers that a kubelet looks for in its control group, where the machine has them.
const CGROUP_CONTROLLERS: [&str; 5] = ["+cpu", "+cpuset", "+hugetlb", "+memory", "+pids"];

/// Settings of the whole machine that a kubelet changes. It changes copies instead.
const MACHINE_SETTINGS: &str = "vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes";

/// The namespaces, ready for processes to be started inside.
pub(super) struct Node {
    /// The first process of the namespaces, by its number outside them.
    pub init: u32,
}

impl Node {
    /// Makes the namespaces with their network and folders. The component is what holds them.
    pub fn create(slot: &Slot) -> Result<(Node, Component)> {
        make_cgroups(slot)?;
        let pause = PAUSE.path()?;
        let mut args: Vec<String> = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]
            .map(String::from)
            .to_vec();
        args.push(pause.display().to_string());
        let program = find("unshare").context("there is no unshare")?;
        let launch = Launch { name: NODE, program: &program, args, inside: None };
        let mut holder = Component::start(&slot.directory, launch)?;
        let init = wait_for_init(&mut holder, &pause)?;
        let node = Node { init };
        let connected = node.connect(slot).and_then(|()| node.furnish(slot));
        if let Err(error) = connected {
            holder.end();
            return Err(error.context("cannot set up the local cluster's node"));
        }
        Ok((node, holder))
    }

    /// The link between the machine and the node, the bridge of its pods, and the ways between them.
    fn connect(&self, slot: &Slot) -> Result<()> {
        let link = link_name(slot.number);
        let (host, uplink) = (slot.host(), slot.uplink());
        // An earlier node of this slot may have ended so recently that the kernel still has its link.
        let _ = run(Command::new("ip").args(["link", "delete", &link]));
        shell(&format!(
            "ip link add {link} type veth peer name uplink netns {init}
             ip address add {host}/30 dev {link}
             ip link set {link} up",
            init = self.init
        ))?;
        // Between pods through a Service, packets are forwarded, and their answers must pass the firewall's translation
        // although they could go straight over the bridge. The first sysctl exists only with its kernel module.
        self.shell(&format!(
            "ip link set lo up
             ip address add {uplink}/30 dev uplink
             ip link set uplink up
             ip route add default via {host}
             ip link add pods type bridge
             ip address add {node}/18 dev pods
             ip link set pods up
             if [ -e /proc/sys/net/bridge ]; then echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; fi
             echo 1 > /proc/sys/net/ipv4/ip_forward",
            node = slot.node()
        ))?;
        shell(&format!("ip route add {} via {uplink}", slot.routed()))
    }

    /// Files of its own in place of those that kubelet, containerd and CNI plugins use without asking.
    fn furnish(&self, slot: &Slot) -> Result<()> {
        let own = slot.directory.join("node");
        for name in ["kubelet", "cni", "log", "settings"] {
            fs::create_dir_all(own.join(name))?;
        }
        self.shell(&format!(
            "mkdir -p /var/lib/kubelet /var/lib/cni
             mount -t tmpfs tmpfs /run
             mount --bind '{own}/kubelet' /var/lib/kubelet
             mount --bind '{own}/cni' /var/lib/cni
             mount --bind '{own}/log' /var/log
             for name in {MACHINE_SETTINGS}; do
                 [ -e /proc/sys/$name ] || continue
                 copy='{own}/settings'/${{name##*/}}
                 cat /proc/sys/$name > $copy
                 mount --bind $copy /proc/sys/$name
             done",
            own = own.display()
        ))
    }

    fn shell(&self, script: &str) -> Result<()> {
        let words = enter_node(self.init);
        run(Command::new(&words[0]).args(&words[1..]).args(["sh", "-ec", script])).map(drop)
    }

    pub fn start_containerd(&self, slot: &Slot) -> Result<Component> {
        let directory = &slot.directory;
        let cni = directory.join("cni");
        fs::create_dir_all(&cni)?;
        let network = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "pods",
                "isGateway": true,
                // A pod may call its own Service.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": slot.pods(), "gateway": slot.node() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        });
        fs::write(cni.join("pods.conflist"), network.to_string())?;
        let config = directory.join("containerd.toml");
        fs::write(&config, containerd_config(slot, snapshotter(directory)?))?;
        let args = flags([("config", config.display().to_string()), ("log-level", "warn".into())]);
        let program = find("containerd").context("there is no containerd")?;
        Component::start(directory, Launch { name: "containerd", program: &program, args, inside: Some(self.init) })
    }

    pub fn start_kubelet(&self, slot: &Slot, authority: &Authority, server: &str) -> Result<Component> {
        let user = format!("system:node:{NODE_NAME}");
        let kubeconfig = authority.write_kubeconfig(server, "kubelet", &user, Some("system:nodes"))?;
        let serving = authority.issue("kubelet-serving", &user, None, &[slot.node().to_string()])?;
        let resolv_conf = slot.directory.join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {}\n", slot.node()))?;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": slot.node(),
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": authority.certificate_file() },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": serving.certificate_file,
            "tlsPrivateKeyFile": serving.key_file,
            "containerRuntimeEndpoint": format!("unix://{}", containerd_socket(slot).display()),
            "clusterDNS": [slot.node()],
            "clusterDomain": "cluster.local",
            "resolvConf": resolv_conf,
            "maxPods": MAX_PODS,
            "serializeImagePulls": false,
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
            // Nodes side by side would otherwise end each other's pods as orphans.
            "cgroupRoot": format!("/{}", cgroup_name(slot.number)),
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": false,
            "failSwapOn": false,
            "localStorageCapacityIsolation": false,
            "makeIPTablesUtilChains": false,
            "enforceNodeAllocatable": [],
            // A developer's disk is often nearly full, and imported images could not be pulled again.
            "evictionHard": { "memory.available": "64Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        });
        let config_file = slot.directory.join("kubelet.json");
        fs::write(&config_file, config.to_string())?;
        let args = flags([
            ("config", config_file.display().to_string()),
            ("kubeconfig", kubeconfig.display().to_string()),
            ("hostname-override", NODE_NAME.into()),
            ("node-ip", slot.node().to_string()),
        ]);
        let launch = Launch { name: "kubelet", program: &KUBELET.path()?, args, inside: Some(self.init) };
        Component::start(&slot.directory, launch)
    }

    pub fn start_kube_proxy(&self, slot: &Slot, authority: &Authority, server: &str) -> Result<Component> {
        let kubeconfig = authority.write_kubeconfig(server, "kube-proxy", "system:kube-proxy", None)?;
        let args = flags([
            ("kubeconfig", kubeconfig.display().to_string()),
            ("proxy-mode", "nftables".into()),
            ("cluster-cidr", slot.pods()),
            ("hostname-override", NODE_NAME.into()),
            ("bind-address", slot.node().to_string()),
            // The limits on tracked connections belong to the machine.
            ("conntrack-max-per-core", "0".into()),
            ("conntrack-tcp-timeout-established", "0s".into()),
            ("conntrack-tcp-timeout-close-wait", "0s".into()),
        ]);
        let launch = Launch { name: "kube-proxy", program: &KUBE_PROXY.path()?, args, inside: Some(self.init) };
        Component::start(&slot.directory, launch)
    }
}

/// The node's containerd, for importing images.
pub(super) fn containerd_socket(slot: &Slot) -> PathBuf {
    slot.directory.join("containerd.sock")
}

/// What containerd knows of registries: a folder for each.
fn registries(slot: &Slot) -> PathBuf {
    slot.directory.join("registries")
}

/// From here on the node pulls images of a registry over plain HTTP.
pub(super) fn trust_registry(slot: &Slot, host: &str) -> Result<()> {
    let folder = registries(slot).join(host);
    fs::create_dir_all(&folder)?;
    let hosts = format!("[host.\"http://{host}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    fs::write(folder.join("hosts.toml"), hosts).with_context(|| format!("cannot write {}", folder.display()))
}

/// Whether containerd accepts connections yet.
pub(super) fn containerd_answers(slot: &Slot) -> bool {
    UnixStream::connect(containerd_socket(slot)).is_ok()
}

/// overlayfs, but not where the state itself lies on one, as in a container.
fn snapshotter(directory: &Path) -> Result<&'static str> {
    let on_overlay = statfs(directory)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC;
    Ok(if on_overlay { "native" } else { "overlayfs" })
}

fn containerd_config(slot: &Slot, snapshotter: &str) -> String {
    let (directory, pause) = (slot.directory.display(), image::PAUSE_IMAGE);
    format!(
        r#"version = 2
root = "{directory}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{directory}/cni"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{registries}"
"#,
        registries = registries(slot).display(),
        socket = containerd_socket(slot).display(),
    )
}

/// The control group below which kubelet makes those of its pods. Kubelet does not make that one itself.
fn make_cgroups(slot: &Slot) -> Result<()> {
    for hierarchy in cgroup_hierarchies()? {
        let group = hierarchy.join(cgroup_name(slot.number));
        if !group.exists() {
            fs::create_dir(&group).with_context(|| format!("cannot create control group {}", group.display()))?;
        }
        // Version 2 alone hands controllers down explicitly. Beside version 1 it has none to hand down.
        for parent in [&hierarchy, &group] {
            let handed_down = parent.join("cgroup.subtree_control");
            if handed_down.exists() {
                // One at a time: a missing one would have all of them refused.
                CGROUP_CONTROLLERS.iter().for_each(|controller| drop(fs::write(&handed_down, controller)));
            }
        }
    }
    Ok(())
}

/// The one child of `unshare`, once it has become the program that it is to be.
fn wait_for_init(holder: &mut Component, program: &Path) -> Result<u32> {
    let program = program.canonicalize()?;
    let children = format!("/proc/{0}/task/{0}/children", holder.pid());
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        holder.check()?;
        let child = fs::read_to_string(&children).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(init) = child
            && fs::read_link(format!("/proc/{init}/exe")).is_ok_and(|exe| exe == program)
        {
            return Ok(init);
        }
        ensure!(Instant::now() < deadline, "the node's first process did not start within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn shell(script: &str) -> Result<()> {
    run(Command::new("sh").args(["-ec", script])).map(drop)
}
