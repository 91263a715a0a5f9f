//! `delete_preview_environment`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    get::describe,
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{ChangeRequest, EnvironmentSummary, ServiceError};

pub(super) const NAME: &str = "delete_preview_environment";

const WORDS: Words = Words {
    name: NAME,
    title: "Delete a preview environment",
    description: "Removes an environment and its data; it stays away until a new commit, reopening or create. Use it when somebody asks: closing the pull request does the same. Needs the role admin; answers at once.",
    effect: Effect::Removes,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, delete)
}

async fn delete(caller: Caller, request: ChangeRequest) -> Result<(EnvironmentSummary, String), ServiceError> {
    let summary = caller.service.delete(&caller.identity, request).await?;
    let text = describe(&summary);
    Ok((summary, text))
}
