//! An App that is registered from a manifest: <https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest>

use serde_json::{Value, json};

use super::answer::Answer;
use super::call::Call;
use crate::github::shapes::extend;
use crate::github::state::{App, State, UserKind};
use crate::github::{AppKey, GitHub};

/// Takes the code for the App, which is from then on the one that previewd acts as.
pub fn convert(github: &GitHub, state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let code = call.params.get("code");
    let manifest = github.browser().take_manifest(code).ok_or_else(Answer::not_found)?;
    let key = AppKey::generate().map_err(|error| Answer::error(500, error.to_string()))?;
    let text = |path: &str| manifest.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let permissions = manifest.get("default_permissions").and_then(Value::as_object).cloned().unwrap_or_default();
    let events = manifest.get("default_events").and_then(Value::as_array).cloned().unwrap_or_default();
    let id = state.next_id();
    let owner = "acme".to_owned();
    state.ensure_user(&owner, UserKind::Organization);
    let client_id = GitHub::CLIENT_ID.to_owned();
    let app = App {
        id,
        slug: text("/name"),
        client_id: client_id.clone(),
        owner,
        permissions: permissions
            .into_iter()
            .map(|(name, level)| (name, level.as_str().unwrap_or_default().to_owned()))
            .collect(),
        events: events.iter().filter_map(|event| event.as_str().map(str::to_owned)).collect(),
        created_at: state.now(),
    };
    state.ensure_user(&app.bot(), UserKind::Bot);
    state.app = Some(app);
    let trusted = github.credentials().trust_app(id, &client_id, &key.public);
    trusted.map_err(|error| Answer::error(500, error.to_string()))?;
    let secret = hex::encode(rand::random::<[u8; 20]>());
    let mut shape = call.shapes(state).app();
    let credentials = json!({
        "client_secret": GitHub::CLIENT_SECRET, "webhook_secret": secret, "pem": key.private,
    });
    extend(&mut shape, credentials);
    Ok(Answer::json(201, shape).wrote(id))
}
