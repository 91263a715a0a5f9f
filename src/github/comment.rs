//! The text of previewd's one comment on a pull request. Pure.
//!
//! The text is written to GitHub only when it changes, and changes twice a push where nothing is in the way. So it is the
//! same for everything between a push and its end: whichever attempt is under way, and at whatever time.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::environment::{
    CommandKey, CommitSha, DeploymentStatus, EnvironmentStatus, Millis, OWN_COMMENTS, PublicUrl, Reason,
};

/// What the comment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentFacts {
    /// previewd's own id, of the database.
    pub installation_id: String,
    pub environment_id: String,
    pub status: EnvironmentStatus,
    pub reason: Option<Reason>,
    /// When it goes, where people are to be warned of that.
    pub expires_at: Option<Millis>,
    /// The sentence of the cause behind the status. Left out of the text while an attempt is under way.
    pub cause_message: Option<String>,
    /// What is in the way of an attempt that is under way, in a sentence without figures that go on counting.
    pub told: Option<String>,
    /// What somebody can do, as Markdown of previewd's own.
    pub next_step: Option<String>,
    /// The end of the log of what failed.
    pub log: Option<CommentLog>,
    /// The environment's page on the dashboard.
    pub page: Option<String>,
    pub url: Option<PublicUrl>,
    /// The commit that the status is about.
    pub commit: CommitSha,
    /// The commit that answers at the URL.
    pub serving_commit: Option<CommitSha>,
    /// `commit` is the last one that ran: where it failed since, what is put back is its own.
    pub ran_before: bool,
    /// The attempt that was made last, from 1.
    pub attempt: i64,
    /// How many attempts a round has.
    pub attempts: i64,
    /// The names of volumes that go, with what is in them, once the commit runs.
    pub volumes_to_go: Vec<String>,
    /// The names of those that went when it had come to run.
    pub volumes_gone: Option<String>,
    /// What the label that the recipe asks for is called by now, where it was renamed: the old name and the new one.
    pub renamed_label: Option<(String, String)>,
    /// Newest first. The first five are shown.
    pub deployments: Vec<CommentDeployment>,
}

/// What a container printed last, with its secrets hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentLog {
    pub container: String,
    /// Oldest first.
    pub lines: Vec<String>,
}

/// One line of the comment's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentDeployment {
    pub commit: CommitSha,
    pub status: DeploymentStatus,
    /// The sentence of the cause of a failure.
    pub message: Option<String>,
    /// When it ended; while it has not, when the commit was first known, because that time does not change.
    pub at: Millis,
}

/// Hidden, at the very beginning of the comment: whose it is, and of what.
pub fn marker(installation_id: &str, environment_id: &str) -> String {
    format!("{OWN_COMMENTS}{installation_id}:{environment_id} -->")
}

/// The same for what previewd says to a command.
pub fn reply_marker(installation_id: &str, first: CommandKey) -> String {
    let CommandKey { kind, comment_id, place } = first;
    format!("{OWN_COMMENTS}{installation_id}:command:{kind}:{comment_id}:{place} -->")
}

/// What previewd says to the commands of a comment: to each verb its sentence.
pub fn reply<'a>(marker: &str, answers: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let lines = answers.map(|(verb, sentence)| {
        let command = format!("/preview {verb}");
        format!("`{}`: {}\n", command.trim_end(), escaped(sentence))
    });
    format!("{marker}\n{}", lines.collect::<String>())
}

/// The longest history in the comment.
const SHOWN_DEPLOYMENTS: usize = 5;

