//! From a file and variables to a [`Config`]. Both are laid into one tree of TOML values in which each value remembers
//! where it stands, so that every complaint can name its place. No complaint repeats a value: it may be a secret.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    schema::{self, Kind, Node, PREFIX},
};
use crate::github::InvalidGitHubSettings;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// One line a problem.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    #[error(transparent)]
    GitHub(#[from] InvalidGitHubSettings),
}

/// What is wrong at one place of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `previewd.toml:12`, or the variable's name.
    pub place: String,
    /// The key, where the place does not name it.
    pub key: Option<String>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, message } = self;
        match key {
            Some(key) => write!(f, "{place}: {key}: {message}"),
            None => write!(f, "{place}: {message}"),
        }
    }
}

/// The variables of this process. Bytes that are no UTF-8 become U+FFFD.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
}

/// What the configuration's file is called where nobody names it.
const DEFAULT_FILE: &str = "previewd.toml";
const FILE_VARIABLE: &str = "PREVIEWD_CONFIG";
const DATABASE_VARIABLE: &str = "PREVIEWD_DATABASE";
/// Variables of previewd that are no keys.
const OTHER_VARIABLES: [&str; 3] = [FILE_VARIABLE, "PREVIEWD_SERVER", "PREVIEWD_TOKEN"];

/// Where a configuration is looked for that nobody named. It can start programs (`kubernetes.kubeconfig`, `helm.path`)
/// and say where secrets go, so it is read only from where its user put it: a checkout of somebody else's code, in which
/// an editor starts `previewd mcp`, is no such place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// The user's own folder.
    OfTheUser,
    /// The working directory, then the user's own folder: for commands that people give where the configuration is.
    InTheWorkingDirectory,
}

impl Unnamed {
    /// The file that is there.
    pub fn find(self) -> Option<PathBuf> {
        let here = match self {
            Self::OfTheUser => None,
            Self::InTheWorkingDirectory => Self::in_the_working_directory(),
        };
        here.or_else(|| Some(user_folder()?.join(DEFAULT_FILE)).filter(|path| path.exists()))
    }

    /// The file of the working directory, whether anybody reads it or not.
    pub fn in_the_working_directory() -> Option<PathBuf> {
        Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists())
    }
}

/// `~/.config/previewd`. None where there is no home.
fn user_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".config")));
    base.map(|base| base.join("previewd"))
}

pub(super) fn load(
    path: Option<&Path>,
    unnamed: Unnamed,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut variables: BTreeMap<String, String> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let named = path.map(Path::to_owned).or_else(|| variables.get(FILE_VARIABLE).map(PathBuf::from));
    let path = named.or_else(|| unnamed.find());
    variables.retain(|name, value| {
        let is_key = Node::at(&key_path(name)).is_some();
        is_key || !(OTHER_VARIABLES.contains(&name.as_str()) || is_service_link(name, value))
    });

    let text = match &path {
        Some(path) => fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?,
        None => String::new(),
    };
    let sources =
        Sources { file: path.as_deref().unwrap_or(Path::new(DEFAULT_FILE)), text: &text, variables: &variables };
    let mut config = sources.read().map_err(ConfigError::Invalid)?;
    let names_database = variables.contains_key(DATABASE_VARIABLE);
    match (path.as_deref().and_then(Path::parent), unnamed) {
        (Some(directory), _) => config.anchor_paths(directory),
        // A database that lies in the working directory is as strange as a configuration there.
        (None, Unnamed::OfTheUser) if !names_database => {
            user_folder().into_iter().for_each(|folder| config.database.anchor(&folder));
        }
        (None, Unnamed::OfTheUser | Unnamed::InTheWorkingDirectory) => {}
    }
    Ok(config)
}

/// The key that a variable would set.
fn key_path(variable: &str) -> Vec<String> {
    variable[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect()
}

/// Kubernetes gives each container variables for the Services of its namespace. Those of a Service called `previewd`,
/// or `previewd-…`, look like ours: <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>.
fn is_service_link(name: &str, value: &str) -> bool {
    let port_of_protocol = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT_") && port_of_protocol)
        || (name.ends_with("_PORT") && value.contains("://"))
}

/// A file and variables, laid end to end: offsets within the file's text are its own, and beyond it each variable has
/// one offset.
struct Sources<'a> {
    file: &'a Path,
    text: &'a str,
    variables: &'a BTreeMap<String, String>,
}

impl<'a> Sources<'a> {
    fn read(&self) -> Result<Config, Vec<Problem>> {
        let mut tree = DeTable::parse(self.text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            vec![self.problem(&span, &[], error.message().to_owned())]
        })?;
        let mut problems = Vec::new();
        for (position, (name, value)) in self.variables.iter().enumerate() {
            if let Err(problem) = lay_over(tree.get_mut(), name, value, self.text.len() + 1 + position) {
                problems.push(problem);
            }
        }
        self.find_unknown_keys(Node::root(), tree.get_ref(), &mut Vec::new(), &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Config::deserialize(toml::Deserializer::from(tree.clone())).map_err(|error| vec![self.explain(&error, tree)])
    }

