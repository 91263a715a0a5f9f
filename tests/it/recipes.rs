//! What authors see of their recipes before they push them, with the real helm.

use std::{path::Path, process::Command};

use previewd::{
    helm::Helm,
    recipe::{Files, Mistakes, Policy, Render},
    service::{RecipeRenderer, RenderTarget},
};
use serde_json::Value;
use xtask::cluster::helm;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

async fn renderer(repositories: &[&str]) -> RecipeRenderer {
    let path = tokio::task::spawn_blocking(helm).await.unwrap().unwrap();
    let helm = Helm::new(path, repositories.iter().map(|repository| (*repository).to_owned()).collect());
    RecipeRenderer { policy: Policy::default(), base_domain: "preview.example.com".parse().unwrap(), helm }
}

pub fn target() -> RenderTarget {
    RenderTarget {
        repository: "acme/shop".parse().unwrap(),
        pull_request: 7,
        branch: "feature/cart".to_owned(),
        commit: COMMIT.parse().unwrap(),
    }
}

const RECIPE: &str = "version: 1\nhelm: { chart: ./chart, values: { commit: '{{ sha }}', host: '{{ host }}' } }\nexpose: { service: web, port: 80 }\n";
const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: web }\ndata: { commit: {{ .Values.commit | quote }}, host: {{ .Values.host }} }\n";

/// What the URL leads to, beside what a test is about.
pub const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec: { selector: { app: web }, ports: [{ port: 80 }] }\n---\n\
                   apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { selector: { matchLabels: { app: web } }, \
                   template: { metadata: { labels: { app: web } }, spec: { containers: [{ name: web, image: shop, ports: [{ containerPort: 80 }] }] } } }\n";

