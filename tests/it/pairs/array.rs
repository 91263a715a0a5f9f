//! A covering array of strength two: rows of one level of each factor, so that every two levels that may meet do so in one of
//! them. Found greedily, with a generator of random numbers that always gives the same.

use std::collections::BTreeSet;

use super::factors::{ALWAYS_SAID, FACTORS, FORBIDDEN};

/// How many rows are tried for each that is taken.
const CANDIDATES: usize = 200;
/// Of the first eight, the one that gives the fewest rows.
const SEED: u64 = 5;

/// The levels of all factors by number, and which of them may meet.
struct Space {
    levels: Vec<&'static str>,
    /// Of each factor, the numbers of its levels.
    factors: Vec<Vec<usize>>,
    /// The factor of each level.
    factor_of: Vec<usize>,
    /// The levels that each level may not meet, its factor's others aside.
    forbidden: Vec<Vec<usize>>,
}

impl Space {
    fn new() -> Self {
        let mut space = Self { levels: Vec::new(), factors: Vec::new(), factor_of: Vec::new(), forbidden: Vec::new() };
        for (number, factor) in FACTORS.iter().enumerate() {
            let first = space.levels.len();
            space.levels.extend(factor.levels);
            space.factors.push((first..space.levels.len()).collect());
            space.factor_of.resize(space.levels.len(), number);
        }
        let number = |word: &str| space.levels.iter().position(|level| *level == word).expect("a level of a factor");
        space.forbidden.resize(space.levels.len(), Vec::new());
        for (one, other, _) in FORBIDDEN {
            let (one, other) = (number(one), number(other));
            space.forbidden[one].push(other);
            space.forbidden[other].push(one);
        }
        space
    }

    fn may_meet(&self, one: usize, other: usize) -> bool {
        !self.forbidden[one].contains(&other)
    }

    /// Whether each factor has a level that may still meet all of these.
    fn is_open(&self, chosen: &[usize]) -> bool {
        self.factors.iter().all(|levels| {
            levels.iter().any(|level| chosen.contains(level))
                || levels.iter().any(|level| chosen.iter().all(|other| self.may_meet(*level, *other)))
        })
    }

    /// Whether some row has all of these.
    fn can_be_completed(&self, chosen: &mut Vec<usize>) -> bool {
        if !self.is_open(chosen) {
            return false;
        }
        let is_chosen = |levels: &Vec<usize>| levels.iter().any(|level| chosen.contains(level));
        // Levels that anything may meet decide nothing.
        let free = |level: &usize| self.forbidden[*level].is_empty();
        let Some(levels) = self.factors.iter().find(|levels| !is_chosen(levels) && !levels.iter().any(free)) else {
            return true;
        };
        levels.iter().any(|level| {
            let may = chosen.iter().all(|other| self.may_meet(*level, *other));
            chosen.push(*level);
            let can = may && self.can_be_completed(chosen);
            chosen.pop();
            can
        })
    }

    /// Every pair that some row has, the lower number first.
    fn pairs(&self) -> BTreeSet<(usize, usize)> {
        let mut pairs = BTreeSet::new();
        for one in 0..self.levels.len() {
            for other in one + 1..self.levels.len() {
                let may = self.factor_of[one] != self.factor_of[other] && self.may_meet(one, other);
                if may && self.can_be_completed(&mut vec![one, other]) {
                    pairs.insert((one, other));
                }
            }
        }
        pairs
    }

    /// A row that begins with a pair, and in which each further level is the one that meets most others for the first
    /// time. None where the last factors have no level left.
    fn row(&self, pair: (usize, usize), left: &[Vec<bool>], random: &mut Random) -> Option<Vec<usize>> {
        let mut row = vec![pair.0, pair.1];
        let is_begun = |factor: &usize| [pair.0, pair.1].iter().any(|level| self.factor_of[*level] == *factor);
        let mut rest: Vec<usize> = (0..self.factors.len()).filter(|factor| !is_begun(factor)).collect();
        while !rest.is_empty() {
            let factor = rest.swap_remove(random.below(rest.len()));
            let mut best: Vec<(usize, usize)> = Vec::new();
            for level in &self.factors[factor] {
                if !row.iter().all(|other| self.may_meet(*level, *other)) {
                    continue;
                }
                row.push(*level);
                let is_open = self.forbidden[*level].is_empty() || self.is_open(&row);
                row.pop();
                if is_open {
                    let gain = row.iter().filter(|other| left[*level][**other]).count();
                    best.push((gain, *level));
                }
            }
            let most = best.iter().map(|(gain, _)| *gain).max()?;
            best.retain(|(gain, _)| *gain == most);
            row.push(best[random.below(best.len())].1);
        }
        row.sort_unstable();
        Some(row)
    }
}

/// Knuth's constants for a linear congruential generator of 64 bits.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

/// The rows, as the words of their levels in the order of the factors.
pub fn generate() -> Vec<Vec<&'static str>> {
    let space = Space::new();
    let mut random = Random(SEED);
    let mut pairs = space.pairs();
    let mut left = vec![vec![false; space.levels.len()]; space.levels.len()];
    for (one, other) in &pairs {
        left[*one][*other] = true;
        left[*other][*one] = true;
    }
    let met = |row: &[usize]| {
        let pairs = row.iter().enumerate().flat_map(|(place, one)| row[..place].iter().map(|other| (*other, *one)));
        pairs.collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    while let Some(first) = pairs.first().copied() {
        let mut best: (usize, Option<Vec<usize>>) = (0, None);
        for candidate in 0..CANDIDATES {
            let begin = match candidate {
                0 => first,
                _ => *pairs.iter().nth(random.below(pairs.len())).expect("one of them"),
            };
            let Some(row) = space.row(begin, &left, &mut random) else { continue };
            let gain = met(&row).iter().filter(|pair| pairs.contains(pair)).count();
            if gain > best.0 {
                best = (gain, Some(row));
            }
        }
        let row = best.1.expect("a row with a pair that some row has");
        for (one, other) in met(&row) {
            pairs.remove(&(one, other));
            left[one][other] = false;
            left[other][one] = false;
        }
        rows.push(row);
    }
    // Those about one event stand together.
    rows.sort();
    rows.into_iter().map(|row| row.into_iter().map(|level| space.levels[level]).collect()).collect()
}

/// The pairs of levels that some row can have.
pub fn pairs() -> BTreeSet<(&'static str, &'static str)> {
    let space = Space::new();
    space.pairs().into_iter().map(|(one, other)| (space.levels[one], space.levels[other])).collect()
}

/// The name of a row's test: its number, and every level that most do not have.
pub fn name_of(number: usize, row: &[&str]) -> String {
    let said =
        row.iter().enumerate().filter(|(place, level)| *place < ALWAYS_SAID || FACTORS[*place].levels[0] != **level);
    let words: Vec<&str> = said.map(|(_, level)| *level).collect();
    format!("row_{number:02}_{}", words.join("_"))
}

/// The row that a name says.
pub fn levels_of(name: &str) -> Vec<&'static str> {
    let mut words: BTreeSet<&str> = name.split('_').skip(2).collect();
    let level = |factor: &super::factors::Factor| {
        let said = factor.levels.iter().copied().find(|level| words.remove(level));
        said.unwrap_or(factor.levels[0])
    };
    let levels = FACTORS.iter().map(level).collect();
    assert!(words.is_empty(), "{name} has words that are no levels: {words:?}");
    levels
}
