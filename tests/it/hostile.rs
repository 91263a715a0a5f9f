//! What strangers may try: every case of `tests/hostile` is refused with its code, in one sentence that says what to
//! change and quotes no value, within a bounded time.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::StreamExt as _;
use previewd::{
    environment::Cause,
    helm::Helm,
    recipe::{Files, Policy, RECIPE_FILE},
    service::RecipeRenderer,
};
use serde::Deserialize;
use tokio::time::Instant;
use xtask::cluster::helm;

use super::recipes::target;

/// So many are asked for; that none gets lost is checked too.
const AT_LEAST: usize = 60;
/// A value that nobody may see again. Every case has it somewhere.
const CANARY: &str = "canary-5f2b91c4";
/// Helm ends after 20 s at the latest. The rest is for a machine with much else to do.
const LONGEST: Duration = Duration::from_secs(120);
/// More would only take each other's time.
const AT_ONCE: usize = 4;

/// One file of the corpus.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    files: BTreeMap<String, Text>,
    reason: String,
    says: Sentences,
    #[serde(default)]
    policy: String,
    /// Where the operator allows charts from.
    #[serde(default)]
    repositories: Vec<String>,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    files: BTreeMap<String, Text>,
    reason: Option<String>,
    says: Option<Sentences>,
    policy: Option<String>,
    /// What stands for `%name%` in the files and the sentence.
    #[serde(flatten)]
    words: BTreeMap<String, String>,
}

/// A file's text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    /// A text so many times; `%n%` counts.
    Text {
        text: String,
        #[serde(default = "once")]
        times: usize,
    },
    Bytes {
        base64: String,
    },
}

fn once() -> usize {
    1
}

/// One sentence, or those of which the machine's speed decides.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Sentences {
    One(String),
    Any(Vec<String>),
}

/// A case with everything that its group says for it.
struct Hostile {
    name: String,
    files: Files,
    reason: String,
    says: Vec<String>,
    policy: Policy,
    repositories: Vec<String>,
}

impl Group {
    fn hostile(&self, group: &str) -> Vec<Hostile> {
        // What a case leaves out is nothing.
        let names: Vec<&String> = self.cases.values().flat_map(|case| case.words.keys()).collect();
        let of_case = |(name, case): (&String, &Case)| {
            let filled = |text: &str| {
                let own = names.iter().fold(text.to_owned(), |text, name| {
                    text.replace(&format!("%{name}%"), case.words.get(*name).map_or("", String::as_str))
                });
                own.replace("%canary%", CANARY)
            };
            let files = self.files.iter().chain(&case.files);
            let files: BTreeMap<&String, &Text> = files.collect();
            let sentences = match case.says.as_ref().unwrap_or(&self.says) {
                Sentences::One(sentence) => vec![sentence.clone()],
                Sentences::Any(sentences) => sentences.clone(),
            };
            Hostile {
                name: format!("{group}/{name}"),
                files: files.into_iter().map(|(path, text)| (filled(path), text.content(&filled))).collect(),
                reason: case.reason.clone().unwrap_or_else(|| self.reason.clone()),
                says: sentences.iter().map(|sentence| filled(sentence)).collect(),
                policy: toml::from_str(case.policy.as_ref().unwrap_or(&self.policy)).expect("a policy"),
                repositories: self.repositories.clone(),
            }
        };
        self.cases.iter().map(of_case).collect()
    }
}

impl Text {
    fn content(&self, filled: &impl Fn(&str) -> String) -> Vec<u8> {
        match self {
            Self::Whole(text) => filled(text).into_bytes(),
            Self::Parts(parts) => parts.iter().flat_map(|part| part.content(filled)).collect(),
        }
    }
}

impl Part {
    fn content(&self, filled: &impl Fn(&str) -> String) -> Vec<u8> {
        match self {
            Self::Text { text, times } => {
                let text = filled(text);
                (0..*times).flat_map(|number| text.replace("%n%", &number.to_string()).into_bytes()).collect()
            }
            Self::Bytes { base64 } => BASE64.decode(base64).expect("base64"),
        }
    }
}

