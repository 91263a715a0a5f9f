//! What containers print, made safe to show.

use std::iter::Peekable;

/// One line that a container printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the container runtime got it: RFC 3339 in UTC with nanoseconds. None where none was asked for.
    pub timestamp: Option<String>,
    /// Without control characters, tabs excepted.
    pub text: String,
}

/// Characters of a line that are shown, or kept. One that is longer says no more by its rest.
pub const SHOWN_OF_LINE: usize = 2_000;
/// The longest line whose whole text is looked at, in bytes. What is longer is cut.
const LONGEST_LINE: usize = 64 * 1024;

/// Lines of a text that comes in pieces, however long it is.
#[derive(Default)]
pub(super) struct LineSplitter {
    begun: Vec<u8>,
}

impl LineSplitter {
    /// Gives each line that `data` ends, without its end.
    pub fn push(&mut self, data: &[u8], mut line: impl FnMut(&[u8])) {
        let mut rest = data;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.add(&rest[..end]);
            line(&self.begun);
            self.begun.clear();
            rest = &rest[end + 1..];
        }
        self.add(rest);
    }

    /// The last line, where nothing ended it.
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then_some(self.begun)
    }

    fn add(&mut self, data: &[u8]) {
        let room = LONGEST_LINE.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(&data[..data.len().min(room)]);
    }
}

/// Splits a log into lines. Bytes that are not UTF-8 become U+FFFD. Where `with_timestamps`, each line begins with the
/// runtime's.
pub(super) fn lines(bytes: &[u8], with_timestamps: bool) -> Vec<LogLine> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split('\n')
        .map(|line| {
            let (timestamp, text) = match line.split_once(' ') {
                Some((timestamp, text)) if with_timestamps && is_timestamp(timestamp) => (Some(timestamp), text),
                _ if with_timestamps && is_timestamp(line) => (Some(line), ""),
                _ => (None, line),
            };
            LogLine { timestamp: timestamp.map(str::to_owned), text: clean(text) }
        })
        .collect()
}

/// `2026-11-23T18:06:48.123456789Z`, or with an offset.
fn is_timestamp(text: &str) -> bool {
    text.len() <= 40 && text.parse::<k8s_openapi::jiff::Timestamp>().is_ok()
}

/// Drops terminal escapes (ECMA-48: CSI, OSC and the other control strings), every other control character but the tab,
/// and the characters that turn the direction of the text around.
pub(super) fn clean(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\t' => kept.push('\t'),
            '\u{1b}' => skip_escape(&mut characters),
            '\u{9b}' => skip_control_sequence(&mut characters),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_control_string(&mut characters),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            _ if character.is_control() => {}
            _ => kept.push(character),
        }
    }
    kept
}

fn skip_escape(characters: &mut Peekable<impl Iterator<Item = char>>) {
    match characters.peek() {
        Some('[') => {
            characters.next();
            skip_control_sequence(characters);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            characters.next();
            skip_control_string(characters);
        }
        // Intermediate characters, then a final one.
        Some(' '..='~') => {
            while characters.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            characters.next_if(|c| matches!(c, '0'..='~'));
        }
        _ => {}
    }
}

/// Parameters and intermediate characters, then a final one. What does not belong to it stays.
fn skip_control_sequence(characters: &mut Peekable<impl Iterator<Item = char>>) {
    while characters.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    characters.next_if(|c| matches!(c, '@'..='~'));
}

/// Up to BEL or ST, or the end of the line.
fn skip_control_string(characters: &mut Peekable<impl Iterator<Item = char>>) {
    while let Some(character) = characters.next() {
        match character {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                characters.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_come_whole_out_of_pieces() {
        let text = b"first\n\nthird is longer\nlast";
        for size in [1, 3, 7, text.len()] {
            let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
            text.chunks(size).for_each(|piece| splitter.push(piece, |line| lines.push(line.to_vec())));
            lines.extend(splitter.finish());
            assert_eq!(lines, [&b"first"[..], b"", b"third is longer", b"last"], "{size}");
        }
        let (mut splitter, mut lengths) = (LineSplitter::default(), Vec::new());
        for _ in 0..20 {
            splitter.push(&[b'x'; 60_000], |line| lengths.push(line.len()));
        }
        splitter.push(b"\nshort\n", |line| lengths.push(line.len()));
        assert_eq!(lengths, [LONGEST_LINE, 5]);
    }

    #[test]
    fn terminal_escapes_and_control_characters_go() {
        let table = [
            ("plain\ttext", "plain\ttext"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[1;1Hcleared", "cleared"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}(Bcharset", "charset"),
            ("\u{1b}Preset\u{1b}\\x", "x"),
            ("\u{9b}31mred", "red"),
            ("progress 1%\rprogress 2%\r", "progress 1%progress 2%"),
            ("bell\u{7} null\0 del\u{7f}", "bell null del"),
            ("\u{1b}[31", ""),
            ("\u{1b}]unfinished", ""),
            ("\u{1b}", ""),
            ("user\u{202e}txt.exe", "usertxt.exe"),
            ("größer 漢字 🎉", "größer 漢字 🎉"),
        ];
        for (raw, cleaned) in table {
            assert_eq!(clean(raw), cleaned, "{raw:?}");
        }
    }

    #[test]
    fn timestamps_are_parted_from_lines() {
        let log = b"2026-11-23T18:06:48.123456789Z hello  world\n2026-11-23T18:06:49Z \nno stamp\n";
        let stamped = lines(log, true);
        assert_eq!(stamped.len(), 3);
        assert_eq!(stamped[0].timestamp.as_deref(), Some("2026-11-23T18:06:48.123456789Z"));
        assert_eq!(stamped[0].text, "hello  world");
        assert_eq!(stamped[1].text, "");
        assert_eq!((stamped[2].timestamp.as_deref(), stamped[2].text.as_str()), (None, "no stamp"));
        assert_eq!(lines(log, false)[0].text, "2026-11-23T18:06:48.123456789Z hello  world");
    }

    #[test]
    fn empty_lines_stay_and_an_empty_log_has_none() {
        assert_eq!(lines(b"", false), []);
        assert_eq!(lines(b"a\n\nb\n", false).len(), 3);
        assert_eq!(lines(b"\n", false).len(), 0);
        assert_eq!(lines(b"cut \xff\xfe here", false)[0].text, "cut \u{fffd}\u{fffd} here");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left(bytes in prop::collection::vec(any::<u8>(), 0..400), stamps: bool) {
            for line in lines(&bytes, stamps) {
                prop_assert!(line.text.chars().all(|c| c == '\t' || !c.is_control()));
            }
        }
    }
}
