//! What authors see of their recipes before they push them, with the real helm; and what hostile charts end in.

use std::{path::Path, process::Command, time::Duration};

use previewd::{
    environment::Cause,
    helm::Helm,
    recipe::{Files, Policy, Render},
    service::{Author, Occasion},
};
use serde_json::Value;
use tokio::time::Instant;
use xtask::cluster::helm;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

async fn author(repositories: &[&str]) -> Author {
    let path = tokio::task::spawn_blocking(helm).await.unwrap().unwrap();
    let helm = Helm::new(path, repositories.iter().map(|repository| (*repository).to_owned()).collect());
    Author { policy: Policy::default(), base_domain: "preview.example.com".parse().unwrap(), helm }
}

fn occasion() -> Occasion {
    Occasion {
        repository: "acme/shop".parse().unwrap(),
        pull_request: 7,
        branch: "feature/cart".to_owned(),
        commit: COMMIT.parse().unwrap(),
    }
}

const RECIPE: &str = "version: 1\nhelm: { chart: ./chart, values: { commit: '{{ sha }}', host: '{{ host }}' } }\nexpose: { service: web, port: 80 }\n";
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: web }\ndata: { commit: {{ .Values.commit | quote }}, host: {{ .Values.host }} }\n";

/// What becomes of a chart with these files.
async fn render(recipe: &str, files: &[(&str, &str)]) -> Result<Render, Cause> {
    let mut all =
        Files::from([("chart/Chart.yaml".to_owned(), b"apiVersion: v2\nname: web\nversion: 1.0.0\n".to_vec())]);
    all.extend(files.iter().map(|(path, text)| (format!("chart/{path}"), text.as_bytes().to_vec())));
    author(&[]).await.render(recipe, &all, &occasion()).await
}

#[tokio::test]
async fn a_chart_gets_values_and_what_an_environment_may_hold() {
    let template = format!(
        "{MAP}  release: {{{{ .Release.Name }}}} in {{{{ .Release.Namespace }}}}\n  \
         monitors: {{{{ .Capabilities.APIVersions.Has \"monitoring.coreos.com/v1\" | quote }}}}\n  \
         ingresses: {{{{ .Capabilities.APIVersions.Has \"networking.k8s.io/v1/Ingress\" | quote }}}}\n"
    )
    .replace(
        "data: { commit: {{ .Values.commit | quote }}, host: {{ .Values.host }} }",
        "data:\n  commit: {{ .Values.commit }}\n  host: {{ .Values.host }}",
    );
    let render = render(RECIPE, &[("templates/map.yaml", &template)]).await.unwrap();
    let data = &render.objects[0].body["data"];
    assert_eq!(data["commit"], COMMIT);
    assert_eq!(
        data["host"],
        "pr-7-shop-v5kxb5nbqe.preview.example.com"
            .replace("pr-7-shop-v5kxb5nbqe", render.namespace.name.as_str())
            .as_str()
    );
    assert_eq!(data["release"], format!("preview in {}", render.namespace.name));
    assert_eq!((&data["monitors"], &data["ingresses"]), (&"false".into(), &"true".into()));
}

