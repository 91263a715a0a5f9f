//! `retry_preview_deployment`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    get::describe,
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{ChangeRequest, EnvironmentSummary, ServiceError};

pub(super) const NAME: &str = "retry_preview_deployment";

const WORDS: Words = Words {
    name: NAME,
    title: "Retry a failed deployment",
    description: "Deploys the head commit anew, with three more attempts, or wakes what sleeps. Use it when a failure's cause lay outside the commit; a broken commit needs a push. Needs the role member; answers at once, the deployment takes minutes.",
    effect: Effect::Adds,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, retry)
}

async fn retry(caller: Caller, request: ChangeRequest) -> Result<(EnvironmentSummary, String), ServiceError> {
    let summary = caller.service.retry(&caller.identity, request).await?;
    let text = describe(&summary);
    Ok((summary, text))
}
