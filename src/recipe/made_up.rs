//! What a chart makes up anew each time, such as a password: found by rendering it twice, and kept as the cluster's
//! Secrets have it, wherever the chart puts it. It would otherwise change under the database that it opens.

use std::{collections::BTreeMap, ops::Range, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use regex::{Regex, escape};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Object, pods};

/// What passwords, digests and base64 are made of; and the name before an equals sign.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| Regex::new("[A-Za-z0-9+/_-]+={0,2}").expect("a valid expression"));

/// A value of a Secret that each render has another of.
struct Entry {
    /// The Secret's place among the objects.
    object: usize,
    list: &'static str,
    key: String,
    /// As the cluster has it, in base64. None: it is new.
    there: Option<String>,
    /// Where all of it is text.
    texts: Option<Texts>,
}

/// A value as each of the renders has it, and the cluster.
struct Texts {
    mine: String,
    other: String,
    there: String,
}

/// Where two texts differ: a part of the one, and a part of the other.
struct Piece {
    mine: Range<usize>,
    other: Range<usize>,
}

/// What the cluster has, by what the one render has in its place, and the other.
#[derive(Default)]
struct Kept(BTreeMap<(String, String), String>);

/// Puts what the namespace's `secrets` hold, by name and key and in base64, in place of what `objects` have otherwise than
/// the same chart rendered `again`. Annotations of pods that follow from it are made to follow from what was kept.
pub(super) fn keep(objects: &mut [Value], again: &[Value], secrets: &BTreeMap<String, BTreeMap<String, String>>) {
    let others = objects.iter().enumerate().map(|(index, object)| counterpart(object, index, again));
    let others: Vec<Option<&Value>> = others.collect();
    let mut entries = entries(objects, &others, secrets);
    // What is nothing else is surest to be what it is taken for.
    entries.sort_by_cached_key(|entry| entry.texts.as_ref().map(Texts::said));
    let mut kept = Kept::default();
    let stay: Vec<bool> = entries.iter().map(|entry| kept.learn(entry)).collect();
    for (object, other) in objects.iter_mut().zip(&others) {
        if let Some(other) = other {
            kept.put_into(object, other);
        }
    }
    let mut digest = Sha256::new();
    for (entry, stays) in entries.iter().zip(stay) {
        let object = &mut objects[entry.object];
        if stays {
            entry.put_back(object);
        }
        digest.update(object[entry.list][&entry.key].to_string());
        digest.update(object["data"][&entry.key].to_string());
    }
    follow(objects, &others, &hex::encode(digest.finalize()));
}

/// The same object of the other render. Both have them in the same order, and a hook may be called as something else is.
fn counterpart<'a>(object: &Value, index: usize, again: &'a [Value]) -> Option<&'a Value> {
    let key = |object: &Value| (object["kind"].clone(), object["metadata"]["name"].clone());
    let is_it = |other: &&Value| key(other) == key(object);
    again.get(index).filter(is_it).or_else(|| again.iter().find(is_it))
}

fn entries(
    objects: &[Value],
    others: &[Option<&Value>],
    secrets: &BTreeMap<String, BTreeMap<String, String>>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (index, (object, other)) in objects.iter().zip(others).enumerate() {
        let Some(other) = other.filter(|_| object["kind"] == "Secret") else { continue };
        let values = object["metadata"]["name"].as_str().and_then(|name| secrets.get(name));
        for list in ["data", "stringData"] {
            for key in differing(&object[list], &other[list]) {
                let there = values.and_then(|values| values.get(&key)).cloned();
                let (mine, other) = (&object[list][&key], &other[list][&key]);
                let texts = there.as_deref().and_then(|there| Texts::of(list, mine, other, there));
                entries.push(Entry { object: index, list, key, there, texts });
            }
        }
    }
    entries
}

/// The keys whose values differ.
fn differing(one: &Value, other: &Value) -> Vec<String> {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_else(Map::new);
    let other = entries(other);
    entries(one).into_iter().filter(|(key, value)| other.get(key) != Some(value)).map(|(key, _)| key).collect()
}