#[tokio::test]
async fn hostile_charts_end_in_one_sentence() {
    let many = "{{ range until 10000 }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: a{{ . }} }\n{{ end }}";
    let long = "{{ range until 100000 }}{{ range until 100000 }}{{ . }}{{ end }}{{ end }}";
    let memory = "{{ $text := repeat 1000000 \"x\" }}{{ range until 100000 }}{{ $text = print $text $text }}{{ end }}";
    let recursive = "{{ define \"again\" }}{{ include \"again\" . }}{{ end }}{{ include \"again\" . }}";
    let crd =
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: { name: tables.example.com }\n";
    for (name, files, sentence) in [
        (
            "10,000 objects",
            vec![("templates/a.yaml", many)],
            "The recipe as a whole was refused: it makes 10000 objects, and may make 200.",
        ),
        ("endless", vec![("templates/a.yaml", long)], "The chart "),
        (
            "memory",
            vec![("templates/a.yaml", memory)],
            "The chart takes more processor time or memory to render than a chart may.",
        ),
        ("recursion", vec![("templates/a.yaml", recursive)], "The chart "),
        (
            "a value that is missing",
            vec![("templates/a.yaml", "a: {{ .Values.a.b }}")],
            "The chart uses a value that is not there, in templates/a.yaml, line 1.",
        ),
        (
            "fail",
            vec![("templates/a.yaml", "{{ fail \"the password is hunter2\" }}")],
            "The chart stops itself (`fail` or `required`), in templates/a.yaml, line 1.",
        ),
        (
            "a template that is none",
            vec![("templates/a.yaml", "{{ if }}")],
            "The chart has a template that is not valid, in templates/a.yaml, line 1.",
        ),
        ("not YAML", vec![("templates/a.yaml", "a: [")], "The chart "),
        ("nothing", vec![("templates/a.yaml", "")], "The chart renders to nothing."),
        (
            "a function of the host",
            vec![("templates/a.yaml", "{{ env \"HOME\" }}")],
            "The chart uses a function that helm does not have, in templates/a.yaml, line 1.",
        ),
        (
            "a CRD among its templates",
            vec![("templates/a.yaml", crd)],
            "CustomResourceDefinition tables.example.com was refused: an environment holds",
        ),
        (
            "a CRD in crds/",
            vec![("crds/a.yaml", crd), ("templates/a.yaml", MAP)],
            "CustomResourceDefinition tables.example.com was refused: an environment holds",
        ),
        (
            "another namespace",
            vec![(
                "templates/a.yaml",
                "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a, namespace: kube-system }\n",
            )],
            "ConfigMap a was refused: metadata.namespace must be {{ namespace }}, or left out.",
        ),
        (
            "a hook with privileges",
            vec![(
                "templates/a.yaml",
                "apiVersion: batch/v1\nkind: Job\nmetadata: { name: a, annotations: { helm.sh/hook: pre-install } }\nspec: { template: { spec: { hostNetwork: true, containers: [{ name: a, image: b }] } } }\n",
            )],
            "Job a was refused: spec.template.spec.hostNetwork must not be set.",
        ),
        (
            "a dependency that is not there",
            vec![
                (
                    "Chart.yaml",
                    "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies: [{ name: redis, version: 1.0.0, repository: 'https://127.0.0.1:1' }]\n",
                ),
                ("templates/a.yaml", MAP),
            ],
            "The chart needs other charts: put them into its folder charts/.",
        ),
    ] {
        let began = Instant::now();
        let refused = render(RECIPE, &files).await.expect_err(name).to_string();
        assert!(refused.starts_with(sentence), "{name}: {refused}");
        assert!(!refused.contains("hunter2"), "{name}: {refused}");
        assert!(began.elapsed() < Duration::from_secs(60), "{name}");
    }
}

