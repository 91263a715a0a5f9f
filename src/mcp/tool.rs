//! What the tools share: arguments in, one structured answer and one short text out.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use rmcp::{
    ErrorData,
    handler::server::{router::tool::ToolRoute, tool::ToolCallContext},
    model::{CallToolResult, ContentBlock, Tool, ToolAnnotations},
};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    schema,
    server::{Caller, Server},
};
use crate::{
    metrics::METRICS,
    service::{ServiceError, parse_request},
};

/// Clients give up after a minute, and then show nothing.
const LONGEST_CALL: Duration = Duration::from_secs(50);

/// What a client shows of a tool.
pub(super) struct Words {
    pub name: &'static str,
    pub title: &'static str,
    /// Three sentences: what it does, when to use it, what it costs.
    pub description: &'static str,
    pub effect: Effect,
}

/// What a call changes. Every tool stays within previewd: no hint says "open world".
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Reads,
    /// A second call adds nothing.
    Adds,
    /// What it removes is gone. A second call adds nothing.
    Removes,
}

impl Effect {
    fn annotations(self) -> ToolAnnotations {
        let (read_only, destructive) = match self {
            Self::Reads => (true, false),
            Self::Adds => (false, false),
            Self::Removes => (false, true),
        };
        ToolAnnotations::new().read_only(read_only).destructive(destructive).idempotent(true).open_world(false)
    }
}

/// The route of a tool: `invoke` gets who calls and the parsed arguments, and gives the answer with its short text.
pub(super) fn route<Request, Answer, F, Fut>(words: Words, invoke: F) -> ToolRoute<Server>
where
    Request: DeserializeOwned + JsonSchema + Send + 'static,
    Answer: Serialize + JsonSchema + Send + 'static,
    F: Fn(Caller, Request) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(Answer, String), ServiceError>> + Send,
{
    let Words { name, title, description, effect } = words;
    let definition = Tool::new(name, description, schema::input::<Request>())
        .with_title(title)
        .with_raw_output_schema(Arc::new(schema::output::<Answer>()))
        .with_annotations(effect.annotations());
    ToolRoute::new_dyn(definition, move |context: ToolCallContext<'_, Server>| {
        let invoke = invoke.clone();
        let caller = context.service.caller(&context.request_context);
        let request = parse_request(context.arguments.unwrap_or_default());
        Box::pin(async move {
            let call = async { invoke(caller?, request?).await };
            let began = Instant::now();
            let answered = tokio::time::timeout(LONGEST_CALL, call).await;
            let outcome = match &answered {
                Ok(Ok(_)) => "answered",
                Ok(Err(error)) if error.code.refusal().is_some() => "refused",
                Ok(Err(_)) => "failed",
                Err(_) => "too_slow",
            };
            let result = respond(name, answered.unwrap_or_else(|_| Err(ServiceError::too_slow())))?;
            let bytes = serde_json::to_string(&result).map_or(0, |json| json.len());
            METRICS.called(name, outcome, bytes, began.elapsed());
            Ok(result.into())
        })
    })
}

fn respond<Answer: Serialize>(
    tool: &'static str,
    answered: Result<(Answer, String), ServiceError>,
) -> Result<CallToolResult, ErrorData> {
    let serialized = |error: serde_json::Error| ErrorData::internal_error(error.to_string(), None);
    match answered {
        Ok((answer, text)) => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
            result.structured_content = Some(serde_json::to_value(answer).map_err(serialized)?);
            Ok(result)
        }
        Err(error) => {
            tracing::debug!(tool, code = ?error.code, message = error.message, "refused");
            let text = format!("{}. {}", error.message, error.next_action);
            let mut result = CallToolResult::error(vec![ContentBlock::text(text)]);
            result.structured_content = Some(serde_json::to_value(error).map_err(serialized)?);
            Ok(result)
        }
    }
}