/// Has what follows something else in pods' annotations follow `digest`.
fn follow(objects: &mut [Value], others: &[Option<&Value>], digest: &str) {
    for (object, other) in objects.iter_mut().zip(others) {
        let Some(other) = other else { continue };
        let (mut mine, theirs) = (Object::from_body(object.clone()), Object::from_body((*other).clone()));
        let Some((theirs, _)) = pods::template(&theirs) else { continue };
        let Some(template) = pods::template_mut(&mut mine) else { continue };
        let annotations = &mut template["metadata"]["annotations"];
        for key in differing(annotations, &theirs["metadata"]["annotations"]) {
            // What is made up by itself has its pods made anew with each commit.
            if key.contains("checksum") || annotations[&key].as_str().is_some_and(is_digest) {
                annotations[&key] = json!(digest);
            }
        }
        *object = mine.body;
    }
}

/// Whether a text is what a chart writes to follow something else: a digest of it.
fn is_digest(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn decoded(encoded: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(encoded).ok()?).ok()
}

impl Entry {
    /// Has the Secret hold what the cluster has.
    fn put_back(&self, object: &mut Value) {
        if let (Some(there), Some(data)) = (&self.there, object[self.list].as_object_mut()) {
            data.remove(&self.key);
            object["data"][&self.key] = json!(there);
        }
    }
}

impl Texts {
    fn of(list: &str, mine: &Value, other: &Value, there: &str) -> Option<Self> {
        let text = |value: &Value| match list {
            "data" => decoded(value.as_str()?),
            _ => value.as_str().map(str::to_owned),
        };
        Some(Self { mine: text(mine)?, other: text(other)?, there: decoded(there)? })
    }

    /// How many bytes of it are not made up.
    fn said(&self) -> usize {
        let made_up: usize = pieces(&self.mine, &self.other).iter().map(|piece| piece.mine.len()).sum();
        self.mine.len() - made_up
    }
}

impl Kept {
    /// Learns what the cluster has in place of what is made up in a value. Gives whether the cluster's value is another in
    /// nothing else, and is to stay.
    fn learn(&mut self, entry: &Entry) -> bool {
        // What is no text has no parts.
        let Some(Texts { mine, other, there }) = &entry.texts else { return entry.there.is_some() };
        let pieces = pieces(mine, other);
        let whole = in_the_same_text(mine, other, &pieces, there);
        let stays = whole.is_some();
        let found = whole.map_or_else(
            || pieces.iter().map(|piece| in_the_same_place(mine, other, piece, there)).collect::<Vec<_>>(),
            |found| found.into_iter().map(Some).collect(),
        );
        for (piece, found) in pieces.iter().zip(found) {
            if let Some(found) = found {
                self.add(&mine[piece.mine.clone()], &other[piece.other.clone()], found);
            }
        }
        stays
    }

    fn add(&mut self, mine: &str, other: &str, there: &str) {
        if mine.is_empty() || there.is_empty() {
            return;
        }
        self.0.entry((mine.to_owned(), other.to_owned())).or_insert_with(|| there.to_owned());
        // One of several words may be somewhere else by itself.
        let [mine, other, there] = [mine, other, there].map(|text| text.split_whitespace().collect::<Vec<&str>>());
        if mine.len() > 1 && mine.len() == other.len() && mine.len() == there.len() {
            for ((mine, other), there) in mine.iter().zip(other).zip(there).filter(|((mine, other), _)| *mine != other)
            {
                self.0.entry(((*mine).to_owned(), other.to_owned())).or_insert_with(|| there.to_owned());
            }
        }
    }

    /// Puts what is kept into all texts of a value that the other render has otherwise.
    fn put_into(&self, mine: &mut Value, other: &Value) {
        match (mine, other) {
            (Value::String(mine), Value::String(other)) => *mine = self.in_text(mine, other),
            (Value::Array(mine), Value::Array(other)) => {
                mine.iter_mut().zip(other).for_each(|(mine, other)| self.put_into(mine, other));
            }
            (Value::Object(mine), Value::Object(other)) => {
                for (key, value) in mine {
                    if let Some(other) = other.get(key) {
                        self.put_into(value, other);
                    }
                }
            }
            _ => {}
        }
    }