/// The comment's whole text, as GitHub's Markdown.
pub fn comment(facts: &CommentFacts) -> String {
    let CommentFacts { installation_id, environment_id, deployments, .. } = facts;
    let (headline, sentence) = headline_and_sentence(facts);
    let mut text = format!("{}\n### {headline}\n\n{sentence}\n", marker(installation_id, environment_id));
    if facts.reason == Some(Reason::AwaitingApproval) {
        let _ =
            writeln!(text, "\nAn admin lets it run with this comment:\n\n```\n/preview approve {}\n```", facts.commit);
    }
    if let Some(at) = facts.expires_at {
        let _ = writeln!(text, "\nIt goes at {} UTC unless somebody uses it; `/preview keep 48h` keeps it.", time(at));
    }
    if !facts.volumes_to_go.is_empty() {
        let names = escaped(&facts.volumes_to_go.join(", "));
        let _ = writeln!(
            text,
            "\nOnce it runs, volumes that its recipe has no longer are deleted with their data: {names}"
        );
    }
    if let Some(names) = &facts.volumes_gone {
        let names = escaped(names);
        let _ = writeln!(text, "\nVolumes that its recipe has no longer were deleted with their data: {names}");
    }
    if let Some((from, to)) = &facts.renamed_label {
        let (from, to) = (escaped(from), escaped(to));
        let _ = writeln!(
            text,
            "\nThe label “{from}” is called “{to}” by now. This preview stays; for others `.preview.yaml` must name it so."
        );
    }
    // Writing to a String cannot fail.
    if let Some(next_step) = &facts.next_step {
        let _ = writeln!(text, "\n{next_step}");
    }
    if let Some(log) = &facts.log {
        write_log(&mut text, log);
    }

    if !deployments.is_empty() {
        text.push_str("\n| Commit | Result | Time (UTC) |\n| --- | --- | --- |\n");
    }
    for CommentDeployment { commit, status, message, at } in deployments.iter().take(SHOWN_DEPLOYMENTS) {
        let result = result(*status);
        // What the sentence above says is not said again.
        let message = message.as_ref().filter(|_| *status == DeploymentStatus::Failed);
        let message = message.filter(|_| !(facts.status == EnvironmentStatus::Failed && *commit == facts.commit));
        let message = message.map(|message| format!(": {}", escaped(message))).unwrap_or_default();
        let _ = writeln!(text, "| `{}` | {result}{message} | {} |", commit.short(), time(*at));
    }
    if let Some(page) = &facts.page {
        let _ = writeln!(text, "\n[Details, logs and events]({page})");
    }
    text
}

fn headline_and_sentence(facts: &CommentFacts) -> (&'static str, String) {
    let CommentFacts {
        status, cause_message, told, url, commit, serving_commit, ran_before, attempt, attempts, ..
    } = facts;
    let commit_code = format!("`{}`", commit.short());
    let cause = cause_message.as_deref().map(escaped);
    let serving = match (serving_commit, url) {
        (Some(serving), Some(url)) if serving != commit => {
            format!("\n\nCommit `{}` still answers at <{}>", serving.short(), url.as_str())
        }
        // With the image of before, where its tag means another one by now.
        (Some(_), Some(url)) if *ran_before && *status == EnvironmentStatus::Failed => {
            format!("\n\nWhat ran of it before still answers at <{}>", url.as_str())
        }
        _ => String::new(),
    };
    match status {
        EnvironmentStatus::Pending if cause.is_some() => {
            ("⏸️ Preview is waiting", format!("Commit {commit_code}: {}{serving}", cause.unwrap_or_default()))
        }
        EnvironmentStatus::Pending | EnvironmentStatus::Deploying => match told.as_deref().map(escaped) {
            Some(told) => (DEPLOYING, format!("Commit {commit_code}: {told}{serving}")),
            None => deploying(&commit_code),
        },
        EnvironmentStatus::Running if facts.reason == Some(Reason::Asleep) => {
            ("💤 Preview sleeps", format!("Commit {commit_code}: {}", cause.unwrap_or_default()))
        }
        EnvironmentStatus::Running => {
            let place = url.as_ref().map(|url| format!(" at <{}>", url.as_str())).unwrap_or_default();
            ("✅ Preview is running", format!("Commit {commit_code} answers{place}"))
        }
        EnvironmentStatus::Failed => {
            let cause = cause.unwrap_or_else(|| "It could not be deployed.".to_owned());
            let tries = if *attempt > 1 { format!(" (attempt {attempt} of {attempts})") } else { String::new() };
            ("❌ Preview failed", format!("Commit {commit_code}{tries}: {cause}{serving}"))
        }
        EnvironmentStatus::Deleting => {
            ("🧹 Preview is being removed", cause.unwrap_or_else(|| PULL_REQUEST_CLOSED.to_owned()))
        }
        EnvironmentStatus::Deleted => {
            ("🧹 Preview was removed", cause.unwrap_or_else(|| PULL_REQUEST_CLOSED.to_owned()))
        }
    }
}

