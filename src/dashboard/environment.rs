//! One environment: everything that is known of it, and its logs.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use jiff::Timestamp;

use super::{
    Dashboard,
    access::Visitor,
    chart,
    frame::{Frame, failed, filters, page},
    logs::{self, Wanted},
};
use crate::{
    cluster::PodState,
    environment::Reason,
    identity::Identity,
    service::{
        DeploymentSummary, Dossier, EnvironmentDetail, EventSummary, Possible, ReadinessSummary, ServiceError,
        Standing, merged,
    },
    store::{ObjectKey, UsageBucket},
    text::{age, mebibytes},
};

const A_DAY: i64 = 24 * 3_600_000;

#[derive(Template)]
#[template(path = "environment.html")]
struct EnvironmentPage {
    frame: Frame,
    csrf: String,
    detail: EnvironmentDetail,
    standing: Standing,
    proof: Option<ReadinessSummary>,
    events: Vec<EventSummary>,
    /// Each with how long it took.
    deployments: Vec<(DeploymentSummary, String)>,
    objects: Vec<ObjectKey>,
    pods: Vec<PodState>,
    no_pods: &'static str,
    containers: Vec<String>,
    cpu_chart: Option<String>,
    memory_chart: Option<String>,
    can: Possible,
    is_asleep: bool,
    logs: Logs,
}

/// The viewer, with what its form says.
struct Logs {
    container: Option<String>,
    tail: String,
    contains: Option<String>,
    timestamps: bool,
    /// What there is to say besides the lines.
    notes: Vec<String>,
    lines: Vec<Line>,
}

struct Line {
    at: Option<String>,
    source: String,
    text: String,
}

pub(super) async fn show(
    State(dashboard): State<Arc<Dashboard>>,
    Visitor(who): Visitor,
    Path(environment): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let frame = Frame::of(&who, "environments");
    let found = match environment.parse() {
        Ok(reference) => dashboard.service.dossier(&who.identity, &reference).await,
        Err(invalid) => Err(ServiceError::from(invalid)),
    };
    let Dossier { detail, standing, events, deployments, objects, pods, usage, can } = match found {
        Ok(found) => found,
        Err(error) => return failed(frame, error),
    };
    let logs = dashboard.logs(&who.identity, &detail.id, wanted).await;
    let no_pods = if pods.is_some() { "There are none." } else { "The cluster does not tell now." };
    let pods = pods.unwrap_or_default();
    let containers: BTreeSet<String> = pods.iter().flat_map(|pod| pod.containers.clone()).collect();
    let (cpu_chart, memory_chart) = charts(&detail, &usage);
    let template = EnvironmentPage {
        csrf: who.csrf.clone(),
        proof: deployments.first().and_then(|newest| newest.readiness.clone()),
        deployments: deployments
            .into_iter()
            .map(|deployment| {
                let took = took(&deployment);
                (deployment, took)
            })
            .collect(),
        is_asleep: detail.summary.reason == Some(Reason::Asleep),
        containers: containers.into_iter().collect(),
        frame,
        detail,
        standing,
        events,
        objects,
        pods,
        no_pods,
        cpu_chart,
        memory_chart,
        can,
        logs,
    };
    page(StatusCode::OK, &template, "")
}

/// From the first attempt's beginning to its end.
fn took(deployment: &DeploymentSummary) -> String {
    let at = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    match (at(&deployment.started_at), at(&deployment.finished_at)) {
        (Some(began), Some(ended)) => age(ended.as_second() - began.as_second()),
        (Some(_), None) | (None, _) => String::new(),
    }
}

fn charts(detail: &EnvironmentDetail, usage: &[UsageBucket]) -> (Option<String>, Option<String>) {
    let now = Timestamp::now().as_millisecond();
    let points = |of: fn(&UsageBucket) -> i64| -> Vec<(f64, f64)> {
        let at = |bucket: &UsageBucket| 1.0 - (now - bucket.bucket) as f64 / A_DAY as f64;
        usage.iter().map(|bucket| (at(bucket), of(bucket) as f64 / bucket.samples.max(1) as f64)).collect()
    };
    let (cpu, memory) = (points(|bucket| bucket.cpu_millicores), points(|bucket| bucket.memory_bytes));
    let peak = |of: fn(&UsageBucket) -> i64| usage.iter().map(of).max().unwrap_or_default();
    let quota = &detail.usage;
    let cpu_says = format!(
        "CPU over the last 24 hours: at most {} of {} thousandths of a core",
        peak(|bucket| bucket.cpu_peak),
        quota.cpu_quota_millicores
    );
    let memory_says = format!(
        "Memory over the last 24 hours: at most {} of {}",
        mebibytes(peak(|bucket| bucket.memory_peak).unsigned_abs()),
        mebibytes(quota.memory_quota_bytes)
    );
    (
        chart::line(&cpu, quota.cpu_quota_millicores as f64, &cpu_says),
        chart::line(&memory, quota.memory_quota_bytes as f64, &memory_says),
    )
}

impl Dashboard {
    /// The end of the log, as the form wants it.
    async fn logs(&self, identity: &Identity, id: &str, wanted: Wanted) -> Logs {
        let tail = wanted.tail.unwrap_or(100).to_string();
        let shown = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let timestamps = wanted.timestamps == Some(true);
        let mut viewer = Logs {
            container: shown(&wanted.container),
            contains: shown(&wanted.contains),
            tail,
            timestamps,
            notes: Vec::new(),
            lines: Vec::new(),
        };
        if wanted.refresh {
            return viewer;
        }
        let read = match logs::request(id.to_owned(), wanted) {
            Ok(request) => self.service.logs(identity, request).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(read) => {
                viewer.lines = merged(&read)
                    .into_iter()
                    .map(|(log, line)| {
                        let (at, text) = line.split_once(' ').unwrap_or((line, ""));
                        let pod = log.pod.rsplit('-').next().unwrap_or_default();
                        Line {
                            at: timestamps.then(|| at.to_owned()),
                            source: format!("{}/{pod}", log.container),
                            text: text.to_owned(),
                        }
                    })
                    .collect();
                if let Some(commit) = &read.kept_of {
                    let commit: String = commit.chars().take(7).collect();
                    viewer.notes.push(format!("Kept of commit {commit}, which failed."));
                } else if viewer.lines.is_empty() {
                    viewer.notes.push("No container has printed anything.".to_owned());
                }
                if read.lines_left_out > 0 {
                    viewer.notes.push(format!("{} older lines are left out.", read.lines_left_out));
                }
            }
            Err(error) => viewer.notes.push(format!("{}. {}", error.message, error.next_action)),
        }
        viewer
    }
}
