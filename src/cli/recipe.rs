//! `previewd recipe`

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use previewd::{
    config::Unnamed,
    environment::{CommitSha, RepositoryName},
    recipe::{Files, Mistakes, RECIPE_FILE, Recipe, Render},
    service::{RecipeVerdict, RenderTarget, SAMPLE_COMMIT},
};

use super::{
    Global, app,
    output::{Output, print, print_json},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether a .preview.yaml would be taken, and where it is wrong
    Check(CheckArgs),
    /// Print what would be applied for a .preview.yaml
    Render(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The file, or the folder that it is in
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The commit that it is rendered for
    #[arg(long, value_name = "SHA", default_value_t = SAMPLE_COMMIT.parse().expect("a commit"))]
    commit: CommitSha,
    /// The repository that it is rendered for
    #[arg(long, value_name = "OWNER/NAME", default_value = "owner/name")]
    repository: RepositoryName,
    /// The pull request's number that it is rendered for
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..))]
    pull_request: i64,
    /// The branch that it is rendered for
    #[arg(long, value_name = "NAME", default_value = "branch")]
    branch: String,
    /// The form of the answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub async fn run(Args { command }: Args, global: Global) -> anyhow::Result<ExitCode> {
    let (args, shows_objects) = match command {
        Command::Check(args) => (args, false),
        Command::Render(args) => (args, true),
    };
    let CheckArgs { path, commit, repository, pull_request, branch, output } = args;
    // Where there is no configuration its defaults say what a preview may have. The folder of the recipe is somebody's
    // checkout: what lies there says nothing of what is started here.
    let renderer = app::renderer(&global.load(Unnamed::OfTheUser)?);
    let (text, folder) = read(&path)?;
    let (recipe, mistakes) = Recipe::read(RECIPE_FILE, &text);
    let read = recipe.map_or_else(Read::default, |recipe| Read::files_of(&recipe, &folder));
    let rendered = match read.unread.into_iter().reduce(Mistakes::and) {
        None => renderer.render(&text, &read.files, &RenderTarget { repository, pull_request, branch, commit }).await,
        // What a part of the files renders to is wrong for want of the others.
        Some(unread) => Err(match mistakes {
            Some(mistakes) => mistakes.and(unread),
            None => unread,
        }),
    };
    let verdict = RecipeVerdict::of(&rendered);
    match (rendered, output) {
        (Ok(render), _) if shows_objects => print_objects(&render, output)?,
        (_, Output::Json) => print_json(&verdict)?,
        (Ok(_), Output::Table) => {
            let notes: String = verdict.notes.iter().map(|note| format!("Note: {note}\n")).collect();
            print(&format!("{}\n{notes}{}\n", verdict.message, verdict.objects.join("\n")))?;
        }
        (Err(mistakes), Output::Table) => anyhow::bail!("{mistakes}"),
    }
    Ok(if verdict.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The recipe's text, and the folder that its files are in.
fn read(path: &Path) -> anyhow::Result<(String, PathBuf)> {
    let file = if path.is_dir() { path.join(RECIPE_FILE) } else { path.to_owned() };
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((text, folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf)))
}

/// The files that a recipe names, as far as they can be read.
#[derive(Default)]
struct Read {
    files: Files,
    unread: Vec<Mistakes>,
}

impl Read {
    /// Everything that the recipe names, from the folder that it is in.
    fn files_of(recipe: &Recipe, root: &Path) -> Self {
        let mut read = Self::default();
        for pattern in recipe.files() {
            for entry in read.entries(recipe, root, &root.join(pattern.folder())) {
                let name = relative(root, &entry);
                if entry.is_file() && pattern.matches(&name) {
                    read.file(recipe, name, &entry);
                }
            }
        }
        let mut known = BTreeSet::new();
        while let Some(folder) = recipe.folders(&read.files).into_iter().find(|folder| !known.contains(folder)) {
            read.folder(recipe, root, &folder);
            known.insert(folder);
        }
        read
    }

    /// Everything in a folder of `root`.
    fn folder(&mut self, recipe: &Recipe, root: &Path, folder: &str) {
        let mut folders = vec![root.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in self.entries(recipe, root, &folder) {
                let name = relative(root, &entry);
                if entry.is_symlink() {
                    self.refuse(recipe, &format!("has a link in it, {name}; a chart must be files and folders"));
                } else if entry.is_dir() {
                    folders.push(entry);
                } else {
                    self.file(recipe, name, &entry);
                }
            }
        }
    }

    fn entries(&mut self, recipe: &Recipe, root: &Path, folder: &Path) -> Vec<PathBuf> {
        let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        read().unwrap_or_else(|error| {
            self.refuse(recipe, &format!("names a folder that cannot be read, {}: {error}", relative(root, folder)));
            Vec::new()
        })
    }

    fn file(&mut self, recipe: &Recipe, name: String, path: &Path) {
        match fs::read(path) {
            Ok(content) => drop(self.files.insert(name, content)),
            Err(error) => self.refuse(recipe, &format!("names a file that cannot be read, {name}: {error}")),
        }
    }

    fn refuse(&mut self, recipe: &Recipe, rule: &str) {
        self.unread.push(recipe.refuse_files(rule).into());
    }
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}

fn print_objects(render: &Render, output: Output) -> anyhow::Result<()> {
    let objects: Vec<_> =
        std::iter::once(&render.namespace).chain(render.applied()).map(|object| &object.body).collect();
    if output == Output::Json {
        return print_json(&objects);
    }
    let mut documents = Vec::new();
    for object in objects {
        documents.push(serde_saphyr::to_string(object).context("cannot write YAML")?);
    }
    Ok(print(&documents.join("---\n"))?)
}
