//! What others build upon: the schemas, `mcp.json`, and the documents that name what is there.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Set to write the schemas anew.
const UPDATE: &str = "UPDATE_SCHEMAS";

#[test]
fn the_schemas_are_as_written_down() {
    let folder = Path::new(REPOSITORY).join("schemas");
    let mut written = BTreeSet::new();
    for (name, schema) in previewd::schemas::all() {
        let path = folder.join(&name);
        let generated = format!("{schema:#}\n");
        if std::env::var_os(UPDATE).is_some() {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for schemas");
            fs::write(&path, &generated).expect("a schema can be written");
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            kept, generated,
            "schemas/{name} is out of date; run the tests with {UPDATE}=1 and look at the diff"
        );
        written.insert(path);
    }
    let folders = [folder.clone(), folder.join("tools")];
    let kept = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("the folder of schemas"));
    for entry in kept.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()) {
        assert!(written.contains(&entry), "{} is nobody's schema any more", entry.display());
    }
}

#[test]
fn the_schemas_are_schemas() {
    for (name, schema) in previewd::schemas::all() {
        if name.starts_with("tools/") {
            for part in ["inputSchema", "outputSchema"] {
                jsonschema::validator_for(&schema[part]).unwrap_or_else(|error| panic!("{name} {part}: {error}"));
            }
        } else {
            jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// T091: whoever reads CLAUDE.md or ARCHITECTURE.md finds every module.
#[test]
fn the_documents_name_every_module() {
    let modules: Vec<String> = fs::read_to_string(Path::new(REPOSITORY).join("src/lib.rs"))
        .expect("src/lib.rs")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned()))
        .collect();
    assert!(modules.len() > 10, "{modules:?}");
    for document in ["CLAUDE.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(Path::new(REPOSITORY).join(document)).expect(document);
        for module in modules.iter().map(String::as_str).chain(["cli"]) {
            assert!(text.contains(&format!("`{module}`")), "{document} does not name `{module}`");
        }
    }
}

/// Every (status, reason) that an environment may show is explained.
#[test]
fn the_architecture_explains_every_status_and_reason() {
    use previewd::environment::{EnvironmentStatus, legal_reasons};
    let text = fs::read_to_string(Path::new(REPOSITORY).join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    for &status in EnvironmentStatus::ALL {
        for reason in legal_reasons(status) {
            let reason = reason.map_or("", |reason| reason.code());
            let explained = text.lines().any(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                cells.len() > 3 && cells[1] == status.code() && cells[2].split(", ").any(|code| code == reason)
            });
            assert!(explained, "ARCHITECTURE.md has no row for {status} with reason {reason:?}");
        }
    }
}

/// `mcp.json` starts exactly what it says, and what it starts speaks MCP.
#[tokio::test(flavor = "multi_thread")]
async fn mcp_json_starts_a_server_with_ten_tools() {
    use rmcp::{ServiceExt, transport::TokioChildProcess};
    let text = fs::read_to_string(Path::new(REPOSITORY).join("mcp.json")).expect("mcp.json");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    let server = &config["mcpServers"]["previewd"];
    let folder = tempfile::tempdir().expect("a folder");
    let binary = xtask::previewd::binary().expect("previewd is built");
    let mut command = tokio::process::Command::new(server["command"].as_str().expect("a command"));
    let arguments = server["args"].as_array().expect("arguments");
    command.args(arguments.iter().map(|argument| argument.as_str().expect("text")));
    // Installed as its users have it: on PATH.
    command.env_clear().env("PATH", binary.parent().expect("a folder")).env("HOME", folder.path());
    command.current_dir(folder.path());

    let client = ().serve(TokioChildProcess::new(command).expect("it starts")).await.expect("it speaks MCP");
    let tools = client.list_all_tools().await.expect("tools");
    assert_eq!(tools.len(), 10);
    client.cancel().await.expect("it ends");
}

/// What strangers copy is taken as it is.
#[test]
fn the_readmes_configuration_and_recipe_are_valid() {
    let readme = fs::read_to_string(Path::new(REPOSITORY).join("README.md")).expect("README.md");
    let blocks = |language: &str| -> Vec<String> {
        let mut blocks = Vec::new();
        let mut lines = readme.lines();
        while let Some(line) = lines.next() {
            let indent = line.len() - line.trim_start().len();
            if line.trim() == format!("```{language}") {
                let block = lines.by_ref().take_while(|line| line.trim() != "```");
                blocks.push(block.map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n"));
            }
        }
        blocks
    };
    let (configurations, recipes) = (blocks("toml"), blocks("yaml"));
    assert_eq!((configurations.len(), recipes.len()), (2, 1));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("previewd.toml");
    let load = |configuration: &str| {
        fs::write(&path, configuration).expect("written");
        previewd::config::Config::load(Some(&path), previewd::config::Unnamed::OfTheUser, std::iter::empty())
            .expect("the README's configuration")
    };
    assert_eq!(load(&configurations[0]).teams["shop"].repositories.len(), 2);
    assert!(load(&configurations[1]).router.enabled);
    previewd::recipe::Recipe::parse(".preview.yaml", &recipes[0]).expect("the README's recipe");
}
