//! Which lines of a comment are commands: those that begin with `/preview` and that readers see as plain text. What they
//! see as code, a quote, a link, a table or folded away, and what they do not see at all, asks for nothing.

use std::mem;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::environment::OWN_COMMENTS;

/// HTML elements that set what is in them apart from plain text.
const APART: [&str; 13] =
    ["a", "blockquote", "code", "del", "details", "kbd", "pre", "q", "s", "samp", "strike", "table", "tt"];

/// The command lines of a comment, in their order, from `/preview` on and without Markdown. None in what previewd writes
/// itself, as a user where it has a token.
pub(super) fn command_lines(comment: &str) -> Vec<String> {
    if comment.starts_with(OWN_COMMENTS) {
        return Vec::new();
    }
    // What GitHub's Markdown has beside CommonMark's.
    let options = Options::ENABLE_GFM
        | Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_MATH;
    let mut reading = Reading::default();
    for (event, range) in Parser::new_ext(comment, options).into_offset_iter() {
        match event {
            Event::Start(tag) => reading.begin(&tag),
            Event::End(tag) => reading.end(tag),
            Event::Text(text) => {
                // `- /preview …` and `\/preview …` show a command, and are none.
                let is_first = comment[..range.start].chars().rev().find(|c| !matches!(c, ' ' | '\t'));
                reading.text(&text, matches!(is_first, None | Some('\n' | '\r')));
            }
            Event::Code(text) | Event::InlineMath(text) | Event::DisplayMath(text) => reading.text(&text, false),
            Event::Html(html) => reading.html.push_str(&html),
            Event::InlineHtml(html) => reading.follow(&html),
            Event::SoftBreak | Event::HardBreak | Event::Rule => reading.end_line(),
            Event::FootnoteReference(_) | Event::TaskListMarker(_) => {}
        }
    }
    reading.commands
}

/// How far a comment is read.
#[derive(Default)]
struct Reading {
    commands: Vec<String>,
    /// The line that is read, where it began as plain text.
    line: Option<String>,
    /// How many elements of Markdown are open that hold no plain text.
    apart: usize,
    /// The open elements of HTML that hold none, lower-cased.
    elements: Vec<String>,
    /// The block of HTML that is read.
    html: String,
}

impl Reading {
    fn begin(&mut self, tag: &Tag<'_>) {
        self.meet(tag.to_end());
        self.apart += usize::from(!is_plain(tag.to_end()));
    }

    fn end(&mut self, tag: TagEnd) {
        self.meet(tag);
        self.apart -= usize::from(!is_plain(tag));
        if tag == TagEnd::HtmlBlock {
            let html = mem::take(&mut self.html);
            self.follow(&html);
        }
    }

    /// A block ends the line that was before it, or in it.
    fn meet(&mut self, tag: TagEnd) {
        if !is_inline(tag) {
            self.end_line();
        }
    }

    fn text(&mut self, text: &str, is_first: bool) {
        match &mut self.line {
            Some(line) => line.push_str(text),
            None if is_first && self.apart == 0 && self.elements.is_empty() => self.line = Some(text.to_owned()),
            None => {}
        }
    }

    fn end_line(&mut self) {
        let line = self.line.take().unwrap_or_default();
        if line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("/preview")) {
            self.commands.push(line.trim().to_owned());
        }
    }

    /// Which elements are open after this piece of HTML.
    fn follow(&mut self, html: &str) {
        let mut rest = html;
        while let Some((_, after)) = rest.split_once('<') {
            if let Some(comment) = after.strip_prefix("!--") {
                rest = comment.split_once("-->").map_or("", |(_, after)| after);
                continue;
            }
            let (closes, name) = after.strip_prefix('/').map_or((false, after), |name| (true, name));
            let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_ascii_lowercase();
            if closes {
                let opened = self.elements.iter().rposition(|element| *element == name);
                self.elements.truncate(opened.unwrap_or(self.elements.len()));
            } else if APART.contains(&name.as_str()) {
                self.elements.push(name);
            }
            rest = after;
        }
    }
}

fn is_plain(tag: TagEnd) -> bool {
    matches!(tag, TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::List(_) | TagEnd::Item)
}

fn is_inline(tag: TagEnd) -> bool {
    matches!(tag, TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_plain_text_are_commands() {
        for (comment, lines) in [
            ("/preview deploy", &["/preview deploy"][..]),
            ("Thanks!\r\n/preview retry \r\nmore", &["/preview retry"]),
            ("/preview", &["/preview"]),
            ("/Preview Deploy", &["/Preview Deploy"]),
            ("/PREVIEW\tkeep 7d", &["/PREVIEW\tkeep 7d"]),
            ("   /preview deploy", &["/preview deploy"]),
            (
                "/preview deploy\n/preview keep 7d\n\ntext\n\n/preview status",
                &["/preview deploy", "/preview keep 7d", "/preview status"],
            ),
            ("/preview approve `0123456`", &["/preview approve 0123456"]),
            ("/preview keep **7d**", &["/preview keep 7d"]),
            ("- login\n- logout\n/preview deploy", &["/preview deploy"]),
            ("/preview deploy\n---\nAnn", &["/preview deploy"]),
            ("takes an Option<T>\n/preview deploy", &["/preview deploy"]),
            ("<details>\n\nlog\n\n</details>\n\n/preview deploy", &["/preview deploy"]),
            ("```\n/preview delete\n```\n/preview deploy", &["/preview deploy"]),
            ("<!-- <details> -->\n\n/preview deploy", &["/preview deploy"]),
            // Nobody can write a comment around a blank line in a paragraph: it is read as it stands.
            ("see <!--\n\n/preview deploy\n\n-->", &["/preview deploy"]),
        ] {
            assert_eq!(command_lines(comment), lines, "{comment:?}");
        }
    }

    #[test]
    fn what_readers_do_not_see_as_plain_text_is_none() {
        for comment in [
            "",
            "please /preview deploy",
            "/previews",
            "/preview`s`",
            "> /preview deploy",
            "> quoted\n/preview deploy",
            "> [!NOTE]\n> /preview deploy",
            "```\n/preview deploy\n```",
            "```\n/preview deploy",
            "~~~sh\n/preview deploy\n~~~",
            "- steps:\n  ```\n  /preview deploy\n  ```",
            "text\n\n    /preview deploy",
            "\t/preview deploy",
            "`/preview deploy`",
            "`see\n/preview deploy\nabove`",
            "<!-- /preview deploy -->",
            "<!--\n/preview deploy\n\n/preview delete\n-->",
            "text <!--\n/preview deploy\n--> text",
            "<div>\n/preview deploy\n</div>",
            "<details><summary>Commands</summary>\n\n/preview deploy\n\n</details>",
            "<blockquote>\n\n/preview deploy\n\n</blockquote>",
            "<pre>\n\n/preview deploy\n\n</pre>",
            "a <del>\n/preview deploy\n</del>",
            "[\n/preview deploy](https://example.com)",
            "![\n/preview deploy](shot.png)",
            "[x]: /preview",
            "~~done\n/preview deploy~~",
            "- /preview deploy",
            "1. /preview deploy",
            "# /preview deploy",
            "\\/preview deploy",
            "| command |\n| --- |\n| /preview deploy |",
            "text[^1]\n\n[^1]: note\n    /preview deploy",
            "$$\n/preview deploy\n$$",
            "<!-- previewd:0f3c:42 -->\n/preview approve 0123456",
        ] {
            assert_eq!(command_lines(comment), Vec::<String>::new(), "{comment:?}");
        }
    }
}
