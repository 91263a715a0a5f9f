//! One request, recognised and read, and what it may touch.

use serde_json::Value;

use super::answer::Answer;
use super::auth::{Caller, not_accessible};
use crate::github::operation::{Operation, Params};
use crate::github::shapes::Shapes;
use crate::github::state::{Repository, Role, State};

/// GitHub's default and largest page.
const PAGE: usize = 30;
const LARGEST_PAGE: usize = 100;

pub struct Call {
    pub operation: Operation,
    pub params: Params,
    pub query: Vec<(String, String)>,
    pub accept: String,
    pub body: Value,
    pub caller: Caller,
    /// Root of API addresses as the client reached it.
    pub api: String,
    pub html: String,
}

impl Call {
    pub fn shapes<'a>(&'a self, state: &'a State) -> Shapes<'a> {
        Shapes { state, api: &self.api, html: &self.html }
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }

    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.body.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// The repository the path names, as far as the caller may see it and do this to it.
    pub fn repository<'a>(&self, state: &'a State) -> Result<&'a Repository, Answer> {
        let name = self.params.full_name();
        let repository = match state.current(&name) {
            Some(repository) => repository,
            None => {
                return Err(state.find(&name).map_or_else(Answer::not_found, |moved| self.moved(moved)));
            }
        };
        match &self.caller {
            Caller::User(login) => {
                let needed = if self.operation.is_deployment_write() { Role::Write } else { Role::Read };
                if state.role(repository, login) < needed {
                    return Err(Answer::not_found());
                }
            }
            Caller::Installation(grant) => {
                let chosen = grant.repositories.as_ref().is_none_or(|chosen| chosen.contains(&repository.id));
                let inside = repository.installation == Some(grant.installation) && chosen;
                // Any token reads what is public; the rest does not exist for it.
                if !inside && repository.private {
                    return Err(Answer::not_found());
                }
                if !inside && self.operation.is_write() {
                    return Err(not_accessible());
                }
            }
            Caller::App | Caller::Nobody => {}
        }
        Ok(repository)
    }

    /// A redirect to the address by id, which no renaming changes.
    fn moved(&self, repository: &Repository) -> Answer {
        let url = format!("{}{}", self.by_id(repository), self.query_string(&[]));
        let status = if self.operation.is_write() { 307 } else { 301 };
        let mut answer = Answer::error(status, "Moved Permanently").header("location", url.clone());
        if let super::answer::Body::Json(Value::Object(body)) = &mut answer.body {
            body.insert("url".to_owned(), url.into());
        }
        answer
    }

    fn by_id(&self, repository: &Repository) -> String {
        let mut path = self.operation.template().to_owned();
        for (name, value) in self.params.iter() {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        let rest = path.splitn(5, '/').nth(4).map(|rest| format!("/{rest}")).unwrap_or_default();
        format!("{}/repositories/{}{rest}", self.api, repository.id)
    }

    fn query_string(&self, instead: &[(&str, String)]) -> String {
        let kept = self.query.iter().filter(|(key, _)| instead.iter().all(|(other, _)| other != key));
        let kept = kept.map(|(key, value)| (key.as_str(), value.clone()));
        let pairs: Vec<_> = kept.chain(instead.iter().cloned()).map(|(key, value)| encode(key, &value)).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    pub fn per_page(&self) -> usize {
        self.query("per_page").and_then(|size| size.parse().ok()).unwrap_or(PAGE).clamp(1, LARGEST_PAGE)
    }

    /// The asked-for page of a list, with GitHub's Link header.
    pub fn page<T>(&self, repository: Option<&Repository>, items: &[T], shape: impl Fn(&T) -> Value) -> Answer {
        let size = self.per_page();
        let page = self.query("page").and_then(|page| page.parse().ok()).unwrap_or(1_usize).max(1);
        let shown = items.iter().skip((page - 1).saturating_mul(size)).take(size).map(shape);
        let mut answer = Answer::ok(shown.collect());
        let last = items.len().div_ceil(size).max(1);
        let root = repository
            .map_or_else(|| format!("{}{}", self.api, self.operation.template()), |repository| self.by_id(repository));
        let link = |to: usize, relation: &str| {
            format!("<{root}{}>; rel=\"{relation}\"", self.query_string(&[("page", to.to_string())]))
        };
        let mut links = Vec::new();
        if page > 1 {
            links.push(link((page - 1).min(last), "prev"));
        }
        if page < last {
            links.extend([link(page + 1, "next"), link(last, "last")]);
        }
        if page > 1 {
            links.push(link(1, "first"));
        }
        if !links.is_empty() {
            answer = answer.header("link", links.join(", "));
        }
        answer
    }

    /// A Link header with a cursor, for lists that have no pages.
    pub fn next_cursor(&self, cursor: u64) -> String {
        let query = self.query_string(&[("cursor", cursor.to_string())]);
        format!("<{}{}{query}>; rel=\"next\"", self.api, self.operation.template())
    }
}

fn encode(key: &str, value: &str) -> String {
    let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
    format!("{key}={value}")
}
