//! One row: a level of each factor.

use super::array;

/// The words of its levels, and the name that says them.
pub struct Row {
    pub name: &'static str,
    levels: Vec<&'static str>,
}

impl Row {
    pub fn of(name: &'static str) -> Self {
        Self { name, levels: array::levels_of(name) }
    }

    pub fn has(&self, level: &'static str) -> bool {
        debug_assert!(super::factors::FACTORS.iter().any(|factor| factor.levels.contains(&level)), "{level}");
        self.levels.contains(&level)
    }

    pub fn event(&self) -> &'static str {
        self.levels[0]
    }

    /// The repository's name: the row's number, which is the only one of its kind.
    pub fn repository(&self) -> String {
        self.name.split('_').take(2).collect::<Vec<_>>().join("-")
    }
}
