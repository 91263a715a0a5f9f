//! `check_preview_recipe`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{CheckRecipeRequest, RecipeVerdict, ServiceError};

pub(super) const NAME: &str = "check_preview_recipe";

const WORDS: Words = Words {
    name: NAME,
    title: "Check a preview recipe",
    description: "Says whether a .preview.yaml would be taken here, with the place of what is wrong. Use it before you push one. Changes nothing; a chart takes a second.",
    effect: Effect::Reads,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, check)
}

async fn check(caller: Caller, request: CheckRecipeRequest) -> Result<(RecipeVerdict, String), ServiceError> {
    let verdict = caller.service.check_recipe(request).await?;
    let text = format!("{} {} {}", verdict.message, verdict.notes.join(" "), verdict.objects.join(" "));
    Ok((verdict, text))
}
