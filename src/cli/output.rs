//! How commands print: to stdout, as a table for people or as JSON for programs.

use std::{
    io::{self, Write},
    ops::ControlFlow,
};

use serde::Serialize;

/// The form of a command's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Json,
}

/// Prints to stdout. A reader that has seen enough, such as `head`, is no error.
pub fn print(text: &str) -> io::Result<()> {
    print_on(text).map(|_| ())
}

/// The same for what has no end: breaks where nobody reads it any more.
pub fn print_on(text: &str) -> io::Result<ControlFlow<()>> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(error),
    }
}

pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

/// To whoever looks on, beside the answer on stdout.
pub fn say(note: &str) {
    // Whoever does not look on misses nothing of the answer.
    let _ = write!(io::stderr(), "{note}");
}

/// The text itself, where it is a `T`: what a server parses is refused here already.
pub fn text<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The tools that a sentence names, as the commands that do the same.
pub fn as_commands(sentence: &str) -> String {
    const COMMANDS: [(&str, &str); 9] = [
        ("create_preview_environment", "`previewd create`"),
        ("wait_for_preview_environment", "`previewd wait`"),
        ("explain_preview_environment", "`previewd explain`"),
        ("list_preview_environments", "`previewd list`"),
        ("get_preview_environment", "`previewd get`"),
        ("get_preview_logs", "`previewd logs`"),
        ("retry_preview_deployment", "`previewd retry`"),
        ("keep_preview_environment", "`previewd keep`"),
        ("delete_preview_environment", "`previewd delete`"),
    ];
    COMMANDS.iter().fold(sentence.to_owned(), |text, (tool, command)| text.replace(tool, command))
}

/// Rows under their headings, columns two blanks apart, the last one as long as it is.
pub fn table<const COLUMNS: usize>(headings: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let headings = headings.map(str::to_uppercase);
    let lines = || std::iter::once(&headings).chain(rows);
    let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);

    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_commands_for_tools() {
        let sentence = "Add the label, or ask for it with create_preview_environment.";
        assert_eq!(as_commands(sentence), "Add the label, or ask for it with `previewd create`.");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["pr-7-shop".to_owned(), "running".to_owned()], ["é".to_owned(), String::new()]];
        assert_eq!(table(["name", "status"], &rows), "NAME       STATUS\npr-7-shop  running\né\n");
    }
}
