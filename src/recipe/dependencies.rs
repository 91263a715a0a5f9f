//! The files of a chart of the repository: its own, and those of the charts of the repository that it needs.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_saphyr::Options;

use super::{ChartName, Files, MOST_FILES, Recipe, files::is_path, outline::with_doubles};
use crate::environment::Cause;

/// What of a `Chart.yaml`, a `Chart.lock` and their like is read here.
#[derive(Debug, Default, Deserialize)]
pub struct ChartMetadata {
    pub name: Option<String>,
    #[serde(default)]
    pub dependencies: Vec<ChartDependency>,
}

/// A chart that a chart needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct ChartDependency {
    pub name: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub repository: String,
}

impl ChartMetadata {
    /// What the file at `path` says. Nothing where there is none; None where it is not valid.
    pub fn of(files: &Files, path: &str) -> Option<Self> {
        match files.get(path).and_then(|content| std::str::from_utf8(content).ok()) {
            // Of keys that are there twice the last counts, as with helm.
            Some(text) => serde_saphyr::from_str_with_options(text, with_doubles(Options::default())).ok(),
            None => Some(Self::default()),
        }
    }

    /// What the chart in `folder` needs; None where what says so is not valid. Charts of `apiVersion: v1` say it in a
    /// file of its own. An empty folder is none.
    pub fn needed(files: &Files, folder: &str) -> Option<Vec<ChartDependency>> {
        let of =
            |name: &str| Self::of(files, &if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
        Some([of("Chart.yaml")?.dependencies, of("requirements.yaml")?.dependencies].concat())
    }
}

impl ChartDependency {
    /// Whether a chart with these files brings it in its folder `charts`, packed or as a folder.
    pub fn is_among(&self, files: &Files) -> bool {
        self.folder_among(files).is_some() || files.keys().any(|path| self.is_packed_at(path))
    }

    /// Whether it is kept beside the chart that needs it, in the repository.
    pub fn is_beside(&self) -> bool {
        self.repository.starts_with("file://")
    }

    /// The folder in a chart's folder `charts` that it is in. A chart in a folder is called as it calls itself.
    pub fn folder_among<'a>(&self, files: &'a Files) -> Option<&'a str> {
        files.keys().find_map(|path| {
            let folder = path.strip_suffix("/Chart.yaml")?;
            let is_in_charts = folder.strip_prefix("charts/").is_some_and(|name| !name.contains('/'));
            let is_it = || ChartMetadata::of(files, path).is_some_and(|chart| chart.name.as_ref() == Some(&self.name));
            (is_in_charts && is_it()).then_some(folder)
        })
    }

    /// Whether a file is its archive by its name, which other charts' names may begin with.
    fn is_packed_at(&self, path: &str) -> bool {
        let packed = path.strip_prefix("charts/").and_then(|name| name.strip_suffix(".tgz"));
        let version = packed.and_then(|packed| packed.strip_prefix(&self.name)?.strip_prefix('-'));
        version.is_some_and(is_version)
    }

    /// The folder of the repository that it is in, where the chart in `folder` says so (`file://../common`).
    fn folder_beside(&self, folder: &str) -> Option<String> {
        let path = self.repository.strip_prefix("file://").filter(|path| !path.starts_with('/'))?;
        let mut found: Vec<&str> = folder.split('/').collect();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(found.pop()?),
                name => found.push(name),
            }
        }
        Some(found.join("/")).filter(|folder| is_path(folder))
    }

    /// Whether its name may be one of a folder.
    fn has_plain_name(&self) -> bool {
        !self.name.contains(['/', ':']) && self.name.parse::<ChartName>().is_ok()
    }
}

