//! What a chart makes up anew each time, such as a password: found by rendering it twice, and kept as the cluster's
//! Secrets have it, wherever the chart puts it. It would otherwise change under the database that it opens.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use regex::Regex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Object, pods};

/// What passwords, digests and base64 are made of; the name before an equals sign; and what crypt(3) makes of a password,
/// in which dots may be, and may not.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\$[A-Za-z0-9-]{1,12}\$[A-Za-z0-9./$=,+-]+|[A-Za-z0-9+/_-]+={0,2}").expect("a valid expression")
});

/// How much is searched for at most: of the pieces of one value in what the cluster has, and of what is kept in one text.
/// Charts are strangers', and other environments wait meanwhile. What is the same pair is found in any number.
const MOST: usize = 200;
/// How long a text may be, in bytes, for what is kept to be searched for inside of it.
const LONGEST: usize = 4096;

/// A value of a Secret that each render has another of.
struct Entry {
    /// The Secret's place among the objects.
    object: usize,
    list: &'static str,
    key: String,
    /// As the cluster has it, in base64. None: it is new.
    there: Option<String>,
    /// Where both renders have text.
    texts: Option<Texts>,
}

/// A value as each of the renders has it, and the cluster.
struct Texts {
    mine: String,
    other: String,
    /// Where the renders differ.
    pieces: Vec<Piece>,
    /// None: the cluster has nothing, or no text.
    there: Option<String>,
}

/// Where two texts differ: a part of the one, and a part of the other.
struct Piece {
    mine: Range<usize>,
    other: Range<usize>,
}

/// A block of PEM.
struct Block<'a> {
    /// What it is, as its first line says.
    label: &'a str,
    /// What is between its first line and its last.
    body: Range<usize>,
}

/// What a piece is made of, and so what the cluster has in its place.
type Kind = fn(char) -> bool;

/// Whether the cluster's value has a piece's place.
enum Found<'a> {
    /// It has this there.
    As(&'a str),
    Nowhere,
    /// It has several that may be it, or such places are all alike.
    Unclear,
}

/// What becomes of a value.
enum Fate<'a> {
    /// The cluster has none.
    IsNew,
    /// It is as the cluster has it.
    Stays,
    /// It is as the chart has it, with what was found of its pieces, if that is enough.
    Changes { texts: &'a Texts, there: &'a str, found: Vec<Found<'a>> },
}

/// What the cluster has, by what the one render has in its place, and the other.
#[derive(Default)]
struct Kept {
    by_pair: BTreeMap<(String, String), String>,
    /// What is searched for inside of other things, the surest first.
    searched: Vec<(String, String)>,
}

/// Puts what the namespace's `secrets` hold, by name and key and in base64, in place of what `objects` have otherwise than
/// the same chart rendered `again`. Annotations of pods that follow from it are made to follow from what was kept.
pub(super) fn keep(objects: &mut [Value], again: &[Value], secrets: &BTreeMap<String, BTreeMap<String, String>>) {
    let others = objects.iter().enumerate().map(|(index, object)| counterpart(object, index, again));
    let others: Vec<Option<&Value>> = others.collect();
    let mut entries = entries(objects, &others, secrets);
    renew_incomplete(&mut entries);
    // What is nothing else is surest to be what it is taken for.
    entries.sort_by_cached_key(|entry| entry.texts.as_ref().map(Texts::said));
    let mut kept = Kept::default();
    let fates: Vec<Fate<'_>> = entries.iter().map(|entry| kept.learn(entry)).collect();
    let stay: Vec<bool> = fates.iter().map(|fate| kept.lets_stay(fate)).collect();
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
                let texts = Texts::of(list, &object[list][&key], &other[list][&key], there.as_deref());
                entries.push(Entry { object: index, list, key, there, texts });
            }
        }
    }
    entries
}