/// What becomes of a chart with these files.
async fn render(recipe: &str, files: &[(&str, &str)]) -> Result<Render, Mistakes> {
    let mut all =
        Files::from([("chart/Chart.yaml".to_owned(), b"apiVersion: v2\nname: web\nversion: 1.0.0\n".to_vec())]);
    all.insert("chart/templates/led-to.yaml".to_owned(), WEB.as_bytes().to_vec());
    all.extend(files.iter().map(|(path, text)| (format!("chart/{path}"), text.as_bytes().to_vec())));
    renderer(&[]).await.render(recipe, &all, &target()).await
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

/// What helm takes is taken: keys that are there twice, braces of helm's in values, `crds/` of any chart, and charts of
/// the repository that one needs.
#[tokio::test]
async fn a_chart_is_read_as_helm_reads_it() {
    let recipe = "version: 1\nhelm: { chart: ./charts/web, values_files: [values.yaml], values: { commit: '{{ sha }}', named: '{{ .Release.Name }}-{{ short_sha }}' } }\nexpose: { service: web, port: 80 }\n";
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: web, labels: { app: a, app: b } }\ndata:\n  \
                    cache: {{ tpl .Values.cache . }}\n  named: {{ tpl .Values.named . }}\n  twice: {{ .Values.twice }}\n  \
                    common: {{ include \"common.name\" . }}\n";
    let needs = "apiVersion: v2\nname: web\nname: web\nversion: 1.0.0\ndependencies: [{ name: common, version: 0.1.0, repository: 'file://../common' }]\n";
    let crd =
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: { name: tables.example.com }\n";
    let files = [
        ("values.yaml", "cache: '{{ .Release.Name }}-redis'\ntwice: 1\ntwice: two\n"),
        ("charts/web/Chart.yaml", needs),
        ("charts/web/templates/map.yaml", template),
        ("charts/web/templates/led-to.yaml", WEB),
        ("charts/web/crds/own.yaml", crd),
        ("charts/web/charts/queue/Chart.yaml", "apiVersion: v2\nname: queue\nversion: 0.1.0\n"),
        ("charts/web/charts/queue/crds/queue.yaml", crd),
        ("charts/common/Chart.yaml", "apiVersion: v2\nname: common\nversion: 0.1.0\ntype: library\n"),
        ("charts/common/templates/_name.tpl", "{{ define \"common.name\" }}of the same commit{{ end }}"),
    ];
    let files: Files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    let render = renderer(&[]).await.render(recipe, &files, &target()).await.unwrap();
    let kinds: Vec<&str> = render.objects.iter().map(|object| object.kind.as_str()).collect();
    assert_eq!(kinds, ["ConfigMap", "Service", "Deployment", "Ingress"]);
    assert!(render.notes.iter().any(|note| note.starts_with("The chart's crds/ is left out")), "{:?}", render.notes);
    let body = &render.objects[0].body;
    assert_eq!(body["metadata"]["labels"]["app"], "b", "the last one counts");
    let data = &body["data"];
    assert_eq!((&data["cache"], &data["twice"]), (&"preview-redis".into(), &"two".into()));
    assert_eq!((&data["named"], &data["common"]), (&"preview-0123456".into(), &"of the same commit".into()));

    let nearly = recipe.replace("{{ sha }}", "{{ shaa }}");
    let refused = renderer(&[]).await.render(&nearly, &files, &target()).await.unwrap_err().to_string();
    assert!(refused.contains("uses an unknown variable; did you mean {{ sha }}?"), "{refused}");
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
    std::fs::write(&path, "version: 1\nttl: soon\napp:\n  image: X!\n  prot: 3\n").unwrap();
    let (_, _, error) = previewd(&["check", folder.path().to_str().unwrap()]).await;
    assert_eq!(error.lines().count(), 3, "{error}");
    std::fs::write(&path, "version: 1\napp: { image: 'shop:latest', port: 80 }\n").unwrap();
    let (code, said, _) = previewd(&["check", folder.path().to_str().unwrap()]).await;
    assert!(code == 0 && said.contains("\nNote: app.image does not name the commit: "), "{said}");
    std::fs::write(&path, "version: 1\napp: 1\n").unwrap();
    let (code, said, _) = previewd(&["check", folder.path().to_str().unwrap(), "--output", "json"]).await;
    let verdict: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 1 && verdict["valid"] == false, "{verdict}");
    std::os::unix::fs::symlink("/etc", folder.path().join("chart")).unwrap();
    std::fs::create_dir(folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("real/values.yaml")).unwrap();
    std::fs::write(&path, "version: 1\nhelm: { chart: ./real }\nexpose: { service: web, port: 80 }\n").unwrap();
    let (code, _, error) = previewd(&["check", folder.path().to_str().unwrap()]).await;
    assert!(
        code == 1 && error.contains("has a link in it, real/values.yaml; a chart must be files and folders"),
        "{error}"
    );
    std::fs::remove_file(folder.path().join("real/values.yaml")).unwrap();
    let needs = "{ apiVersion: v2, name: web, version: 1.0.0, dependencies: [{ name: base, version: 1.0.0, repository: 'file://../base' }] }";
    std::fs::write(folder.path().join("real/Chart.yaml"), needs).unwrap();
    let (code, _, error) = previewd(&["check", folder.path().to_str().unwrap()]).await;
    assert!(code == 1 && error.contains("names a folder that cannot be read, base: "), "{error}");
    std::fs::create_dir_all(folder.path().join("base/templates")).unwrap();
    std::fs::write(folder.path().join("base/Chart.yaml"), "{ apiVersion: v2, name: base, version: 1.0.0 }").unwrap();
    std::fs::write(folder.path().join("base/templates/web.yaml"), WEB).unwrap();
    let (code, said, error) = previewd(&["check", folder.path().to_str().unwrap()]).await;
    assert!(code == 0 && said.contains("Service/web"), "{said}{error}");
    // What cannot be read is one of the mistakes.
    std::fs::write(&path, "version: 1\nttl: soon\nmanifests: [k8s/*.yaml]\nexpose: { service: web, port: 80 }\n")
        .unwrap();
    let (code, said, _) = previewd(&["check", folder.path().to_str().unwrap(), "--output", "json"]).await;
    let verdict: Value = serde_json::from_str(&said).unwrap();
    let message = verdict["message"].as_str().unwrap();
    assert!(code == 1 && message.lines().count() == 2, "{message}");
    assert!(message.contains("line 2: ttl ") && message.contains("line 3: manifests names a folder that"), "{message}");
    assert_eq!(previewd(&["check", "/nonexistent"]).await.0, 1);
    assert_eq!(previewd(&["check", ".", "--commit", "abc"]).await.0, 2);
}