    fn find_unknown_keys(&self, node: Node, table: &DeTable, path: &mut Vec<String>, problems: &mut Vec<Problem>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            match node.child(key.get_ref()) {
                None => {
                    let nearest = schema::nearest(path).join(".");
                    let message = format!("unknown key; the nearest known key is {nearest}");
                    problems.push(self.problem(&key.span(), path, message));
                }
                Some(child) => {
                    let (items, child) = match value.get_ref() {
                        DeValue::Array(items) => (items.as_ref(), child.item()),
                        _ => (std::slice::from_ref(value), child),
                    };
                    for table in items.iter().filter_map(|item| item.get_ref().as_table()) {
                        self.find_unknown_keys(child, table, path, problems);
                    }
                }
            }
            path.pop();
        }
    }

    /// Says what serde refused, in the words of the schema, and without the value.
    fn explain(&self, error: &toml::de::Error, tree: Spanned<DeTable>) -> Problem {
        let span = error.span().unwrap_or_default();
        let root = Spanned::new(tree.span(), DeValue::Table(tree.into_inner()));
        let mut best = (vec![], &root);
        find_value(&root, &span, &mut Vec::new(), &mut best);
        let (path, value) = best;
        let node = Node::at(&path).unwrap_or(Node::root());

        let message = error.message();
        let by_serde = ["invalid type", "invalid value", "invalid length", "unknown variant", "data did not match"];
        let is_repeated = repeats_text(message, value.get_ref());
        let is_generic = by_serde.iter().any(|words| message.starts_with(words));
        let message = match message.strip_prefix("missing field ") {
            Some(field) => format!("{} is missing", field.trim_matches('`')),
            None if is_generic || node.is_secret() || is_repeated => format!("must be {}", node.wanted()),
            None => message.to_owned(),
        };
        self.problem(&span, &path, message)
    }

    fn problem(&self, span: &Range<usize>, path: &[String], message: String) -> Problem {
        let key = path.join(".");
        match span.start.checked_sub(self.text.len() + 1).and_then(|position| self.variables.keys().nth(position)) {
            Some(name) => {
                let key = Some(key).filter(|_| schema::variable(path) != *name);
                Problem { place: name.clone(), key, message }
            }
            None => {
                let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let key = Some(key).filter(|key| !key.is_empty());
                Problem { place: format!("{}:{line}", self.file.display()), key, message }
            }
        }
    }
}

/// Puts the value of a variable where its key stands. Sections that it opens get spans around the value's, as in a file.
fn lay_over<'a>(tree: &mut DeTable<'a>, name: &'a str, value: &'a str, offset: usize) -> Result<(), Problem> {
    let problem = |message| Problem { place: name.to_owned(), key: None, message };
    let path = key_path(name);
    let Some(node) = Node::at(&path) else {
        let nearest = schema::variable(&schema::nearest(&path));
        return Err(problem(format!("unknown variable; the nearest known one is {nearest}")));
    };
    let value = parse_variable(node, value).ok_or_else(|| problem(format!("must be {}", node.wanted())))?;

    let mut table = tree;
    for (depth, part) in path.iter().enumerate() {
        let span = offset..offset + path.len() - depth;
        let key = Spanned::new(span.clone(), part.clone().into());
        if depth == path.len() - 1 {
            // Removed first: a map keeps the key that it has, with the place in the file.
            table.remove(part.as_str());
            table.insert(key, place_at(value, &span));
            break;
        }
        match table.entry(key).or_insert_with(|| Spanned::new(span, DeValue::Table(DeTable::new()))).get_mut() {
            DeValue::Table(inner) => table = inner,
            // The file has another value in the section's place, and is told so when it is read.
            _ => break,
        }
    }
    Ok(())
}

/// The value that `text` means for a key of this type, or None where it means none.
fn parse_variable<'a>(node: Node, text: &'a str) -> Option<Spanned<DeValue<'a>>> {
    let toml = |text: &'a str| DeValue::parse(text).ok();
    match node.kind() {
        Kind::Text | Kind::Any => Some(Spanned::new(0..0, DeValue::String(text.into()))),
        Kind::Scalar | Kind::Table => toml(text.trim()),
        Kind::List if text.trim_start().starts_with('[') => toml(text.trim()),
        Kind::List => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let items = items.map(|item| parse_variable(node.item(), item)).collect::<Option<_>>()?;
            Some(Spanned::new(0..0, DeValue::Array(items)))
        }
    }
}

/// Whether `message` has a text of `value` in it. Outside of quotes, a text shorter than this is a coincidence.
fn repeats_text(message: &str, value: &DeValue) -> bool {
    match value {
        DeValue::String(text) => {
            message.contains(&format!("{text:?}")) || (text.len() >= 8 && message.contains(text.as_ref()))
        }
        DeValue::Array(items) => items.iter().any(|item| repeats_text(message, item.get_ref())),
        DeValue::Table(table) => table.values().any(|value| repeats_text(message, value.get_ref())),
        _ => false,
    }
}

/// The same value with every part of it at `span`.
fn place_at<'a>(value: Spanned<DeValue<'a>>, span: &Range<usize>) -> Spanned<DeValue<'a>> {
    let value = match value.into_inner() {
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(|item| place_at(item, span)).collect()),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| (Spanned::new(span.clone(), key.into_inner()), place_at(value, span)))
                .collect(),
        ),
        scalar => scalar,
    };
    Spanned::new(span.clone(), value)
}

/// Finds the smallest value around `span`, and its path. A variable's parts all stand at its place: its outermost value counts.
fn find_value<'t, 'a>(
    value: &'t Spanned<DeValue<'a>>,
    span: &Range<usize>,
    path: &mut Vec<String>,
    best: &mut (Vec<String>, &'t Spanned<DeValue<'a>>),
) {
    let here = value.span();
    let is_smaller = path.is_empty() || best.0.is_empty() || here.len() < best.1.span().len();
    if here.start <= span.start && span.end <= here.end && is_smaller {
        *best = (path.clone(), value);
    }
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                path.push(key.get_ref().to_string());
                find_value(value, span, path, best);
                path.pop();
            }
        }
        DeValue::Array(items) => {
            for (position, value) in items.iter().enumerate() {
                path.push(position.to_string());
                find_value(value, span, path, best);
                path.pop();
            }
        }
        _ => {}
    }
}
