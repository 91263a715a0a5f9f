//! What the operator of a story's installation decided, and what is around it.
//!
//! previewd's own router has no place here as a way to ask applications: it reaches them through a WebSocket of the API
//! server. That a URL is not asked at all, where the endpoints alone are looked at, is.

use std::time::Duration;

use previewd::environment::{Lifespan, ReportTo};
use rand::{RngExt, rngs::StdRng};

/// What answers at the URLs of previews, where previewd asks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// previewd asks no URL.
    Unasked,
    /// The application, once its pods are ready.
    Prompt,
    /// The same, but what is in front of it learns of its pods late.
    Late(Duration),
    /// What is in front of it, which leads nowhere: with this status, or not at all.
    Never(Option<u16>),
}

/// What registries say of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registry {
    /// previewd asks none.
    Unasked,
    /// Whether they are there.
    Honest,
    /// This, whatever there is.
    Answers(u16),
    /// Nothing.
    Silent,
}

/// What most commits of a story are about: what meets only where one comes after another like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taste {
    Anything,
    /// StatefulSets, many of which do not run.
    Sets,
    Charts,
    /// Volumes, which many commits leave out, or do not come to run with.
    Volumes,
    /// What pods read, which some commits change and others leave out.
    Settings,
}

/// What happens last, to what has come to run by then: most of what people do meets what is still under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    None,
    /// A push, of which one part is broken.
    Break,
    /// A reset, with a push or without, whose namespace hangs.
    Reset,
}

#[derive(Debug, Clone)]
pub struct Configuration {
    /// Nothing breaks but what the story itself breaks: what previewd says has to be right, and soon.
    pub is_gentle: bool,
    /// People do one thing after the other, most of them while previewd is still at work on the one before.
    pub is_hasty: bool,
    pub taste: Taste,
    pub ending: Ending,
    /// How many environments there may be at once.
    pub places: Option<u64>,
    pub report_to: ReportTo,
    pub front: Front,
    pub registry: Registry,
    pub image_wait: Lifespan,
    /// How long builds take at most after a push.
    pub builds_take: Duration,
    pub sleep_after: Lifespan,
    pub ttl: Lifespan,
    /// How long Jobs stay that ended, where something takes them away.
    pub takes_jobs_after: Option<Duration>,
    /// previewd's router leads to previews: they have no Ingress.
    pub has_router: bool,
}

impl Configuration {
    pub fn draw(rng: &mut StdRng) -> Self {
        let front = match rng.random_range(0..20) {
            0..10 => Front::Unasked,
            10..15 => Front::Prompt,
            15..18 => Front::Late(Duration::from_secs(rng.random_range(5..40))),
            18 => Front::Never(None),
            _ => Front::Never(Some([401, 404, 503][rng.random_range(0..3)])),
        };
        let registry = match rng.random_range(0..10) {
            0..5 => Registry::Unasked,
            5..8 => Registry::Honest,
            8 => Registry::Answers([401, 403, 429, 500][rng.random_range(0..4)]),
            _ => Registry::Silent,
        };
        Self {
            is_gentle: rng.random_bool(0.4),
            is_hasty: rng.random_bool(0.3),
            taste: match rng.random_range(0..10) {
                0..3 => Taste::Anything,
                3..5 => Taste::Sets,
                5..7 => Taste::Charts,
                7..9 => Taste::Volumes,
                _ => Taste::Settings,
            },
            ending: match rng.random_range(0..10) {
                0..6 => Ending::None,
                6..9 => Ending::Break,
                _ => Ending::Reset,
            },
            places: rng.random_bool(0.2).then_some(2),
            report_to: if rng.random_bool(0.5) { ReportTo::Both } else { ReportTo::Comment },
            front,
            registry,
            image_wait: Lifespan::minutes(2),
            builds_take: Duration::from_secs(if rng.random_bool(0.3) { 60 } else { 0 }),
            sleep_after: if rng.random_bool(0.25) { Lifespan::minutes(1) } else { Lifespan::ENDLESS },
            ttl: if rng.random_bool(0.08) { Lifespan::minutes(8) } else { Lifespan::hours(72) },
            takes_jobs_after: rng.random_bool(0.25).then_some(Duration::from_secs(15)),
            has_router: front == Front::Unasked && rng.random_bool(0.5),
        }
    }

    /// Whether the URL of what is ready proves that people reach it. `is_named`: at a path that the recipe names.
    pub fn proves(&self, is_named: bool) -> bool {
        match self.front {
            Front::Unasked | Front::Prompt | Front::Late(_) => true,
            Front::Never(Some(401)) => !is_named,
            Front::Never(_) => false,
        }
    }
}