/// Certificates and keys of one Secret are made for each other: where the cluster lacks one of them, all are new.
fn renew_incomplete(entries: &mut [Entry]) {
    let are_there = entries.iter().filter(|entry| entry.there.is_some());
    let there: BTreeSet<(&str, &str)> =
        are_there.filter_map(|entry| entry.texts.as_ref()).flat_map(Texts::pairs_in_blocks).collect();
    let is_lacking = |entry: &&Entry| {
        let texts = entry.texts.as_ref().filter(|texts| entry.there.is_none() && texts.are_blocks());
        texts.is_some_and(|texts| !texts.pairs_in_blocks().iter().all(|pair| there.contains(pair)))
    };
    let incomplete: BTreeSet<usize> = entries.iter().filter(is_lacking).map(|entry| entry.object).collect();
    for entry in entries.iter_mut().filter(|entry| incomplete.contains(&entry.object)) {
        if let Some(texts) = entry.texts.as_mut().filter(|texts| texts.are_blocks()) {
            texts.there = None;
            entry.there = None;
        }
    }
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
    fn of(list: &str, mine: &Value, other: &Value, there: Option<&str>) -> Option<Self> {
        let text = |value: &Value| match list {
            "data" => decoded(value.as_str()?),
            _ => value.as_str().map(str::to_owned),
        };
        let (mine, other) = (text(mine)?, text(other)?);
        Some(Self { pieces: pieces(&mine, &other), there: there.and_then(decoded), mine, other })
    }

    /// How many bytes of it are not made up.
    fn said(&self) -> usize {
        gaps(&self.mine, &self.pieces).iter().map(|gap| gap.len()).sum()
    }

    /// Whether another text has no word but what is not made up in this one: nothing is made up in it either.
    fn say_all_of(&self, text: &str) -> bool {
        let tokens = |text| TOKEN.find_iter(text).map(|token| token.as_str());
        let said: BTreeSet<&str> = gaps(&self.mine, &self.pieces).into_iter().flat_map(tokens).collect();
        TOKEN.find_iter(text).all(|token| said.contains(token.as_str()))
    }

    /// What is made up of it inside of blocks of PEM, as the renders have it.
    fn pairs_in_blocks(&self) -> Vec<(&str, &str)> {
        let bodies: BTreeSet<(usize, usize)> =
            blocks(&self.mine).into_iter().map(|block| (block.body.start, block.body.end)).collect();
        let pieces = self.pieces.iter().filter(|piece| bodies.contains(&(piece.mine.start, piece.mine.end)));
        pieces.map(|piece| (&self.mine[piece.mine.clone()], &self.other[piece.other.clone()])).collect()
    }

    /// Whether nothing else of it is made up.
    fn are_blocks(&self) -> bool {
        !self.pieces.is_empty() && self.pairs_in_blocks().len() == self.pieces.len()
    }
}

