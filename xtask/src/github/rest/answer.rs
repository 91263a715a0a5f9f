//! Answers of the REST API, errors included, as GitHub words them.

use axum::body::Body as HttpBody;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::github::webhooks::Event;

const DOCUMENTATION: &str = "https://docs.github.com/rest";

#[derive(Debug)]
pub enum Body {
    Json(Value),
    /// Content and its type.
    Raw(Vec<u8>, &'static str),
    Empty,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Body,
    pub headers: Vec<(&'static str, String)>,
    /// What GitHub reports because of it, sent after the answer.
    pub events: Vec<Event>,
    /// The object a write made or changed.
    pub written: Option<u64>,
}

impl Answer {
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, body: Body::Json(body), headers: Vec::new(), events: Vec::new(), written: None }
    }

    pub fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    pub fn empty(status: u16) -> Self {
        Self { status, body: Body::Empty, headers: Vec::new(), events: Vec::new(), written: None }
    }

    pub fn raw(content: Vec<u8>, content_type: &'static str) -> Self {
        let body = Body::Raw(content, content_type);
        Self { status: 200, body, headers: Vec::new(), events: Vec::new(), written: None }
    }

    pub fn error(status: u16, message: impl Into<String>) -> Self {
        let message: String = message.into();
        let body = json!({ "message": message, "documentation_url": DOCUMENTATION, "status": status.to_string() });
        Self::json(status, body)
    }

    pub fn not_found() -> Self {
        Self::error(404, "Not Found")
    }

    /// 422 with the field that is wrong.
    pub fn invalid(resource: &str, field: &str, code: &str, message: &str) -> Self {
        let error = json!({ "resource": resource, "field": field, "code": code, "message": message });
        let body = json!({
            "message": "Validation Failed",
            "errors": [error],
            "documentation_url": DOCUMENTATION,
            "status": "422",
        });
        Self::json(422, body)
    }

    /// What GitHub's edge answers when nothing behind it does.
    pub fn bad_gateway() -> Self {
        let page = "<html><head><title>502 Bad Gateway</title></head><body>Unicorn!</body></html>";
        let mut answer = Self::raw(page.as_bytes().to_vec(), "text/html");
        answer.status = 502;
        answer
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn event(mut self, event: Option<Event>) -> Self {
        self.events.extend(event);
        self
    }

    pub fn wrote(mut self, id: u64) -> Self {
        self.written = Some(id);
        self
    }

    /// As it goes over the wire, with the headers that every answer of GitHub's has.
    pub fn respond(&self) -> Response {
        let (content, content_type) = match &self.body {
            Body::Json(body) => (body.to_string().into_bytes(), Some("application/json; charset=utf-8")),
            Body::Raw(body, content_type) => (body.clone(), Some(*content_type)),
            Body::Empty => (Vec::new(), None),
        };
        let mut response = Response::new(HttpBody::from(content));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::SERVER, HeaderValue::from_static("github.com"));
        headers.insert("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
        let id = hex::encode(rand::random::<[u8; 12]>());
        let more = [("x-github-request-id", id)];
        let more = more.iter().chain(&self.headers).map(|(name, value)| (*name, value.as_str()));
        for (name, value) in more.chain(content_type.map(|content_type| ("content-type", content_type))) {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
