//! What a deployment's containers printed last is kept when it fails: what comes after it takes its pods away.

use std::time::Duration;

use super::{interrupted::Interrupted, observe::Observed, pass::Pass};
use crate::{
    cluster::{LogLine, LogRequest, SHOWN_OF_LINE},
    masking::Mask,
    store::{KeptLog, StoreError},
    text::shortened,
};

/// Lines of each container.
const LINES: u32 = 200;
/// The longest log of a container, in bytes; its newest lines are kept.
const LONGEST: usize = 128 * 1024;
/// How long it may take. It is a service to whoever reads them; the environment does not wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Pass<'_> {
    /// Keeps the last lines of every container of the head commit's, without secrets. Where there are none to be read now,
    /// those of the attempt before stay.
    pub(super) async fn keep_logs(&mut self, observed: &Observed) -> Result<(), Interrupted> {
        let environment = &observed.overview.environment;
        let head = &observed.overview.pull_request.facts.head_sha;
        let request =
            LogRequest { tail: LINES, timestamps: true, container: None, previous: false, since: None, contains: None };
        let owner = self.owner(&environment.id);
        let mask = match Mask::of_environment(&self.engine.store, environment).await {
            // What cannot be hidden is not kept either.
            Err(StoreError::Sealed) => return Ok(()),
            mask => mask?,
        };
        let reading = self.engine.cluster.logs(&environment.namespace, &owner, &request, &mask);
        let Ok(Ok(read)) = tokio::time::timeout(TIMEOUT, reading).await else { return Ok(()) };
        let logs: Vec<KeptLog> = read
            .containers
            .into_iter()
            .filter(|log| !log.lines.is_empty())
            // What still serves has nothing to do with it.
            .filter(|log| observed.workloads.as_ref().is_none_or(|seen| !seen.runs_another(&log.pod, head)))
            .map(|log| KeptLog { body: body(&log.lines), pod: log.pod, container: log.container })
            .collect();
        if !logs.is_empty() {
            self.engine.store.keep_logs(&self.lease, head, logs).await??;
        }
        Ok(())
    }
}

/// The newest lines, as many as there is room for.
fn body(lines: &[LogLine]) -> String {
    let mut room = LONGEST;
    let mut kept = Vec::new();
    for LogLine { timestamp, text } in lines.iter().rev() {
        let line = format!("{} {}", timestamp.as_deref().unwrap_or("-"), shortened(text, SHOWN_OF_LINE));
        room = match room.checked_sub(line.len() + 1) {
            Some(room) => room,
            None => break,
        };
        kept.push(line);
    }
    kept.reverse();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept() {
        let line = |text: String| LogLine { timestamp: Some("2026-11-26T05:00:00.1Z".to_owned()), text };
        let long: Vec<_> = (0..1_000).map(|number| line(format!("{number} {}", "x".repeat(500)))).collect();
        let kept = body(&long);
        assert!(kept.len() <= LONGEST && kept.lines().last().unwrap().starts_with("2026-11-26T05:00:00.1Z 999 x"));
        let last = [line("a".to_owned()), line("x".repeat(2 * LONGEST)), line("b".to_owned())];
        let kept = body(&last);
        let [a, long, b] = kept.lines().collect::<Vec<_>>()[..] else { panic!("{kept}") };
        assert!(a.ends_with(" a") && long.ends_with("xx…") && b.ends_with(" b"), "{kept}");
    }
}