impl Kept {
    /// Learns what the cluster has in place of what is made up in a value.
    fn learn<'a>(&mut self, entry: &'a Entry) -> Fate<'a> {
        if entry.there.is_none() {
            return Fate::IsNew;
        }
        // What is no text has no parts.
        let Some(texts) = &entry.texts else { return Fate::Stays };
        let Some(there) = texts.there.as_deref() else { return Fate::Stays };
        if let Some(found) = in_the_same_text(texts, there) {
            for (piece, found) in texts.pieces.iter().zip(found) {
                self.add(texts, piece, found);
            }
            return Fate::Stays;
        }
        if texts.pieces.len() > MOST {
            return Fate::Stays;
        }
        let found: Vec<Found<'a>> = texts.pieces.iter().map(|piece| in_the_same_place(texts, piece, there)).collect();
        for (piece, found) in texts.pieces.iter().zip(&found) {
            if let Found::As(found) = found {
                self.add(texts, piece, found);
            }
        }
        Fate::Changes { texts, there, found }
    }

    /// Whether a value stays as the cluster has it, once all are learned: what else a commit changes in it comes late
    /// then, and that is less than a password that its database does not know.
    fn lets_stay(&self, fate: &Fate<'_>) -> bool {
        let (texts, there, found) = match fate {
            Fate::IsNew => return false,
            Fate::Stays => return true,
            Fate::Changes { texts, there, found } => (texts, there, found),
        };
        let mut is_any_known = false;
        for (piece, found) in texts.pieces.iter().zip(found) {
            let (mine, other) = (&texts.mine[piece.mine.clone()], &texts.other[piece.other.clone()]);
            let is_known = matches!(found, Found::As(_)) || self.in_place_of(mine, other).is_some();
            if !is_known && matches!(found, Found::Unclear) {
                return true;
            }
            is_any_known |= is_known;
        }
        !is_any_known && !texts.say_all_of(there)
    }

    fn add(&mut self, texts: &Texts, piece: &Piece, there: &str) {
        let (mine, other) = (&texts.mine[piece.mine.clone()], &texts.other[piece.other.clone()]);
        if mine.is_empty() || there.is_empty() {
            return;
        }
        self.add_for_search(mine, other, there);
        let [mine, other, there] = [mine, other, there].map(words);
        if mine.len() < 2 {
            return;
        }
        // Several lines may be indented otherwise somewhere else,
        self.insert(&mine.join("\n"), &other.join("\n"), &there.join("\n"));
        // and one of several words may be by itself.
        if mine.len() == other.len() && mine.len() == there.len() {
            for ((mine, other), there) in mine.iter().zip(other).zip(there).filter(|((mine, other), _)| *mine != other)
            {
                // Of a certificate's line it is not known whether its others are the same.
                if is_line_of_base64(mine) {
                    self.insert(mine, other, there);
                } else {
                    self.add_for_search(mine, other, there);
                }
            }
        }
    }

    fn add_for_search(&mut self, mine: &str, other: &str, there: &str) {
        if self.insert(mine, other, there) && self.searched.len() < MOST {
            self.searched.push((mine.to_owned(), other.to_owned()));
        }
    }

    /// Gives whether it was not known.
    fn insert(&mut self, mine: &str, other: &str, there: &str) -> bool {
        let pair = (mine.to_owned(), other.to_owned());
        let is_new = !self.by_pair.contains_key(&pair);
        if is_new {
            self.by_pair.insert(pair, there.to_owned());
        }
        is_new
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
        for (index, piece) in pieces.iter().enumerate() {
            let (part, others) = (&mine[piece.mine.clone()], &other[piece.other.clone()]);
            let kept = if index < MOST {
                self.in_place_of(part, others)
            } else {
                self.exactly(part, others).map(str::to_owned)
            };
            text.push_str(&mine[end..piece.mine.start]);
            text.push_str(kept.as_deref().unwrap_or(part));
            end = piece.mine.end;
        }
        text.push_str(&mine[end..]);
        text
    }

    fn in_place_of(&self, mine: &str, other: &str) -> Option<String> {
        let exactly = self.exactly(mine, other).map(str::to_owned);
        exactly
            .or_else(|| self.wrapped_otherwise(mine, other))
            .or_else(|| self.within(mine, other))
            .or_else(|| self.encoded(mine, other))
            .or_else(|| self.in_parts(mine, other))
    }

    fn exactly(&self, mine: &str, other: &str) -> Option<&str> {
        self.by_pair.get(&(mine.to_owned(), other.to_owned())).map(String::as_str)
    }

    /// Where it is that, with what both renders have before and after it. Nothing else is taken for it, however short it is.
    fn within(&self, mine: &str, other: &str) -> Option<String> {
        if mine.len() > LONGEST {
            return None;
        }
        self.searched.iter().find_map(|pair| {
            let (new, others) = pair;
            if mine.len() + others.len() != other.len() + new.len() {
                return None;
            }
            mine.match_indices(new.as_str()).find_map(|(at, _)| {
                let (before, after) = (&mine[..at], &mine[at + new.len()..]);
                let between = other.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                (between == Some(others.as_str())).then(|| format!("{before}{}{after}", self.by_pair[pair]))
            })
        })
    }

    /// Lines of base64 with something else between them: another indentation, or the `\n` of a quoted text.
    fn wrapped_otherwise(&self, mine: &str, other: &str) -> Option<String> {
        let [my_words, other_words] = [mine, other].map(words);
        let [first, second, ..] = my_words.as_slice() else { return None };
        if !my_words.iter().all(|word| is_made_of(word, is_of_token)) {
            return None;
        }
        let kept = self.exactly(&my_words.join("\n"), &other_words.join("\n"))?;
        let behind = mine.trim_start().strip_prefix(first)?;
        let between = &behind[..behind.find(second)?];
        Some(words(kept).join(between))
    }

    fn encoded(&self, mine: &str, other: &str) -> Option<String> {
        let (mine, other) = (decoded(mine)?, decoded(other)?);
        let text = self.in_text(&mine, &other);
        (text != mine).then(|| BASE64.encode(text))
    }

    fn in_parts(&self, mine: &str, other: &str) -> Option<String> {
        let parts = Some(differences(mine, other)).filter(|parts| parts.len() > 1)?;
        // Lines of a certificate are nothing without its others, and some may be another certificate's too.
        let are_lines = parts.iter().any(|part| is_line_of_base64(&mine[part.mine.clone()]));
        let is_known = |part: &Piece| self.exactly(&mine[part.mine.clone()], &other[part.other.clone()]).is_some();
        let is_all = gaps(mine, &parts).iter().all(|gap| is_blank(gap));
        if !is_all || are_lines && !parts.iter().all(is_known) {
            return None;
        }
        let text = self.with(mine, other, &parts);
        (text != mine).then_some(text)
    }
}