/// The only cause of a removal that has no sentence of its own.
const PULL_REQUEST_CLOSED: &str = "The pull request is closed.";

const DEPLOYING: &str = "⏳ Preview is being deployed";

/// The same for everything that is under way and has nothing in its way. It says nothing of attempts, nor of the commit
/// that serves meanwhile: both change before the deployment ends.
fn deploying(commit_code: &str) -> (&'static str, String) {
    (DEPLOYING, format!("Commit {commit_code} is on its way."))
}

/// The longest line of a log that is shown.
const LONGEST_LINE: usize = 200;

/// In a fence that no line can end, folded.
fn write_log(text: &mut String, CommentLog { container, lines }: &CommentLog) {
    let longest_run = |line: &String| line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(lines.iter().map(longest_run).max().unwrap_or(0).max(2) + 1);
    let _ = write!(text, "\n<details><summary>The end of the log of {}</summary>\n\n{fence}text\n", escaped(container));
    for line in lines {
        let turns = |c: &char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let line: String = line.chars().filter(|c| !c.is_control() && !turns(c)).take(LONGEST_LINE).collect();
        let _ = writeln!(text, "{line}");
    }
    let _ = write!(text, "{fence}\n\n</details>\n");
}

fn result(status: DeploymentStatus) -> &'static str {
    match status {
        // One word for both: a deployment begins between the comment's two writes.
        DeploymentStatus::Pending | DeploymentStatus::Deploying => "deploying",
        DeploymentStatus::Succeeded => "succeeded",
        DeploymentStatus::Failed => "failed",
        DeploymentStatus::Superseded => "superseded by a newer commit",
        DeploymentStatus::Cancelled => "cancelled",
    }
}

/// `2026-11-23 18:05:09`.
fn time(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The longest sentence; a recipe's names can be long.
const LONGEST_SENTENCE: usize = 500;

/// A sentence as plain text: on one line, with nothing that Markdown or GitHub would turn into something else. Names of
/// the recipe are in it, so that mentions, references and links must stay text too: a character that is not seen
/// (U+200B) keeps them apart, because a backslash does not.
fn escaped(sentence: &str) -> String {
    let mut text = String::with_capacity(sentence.len());
    for character in sentence.chars().take(LONGEST_SENTENCE) {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' => text.extend(['\\', character]),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '$' => text.push_str("&#36;"),
            '@' | '#' => text.extend([character, '\u{200b}']),
            _ if character.is_control() => text.push(' '),
            _ => text.push(character),
        }
    }
    if sentence.chars().count() > LONGEST_SENTENCE {
        text.push('…');
    }
    text.replace("://", ":\u{200b}//")
}

