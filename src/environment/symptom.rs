//! What keeps pods from coming up, in the words of kubelets, schedulers and volumes, read into what previewd says of it.

use std::fmt;

/// Why a node does not get an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullFailure {
    NotFound,
    /// Without credentials, or with wrong ones; many registries say the same of what they do not have.
    Denied,
    Unreachable,
    RateLimited,
    OtherMachine,
    BadSignature,
    NoName,
    NeverPulled,
    /// Nobody said it.
    Unsaid,
}

impl fmt::Display for PullFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "its registry does not have it (not found)",
            Self::Denied => "its registry wants other credentials for it, or does not have it (unauthorized)",
            Self::Unreachable => "its registry cannot be reached",
            Self::RateLimited => "its registry lets nobody pull more for a while (rate limit)",
            Self::OtherMachine => "it is not made for the machines of the cluster",
            Self::BadSignature => "its signature does not hold",
            Self::NoName => "this is not the name of an image",
            Self::NeverPulled => "it is never to be pulled, and the node does not have it",
            Self::Unsaid => "the node does not say why",
        })
    }
}

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    Refused,
    TimedOut,
    Unreachable,
    /// An HTTP status that is none of success.
    Answered(u16),
    /// gRPC's own word.
    NotServing,
    /// It is a command, and ended with a failure.
    Ended,
    /// Something else.
    Failed,
}

/// A probe that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedProbe {
    pub kind: ProbeKind,
    /// `GET /healthz on port 8080`, as far as it can be named.
    pub target: Option<String>,
    pub result: ProbeResult,
}

impl fmt::Display for FailedProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ProbeKind::Startup => "its startup probe",
            ProbeKind::Readiness => "its readiness probe",
            ProbeKind::Liveness => "its liveness probe",
        })?;
        if let Some(target) = &self.target {
            write!(f, " ({target})")?;
        }
        match self.result {
            ProbeResult::Refused => write!(f, " is refused the connection: nothing listens there"),
            ProbeResult::TimedOut => write!(f, " times out"),
            ProbeResult::Unreachable => write!(f, " does not reach it"),
            ProbeResult::Answered(status) => write!(f, " is answered with {status}"),
            ProbeResult::NotServing => write!(f, " is told that it does not serve"),
            ProbeResult::Ended => write!(f, " ends with a failure"),
            ProbeResult::Failed => write!(f, " fails"),
        }
    }
}

/// Why a node does not take a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hindrance {
    Cpu,
    Memory,
    Storage,
    Pods,
    Resource,
    Taints,
    Affinity,
    PodAffinity,
    Spread,
    Ports,
    VolumePlace,
    VolumeCount,
    Cordoned,
}

impl Hindrance {
    /// Whether it is about what nodes have to give.
    pub fn is_room(self) -> bool {
        match self {
            Self::Cpu | Self::Memory | Self::Storage | Self::Pods | Self::Resource => true,
            Self::Taints
            | Self::Affinity
            | Self::PodAffinity
            | Self::Spread
            | Self::Ports
            | Self::VolumePlace
            | Self::VolumeCount
            | Self::Cordoned => false,
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "not enough CPU is free",
            Self::Memory => "not enough memory is free",
            Self::Storage => "not enough ephemeral storage is free",
            Self::Pods => "no further pods fit on a node",
            Self::Resource => "a resource that it asks for is not free",
            Self::Taints => "nodes have taints that it does not tolerate",
            Self::Affinity => "nodes do not match its node selector or affinity",
            Self::PodAffinity => "nodes do not match its affinity to other pods",
            Self::Spread => "nodes do not match its topology spread",
            Self::Ports => "its host ports are not free",
            Self::VolumePlace => "its volume is in another zone, or on another node",
            Self::VolumeCount => "no further volumes fit on a node",
            Self::Cordoned => "nodes are closed for new pods",
        })
    }
}

/// What a node ran short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    Memory,
    Storage,
    Inodes,
    Processes,
}

/// Why a node did not keep a pod, or did not take it after all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// It wrote more than it may, in its containers' own files, logs and scratch volumes together.
    Storage {
        limit: Option<String>,
    },
    /// One of its emptyDir volumes has more in it than it may.
    Volume {
        name: String,
        limit: String,
    },
    Pressure(Shortage),
    /// The node had less to give than the scheduler took it to have.
    NoRoom,
    Unsaid,
}

impl Eviction {
    /// Whether the next pod meets the same, because it lies in what the pod does.
    pub fn repeats(&self) -> bool {
        match self {
            Self::Storage { .. } | Self::Volume { .. } => true,
            Self::Pressure(_) | Self::NoRoom | Self::Unsaid => false,
        }
    }
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage { limit: None } => write!(f, "it wrote more to its node's disk than it may"),
            Self::Storage { limit: Some(limit) } => {
                write!(f, "it wrote more to its node's disk than its limit of {limit} of ephemeral storage")
            }
            Self::Volume { name, limit } => {
                write!(f, "it wrote more to its emptyDir volume {name} than that one's limit of {limit}")
            }
            Self::Pressure(Shortage::Memory) => write!(f, "its node ran short of memory"),
            Self::Pressure(Shortage::Storage) => write!(f, "its node ran short of disk space"),
            Self::Pressure(Shortage::Inodes) => write!(f, "its node ran short of inodes, of which each file takes one"),
            Self::Pressure(Shortage::Processes) => write!(f, "its node ran short of process numbers"),
            Self::NoRoom => write!(f, "its node had no room for it after all"),
            Self::Unsaid => write!(f, "its node does not say why"),
        }
    }
}

/// Why a pod does not get a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeProblem {
    /// Of a claim.
    Missing,
    Going,
    NoStorageClass,
    UnknownStorageClass,
    Unbound,
    NotMade,
    Lost,
    /// Of a volume that is there.
    InUse,
    NotAttached,
    NotMounted,
}

/// Why a container's command does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    NotThere,
    NotExecutable,
    OtherMachine,
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotThere => "its image does not have the command",
            Self::NotExecutable => "the command may not be executed",
            Self::OtherMachine => "the command is made for other machines than those of the cluster",
        })
    }
}

/// How a Job ended without having done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    ExitCode(i32),
    /// Kubernetes says no more.
    Failed,
    /// It had so many seconds, counted from its own beginning.
    OutOfTime {
        seconds: i64,
    },
    /// No pod of it was ever made.
    NoPod,
}

impl JobEnd {
    /// Whether something of it may have run.
    pub fn had_a_pod(self) -> bool {
        self != Self::NoPod
    }
}