/// Where two texts differ. What is inside of one block of PEM is one piece, and so is what has nothing between but
/// whitespace, or lines of base64: two certificates of the same second have lines in common, and the next one has others.
fn pieces(mine: &str, other: &str) -> Vec<Piece> {
    let [my_blocks, other_blocks] = [mine, other].map(blocks);
    let are_alike = my_blocks.iter().map(|block| block.label).eq(other_blocks.iter().map(|block| block.label));
    let bodies = my_blocks.into_iter().zip(other_blocks).filter(|_| are_alike);
    let (mut found, mut end, mut other_end) = (Vec::new(), 0, 0);
    for (my_block, other_block) in bodies {
        let body = Piece { mine: my_block.body, other: other_block.body };
        let before = Piece { mine: end..body.mine.start, other: other_end..body.other.start };
        found.extend(differences_in(mine, other, &before));
        (end, other_end) = (body.mine.end, body.other.end);
        if mine[body.mine.clone()] != other[body.other.clone()] {
            found.push(body);
        }
    }
    let rest = Piece { mine: end..mine.len(), other: other_end..other.len() };
    found.extend(differences_in(mine, other, &rest));
    let mut pieces: Vec<Piece> = Vec::new();
    for piece in found {
        match pieces.last_mut() {
            Some(last) if joins(&mine[last.mine.end..piece.mine.start]) => {
                last.mine.end = piece.mine.end;
                last.other.end = piece.other.end;
            }
            _ => pieces.push(piece),
        }
    }
    pieces
}

/// Whether what is before it and what is behind it are of one piece.
fn joins(between: &str) -> bool {
    let lines: Vec<&str> = between.split('\n').map(str::trim).collect();
    let [first, lines @ .., last] = lines.as_slice() else { return is_blank(between) };
    first.is_empty() && last.is_empty() && lines.iter().all(|line| line.is_empty() || is_line_of_base64(line))
}

/// Whether it is what certificates and keys are written in: lines of 64 characters, or of 76.
fn is_line_of_base64(line: &str) -> bool {
    let is_of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    line.len() >= 40 && line.bytes().all(is_of_base64) && line.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// The blocks of PEM in a text: <https://www.rfc-editor.org/rfc/rfc7468>. Lines may be ended by `\n` in letters, as in
/// JSON.
fn blocks(text: &str) -> Vec<Block<'_>> {
    const BEGIN: &str = "-----BEGIN ";
    const DASHES: &str = "-----";
    let mut blocks = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(BEGIN) {
        from += at + BEGIN.len();
        let label = text[from..].split(DASHES).next().unwrap_or_default();
        let Some(rest) = text.get(from + label.len() + DASHES.len()..) else { break };
        if !label.chars().all(|character| matches!(character, 'A'..='Z' | '0'..='9' | ' ')) {
            continue;
        }
        let Some(length) = rest.find(&format!("-----END {label}-----")) else { break };
        let start = text.len() - rest.len();
        let body = rest[..length].trim_start().trim_start_matches("\\n");
        let skipped = length - body.len();
        let body = body.trim_end().trim_end_matches("\\n");
        blocks.push(Block { label, body: start + skipped..start + skipped + body.len() });
        from = start + length;
    }
    blocks
}

/// Where a part of the one text differs from a part of the other.
fn differences_in(mine: &str, other: &str, part: &Piece) -> Vec<Piece> {
    let (start, other_start) = (part.mine.start, part.other.start);
    let found = differences(&mine[part.mine.clone()], &other[part.other.clone()]).into_iter();
    let moved = found.map(|Piece { mine, other }| Piece {
        mine: start + mine.start..start + mine.end,
        other: other_start + other.start..other_start + other.end,
    });
    moved.collect()
}

