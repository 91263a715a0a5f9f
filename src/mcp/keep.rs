//! `keep_preview_environment`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    get::describe,
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{KeepRequest, Kept, ServiceError};

pub(super) const NAME: &str = "keep_preview_environment";

const WORDS: Words = Words {
    name: NAME,
    title: "Keep a preview environment",
    description: "Keeps an environment for so long that would expire for want of use. Use it where somebody needs it longer. Needs the role member; answers at once.",
    effect: Effect::Adds,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, keep)
}

async fn keep(caller: Caller, request: KeepRequest) -> Result<(Kept, String), ServiceError> {
    let kept = caller.service.keep(&caller.identity, request).await?;
    let mut text = describe(&kept.summary);
    if let Some(at) = &kept.expires_at {
        text.push_str(&format!(" Unused it goes at {at}."));
    }
    if let Some(note) = &kept.note {
        text.push_str(&format!(" {note}"));
    }
    Ok((kept, text))
}
