//! A chart, from the webhook to the objects in the cluster, beside Helm's own way there.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::process::Command;
use xtask::cluster::helm;

use super::{
    applied::Watched,
    figure::{Figure, median, quantile},
    ground::Ground,
};

/// Each of the three ways, one after the other.
const ROUNDS: usize = 12;

const RECIPE: &str = "version: 1
helm:
  chart: ./chart
  values: { commit: '{{ sha }}' }
expose: { service: web, port: 80 }
";
const CHART: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n"),
    ("values.yaml", "commit: none\n"),
    (
        "templates/web.yaml",
        "apiVersion: v1
kind: ConfigMap
metadata: { name: web }
data: { commit: {{ .Values.commit | quote }} }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
        - name: web
          image: registry.localhost/shop:any
          envFrom: [{ configMapRef: { name: web } }]
",
    ),
];

pub async fn measure(ground: &mut Ground) -> Result<Vec<Figure>> {
    let helm = tokio::task::spawn_blocking(helm).await??;
    let chart = ground.path("chart");
    for (path, text) in CHART {
        let file = chart.join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(&chart))?;
        std::fs::write(file, text)?;
    }
    let kubeconfig = ground.cluster().await?.to_owned();
    let path = json!(helm.display().to_string());
    let mut watched = Watched::start(ground, "charts.db", format!("[helm]\npath = {path}\n")).await?;
    let mut files = vec![(".preview.yaml", RECIPE.to_owned())];
    let names: Vec<String> = CHART.iter().map(|(path, _)| format!("chart/{path}")).collect();
    files.extend(names.iter().zip(CHART).map(|(name, (_, text))| (name.as_str(), text.to_owned())));

    // The first of each pays for connections, and for the API server's own first time.
    watched.open(0, &files).await?;
    install(&helm, &kubeconfig, &chart, 0).await?;
    let (mut cold, mut cached, mut own, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let run = watched.open(round, &files).await?;
        let helms = install(&helm, &kubeconfig, &chart, round).await?;
        cached.push(watched.reopen(run.number).await?.applied);
        ratios.push(run.applied / helms);
        cold.push(run.applied);
        own.push(helms);
    }
    watched.stand.stop().await?;
    let note = |samples: &[f64], what: &str| {
        format!("p90 {:.0}; {what}; {ROUNDS} rounds, interleaved", quantile(samples, 0.9))
    };
    Ok(vec![
        Figure::new("chart: webhook to applied, cold", median(&cold), "ms")
            .samples(&cold)
            .note(note(&cold, "the chart's files read from GitHub, and rendered")),
        Figure::new("chart: webhook to applied, cached render", median(&cached), "ms")
            .samples(&cached)
            .note(note(&cached, "reopened at the same commit")),
        Figure::new("chart: helm upgrade --install", median(&own), "ms")
            .samples(&own)
            .note(note(&own, "the same chart from a folder, into a namespace that it makes")),
        // Half of Helm's time is the goal.
        Figure::new("chart: cold, in parts of helm's time", median(&ratios), "")
            .samples(&ratios)
            .at_most(0.5)
            .note("the median of the rounds' ratios; previewd also makes quota, walls and route"),
    ])
}

/// Milliseconds that Helm takes for a namespace of its own.
async fn install(helm: &Path, kubeconfig: &Path, chart: &PathBuf, round: usize) -> Result<f64> {
    let mut command = Command::new(helm);
    command.args(["upgrade", "--install", "preview"]).arg(chart);
    command.args(["--namespace", &format!("helm-{round}"), "--create-namespace", "--set", "commit=abc"]);
    command.arg("--kubeconfig").arg(kubeconfig).kill_on_drop(true);
    let began = Instant::now();
    let output = command.output().await?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(took)
}