/// What a text has before, between and behind its pieces.
fn gaps<'a>(text: &'a str, pieces: &[Piece]) -> Vec<&'a str> {
    let mut gaps = Vec::new();
    let mut end = 0;
    for piece in pieces {
        gaps.push(&text[end..piece.mine.start]);
        end = piece.mine.end;
    }
    gaps.push(&text[end..]);
    gaps
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
    let lines = my_lines.into_iter().zip(other_lines).map(pairs);
    lines.flat_map(|line| differences_in(mine, other, &line)).collect()
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

/// What is between whitespace, or the `\n` of a quoted text.
fn words(text: &str) -> Vec<&str> {
    text.split("\\n").flat_map(str::split_whitespace).collect()
}

/// What the cluster has for each piece, where its text is otherwise the same.
fn in_the_same_text<'a>(texts: &Texts, there: &'a str) -> Option<Vec<&'a str>> {
    let gaps = gaps(&texts.mine, &texts.pieces);
    let [first, between @ .., last] = gaps.as_slice() else { return None };
    // Whatever it is: nothing of it is said by the chart.
    if between.is_empty() && is_blank(first) && is_blank(last) {
        return Some(vec![there.trim()]);
    }
    let mut rest = there.strip_prefix(first)?.strip_suffix(last)?;
    let mut found = Vec::new();
    for (index, piece) in texts.pieces.iter().enumerate() {
        let behind = between.get(index).copied().unwrap_or_default();
        // It is one character long at least.
        let shortest = rest.chars().next()?.len_utf8();
        let end = if behind.is_empty() { rest.len() } else { shortest + rest[shortest..].find(behind)? };
        let value = &rest[..end];
        let kind = kind_of(&texts.mine[piece.mine.clone()], &texts.other[piece.other.clone()]);
        if !is_made_of(value, kind) {
            return None;
        }
        found.push(value);
        rest = &rest[end + behind.len()..];
    }
    Some(found)
}

/// What the cluster has for one piece: in a block of PEM; on a line that is otherwise the same, behind the same one if there
/// are several; or else behind the same word.
fn in_the_same_place<'a>(texts: &Texts, piece: &Piece, there: &'a str) -> Found<'a> {
    let mine = texts.mine.as_str();
    let Range { start, end } = piece.mine;
    if let Some(block) = blocks(mine).into_iter().find(|block| block.body == piece.mine) {
        let bodies = |text: &str| -> Vec<Range<usize>> {
            let alike = blocks(text).into_iter().filter(|other| other.label == block.label);
            alike.map(|other| other.body).collect()
        };
        let (in_mine, in_there) = (bodies(mine), bodies(there));
        // A certificate is not the one that it was signed with.
        if !in_there.is_empty() && in_there.len() != in_mine.len() {
            return Found::Unclear;
        }
        return the_same(&in_mine, &in_there, start, there);
    }
    // Several lines by themselves are alike.
    if mine[start..end].contains(char::is_whitespace) {
        return Found::Unclear;
    }
    let kind = kind_of(&mine[start..end], &texts.other[piece.other.clone()]);
    let line = mine[..start].rfind('\n').map_or(0, |before| before + 1);
    let before = &mine[line..start];
    let after = mine[end..].split('\n').next().unwrap_or_default();
    if line > 0 {
        let above = mine[..line - 1].rfind('\n').map_or(0, |before| before + 1);
        let behind = &mine[above..start];
        let (in_mine, in_there) = (on_lines(mine, behind, after, kind), on_lines(there, behind, after, kind));
        match the_same(&in_mine, &in_there, start, there) {
            Found::Nowhere => {}
            found @ (Found::As(_) | Found::Unclear) => return found,
        }
    }
    let Some(word) = TOKEN.find_iter(before).last().map(|word| word.start()) else { return Found::Unclear };
    let (in_mine, in_there) = (on_lines(mine, before, after, kind), on_lines(there, before, after, kind));
    match the_same(&in_mine, &in_there, start, there) {
        Found::Nowhere => {}
        found @ (Found::As(_) | Found::Unclear) => return found,
    }
    // A word that is made up too is not there, whatever is behind it.
    if texts.pieces.iter().any(|piece| (line + word..start).contains(&piece.mine.start)) {
        return Found::Unclear;
    }
    let (behind, next) = (&before[word..], after.chars().next());
    let (in_mine, in_there) = (behind_word(mine, behind, next, kind), behind_word(there, behind, next, kind));
    the_same(&in_mine, &in_there, start, there)
}

