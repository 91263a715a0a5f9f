//! `explain_preview_environment`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{ExplainRequest, Explanation, ServiceError};

pub(super) const NAME: &str = "explain_preview_environment";

const WORDS: Words = Words {
    name: NAME,
    title: "Explain a pull request's preview",
    description: "Says why a pull request's preview is as it is, or is missing: what arrived, was decided and tried, and what would change it. Use it where get says too little or finds nothing. Database reads, and GitHub for what is unknown.",
    effect: Effect::Reads,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, explain)
}

async fn explain(caller: Caller, request: ExplainRequest) -> Result<(Explanation, String), ServiceError> {
    let explanation = caller.service.explain(&caller.identity, request).await?;
    let Explanation { pull_request, explanation: why, next_action, findings, .. } = &explanation;
    let text = format!("{pull_request}: {why} {} {next_action}", findings.join(" "));
    Ok((explanation, text))
}
