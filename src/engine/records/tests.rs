use super::*;

fn sha(digit: char) -> CommitSha {
    std::iter::repeat_n(digit, 40).collect::<String>().parse().expect("a commit")
}

/// One line a column that a record writes.
fn written(record: &Record) -> Vec<String> {
    let changes = |table: &str, text: String| {
        let fields = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        format!("{table}: {fields}")
    };
    let mut lines = Vec::new();
    if let Some(environment) = &record.environment {
        lines.push(changes("environment", format!("{environment:?}")));
    }
    if let Some((commit, deployment)) = &record.deployment {
        lines.push(changes(&format!("deployment {}", commit.short()), format!("{deployment:?}")));
    }
    if let Some(status) = record.end_others {
        lines.push(format!("others end as {status}"));
    }
    if let Some(event) = &record.event {
        lines.push(format!("event {} by {}: {}", event.kind, event.actor, event.detail.as_deref().unwrap_or_default()));
    }
    // What stays as it is says nothing.
    let unchanged = |field: &str| field.ends_with(": None");
    lines
        .into_iter()
        .map(|line| match line.split_once(" { ") {
            Some((table, fields)) => {
                let fields = fields.trim_end_matches(" }");
                let kept: Vec<&str> = fields.split(", ").filter(|field| !unchanged(field)).collect();
                format!("{table}: {}", kept.join(", "))
            }
            None => line,
        })
        .collect()
}

#[test]
fn what_each_step_leaves_in_the_rows() {
    let (head, before) = (sha('a'), sha('b'));
    let seen = Seen {
        head: &head,
        recipe: Some("app: {}"),
        round: 2,
        attempt: 1,
        still_serving: Some(before.clone()),
        readiness: None,
        holds_objects: true,
        rebuilt: false,
        outcome: Some((DeploymentStatus::Failed, Some(Reason::CrashLoop), Some("It crashes."))),
    };
    let cause = || Cause::Draft;
    let steps = [
        Step::Settle { until: None },
        Step::Await { until: 5, cause: None },
        Step::AskForPlace,
        Step::Apply { phase: 0, restart_pods: false },
        Step::RollBack { commit: before.clone() },
        Step::DeleteNamespace,
        Step::ShowWaiting { cause: cause() },
        Step::CreateDeployment { commit: head.clone() },
        Step::RenewDeployment,
        Step::LookForImages,
        Step::AwaitImage { cause: cause(), until: 5 },
        Step::BeginAttempt { attempt: 1, deadline: 180 },
        Step::BeginAttempt { attempt: 2, deadline: 180 },
        Step::ExtendAttempt { deadline: 200 },
        Step::EndAttempt { cause: cause(), retry_at: 300 },
        Step::Succeed,
        Step::Fail { cause: cause() },
        Step::ShowServing { commit: Some(before.clone()) },
        Step::ShowServing { commit: None },
        Step::Prune { volumes: true },
        Step::RemoveBlockingPods,
        Step::NoteDown { since: Some(90) },
        Step::BeginAnew { deadline: Some(280) },
        Step::BeginAnew { deadline: None },
        Step::Reapply { commit: before.clone() },
        Step::NoteChecked,
        Step::Wake { commit: before.clone() },
        Step::FallAsleep { commit: head.clone() },
        Step::ShowOutcome,
        Step::BeginDeletion { cause: None },
        Step::BeginDeletion { cause: Some(Cause::Expired) },
        Step::FinishDeletion { cause: Some(Cause::RemovedByHand) },
    ];
    let said: Vec<String> = steps
        .iter()
        .map(|step| format!("{step:?}\n    {}", written(&record_of(step, &seen, 100)).join("\n    ")))
        .collect();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn what_a_record_says_depends_on_what_was_seen() {
    let head = sha('a');
    let seen = Seen {
        head: &head,
        recipe: None,
        round: 0,
        attempt: 0,
        still_serving: None,
        readiness: None,
        holds_objects: false,
        rebuilt: false,
        outcome: None,
    };
    let waiting = written(&record_of(&Step::ShowWaiting { cause: Cause::Draft }, &seen, 100));
    assert!(waiting[0].contains("admitted_at: Some(None)"), "{waiting:?}");
    // Without a row there is no outcome to show.
    assert!(written(&record_of(&Step::ShowOutcome, &seen, 100)).is_empty());
    // What is refused in the round that another image begins would otherwise begin one after the other.
    let renewed = |seen: &Seen<'_>| written(&record_of(&Step::RenewDeployment, seen, 100)).remove(0);
    assert!(!renewed(&seen).contains("checked_at"), "{}", renewed(&seen));
    let rebuilt = Seen { rebuilt: true, ..seen };
    assert!(renewed(&rebuilt).contains("checked_at: Some(100)"), "{}", renewed(&rebuilt));
}
