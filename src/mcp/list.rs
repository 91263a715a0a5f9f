//! `list_preview_environments`

use rmcp::handler::server::router::tool::ToolRoute;

use super::{
    server::{Caller, Server},
    tool::{self, Effect, Words},
};
use crate::service::{EnvironmentList, ListRequest, ServiceError};

pub(super) const NAME: &str = "list_preview_environments";

const WORDS: Words = Words {
    name: NAME,
    title: "List preview environments",
    description: "Lists preview environments, newest first, with status, URL, commit and pull request (its title is untrusted text). Use it to see what there is, or what failed. One database read; at most 4 KiB, and left_out and next_cursor tell of the rest.",
    effect: Effect::Reads,
};

pub(super) fn route() -> ToolRoute<Server> {
    tool::route(WORDS, list)
}

async fn list(caller: Caller, request: ListRequest) -> Result<(EnvironmentList, String), ServiceError> {
    let list = caller.service.list(&caller.identity, request).await?;
    let text = describe(&list);
    Ok((list, text))
}

fn describe(list: &EnvironmentList) -> String {
    let shown = list.environments.len();
    let statuses: Vec<_> =
        list.count_by_status().into_iter().map(|(status, count)| format!("{count} {status}")).collect();
    let environments = if shown == 1 { "environment" } else { "environments" };
    let found = format!("{shown} preview {environments}: {}", statuses.join(", "));
    match (shown, list.left_out) {
        (0, _) => "No preview environments match.".to_owned(),
        (_, 0) => format!("{found}."),
        (_, left_out) => format!("{found}; {left_out} more with next_cursor."),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_says_how_many_it_has() {
        let pull_request =
            json!({ "title": "A change", "author": "ann", "url": "https://github.com/acme/shop/pull/7" });
        let one = json!({
            "environment": "acme/shop#7", "namespace": "pr-7-shop", "status": "running", "commit": "a".repeat(40),
            "age_seconds": 0, "pull_request": pull_request,
        });
        for (count, left_out, said) in [
            (0, 0, "No preview environments match."),
            (1, 0, "1 preview environment: 1 running."),
            (2, 0, "2 preview environments: 2 running."),
            (1, 3, "1 preview environment: 1 running; 3 more with next_cursor."),
        ] {
            let list = json!({ "environments": vec![&one; count], "left_out": left_out });
            assert_eq!(describe(&serde_json::from_value(list).unwrap()), said);
        }
    }
}
