//! What pages need beside their HTML, built into the program. Names carry a digest, so that browsers keep them.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/app.js");
const ICON: &str = include_str!("assets/icon.svg");

pub(super) static STYLE_NAME: LazyLock<String> = LazyLock::new(|| name("style", "css", STYLE));
pub(super) static SCRIPT_NAME: LazyLock<String> = LazyLock::new(|| name("app", "js", SCRIPT));
pub(super) static ICON_NAME: LazyLock<String> = LazyLock::new(|| name("icon", "svg", ICON));

fn name(stem: &str, kind: &str, content: &str) -> String {
    format!("{stem}.{}.{kind}", &hex::encode(Sha256::digest(content))[..12])
}

pub(super) async fn show(Path(asked): Path<String>) -> Response {
    let (content, kind) = match asked.as_str() {
        name if name == *STYLE_NAME => (STYLE, "text/css; charset=utf-8"),
        name if name == *SCRIPT_NAME => (SCRIPT, "text/javascript; charset=utf-8"),
        name if name == *ICON_NAME => (ICON, "image/svg+xml"),
        _ => return (StatusCode::NOT_FOUND, "there is no such file\n").into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content).into_response()
}