/// Of the places that are alike in both texts, what the cluster has in the one that begins at `start` in the render: the
/// first is the first, and the second the second, as long as there are as many.
fn the_same<'a>(in_mine: &[Range<usize>], in_there: &[Range<usize>], start: usize, there: &'a str) -> Found<'a> {
    let place = in_mine.iter().position(|range| range.start == start);
    if let Some(place) = place.filter(|_| in_mine.len() == in_there.len()) {
        return Found::As(&there[in_there[place].clone()]);
    }
    let mut values = in_there.iter().map(|range| &there[range.clone()]);
    let Some(first) = values.next() else { return Found::Nowhere };
    if values.all(|value| value == first) { Found::As(first) } else { Found::Unclear }
}

/// What is on lines of a text between `before`, which may have the line above in it, and `after`.
fn on_lines(text: &str, before: &str, after: &str, kind: Kind) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(before) {
        if at > 0 && !text[..at].ends_with('\n') {
            continue;
        }
        let start = at + before.len();
        let rest = text[start..].split('\n').next().unwrap_or_default();
        if let Some(value) = rest.strip_suffix(after).filter(|value| is_made_of(value, kind)) {
            found.push(start..start + value.len());
        }
    }
    found
}

/// What is in a text between `behind`, which begins with a word, and the character `next`. None: the line's end.
fn behind_word(text: &str, behind: &str, next: Option<char>, kind: Kind) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut searched = 0;
    for (at, _) in text.match_indices(behind) {
        // What begins inside of what was looked at ends where that does.
        if at < searched || text[..at].ends_with(is_of_token) {
            continue;
        }
        let start = at + behind.len();
        let rest = &text[start..];
        let length = rest.find(|character: char| Some(character) == next || !kind(character)).unwrap_or(rest.len());
        searched = start + length;
        let follows = rest[length..].chars().next();
        if length > 0 && (follows == next || next.is_none() && follows == Some('\n')) {
            found.push(start..searched);
        }
    }
    found
}

/// What is like these two.
fn kind_of(mine: &str, other: &str) -> Kind {
    let kinds: [Kind; 4] = [is_of_token, is_of_base64_lines, is_of_words, is_of_line];
    let is_of = |kind: &Kind| mine.chars().chain(other.chars()).all(*kind);
    kinds.into_iter().find(is_of).unwrap_or(|_| true)
}

fn is_made_of(text: &str, kind: Kind) -> bool {
    !text.is_empty() && text.chars().all(kind)
}

fn is_of_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '+' | '/' | '_' | '=' | '-')
}

fn is_of_base64_lines(character: char) -> bool {
    is_of_words(character) && !matches!(character, '-' | '_')
}

fn is_of_words(character: char) -> bool {
    is_of_token(character) || character.is_ascii_whitespace()
}