fn corpus() -> Vec<Hostile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut corpus = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            let group: Group =
                serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            corpus.extend(group.hostile(path.file_stem().unwrap().to_str().unwrap()));
        }
    }
    corpus
}

impl Hostile {
    /// What is wrong with how previewd takes it, if anything is.
    async fn try_it(self, helm: PathBuf) -> Option<String> {
        let Self { name, mut files, reason, says, policy, repositories } = self;
        let has_canary = |(path, content): (&String, &Vec<u8>)| {
            path.contains(CANARY) || content.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
        };
        if !files.iter().any(has_canary) {
            return Some(format!("{name} has no value that could be quoted"));
        }
        let recipe = String::from_utf8(files.remove(RECIPE_FILE).expect("a recipe")).expect("text");
        let helm = Helm::new(helm, repositories);
        let renderer = RecipeRenderer { policy, base_domain: "preview.example.com".parse().expect("a domain"), helm };
        let began = Instant::now();
        let rendered = renderer.render(&recipe, &files, &target()).await;
        let taken = began.elapsed();
        let Err(mistakes) = rendered else { return Some(format!("{name} was taken")) };
        // What else is wrong with it, such as that it leads nowhere, is said after that.
        let cause = mistakes.first().clone();
        let sentence = cause.to_string();
        if cause.reason().code() != reason || !says.contains(&sentence) {
            return Some(format!(
                "{name} ended in {}: {sentence}\n    and not in {reason}: {}",
                cause.reason(),
                says[0]
            ));
        }
        let is_quoted = format!("{mistakes}{mistakes:?}").contains(CANARY);
        if is_quoted || !mistakes.causes().all(is_one_sentence) {
            return Some(format!("{name} is told in what is not one sentence of ours: {mistakes:?}"));
        }
        (taken > LONGEST).then(|| format!("{name} took {taken:?}"))
    }
}

fn is_one_sentence(cause: &Cause) -> bool {
    let sentence = cause.to_string();
    let ends = |text: &str| text.ends_with(['.', '?']);
    let is_plain = sentence.chars().all(|character| !character.is_control());
    ends(&sentence) && !sentence.contains(". ") && is_plain && sentence.len() < 400
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_recipe_is_refused_with_its_code() {
    let helm = tokio::task::spawn_blocking(helm).await.unwrap().unwrap();
    let corpus = corpus();
    let count = corpus.len();
    assert!(count >= AT_LEAST, "{count} cases, and at least {AT_LEAST} are asked for");
    // Each on a thread of its own choice: what takes long there is not to count for the others.
    let tried = corpus.into_iter().map(async |hostile| tokio::spawn(hostile.try_it(helm.clone())).await.unwrap());
    let tried = futures::stream::iter(tried).buffer_unordered(AT_ONCE);
    let problems: Vec<String> = tried.filter_map(async |problem| problem).collect().await;
    assert!(problems.is_empty(), "{} of {count}:\n{}", problems.len(), problems.join("\n"));
    println!("{count} hostile recipes were refused");
}

/// What a name in a list of files leads to is no place of this machine.
#[tokio::test]
async fn no_file_is_written_outside_of_helms_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    let renderer = RecipeRenderer {
        policy: Policy::default(),
        base_domain: "preview.example.com".parse().unwrap(),
        helm: Helm::new("true".into(), Vec::new()),
    };
    let chart = |path: String| {
        let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        Files::from([file("chart/Chart.yaml", "name: web\n"), file(&path, "x")])
    };
    for path in [format!("chart/{}", outside.display()), format!("chart/../../../../../../{}", outside.display())] {
        let refused = renderer.render("version: 1\nhelm: { chart: ./chart }\n", &chart(path), &target()).await;
        assert!(matches!(refused.map_err(Cause::from), Err(Cause::InvalidRecipe { .. })));
        assert!(!outside.exists());
    }
}