/// Nothing of this process is there for a chart to find, files of the machine included.
#[tokio::test]
async fn a_chart_sees_nothing_of_the_machine() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\ndata:\n  file: {{ .Files.Get \"/etc/passwd\" | quote }}\n  above: {{ .Files.Get \"../values.json\" | quote }}\n  found: {{ lookup \"v1\" \"Namespace\" \"\" \"kube-system\" | toJson | quote }}\n  address: {{ getHostByName \"localhost\" | quote }}\n";
    let render = render(RECIPE, &[("templates/a.yaml", template)]).await.unwrap();
    let data = &render.objects[0].body["data"];
    assert_eq!(
        (&data["file"], &data["above"], &data["found"], &data["address"]),
        (&"".into(), &"".into(), &"{}".into(), &"".into())
    );
}

#[tokio::test]
async fn charts_of_elsewhere_come_only_from_where_the_operator_allows() {
    let elsewhere = |chart: &str| {
        format!("version: 1\nhelm: {{ chart: {chart}, version: 1.0.0 }}\nexpose: {{ service: web, port: 80 }}\n")
    };
    let refused = render(&elsewhere("oci://169.254.169.254/latest"), &[]).await.expect_err("metadata").to_string();
    assert_eq!(refused, "The chart is of a place that the operator does not allow (helm.repositories).");
    for (recipe, sentence) in [
        (
            "helm: { chart: oci://ghcr.io/acme/web }",
            "helm.version must be set for a chart that is not of this repository.",
        ),
        ("helm: { chart: ../chart }", "helm.chart must be a folder of the repository such as ./chart"),
        ("helm: { chart: ./../chart }", "helm.chart must be a folder of the repository such as ./chart"),
        ("helm: { chart: /chart }", "helm.chart must be a folder of the repository such as ./chart"),
        (
            "helm: { chart: web, version: 1.0.0 }",
            "helm.chart must begin with ./ where it is a folder of this repository.",
        ),
        (
            "helm: { chart: web, version: 1.0.0, repository: 'http://charts.example.com' }",
            "helm.repository must begin with https://.",
        ),
        (
            "helm: { chart: ./chart, values: { a: '{{ shaa }}' } }",
            "helm.values.a uses an unknown variable; did you mean {{ sha }}?",
        ),
        (
            "helm: { chart: ./chart }\napp: { image: a, port: 1 }",
            "the recipe must have one of app, manifests and helm, not several.",
        ),
        (
            "helm: { chart: ./chart }\ndatabases: { db: { engine: postgres, version: 16 } }",
            "databases is only there beside app.",
        ),
    ] {
        let refused = render(&format!("version: 1\n{recipe}\n"), &[("templates/a.yaml", MAP)])
            .await
            .expect_err(recipe)
            .to_string();
        assert!(refused.contains(sentence), "{recipe}: {refused}");
    }
}

/// `previewd recipe`, as an author calls it.
async fn previewd(arguments: &[&str]) -> (i32, String, String) {
    let helm = tokio::task::spawn_blocking(helm).await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(xtask::previewd::binary().unwrap());
    command.arg("recipe").args(arguments).env_clear().env("PATH", helm.parent().unwrap()).current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn every_example_is_valid_on_a_laptop() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let (code, said, error) = previewd(&["check", path.to_str().unwrap()]).await;
        assert!(code == 0 && said.starts_with("It is valid, and makes "), "{}: {said}{error}", path.display());
        let (code, objects, _) =
            previewd(&["render", path.to_str().unwrap(), "--commit", COMMIT, "--output", "json"]).await;
        let objects: Vec<Value> = serde_json::from_str(&objects).unwrap();
        assert!(code == 0 && objects.iter().any(|object| object["kind"] == "Ingress"), "{}", path.display());
    }
}

#[tokio::test]
async fn mistakes_are_named_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".preview.yaml");
    std::fs::write(&path, "version: 1\napp:\n  image: x\n  prot: 3\n").unwrap();
    for path in [&path, folder.path()] as [&Path; 2] {
        let (code, said, error) = previewd(&["check", path.to_str().unwrap()]).await;
        assert_eq!((code, said.as_str()), (1, ""));
        assert_eq!(error, "error: .preview.yaml, line 4: app.prot is not a known key; did you mean app.port?\n");
    }
    let (code, said, _) = previewd(&["check", folder.path().to_str().unwrap(), "--output", "json"]).await;
    let verdict: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 1 && verdict["valid"] == false, "{verdict}");
    std::os::unix::fs::symlink("/etc", folder.path().join("chart")).unwrap();
    std::fs::create_dir(folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("real/values.yaml")).unwrap();
    std::fs::write(&path, "version: 1\nhelm: { chart: ./real }\n").unwrap();
    let (code, _, error) = previewd(&["check", folder.path().to_str().unwrap()]).await;
    assert!(code == 1 && error.contains("is a link; a chart must be files and folders"), "{error}");
    assert_eq!(previewd(&["check", "/nonexistent"]).await.0, 1);
    assert_eq!(previewd(&["check", ".", "--commit", "abc"]).await.0, 2);
}