    /// A text with what is kept in it. What else is made up of it is new.
    fn in_text(&self, mine: &str, other: &str) -> String {
        self.with(mine, other, &pieces(mine, other))
    }

    fn with(&self, mine: &str, other: &str, pieces: &[Piece]) -> String {
        let (mut text, mut end) = (String::new(), 0);
        for piece in pieces {
            let part = &mine[piece.mine.clone()];
            let kept = self.in_place_of(part, &other[piece.other.clone()]);
            text.push_str(&mine[end..piece.mine.start]);
            text.push_str(kept.as_deref().unwrap_or(part));
            end = piece.mine.end;
        }
        text.push_str(&mine[end..]);
        text
    }

    fn in_place_of(&self, mine: &str, other: &str) -> Option<String> {
        self.within(mine, other).or_else(|| self.encoded(mine, other)).or_else(|| self.in_parts(mine, other))
    }

    /// Where it is that, with what both renders have before and after it. Nothing else is taken for it, however short it is.
    fn within(&self, mine: &str, other: &str) -> Option<String> {
        self.0.iter().find_map(|((new, others), kept)| {
            mine.match_indices(new.as_str()).find_map(|(at, _)| {
                let (before, after) = (&mine[..at], &mine[at + new.len()..]);
                let between = other.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                (between == Some(others.as_str())).then(|| format!("{before}{kept}{after}"))
            })
        })
    }

    fn encoded(&self, mine: &str, other: &str) -> Option<String> {
        let (mine, other) = (decoded(mine)?, decoded(other)?);
        let text = self.in_text(&mine, &other);
        (text != mine).then(|| BASE64.encode(text))
    }

    fn in_parts(&self, mine: &str, other: &str) -> Option<String> {
        let parts = Some(differences(mine, other)).filter(|parts| parts.len() > 1)?;
        let text = self.with(mine, other, &parts);
        (text != mine).then_some(text)
    }
}

/// Where two texts differ, with what only whitespace is between as one: keys and certificates are several lines.
fn pieces(mine: &str, other: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for piece in differences(mine, other) {
        match pieces.last_mut() {
            Some(last) if is_blank(&mine[last.mine.end..piece.mine.start]) => {
                last.mine.end = piece.mine.end;
                last.other.end = piece.other.end;
            }
            _ => pieces.push(piece),
        }
    }
    pieces
}

/// Where two texts differ: token by token where nothing else does, because what was made up twice may begin or end alike;
/// otherwise line by line, or in one piece.
fn differences(mine: &str, other: &str) -> Vec<Piece> {
    if mine == other {
        return Vec::new();
    }
    let pairs = |(mine, other)| Piece { mine, other };
    let [(my_tokens, mine_between), (other_tokens, other_between)] = [mine, other].map(tokens);
    if mine_between == other_between {
        let tokens = my_tokens.into_iter().zip(other_tokens).map(pairs);
        return tokens.filter(|token| mine[token.mine.clone()] != other[token.other.clone()]).collect();
    }
    let [my_lines, other_lines] = [mine, other].map(lines);
    if my_lines.len() == 1 || my_lines.len() != other_lines.len() {
        return vec![difference(mine, other)];
    }
    let of_line = |line: Piece| {
        let found = differences(&mine[line.mine.clone()], &other[line.other.clone()]);
        found.into_iter().map(move |piece| Piece {
            mine: line.mine.start + piece.mine.start..line.mine.start + piece.mine.end,
            other: line.other.start + piece.other.start..line.other.start + piece.other.end,
        })
    };
    my_lines.into_iter().zip(other_lines).map(pairs).flat_map(of_line).collect()
}

/// The tokens of a text, and what is around and between them.
fn tokens(text: &str) -> (Vec<Range<usize>>, Vec<&str>) {
    let tokens: Vec<Range<usize>> = TOKEN.find_iter(text).map(|token| token.range()).collect();
    let mut end = 0;
    let mut between = Vec::new();
    for token in &tokens {
        between.push(&text[end..token.start]);
        end = token.end;
    }
    between.push(&text[end..]);
    (tokens, between)
}

fn lines(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    let line_of = |line: &str| {
        let line = start..start + line.len();
        start = line.end + 1;
        line
    };
    text.split('\n').map(line_of).collect()
}

