//! Words and figures for people, and other people's text among them.

use std::borrow::Cow;

/// `3 d`, or `5 h`, `7 min`, `12 s` where it is less.
pub fn age(seconds: i64) -> String {
    match seconds {
        86_400.. => format!("{} d", seconds / 86_400),
        3_600.. => format!("{} h", seconds / 3_600),
        60.. => format!("{} min", seconds / 60),
        _ => format!("{} s", seconds.max(0)),
    }
}

/// `37 MiB`, or with one digit after the point below ten.
pub fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1u32 << 20);
    if mebibytes < 9.95 { format!("{mebibytes:.1} MiB") } else { format!("{mebibytes:.0} MiB") }
}

/// A text's first `longest` characters, with `…` where there are more.
pub fn shortened(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// With a capital letter at its beginning.
pub fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// What went wrong, as a sentence that says that it is tried again.
pub fn tried_again(trouble: &str) -> String {
    let trouble: String = trouble.chars().filter(|character| !character.is_control()).collect();
    format!("{}; it is tried again.", capitalized(&trouble))
}

/// Text as HTML shows it, in elements and in quoted attributes. Control characters go.
pub fn escape_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            character if character.is_control() => {}
            character => html.push(character),
        }
    }
    html
}

/// Text as rows have it: PostgreSQL's TEXT holds every character but NUL.
pub fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_as_a_sentence() {
        assert_eq!(
            tried_again("the cluster gave no answer to \"read\n Pod\""),
            "The cluster gave no answer to \"read Pod\"; it is tried again."
        );
        assert_eq!(capitalized(""), "");
    }

    #[test]
    fn ages_are_short() {
        let ages = [-5, 59, 60, 3_599, 3_600, 86_399, 86_400, 864_000].map(age);
        assert_eq!(ages, ["0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "1 d", "10 d"]);
    }

    #[test]
    fn amounts_are_short() {
        let amounts = [0, 1 << 19, 10 << 20, 512 << 20].map(mebibytes);
        assert_eq!(amounts, ["0.0 MiB", "0.5 MiB", "10 MiB", "512 MiB"]);
    }
}
