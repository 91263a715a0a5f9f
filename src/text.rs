//! Other people's text among ours.

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