/// Whether a text is a version, as helm writes it after a chart's name. With fewer than three numbers nothing comes after
/// them: `app-2-1.0.0` is a version of `app-2`.
fn is_version(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (numbers, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let count = numbers.split('.').count();
    numbers.split('.').all(is_number)
        && (count == 3 || (count < 3 && rest.is_empty()))
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+'))
}

impl Recipe {
    /// The folders that it needs with everything in them, as far as `files` tell: a chart's, and those of the charts of
    /// the repository that this one needs.
    pub fn folders(&self, files: &Files) -> BTreeSet<String> {
        let mut folders = BTreeSet::new();
        let mut found: Vec<String> = self.helm.iter().filter_map(|helm| helm.folder().map(str::to_owned)).collect();
        while let Some(folder) = found.pop() {
            let needed = ChartMetadata::needed(files, &folder).unwrap_or_default();
            found.extend(needed.iter().filter_map(|needed| needed.folder_beside(&folder)));
            found.retain(|found| !folders.contains(found) && *found != folder);
            folders.insert(folder);
        }
        folders
    }

    /// The files of the chart in `folder`, by their path there. Charts that it needs and that are beside it in the
    /// repository are in its folder `charts`, where `helm dependency update` would put them.
    pub(super) fn chart_files(&self, files: &Files, folder: &str) -> Result<Files, Cause> {
        let mut most = MOST_FILES;
        compose(files, folder, &mut Vec::new(), &mut most).ok_or_else(|| {
            self.refuse_files(&format!("has more than {MOST_FILES} files with the charts that it needs"))
        })
    }
}

/// The files in a folder, by their path there.
pub fn files_in(files: &Files, folder: &str) -> Files {
    let inside = |(path, content): (&String, &Vec<u8>)| {
        Some((path.strip_prefix(folder)?.strip_prefix('/')?.to_owned(), content.clone()))
    };
    files.iter().filter_map(inside).collect()
}

/// None where there are more files than `most`: charts that need each other more than once multiply.
fn compose(files: &Files, folder: &str, within: &mut Vec<String>, most: &mut usize) -> Option<Files> {
    let mut chart = files_in(files, folder);
    *most = most.checked_sub(chart.len().max(1))?;
    within.push(folder.to_owned());
    for needed in ChartMetadata::needed(&chart, "").unwrap_or_default() {
        let Some(beside) = needed.folder_beside(folder) else { continue };
        // One that needs itself is left out, as one that is not there: helm says what is missing.
        if within.contains(&beside) || !needed.has_plain_name() || needed.is_among(&chart) {
            continue;
        }
        let name = &needed.name;
        let needed = compose(files, &beside, within, most)?;
        chart.extend(needed.into_iter().map(|(path, content)| (format!("charts/{name}/{path}"), content)));
    }
    within.pop();
    Some(chart)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    fn recipe(folder: &str) -> Recipe {
        Recipe::parse(".preview.yaml", &format!("version: 1\nhelm: {{ chart: ./{folder} }}\n")).expect("a recipe")
    }

    fn needs(name: &str, at: &[(&str, &str)]) -> String {
        let needed = at.iter().map(|(name, at)| format!("{{ name: {name}, version: 1.0.0, repository: '{at}' }}"));
        format!("name: {name}\ndependencies: [{}]\n", needed.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn charts_beside_a_chart_come_with_it() {
        let web = needs("web", &[("common", "file://../common/"), ("redis", "https://example.com"), ("own", "")]);
        let common = needs("common", &[("base", "file://./../../libraries/base")]);
        let files = files(&[
            ("charts/web/Chart.yaml", &web),
            ("charts/web/charts/own/Chart.yaml", "name: own\n"),
            ("charts/common/Chart.yaml", &common),
            ("charts/common/templates/_a.tpl", "a"),
            ("libraries/base/Chart.yaml", "apiVersion: v1\nname: base\n"),
            ("libraries/base/requirements.yaml", "dependencies: [{ name: old, repository: 'file://../old' }]"),
            ("libraries/old/Chart.yaml", "name: old\n"),
        ]);
        let recipe = recipe("charts/web");
        let folders: Vec<String> = recipe.folders(&files).into_iter().collect();
        assert_eq!(folders, ["charts/common", "charts/web", "libraries/base", "libraries/old"]);
        let first = recipe.folders(&Files::new());
        assert_eq!(first.into_iter().collect::<Vec<_>>(), ["charts/web"], "as far as the files tell");
        let chart: Vec<String> = recipe.chart_files(&files, "charts/web").expect("files").into_keys().collect();
        let expected = [
            "Chart.yaml",
            "charts/common/Chart.yaml",
            "charts/common/charts/base/Chart.yaml",
            "charts/common/charts/base/charts/old/Chart.yaml",
            "charts/common/charts/base/requirements.yaml",
            "charts/common/templates/_a.tpl",
            "charts/own/Chart.yaml",
        ];
        assert_eq!(chart, expected);
    }

    #[test]
    fn what_a_chart_has_in_its_folder_is_what_counts() {
        let web = needs("web", &[("common", "file://../common"), ("packed", "file://../packed")]);
        let files = files(&[
            ("web/Chart.yaml", &web),
            ("web/charts/any/Chart.yaml", "name: common\n"),
            ("web/charts/packed-1.0.0.tgz", "x"),
            ("common/Chart.yaml", "name: common\n"),
            ("packed/Chart.yaml", "name: packed\n"),
        ]);
        assert_eq!(recipe("web").chart_files(&files, "web").expect("files").len(), 3);
    }

    #[test]
    fn a_chart_whose_name_begins_like_anothers_is_not_that_one() {
        let shop = ChartDependency { name: "shop".to_owned(), version: String::new(), repository: String::new() };
        for (path, text, is_it) in [
            ("charts/shop/Chart.yaml", "name: shop\n", true),
            ("charts/any/Chart.yaml", "name: shop\n", true),
            ("charts/shop-1.2.3/Chart.yaml", "name: shop\n", true),
            ("charts/shop-worker/Chart.yaml", "name: shop-worker\n", false),
            ("charts/shop-worker/README.md", "", false),
            ("charts/any/charts/shop/Chart.yaml", "name: shop\n", false),
            ("charts/shop-9.0.0.tgz", "x", true),
            ("charts/shop-v9.0.0-rc.1+build.5.tgz", "x", true),
            ("charts/shop-1.0.tgz", "x", true),
            ("charts/shop-worker-9.0.0.tgz", "x", false),
            ("charts/shop-2-9.0.0.tgz", "x", false),
            ("charts/shop-9.0.0/values.yaml", "", false),
            ("charts/any/charts/shop-9.0.0.tgz", "x", false),
        ] {
            assert_eq!(shop.is_among(&files(&[(path, text)])), is_it, "{path}");
        }
        let web = needs("web", &[("shop-worker", "file://../shop-worker"), ("shop", "file://../shop")]);
        let files = files(&[
            ("web/Chart.yaml", &web),
            ("shop-worker/Chart.yaml", "name: shop-worker\n"),
            ("shop/Chart.yaml", "name: shop\n"),
        ]);
        let chart: Vec<String> = recipe("web").chart_files(&files, "web").expect("files").into_keys().collect();
        assert_eq!(chart, ["Chart.yaml", "charts/shop-worker/Chart.yaml", "charts/shop/Chart.yaml"]);
    }

    #[test]
    fn of_keys_that_are_there_twice_the_last_counts() {
        let files = files(&[
            ("Chart.yaml", "name: old\nname: web\ndependencies: []\ndependencies: [{ name: a, name: queue }]\n"),
            ("requirements.yaml", "dependencies: [{ name: mail, version: 1.0.0, version: 2.0.0 }]\n"),
            ("Chart.lock", "digest: a\ndigest: b\ndependencies: [{ name: queue, version: 1.0.0, version: 1.2.3 }]\n"),
            ("charts/any/Chart.yaml", "name: mail\nname: queue\n"),
        ]);
        assert_eq!(ChartMetadata::of(&files, "Chart.yaml").expect("valid").name.as_deref(), Some("web"));
        let needed = ChartMetadata::needed(&files, "").expect("valid");
        let names: Vec<_> = needed.iter().map(|needed| (needed.name.as_str(), needed.version.as_str())).collect();
        assert_eq!(names, [("queue", ""), ("mail", "2.0.0")]);
        assert!(needed[0].is_among(&files) && !needed[1].is_among(&files));
        let locked = ChartMetadata::of(&files, "Chart.lock").expect("valid").dependencies;
        assert_eq!(locked[0].version, "1.2.3");
    }

    #[test]
    fn nothing_outside_of_the_repository_is_named() {
        for at in ["file://../../etc", "file:///etc", "file://..", "../common", "file://../a\u{7}"] {
            let files = files(&[("web/Chart.yaml", &needs("web", &[("common", at)]))]);
            assert_eq!(recipe("web").folders(&files).len(), 1, "{at}");
        }
    }

    #[test]
    fn charts_that_need_each_other_have_an_end() {
        let (web, common) =
            (needs("web", &[("common", "file://../common")]), needs("common", &[("web", "file://../web")]));
        let both = files(&[("web/Chart.yaml", &web), ("common/Chart.yaml", &common)]);
        assert_eq!(recipe("web").chart_files(&both, "web").expect("files").len(), 2);
        let name = |number: usize| format!("c{number}");
        let texts = (0..30).map(|number| {
            let at: Vec<(String, String)> =
                (number + 1..30).map(|other| (name(other), format!("file://../{}", name(other)))).collect();
            let at: Vec<(&str, &str)> = at.iter().map(|(name, at)| (name.as_str(), at.as_str())).collect();
            (format!("{}/Chart.yaml", name(number)), needs(&name(number), &at).into_bytes())
        });
        let many: Files = texts.collect();
        let refused = recipe("c0").chart_files(&many, "c0").expect_err("too many");
        assert!(refused.to_string().contains("has more than 200 files with the charts that it needs"), "{refused}");
    }
}
