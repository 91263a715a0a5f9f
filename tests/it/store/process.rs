//! The calling test again, in processes of its own: what threads share, processes do not.

use std::process::{Command, Output, Stdio};

use super::database::{CHILD_DATABASE, Database};

/// The database that the calling test is to work on, where it runs as somebody's child.
pub fn inherited_database() -> Option<String> {
    std::env::var(CHILD_DATABASE).ok()
}

/// Runs the calling test in `count` processes at once, each of which finds [`inherited_database`]; gives what they said.
pub async fn in_processes(count: usize, database: &Database) -> Vec<String> {
    let test = std::thread::current().name().expect("a test's thread has its name").to_owned();
    let url = database.url.clone();
    let children: Vec<_> = (0..count)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &test, "--nocapture"])
                .env(CHILD_DATABASE, &url)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let ended = tokio::task::spawn_blocking(move || {
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect::<Vec<_>>()
    });
    let said = |output: Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    ended.await.unwrap().into_iter().map(said).collect()
}