/// The one place where two texts differ, up to whitespace or quotes on both sides.
fn difference(mine: &str, other: &str) -> Piece {
    let is_border = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
    let (my_bytes, other_bytes) = (mine.as_bytes(), other.as_bytes());
    let same = my_bytes.iter().zip(other_bytes).take_while(|(mine, other)| mine == other).count();
    let start = my_bytes[..same].iter().rposition(is_border).map_or(0, |border| border + 1);
    let ends = my_bytes[start..].iter().rev().zip(other_bytes[start..].iter().rev());
    let same = ends.take_while(|(mine, other)| mine == other).count();
    let tail = &my_bytes[my_bytes.len() - same..];
    let after = tail.iter().position(is_border).map_or(0, |border| tail.len() - border);
    Piece { mine: start..mine.len() - after, other: start..other.len() - after }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// What the cluster has for each piece, where its text is otherwise the same.
fn in_the_same_text<'a>(mine: &str, other: &str, pieces: &[Piece], there: &'a str) -> Option<Vec<&'a str>> {
    // Whatever it is: nothing of it is said by the chart.
    if let [piece] = pieces
        && is_blank(&mine[..piece.mine.start])
        && is_blank(&mine[piece.mine.end..])
    {
        return Some(vec![there.trim()]);
    }
    let mut pattern = r"\A".to_owned();
    let mut end = 0;
    for piece in pieces {
        pattern.push_str(&escape(&mine[end..piece.mine.start]));
        pattern.push_str(group_of(&mine[piece.mine.clone()], &other[piece.other.clone()]));
        end = piece.mine.end;
    }
    pattern.push_str(&escape(&mine[end..]));
    pattern.push_str(r"\z");
    let captures = Regex::new(&pattern).ok()?.captures(there)?;
    captures.iter().skip(1).map(|group| Some(group?.as_str())).collect()
}

/// What the cluster has for one piece: on a line that is otherwise the same, or else after the same word.
fn in_the_same_place<'a>(mine: &str, other: &str, piece: &Piece, there: &'a str) -> Option<&'a str> {
    let Range { start, end } = piece.mine;
    // Lines by themselves are alike.
    if mine[start..end].contains(char::is_whitespace) {
        return None;
    }
    let group = group_of(&mine[start..end], &other[piece.other.clone()]);
    let before = mine[..start].rsplit('\n').next()?;
    let after = mine[end..].split('\n').next()?;
    let word = TOKEN.find_iter(before).last()?.start();
    let next = after.chars().next().map_or_else(|| "$".to_owned(), |next| escape(&next.to_string()));
    let line = format!("(?m)^{}{group}{}$", escape(before), escape(after));
    let behind_word = format!("(?m)(?:^|[^A-Za-z0-9+/_=-]){}{group}{next}", escape(&before[word..]));
    the_only(&line, there).or_else(|| the_only(&behind_word, there))
}

/// What a pattern's group is in a text, if it is nothing else in another place of it.
fn the_only<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
    let pattern = Regex::new(pattern).ok()?;
    let mut found = pattern.captures_iter(text).filter_map(|captures| Some(captures.get(1)?.as_str()));
    let first = found.next()?;
    found.all(|next| next == first).then_some(first)
}

/// A pattern's group for what is like these two.
fn group_of(mine: &str, other: &str) -> &'static str {
    let all = |is: fn(char) -> bool| mine.chars().chain(other.chars()).all(is);
    if all(is_of_token) {
        "([A-Za-z0-9+/_=-]+)"
    } else if all(|character| is_of_token(character) || character.is_ascii_whitespace()) {
        "([A-Za-z0-9+/_= \\t\\r\\n-]+)"
    } else if all(|character| character != '\n') {
        "([^\\n]+)"
    } else {
        "((?s:.+))"
    }
}