/// Hex SHA-256: equal for texts that need no write.
pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{Audience, BaseDomain, Namespace, remedy};

    const HOUR: Millis = 3_600_000;
    /// 2026-11-23, 18:05:09 UTC.
    const EVENING: Millis = 1_795_457_109_000;

    fn commit(digit: char) -> CommitSha {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn deployment(digit: char, status: DeploymentStatus, hours_ago: i64) -> CommentDeployment {
        let message = (status == DeploymentStatus::Failed)
            .then(|| "Container web keeps crashing (3 restarts, last exit code 1).".to_owned());
        CommentDeployment { commit: commit(digit), status, message, at: EVENING - hours_ago * HOUR }
    }

    fn facts(status: EnvironmentStatus) -> CommentFacts {
        let namespace: Namespace = "pr-7-shop-abcdefghij".parse().unwrap();
        let base_domain: BaseDomain = "preview.example.com".parse().unwrap();
        let newest = match status {
            EnvironmentStatus::Pending => DeploymentStatus::Pending,
            EnvironmentStatus::Deploying => DeploymentStatus::Deploying,
            EnvironmentStatus::Running => DeploymentStatus::Succeeded,
            EnvironmentStatus::Failed => DeploymentStatus::Failed,
            EnvironmentStatus::Deleting | EnvironmentStatus::Deleted => DeploymentStatus::Cancelled,
        };
        CommentFacts {
            installation_id: "0f3c".to_owned(),
            environment_id: "42".to_owned(),
            status,
            reason: None,
            expires_at: None,
            cause_message: None,
            told: None,
            next_step: None,
            log: None,
            page: None,
            url: Some(PublicUrl::of(&namespace, &base_domain)),
            commit: commit('c'),
            serving_commit: Some(commit('b')),
            ran_before: false,
            attempt: 1,
            attempts: 3,
            volumes_to_go: Vec::new(),
            volumes_gone: None,
            renamed_label: None,
            deployments: vec![
                deployment('c', newest, 0),
                deployment('b', DeploymentStatus::Succeeded, 1),
                deployment('a', DeploymentStatus::Failed, 24),
            ],
        }
    }

    #[test]
    fn the_comment_for_each_status() {
        for status in EnvironmentStatus::ALL {
            insta::assert_snapshot!(format!("comment_{status}"), comment(&facts(*status)));
        }
    }

    #[test]
    fn the_first_comment() {
        let first = CommentFacts {
            url: None,
            serving_commit: None,
            deployments: vec![deployment('c', DeploymentStatus::Deploying, 0)],
            ..facts(EnvironmentStatus::Deploying)
        };
        insta::assert_snapshot!("comment_first", comment(&first));
    }

    #[test]
    fn what_goes_with_its_data_is_named_before_and_after() {
        let names = || vec!["data".to_owned(), "log-db-0".to_owned()];
        let before = comment(&CommentFacts { volumes_to_go: names(), ..facts(EnvironmentStatus::Deploying) });
        let sentence =
            "Once it runs, volumes that its recipe has no longer are deleted with their data: data, log-db-0";
        assert!(before.contains(sentence), "{before}");
        let gone = Some("data, log-db-0".to_owned());
        let after = comment(&CommentFacts { volumes_gone: gone, ..facts(EnvironmentStatus::Running) });
        let sentence = "Volumes that its recipe has no longer were deleted with their data: data, log-db-0";
        assert!(after.contains(sentence), "{after}");
    }

    #[test]
    fn a_failure_after_every_attempt_while_an_older_commit_serves() {
        let failed = CommentFacts {
            cause_message: Some("Container web ran out of memory at its limit of 256Mi.".to_owned()),
            attempt: 3,
            ..facts(EnvironmentStatus::Failed)
        };
        insta::assert_snapshot!("comment_failed_finally", comment(&failed));
    }

    #[test]
    fn a_fork_waits_and_a_removal_has_its_cause() {
        let cause = |cause: crate::environment::Cause| Some(cause.to_string());
        let waiting = CommentFacts {
            reason: Some(Reason::AwaitingApproval),
            cause_message: cause(crate::environment::Cause::AwaitingApproval),
            deployments: Vec::new(),
            serving_commit: None,
            url: None,
            ..facts(EnvironmentStatus::Pending)
        };
        insta::assert_snapshot!("comment_waiting", comment(&waiting));
        let removed = CommentFacts {
            cause_message: cause(crate::environment::Cause::RemovedByHand),
            ..facts(EnvironmentStatus::Deleted)
        };
        insta::assert_snapshot!("comment_removed_by_hand", comment(&removed));
        let asleep = CommentFacts {
            reason: Some(Reason::Asleep),
            cause_message: cause(crate::environment::Cause::Asleep),
            expires_at: Some(EVENING),
            ..facts(EnvironmentStatus::Running)
        };
        insta::assert_snapshot!("comment_asleep", comment(&asleep));
        let key = CommandKey { kind: crate::environment::CommentKind::Review, comment_id: 9, place: 0 };
        let denied = ("delete", "This needs the role admin; yours here is @member.");
        let replied = reply(&reply_marker("0f3c", key), [("retry", "Accepted."), denied].into_iter());
        insta::assert_snapshot!("reply", replied);
    }

    #[test]
    fn nothing_between_a_push_and_its_end_changes_the_text() {
        let deploying = comment(&facts(EnvironmentStatus::Deploying));
        let stumbled = CommentFacts {
            cause_message: Some("Container web keeps crashing (4 restarts).".to_owned()),
            attempt: 2,
            serving_commit: None,
            ..facts(EnvironmentStatus::Deploying)
        };
        assert_eq!(comment(&stumbled), deploying);
        assert_eq!(comment(&facts(EnvironmentStatus::Pending)), deploying);
        assert_eq!(digest(&comment(&stumbled)), digest(&deploying));
        assert_ne!(digest(&comment(&facts(EnvironmentStatus::Running))), digest(&deploying));
    }

    #[test]
    fn what_is_in_the_way_is_told_with_what_still_answers() {
        let told = CommentFacts {
            told: Some("The image ghcr.io/acme/shop:1 of container app cannot be pulled: its registry does not have it (not found).".to_owned()),
            next_step: Some(remedy(EnvironmentStatus::Deploying, Some(Reason::ImagePullFailed), Audience::PullRequest)),
            page: Some("https://previewd.example.com/environments/42".to_owned()),
            ..facts(EnvironmentStatus::Deploying)
        };
        insta::assert_snapshot!("comment_told", comment(&told));
    }

    #[test]
    fn what_ran_of_the_same_commit_still_answers() {
        let serving_commit = Some(commit('c'));
        let failed = CommentFacts { serving_commit, ran_before: true, ..facts(EnvironmentStatus::Failed) };
        let says_so = |facts: &CommentFacts| comment(facts).contains("What ran of it before still answers at <");
        assert!(says_so(&failed), "{}", comment(&failed));
        assert!(!says_so(&CommentFacts { ran_before: false, ..failed.clone() }), "a part of it may be ready");
        assert!(!says_so(&CommentFacts { status: EnvironmentStatus::Running, ..failed }));
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let lines = ["starting", "panic: ``` @team </details> <!-- x -->", "\u{202e}gpj.exe", "last"];
        let failed = CommentFacts {
            cause_message: Some("Container web keeps crashing (3 restarts, last exit code 1).".to_owned()),
            attempt: 3,
            next_step: Some(remedy(EnvironmentStatus::Failed, Some(Reason::CrashLoop), Audience::PullRequest)),
            log: Some(CommentLog { container: "web".to_owned(), lines: lines.map(str::to_owned).to_vec() }),
            page: Some("https://previewd.example.com/environments/42".to_owned()),
            ..facts(EnvironmentStatus::Failed)
        };
        insta::assert_snapshot!("comment_failed_with_log", comment(&failed));
    }

    #[test]
    fn five_deployments_are_shown() {
        let mut many = facts(EnvironmentStatus::Running);
        many.deployments = ('a'..='f').map(|digit| deployment(digit, DeploymentStatus::Succeeded, 1)).collect();
        let text = comment(&many);
        assert_eq!(text.matches("| succeeded |").count(), 5);
        assert!(!text.contains("fffffff"));
    }

    #[test]
    fn names_of_the_recipe_stay_text() {
        let hostile = "@team #1 acme/shop#2 [x](https://evil) <img src=x> `code` |\n# head *b* _i_ ~s~ $m$ &lt;";
        let mut failed = CommentFacts { cause_message: Some(hostile.to_owned()), ..facts(EnvironmentStatus::Failed) };
        failed.deployments[2].message = Some(hostile.to_owned());
        let text = comment(&failed);
        for active in
            ["@team", "#1", "#2", "://evil", "<img", " `code", "\n# head", " *b", " _i", " ~s", "$m", "&lt;\n"]
        {
            assert!(!text.contains(active), "{active} in {text}");
        }
        let row = text.lines().find(|line| line.contains("aaaaaaa")).unwrap();
        assert_eq!(row.replace("\\|", "").matches('|').count(), 4, "{row}");
    }

    #[test]
    fn a_long_sentence_is_cut() {
        let long = CommentFacts { cause_message: Some("é".repeat(70_000)), ..facts(EnvironmentStatus::Failed) };
        assert!(comment(&long).len() < 4_000);
    }
}
