//! `keep_preview_environment`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    get::describe,
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{EnvironmentSummary, KeepRequest, ServiceError};

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

async fn keep(caller: Caller, request: KeepRequest) -> Result<(EnvironmentSummary, String), ServiceError> {
    let summary = caller.service.keep(&caller.identity, request).await?;
    let text = describe(&summary);
    Ok((summary, text))
}