fn is_of_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '_' | '=' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chart that puts one password into whatever it has.
    fn chart(word: &str, level: u8) -> Vec<Value> {
        let auth = BASE64.encode(format!("user:{word}"));
        vec![
            json!({
                "kind": "Secret",
                "metadata": { "name": "redis" },
                "data": {
                    "password": BASE64.encode(word),
                    "url": BASE64.encode(format!("redis://:{word}@redis")),
                    "pull": BASE64.encode(format!("{{\"auths\":{{\"r\":{{\"auth\":\"{auth}\"}}}}}}")),
                },
                "stringData": { "config.yaml": format!("password: {word}\nlevel: {level}\n") },
            }),
            json!({
                "kind": "ConfigMap",
                "metadata": { "name": "redis" },
                "data": {
                    "redis.conf": format!("requirepass {word}\nmaxmemory 1mb\n"),
                    "env": format!("PASSWORD={word}\nLEVEL={level}\n"),
                    "note": "Sh4red1 is not made up",
                },
            }),
            json!({
                "kind": "Deployment",
                "metadata": { "name": "web" },
                "spec": { "template": {
                    "metadata": { "annotations": { "a": "b" } },
                    "spec": { "containers": [{
                        "args": ["--password", word],
                        "env": [{ "name": "URL", "value": format!("redis://:{word}@redis/0?password={word}") }],
                    }] },
                } },
            }),
        ]
    }

    /// What becomes of the one render beside the other and what the cluster's Secret `redis` has.
    fn kept(mut mine: Vec<Value>, other: &[Value], there: &[(&str, &str)]) -> Vec<Value> {
        let there = there.iter().map(|(key, text)| ((*key).to_owned(), BASE64.encode(text))).collect();
        keep(&mut mine, other, &BTreeMap::from([("redis".to_owned(), there)]));
        mine
    }

    #[test]
    fn what_is_kept_is_kept_wherever_it_is() {
        for there in [
            ("password", "Kept0"),
            ("url", "redis://:Kept0@redis"),
            ("url", "redis://:Kept0@another-host"),
            ("config.yaml", "password: Kept0\nlevel: 1\n"),
            ("config.yaml", "user: me\npassword: Kept0\nlevel: 1\nmore: true\n"),
        ] {
            // They begin and end alike.
            let found = kept(chart("Sh4red1x", 2), &chart("Sh4red2x", 2), &[there]);
            assert_eq!(found, chart("Kept0", 2), "{there:?}");
        }
        let first = kept(chart("Sh4red1x", 2), &chart("Sh4red2x", 2), &[]);
        assert_eq!(first, chart("Sh4red1x", 2));
    }

    #[test]
    fn what_the_cluster_has_stays_where_nothing_else_changed() {
        let there = [("config.yaml", "password: Kept0\nlevel: 2\n")];
        let found = kept(chart("new1", 2), &chart("new2", 2), &there);
        assert_eq!(found[0]["data"]["config.yaml"], BASE64.encode(there[0].1));
        assert_eq!(found[0]["stringData"], json!({}));
        assert_eq!(found[1], chart("Kept0", 2)[1]);
    }

    #[test]
    fn what_cannot_be_told_apart_is_new() {
        let secret = |word: &str| {
            vec![json!({
                "kind": "Secret", "metadata": { "name": "redis" }, "stringData": { "a.txt": format!("{word} of level 2") },
            })]
        };
        assert_eq!(kept(secret("new1"), &secret("new2"), &[("a.txt", "old words of level 1")]), secret("new1"));
    }

    #[test]
    fn certificates_of_any_length_are_kept() {
        let pem = |lines: &str| format!("-----BEGIN KEY-----\n{lines}\n-----END KEY-----\n");
        let of = |lines: &str| {
            vec![
                json!({ "kind": "Secret", "metadata": { "name": "redis" }, "data": { "tls.key": BASE64.encode(pem(lines)) } }),
                json!({ "kind": "ConfigMap", "metadata": { "name": "ca" }, "data": { "bundle": pem(lines) } }),
            ]
        };
        for (mine, other) in [("MIIa1\nMIIb1==", "MIIa2\nMIIb2=="), ("MIIa1\nMIIb1", "MIIa2\nMIIb2\nMIIc2")] {
            let found = kept(of(mine), &of(other), &[("tls.key", &pem("MIIkept="))]);
            assert_eq!(found, of("MIIkept="), "{other}");
        }
    }
}
