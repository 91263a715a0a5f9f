//! `create_preview_environment`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    get::describe,
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{CreateRequest, EnvironmentSummary, ServiceError};

pub(super) const NAME: &str = "create_preview_environment";

const WORDS: Words = Words {
    name: NAME,
    title: "Create a preview environment",
    description: "Asks for a preview of an open pull request that has none: left out by its triggers, expired, deleted or unheard of. Others come by themselves, and a fork's commit still needs approval. Needs the role member; answers at once.",
    effect: Effect::Adds,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, create)
}

async fn create(caller: Caller, request: CreateRequest) -> Result<(EnvironmentSummary, String), ServiceError> {
    let summary = caller.service.create(&caller.identity, request).await?;
    let text = describe(&summary);
    Ok((summary, text))
}
