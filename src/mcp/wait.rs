//! `wait_for_preview_environment`

use rmcp::handler::server::router::tool::ToolRoute;
use tokio::sync::mpsc;

use super::{
    get::describe,
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{ServiceError, WaitRequest, Waited};

pub(super) const NAME: &str = "wait_for_preview_environment";

const WORDS: Words = Words {
    name: NAME,
    title: "Wait for a preview environment",
    description: "Waits for an environment to settle, run or be deleted. Use it after a push instead of asking again and again; where done is false, next_action says how to go on. Answers within 50 seconds, with progress.",
    effect: Effect::Reads,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, wait)
}

async fn wait(caller: Caller, request: WaitRequest) -> Result<(Waited, String), ServiceError> {
    let (changes, mut told) = mpsc::unbounded_channel();
    let telling = async {
        let mut step = 0;
        while let Some(summary) = told.recv().await {
            step += 1;
            caller.tell(step, describe(&summary)).await;
        }
    };
    let (waited, ()) = tokio::join!(caller.service.wait(&caller.identity, request, changes), telling);
    let waited = waited?;
    let text = describe(&waited.summary);
    Ok((waited, text))
}
