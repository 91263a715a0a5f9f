//! The domain: names, statuses, the gate and the plan. Pure: facts and `now` come in, decisions go out; no client, no
//! clock, no I/O.

mod budget;
mod capacity;
mod cause;
mod command;
mod facts;
mod gate;
mod labels;
mod lifetime;
mod names;
mod obstacle;
mod patience;
mod plan;
mod readiness;
mod remedy;
mod reporting;
mod status;
mod symptom;
mod telling;
mod terms;
mod triggers;

pub use budget::{Urgency, WRITES_A_MINUTE, WRITES_AN_HOUR, Window, Writes};
pub use capacity::{Capacity, Place, Scope, TeamCapacity};
pub use cause::Cause;
pub use command::{Command, CommitPrefix, OWN_COMMENTS};
pub use facts::{
    Change, CommandComment, CommandKey, CommentKind, Hold, PullRequestFacts, PullRequestState, RepositoryFacts,
    RepositoryState,
};
pub use gate::{Decision, GateFacts, RecipeFacts, gate, gate_without_recipe};
pub use labels::{COMMIT_LABEL, ENVIRONMENT_LABEL, HOOK, INSTALLATION_LABEL, MANAGED_BY};
pub use lifetime::{Lifespan, Lifetime, parse_duration, sleep_after};
pub use names::{BaseDomain, CommitSha, InvalidName, Namespace, PublicUrl, RepositoryName, is_dns_label, short_commit};
pub use obstacle::Obstacle;
pub use patience::{Patience, Wait};
pub use plan::{
    ATTEMPTS, DeploymentFacts, Facts, Images, Leftovers, NamespaceFacts, Progress, Step, next_step, not_taken,
    wait_after_failures,
};
pub use readiness::{PROBE_HEADER, PROBER, Readiness, RunningImage, UrlAnswer};
pub use remedy::{Audience, remedy};
pub use reporting::{GitHubState, ReportTo, github_state};
pub(crate) use status::codes;
pub use status::{DeploymentStatus, EnvironmentStatus, Reason, legal_reasons};
pub use symptom::{
    Eviction, FailedProbe, Hindrance, JobEnd, ProbeKind, ProbeResult, PullFailure, Shortage, StartFailure,
    VolumeProblem,
};
pub use telling::{Hitch, Hitches, Telling, Told};
pub use terms::Terms;
pub use triggers::{
    AuthorPattern, BranchPattern, ForkPolicy, HeadPattern, LabelName, PathPattern, TriggerSettings, Triggers,
};

/// Unix milliseconds, by the database's clock.
pub type Millis = i64;
