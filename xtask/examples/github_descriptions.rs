//! Takes the parts of GitHub's published descriptions that the loopback GitHub is held against out of two npm
//! packages, unpacked side by side:
//!
//!     npm pack @octokit/openapi@23.0.2 @octokit/webhooks-examples@7.6.1
//!     cargo run -p xtask --example github_descriptions -- <openapi package> <webhooks-examples package> xtask/data

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [openapi, examples, target] = arguments.as_slice() else {
        anyhow::bail!("usage: github_descriptions <openapi package> <webhooks-examples package> <directory>");
    };
    let (openapi, examples, target) = (Path::new(openapi), Path::new(examples), Path::new(target));
    let description = read(&openapi.join("generated/api.github.com.json"))?;
    let source = source(openapi, "generated/api.github.com.json")?;
    let description = xtask::github::extract_description(&description, &source)?;
    fs::write(target.join("github-openapi.json"), lines(&description, 3))?;
    let payloads = read(&examples.join("api.github.com/index.json"))?;
    let payloads = xtask::github::extract_examples(&payloads, &self::source(examples, "api.github.com/index.json")?)?;
    fs::write(target.join("webhook-examples.json"), lines(&payloads, 3))?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// Name, version and licence as the package itself states them.
fn source(package: &Path, file: &str) -> anyhow::Result<Value> {
    let manifest = read(&package.join("package.json"))?;
    let get = |key| manifest.get(key);
    Ok(json!({ "package": get("name"), "version": get("version"), "file": file, "licence": get("license") }))
}

/// JSON with one line for each thing down to a depth: compact, and changes still show.
fn lines(value: &Value, depth: usize) -> String {
    let mut text = String::new();
    write_lines(value, depth, 0, &mut text);
    text.push('\n');
    text
}

fn write_lines(value: &Value, depth: usize, indent: usize, text: &mut String) {
    let (open, close, items): (_, _, Vec<(Option<&String>, &Value)>) = match value {
        Value::Object(members) if depth > 0 && !members.is_empty() => {
            ('{', '}', members.iter().map(|(name, value)| (Some(name), value)).collect())
        }
        Value::Array(items) if depth > 0 && !items.is_empty() => {
            ('[', ']', items.iter().map(|value| (None, value)).collect())
        }
        other => {
            text.push_str(&other.to_string());
            return;
        }
    };
    text.push(open);
    for (index, (name, value)) in items.iter().enumerate() {
        text.push_str(if index > 0 { ",\n" } else { "\n" });
        text.push_str(&" ".repeat(indent + 1));
        if let Some(name) = name {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}: ", Value::String((*name).clone()));
        }
        write_lines(value, depth - 1, indent + 1, text);
    }
    let _ = write!(text, "\n{}{close}", " ".repeat(indent));
}
