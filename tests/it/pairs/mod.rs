//! Every two settings, features of recipes and events that may meet, on a real cluster. What each does alone is tested
//! elsewhere; a row here has one level of each factor, and rows are as few as it takes for every pair of levels to meet in
//! one of them.

mod array;
mod factors;

/// The names of the rows.
macro_rules! rows {
    ($($name:ident)*) => {
        pub const ROWS: &[&str] = &[$(stringify!($name)),*];
    };
}

#[rustfmt::skip]
mod rows;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use self::factors::{FACTORS, FORBIDDEN, OTHER_FIELDS, OTHER_KEYS};

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

#[test]
fn the_rows_are_what_the_factors_make() {
    let names =
        array::generate().iter().enumerate().map(|(number, row)| array::name_of(number, row)).collect::<Vec<_>>();
    let text = format!(
        "//! Every row is a test. `{UPDATE}=1 cargo test --test it -- pairs::` writes this.\n\nrows! {{\n    {}\n}}\n",
        names.join("\n    ")
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/pairs/rows.rs");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &text).expect("rows can be written");
    }
    assert_eq!(fs::read_to_string(&path).expect("rows"), text, "run this test with {UPDATE}=1");
}

/// Not by the generator's own account: whatever rows there are, these pairs have met.
#[test]
fn every_pair_that_may_meet_does() {
    let mut met = BTreeSet::new();
    for name in rows::ROWS {
        let row = array::levels_of(name);
        for (one, other, why) in FORBIDDEN {
            assert!(!(row.contains(one) && row.contains(other)), "{name}: {why}");
        }
        for (place, other) in row.iter().enumerate() {
            met.extend(row[..place].iter().map(|one| (*one, *other)));
        }
    }
    let pairs = array::pairs();
    let missed: Vec<_> = pairs.difference(&met).collect();
    assert!(missed.is_empty(), "{} pairs are in no row: {missed:?}", missed.len());
    let levels: usize = FACTORS.iter().map(|factor| factor.levels.len()).sum();
    println!("{} factors, {levels} levels, {} pairs in {} rows", FACTORS.len(), pairs.len(), rows::ROWS.len());
}
