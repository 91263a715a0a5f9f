//! Every two settings, features of recipes and events that may meet, on a real cluster. What each does alone is tested
//! elsewhere; a row here has one level of each factor, and rows are as few as it takes for every pair of levels to meet in
//! one of them.

mod array;
mod factors;
mod play;
mod recipe;
mod row;
mod settings;
mod volumes;

/// A test for each row, and their names.
macro_rules! rows {
    ($($name:ident)*) => {
        pub const ROWS: &[&str] = &[$(stringify!($name)),*];

        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::play::play(stringify!($name)).await;
            }
        )*
    };
}

#[rustfmt::skip]
mod rows;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use self::{
    factors::{FACTORS, FORBIDDEN, OTHER_FIELDS, OTHER_KEYS},
    row::Row,
};

/// Rows that are not played yet, by their numbers, and what stands in the way.
const NOT_YET: &[(&[usize], &str)] = &[];

/// Set to write the rows anew.
const UPDATE: &str = "UPDATE_PAIRS";

/// Collects the paths of what a schema describes by name, innermost ones only. Whether there are any.
fn collect(root: &Value, node: &Value, path: &str, found: &mut BTreeSet<String>) -> bool {
    let mut has_names = false;
    if let Some(named) = node["$ref"].as_str() {
        let pointer = named.trim_start_matches('#');
        has_names |= collect(root, root.pointer(pointer).expect("a definition"), path, found);
    }
    for list in ["anyOf", "oneOf", "allOf"] {
        for variant in node[list].as_array().into_iter().flatten() {
            has_names |= collect(root, variant, path, found);
        }
    }
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        has_names = true;
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !collect(root, child, &below, found) {
            found.insert(below);
        }
    }
    has_names |= collect_of_any(root, &node["items"], &format!("{path}[]"), found);
    has_names |= collect_of_any(root, &node["additionalProperties"], &format!("{path}.*"), found);
    for child in node["patternProperties"].as_object().into_iter().flat_map(|patterns| patterns.values()) {
        has_names |= collect_of_any(root, child, &format!("{path}.*"), found);
    }
    has_names
}

fn collect_of_any(root: &Value, node: &Value, path: &str, found: &mut BTreeSet<String>) -> bool {
    node.is_object() && collect(root, node, path, found)
}

/// Compares what a schema has with what is a factor or an exception.
fn compare(schema: &Value, factors: impl Iterator<Item = &'static str>, others: &[(&[&'static str], &str)]) {
    let mut there = BTreeSet::new();
    assert!(collect(schema, schema, "", &mut there));
    let mut known = BTreeSet::new();
    for path in factors.chain(others.iter().flat_map(|(paths, _)| paths.iter().copied())) {
        assert!(known.insert(path.to_owned()), "{path} is there twice");
    }
    let unknown: Vec<_> = there.difference(&known).collect();
    assert!(unknown.is_empty(), "make these a factor, or an exception with its reason: {unknown:#?}");
    let gone: Vec<_> = known.difference(&there).collect();
    assert!(gone.is_empty(), "there is none of these any more: {gone:#?}");
}

#[test]
fn every_key_and_every_field_is_a_factor_or_an_exception() {
    compare(&previewd::schemas::config(), FACTORS.iter().flat_map(|factor| factor.keys).copied(), OTHER_KEYS);
    compare(&previewd::schemas::recipe(), FACTORS.iter().flat_map(|factor| factor.fields).copied(), OTHER_FIELDS);
}

#[test]
fn a_level_is_one_word_and_has_one_meaning() {
    let mut words = BTreeSet::new();
    for level in FACTORS.iter().flat_map(|factor| factor.levels) {
        assert!(level.bytes().all(|letter| letter.is_ascii_lowercase()), "{level}");
        assert!(words.insert(*level), "{level} is there twice");
    }
    for (one, other, _) in FORBIDDEN {
        assert!(words.contains(one) && words.contains(other), "{one} and {other}");
    }
}

/// The name of every row that the factors make, and of those that are not played yet.
fn names() -> (Vec<String>, Vec<String>) {
    let rows = array::generate();
    let names = rows.iter().enumerate().map(|(number, row)| (number, array::name_of(number, row)));
    let (not_yet, played): (Vec<_>, Vec<_>) =
        names.partition(|(number, _)| NOT_YET.iter().any(|(not_yet, _)| not_yet.contains(number)));
    let names = |rows: Vec<(usize, String)>| rows.into_iter().map(|(_, name)| name).collect();
    (names(played), names(not_yet))
}

#[test]
fn the_rows_are_what_the_factors_make() {
    let (played, _) = names();
    let text = format!(
        "//! Every row is a test. `{UPDATE}=1 cargo test --test it -- pairs::` writes this.\n\nrows! {{\n    {}\n}}\n",
        played.join("\n    ")
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pairs/rows.rs");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &text).expect("rows can be written");
    }
    assert_eq!(fs::read_to_string(&path).expect("rows"), text, "run this test with {UPDATE}=1");
}

/// Not by the generator's own account: these pairs have met in the rows that there are, or are to meet in those that are
/// not played yet.
#[test]
fn every_pair_that_may_meet_does() {
    let meet = |name: &str| {
        let row = array::levels_of(name);
        for (one, other, why) in FORBIDDEN {
            assert!(!(row.contains(one) && row.contains(other)), "{name}: {why}");
        }
        let before = |place: usize| row[..place].to_vec();
        let pairs =
            row.iter().enumerate().flat_map(|(place, other)| before(place).into_iter().map(move |one| (one, *other)));
        pairs.collect::<Vec<_>>()
    };
    let (_, not_yet) = names();
    let mut met: BTreeSet<_> = rows::ROWS.iter().flat_map(|name| meet(name)).collect();
    let played = met.len();
    met.extend(not_yet.iter().flat_map(|name| meet(name)));
    let pairs = array::pairs();
    let missed: Vec<_> = pairs.difference(&met).collect();
    assert!(missed.is_empty(), "{} pairs are in no row: {missed:?}", missed.len());
    let levels: usize = FACTORS.iter().map(|factor| factor.levels.len()).sum();
    println!(
        "{} factors, {levels} levels, {} pairs, {played} of them in {} rows",
        FACTORS.len(),
        pairs.len(),
        rows::ROWS.len()
    );
    for name in not_yet {
        println!("not yet: {name}");
    }
}

/// What a row says to previewd is taken, without a cluster.
#[tokio::test]
async fn every_row_has_a_valid_configuration_and_recipe() {
    let helm = tokio::task::spawn_blocking(xtask::cluster::helm).await.unwrap().unwrap();
    for name in rows::ROWS {
        let row = Row::of(name);
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("previewd.toml");
        fs::write(&config, "[teams.shop]\nrepositories = [\"acme/*\"]\n").unwrap();
        settings::configure(&config, "http://127.0.0.1:8787", &row, Some("registry.localhost:5000"), Some(&helm));
        let repository = folder.path().join("repository");
        for (path, text) in recipe::files(&row, "registry.localhost:5000/shop:{{ sha }}", false) {
            let path = repository.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut command = Command::new(xtask::previewd::binary().unwrap());
        command.arg("--config").arg(config).args(["recipe", "render"]).arg(repository).args(["--output", "json"]);
        command.args(["--commit", "0123456789abcdef0123456789abcdef01234567"]).env_clear();
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
