//! Deliberate faults. The simulation of the engine has to find each of them, or its stories would show nothing. Release
//! builds have none.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

/// A thing that must not be left out, left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A pass gives its row back without noticing that somebody woke it meanwhile.
    LostWake,
    /// A pass whose lease is over records its step all the same.
    UncheckedLease,
    /// A pass believes what webhooks told, and does not ask GitHub.
    Unconfirmed,
    /// An approval of one commit is taken for all.
    AnyApproval,
    /// What was removed by hand is deployed again by whatever looks at it.
    HoldIgnored,
    /// A comment is created without looking for the one that an answer got lost of.
    BlindComment,
    /// A call is sent although the lease may end before it does.
    UnfencedCall,
    /// An environment counts as deleted while its namespace is still going.
    EarlyFarewell,
    /// Nobody looks for what webhooks did not tell.
    NoRepair,
    /// What ran before is not put back after a failure.
    NoRollback,
    /// What is under way for older commits is not ended.
    OthersGoOn,
    /// The place of what is gone stays taken.
    PlaceKept,
    /// The URL is asked once the first phase is ready, and nothing comes after it until it answers.
    ProvesEachPhase,
    /// What served is taken away as soon as the next commit begins.
    PrunesAtOnce,
    /// Nothing else is done before commands are answered.
    AnswersHoldUp,
    /// What begins anew says of itself what was true before.
    ResetUnseen,
    /// What sleeps counts as serving where a new commit cannot start.
    SleepsOn,
    /// What two commits together need of the quota is not looked at before they meet.
    QuotaBlind,
    /// A Job that is gone counts as one that never ran.
    JobsForgotten,
    /// A pod of an abandoned revision stays in the way of a StatefulSet.
    BlockingPodStays,
    /// What the cluster refuses for good is tried again, as if the cluster were away.
    RefusalRetried,
    /// That a namespace hangs is not said.
    HangUntold,
    /// What an attempt waits for is told when it is over.
    ToldInTheEnd,
    /// An attempt succeeds with its first phase.
    LastPhaseSkipped,
    /// A chart is upgraded in an empty namespace.
    ResetIsUpgrade,
    /// A pod is tried without the volumes that come of a StatefulSet's own claims.
    ClaimsUnmounted,
    /// What a commit leaves out and its pods name is there for as long as the commit before it.
    LeftOutServes,
}

impl Fault {
    pub const ALL: [Self; 27] = [
        Self::LostWake,
        Self::UncheckedLease,
        Self::Unconfirmed,
        Self::AnyApproval,
        Self::HoldIgnored,
        Self::BlindComment,
        Self::UnfencedCall,
        Self::EarlyFarewell,
        Self::NoRepair,
        Self::NoRollback,
        Self::OthersGoOn,
        Self::PlaceKept,
        Self::ProvesEachPhase,
        Self::PrunesAtOnce,
        Self::AnswersHoldUp,
        Self::ResetUnseen,
        Self::SleepsOn,
        Self::QuotaBlind,
        Self::JobsForgotten,
        Self::BlockingPodStays,
        Self::RefusalRetried,
        Self::HangUntold,
        Self::ToldInTheEnd,
        Self::LastPhaseSkipped,
        Self::ResetIsUpgrade,
        Self::ClaimsUnmounted,
        Self::LeftOutServes,
    ];
}

/// Where in its work a process may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it makes sure that its lease holds.
    Before,
    /// After that, and before it sends what the lease is for.
    After,
}

/// A process that may stop for a while, or for ever, between any two steps.
type Stall = Arc<dyn Fn(Moment) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a process is to do wrong. By default nothing.
#[derive(Clone, Default)]
pub struct Faults {
    fault: Option<Fault>,
    stall: Option<Stall>,
}

impl Faults {
    pub fn new(fault: Option<Fault>, stall: impl Fn(Moment) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self { fault, stall: Some(Arc::new(stall)) }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        cfg!(debug_assertions) && self.fault == Some(fault)
    }

    /// Where a process may be stopped by whoever runs it.
    pub(crate) async fn stall(&self, moment: Moment) {
        if let Some(stall) = &self.stall {
            stall(moment).await;
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("fault", &self.fault).finish_non_exhaustive()
    }
}