fn is_of_line(character: char) -> bool {
    character != '\n'
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

    /// A Secret with a password, and a text that may have it too.
    fn secret(word: &str, text: &str) -> Vec<Value> {
        let text = json!({ "word": word, "a.txt": text });
        vec![json!({ "kind": "Secret", "metadata": { "name": "redis" }, "stringData": text })]
    }

    #[test]
    fn what_is_not_found_again_stays_with_all_that_is_around_it() {
        let (mine, other) = (secret("same", "new1 of level 2"), secret("same", "new2 of level 2"));
        let there = "old words of level 1";
        let found = kept(mine, &other, &[("a.txt", there)]);
        assert_eq!(found[0]["data"]["a.txt"], BASE64.encode(there));
        assert_eq!(found[0]["stringData"], json!({ "word": "same" }));
    }

    #[test]
    fn what_comes_into_a_text_in_which_nothing_was_made_up_is_new() {
        let of = |word: &str| secret("same", &format!("level: 1\npassword: {word}\n"));
        assert_eq!(kept(of("new1"), &of("new2"), &[("a.txt", "level: 1\n")]), of("new1"));
    }

    #[test]
    fn several_behind_the_same_word_are_told_apart() {
        let yaml = |one: &str, two: &str, level: u8| {
            format!("db:\n  password: {one}\ncache:\n  password: {two}\nlevel: {level}\n")
        };
        let json = |one: &str, two: &str, level: u8| {
            format!(r#"{{"db":{{"password":"{one}"}},"cache":{{"password":"{two}"}},"level":{level}}}"#)
        };
        let turned = "cache:\n  password: Kept2\ndb:\n  password: Kept1\n";
        for (mine, other, there, expected) in [
            (yaml("a1", "b1", 2), yaml("a2", "b2", 2), yaml("Kept1", "Kept2", 1), yaml("Kept1", "Kept2", 2)),
            (yaml("a1", "b1", 2), yaml("a2", "b2", 2), turned.to_owned(), yaml("Kept1", "Kept2", 2)),
            (json("a1", "b1", 2), json("a2", "b2", 2), json("Kept1", "Kept2", 1), json("Kept1", "Kept2", 2)),
        ] {
            let found = kept(secret("same", &mine), &secret("same", &other), &[("a.txt", &there)]);
            assert_eq!(found, secret("same", &expected), "{there}");
        }
    }

    #[test]
    fn what_may_be_one_or_another_stays_unless_it_is_known_from_elsewhere() {
        let of = |word: &str| secret(word, &format!("level: 2\npassword: {word}\n"));
        let there = "level: 1\npassword: Kept1\nmore: 1\npassword: Kept2\n";
        let found = kept(of("new1"), &of("new2"), &[("a.txt", there)]);
        assert_eq!(found[0]["data"]["a.txt"], BASE64.encode(there));
        let found = kept(of("new1"), &of("new2"), &[("a.txt", there), ("word", "Kept2")]);
        assert_eq!(found[0]["stringData"], json!({ "a.txt": "level: 2\npassword: Kept2\n" }));
    }

    #[test]
    fn the_hash_of_a_password_stays_with_it() {
        let of = |word: &str, hash: &str, level: u8| {
            secret("same", &format!("password: {word}\nhash: $2a$10${hash}\nlevel: {level}\n"))
        };
        let there = of("Kept0", "k.e/p.t", 1)[0]["stringData"]["a.txt"].as_str().expect("a text").to_owned();
        // Dots are among what it is made of, and need not be in it.
        for (mine, other) in [("abcdefg", "bcdefgh"), ("abc.efg", "bcdefgh")] {
            let found = kept(of("new1", mine, 2), &of("new2", other, 2), &[("a.txt", &there)]);
            assert_eq!(found, of("Kept0", "k.e/p.t", 2), "{mine}");
        }
    }

    #[test]
    fn a_large_value_stays_whole() {
        let text = |word: &str, level: u8| {
            let words: Vec<String> = (0..5000).map(|index| format!(r#""k{index}":"{word}x{index}""#)).collect();
            format!(r#"{{{},"level":{level}}}"#, words.join(","))
        };
        let of = |word: &str| {
            let mut objects = secret("same", &text(word, 2));
            objects.push(json!({ "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "b": text(word, 2) } }));
            objects
        };
        for level in [1, 2] {
            let there = text("Kept", level);
            let found = kept(of("new1"), &of("new2"), &[("a.txt", &there)]);
            assert_eq!(found[0]["data"]["a.txt"], BASE64.encode(&there));
            let word = if level == 2 { "Kept" } else { "new1" };
            assert_eq!(found[1]["data"]["b"], text(word, 2), "only what is the same otherwise is known");
        }
    }

    /// Lines of 64 characters, and a short one.
    fn pem(label: &str, lines: &str) -> String {
        let lines: Vec<String> = lines.chars().map(|line| line.to_string().repeat(64)).collect();
        format!("-----BEGIN {label}-----\n{}\nAg==\n-----END {label}-----\n", lines.join("\n"))
    }

    #[test]
    fn certificates_with_lines_in_common_stay_with_their_keys() {
        let of = |certificate: &str, key: &str| {
            let certificate = pem("CERTIFICATE", certificate);
            let indented = format!("ca: |\n  {}\n", certificate.trim_end().replace('\n', "\n  "));
            let quoted = format!("{{\"ca\":\"{}\"}}", certificate.replace('\n', "\\n"));
            vec![
                json!({ "kind": "Secret", "metadata": { "name": "redis" }, "data": {
                    "tls.crt": BASE64.encode(&certificate),
                    "tls.key": BASE64.encode(pem("RSA PRIVATE KEY", key)),
                } }),
                json!({ "kind": "ConfigMap", "metadata": { "name": "ca" }, "data": { "a.yaml": indented, "a.json": quoted } }),
            ]
        };
        let (certificate, key) = (pem("CERTIFICATE", "RSTU"), pem("RSA PRIVATE KEY", "VWX"));
        let there = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
        for (mine, other) in [("abcd", "ebfd"), ("abcd", "aefd"), ("abc", "abcd")] {
            assert_eq!(kept(of(mine, "lmn"), &of(other, "omp"), &there), of("RSTU", "VWX"), "{mine} {other}");
        }
    }

    #[test]
    fn certificates_are_found_in_a_text_that_changes() {
        let of = |certificate: &str, key: &str, level: u8| {
            let (certificate, key) = (pem("CERTIFICATE", certificate), pem("PRIVATE KEY", key));
            format!("level {level}\n{certificate}{key}")
        };
        let (mine, other) = (secret("same", &of("abc", "lmn", 2)), secret("same", &of("dbe", "omp", 2)));
        let found = kept(mine.clone(), &other, &[("a.txt", &of("RST", "VW", 1))]);
        assert_eq!(found, secret("same", &of("RST", "VW", 2)));
        // A chain, of which it is not known what is what.
        let there = of("RST", "VW", 1) + &pem("CERTIFICATE", "X");
        let found = kept(mine, &other, &[("a.txt", &there)]);
        assert_eq!(found[0]["data"]["a.txt"], BASE64.encode(&there));
    }

    #[test]
    fn lines_of_base64_without_a_block_are_one() {
        let of = |lines: &str| {
            let lines: Vec<String> = lines.chars().map(|line| line.to_string().repeat(64)).collect();
            secret("same", &format!("store: |\n  {}\nlevel: 2\n", lines.join("\n  ")))
        };
        let there = of("RST")[0]["stringData"]["a.txt"].as_str().expect("a text").to_owned();
        assert_eq!(kept(of("abc"), &of("dbf"), &[("a.txt", &there)])[0]["data"]["a.txt"], BASE64.encode(&there));
    }

    #[test]
    fn lines_of_one_certificate_are_not_put_into_another() {
        let of = |one: &str, two: &str| {
            let bundle = pem("CERTIFICATE", two);
            let mut objects = secret("same", &pem("CERTIFICATE", one));
            objects.push(json!({ "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "bundle": bundle } }));
            objects
        };
        let there = pem("CERTIFICATE", "RST");
        let found = kept(of("abc", "xby"), &of("def", "zeu"), &[("a.txt", &there)]);
        assert_eq!(found[0]["data"]["a.txt"], BASE64.encode(&there));
        assert_eq!(found[1], of("abc", "xby")[1]);
    }

    #[test]
    fn certificates_and_keys_of_one_secret_are_kept_together_or_new() {
        let of = |ca: &str, certificate: &str, key: &str, word: &str| {
            let (ca, certificate, key) =
                (pem("CERTIFICATE", ca), pem("CERTIFICATE", certificate), pem("PRIVATE KEY", key));
            let text = json!({ "ca.crt": ca, "tls.crt": certificate, "tls.key": key, "password": word });
            vec![json!({ "kind": "Secret", "metadata": { "name": "redis" }, "stringData": text })]
        };
        let (certificate, key) = (pem("CERTIFICATE", "RS"), pem("PRIVATE KEY", "TU"));
        let there = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str()), ("password", "Kept0")];
        let found = kept(of("ab", "cd", "ef", "new1"), &of("gh", "ij", "kl", "new2"), &there);
        assert_eq!(found[0]["data"], json!({ "password": BASE64.encode("Kept0") }));
        let mut expected = of("ab", "cd", "ef", "new1")[0]["stringData"].clone();
        expected.as_object_mut().expect("an object").remove("password");
        assert_eq!(found[0]["stringData"], expected);
        // One that signs itself is the one that the cluster has.
        let found = kept(of("cd", "cd", "ef", "new1"), &of("ij", "ij", "kl", "new2"), &there);
        assert_eq!(found[0]["stringData"], json!({ "ca.crt": certificate }));
        assert_eq!(found[0]["data"]["tls.key"], BASE64.encode(&key));
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
