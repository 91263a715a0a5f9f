//! A pull request as a page for people.

use axum::response::{Html, IntoResponse as _, Response};
use pulldown_cmark::{Event, Options, Parser, html};

use super::GitHub;
use super::state::{PullState, iso};

/// The tags that GitHub leaves alone and comments like ours use.
const ALLOWED: [&str; 9] =
    ["<details>", "</details>", "<summary>", "</summary>", "<br>", "<sub>", "</sub>", "<kbd>", "</kbd>"];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;\
color:#1f2328}h1 small{color:#59636e;font-weight:400}.state{display:inline-block;padding:.1rem .7rem;border-radius:1rem;\
color:#fff}.open{background:#1a7f37}.closed{background:#cf222e}.merged{background:#8250df}.draft{background:#59636e}\
article{border:1px solid #d1d9e0;border-radius:6px;margin:1rem 0}article header{background:#f6f8fa;padding:.4rem 1rem;\
border-bottom:1px solid #d1d9e0}article div{padding:.2rem 1rem;overflow-x:auto}table{border-collapse:collapse}\
td,th{border:1px solid #d1d9e0;padding:.2rem .7rem}code{background:#f1f3f5;padding:.1rem .3rem;border-radius:4px}\
pre{background:#f6f8fa;padding:.7rem;overflow-x:auto}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Markdown as HTML: comments hidden, unknown tags shown as text, links only to http and https.
fn rendered(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let safe = Parser::new_ext(markdown, options).map(|event| match event {
        Event::Html(tag) | Event::InlineHtml(tag) => {
            let trimmed = tag.trim();
            if trimmed.starts_with("<!--") && trimmed.ends_with("-->") {
                Event::Text("".into())
            } else if ALLOWED.contains(&trimmed)
                || trimmed.split_inclusive('>').all(|part| ALLOWED.contains(&part.trim()))
            {
                Event::Html(tag)
            } else {
                Event::Text(tag)
            }
        }
        Event::Start(pulldown_cmark::Tag::Link { link_type, dest_url, title, id }) => {
            let safe = dest_url.starts_with("http://") || dest_url.starts_with("https://") || dest_url.starts_with('#');
            let dest_url = if safe { dest_url } else { "#".into() };
            Event::Start(pulldown_cmark::Tag::Link { link_type, dest_url, title, id })
        }
        // A page that shows the state of things should fetch nothing from elsewhere.
        Event::Start(pulldown_cmark::Tag::Image { title, .. }) => Event::Text(title),
        Event::End(pulldown_cmark::TagEnd::Image) => Event::Text("".into()),
        other => other,
    });
    let mut page = String::new();
    html::push_html(&mut page, safe);
    page
}

/// The page for `/{owner}/{repo}/pull/{number}`, where there is such a pull request.
pub fn pull_request(github: &GitHub, path: &str) -> Option<Response> {
    let mut pieces = path.strip_prefix('/')?.split('/');
    let (owner, name, kind, number) = (pieces.next()?, pieces.next()?, pieces.next()?, pieces.next()?);
    if kind != "pull" || pieces.next().is_some() {
        return None;
    }
    let state = github.state();
    let repository = state.find(&format!("{owner}/{name}"))?;
    let pull = repository.pulls.get(&number.parse().ok()?)?;
    let (class, word) = match (pull.state, pull.draft) {
        (PullState::Open, true) => ("draft", "Draft"),
        (PullState::Open, false) => ("open", "Open"),
        (PullState::Closed, _) => ("closed", "Closed"),
        (PullState::Merged, _) => ("merged", "Merged"),
    };
    let (title, full_name) = (escape(&pull.title), escape(&repository.full_name()));
    let labels: String = pull.labels.iter().map(|label| format!(" <code>{}</code>", escape(label))).collect();
    let head = escape(&format!("{}:{}", pull.head.owner, pull.head.branch));
    let commits: String = pull
        .commits
        .iter()
        .filter_map(|sha| state.commits.get(sha))
        .map(|commit| {
            let (short, message) = (commit.sha.get(..7).unwrap_or_default(), escape(&commit.message));
            format!("<li><code>{short}</code> {message} <time>{}</time></li>", iso(commit.at))
        })
        .collect();
    let comments: String = repository
        .comments
        .values()
        .filter(|comment| comment.number == pull.number)
        .map(|comment| {
            let edited = if comment.updated_at > comment.created_at { ", edited" } else { "" };
            format!(
                "<article id=\"issuecomment-{}\"><header><b>{}</b> commented <time>{}</time>{edited}</header>\
                 <div>{}</div></article>",
                comment.id,
                escape(&comment.author),
                iso(comment.created_at),
                rendered(&comment.body),
            )
        })
        .collect();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} · #{number} · {full_name}</title>\
         <style>{STYLE}</style><p>{full_name}</p><h1>{title} <small>#{number}</small></h1>\
         <p><span class=\"state {class}\">{word}</span> {author} wants to merge <code>{head}</code> into \
         <code>{base}</code>{labels}</p><article><header><b>{author}</b></header><div>{body}</div></article>\
         <h2>Commits</h2><ul>{commits}</ul><h2>Comments</h2>{comments}</html>",
        author = escape(&pull.author),
        base = escape(&pull.base_branch),
        body = rendered(pull.body.as_deref().unwrap_or("*No description provided.*")),
    );
    Some(Html(page).into_response())
}
