//! Figures, and the table that shows them.

use serde::Serialize;

/// What performance.md's targets and the peers' figures come down to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Option<Goal>,
    /// How it was measured, and what others were measured at.
    pub note: String,
    /// What the value was made of, in its unit.
    pub samples: Vec<f64>,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, goal: None, note: String::new(), samples: vec![value] }
    }

    pub fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtMost(goal));
        self
    }

    pub fn at_least(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtLeast(goal));
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub fn samples(mut self, samples: &[f64]) -> Self {
        self.samples = samples.to_vec();
        self
    }

    fn cells(&self) -> [String; 5] {
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(goal)) => {
                format!("≤ {} {}", show(goal), if self.value <= goal { "met" } else { "missed" })
            }
            Some(Goal::AtLeast(goal)) => {
                format!("≥ {} {}", show(goal), if self.value >= goal { "met" } else { "missed" })
            }
        };
        [self.name.clone(), show(self.value), self.unit.to_owned(), goal, self.note.clone()]
    }
}

/// Three figures that count.
fn show(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

pub fn table(figures: &[Figure]) -> String {
    let mut rows = vec![["name", "value", "unit", "goal", "note"].map(str::to_owned)];
    rows.extend(figures.iter().map(Figure::cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for [name, value, unit, goal, note] in &rows {
        let [w0, w1, w2, w3] = widths;
        let line = format!("{name:<w0$}  {value:>w1$}  {unit:<w2$}  {goal:<w3$}  {note}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The value that `share` of the samples are at or below; 0 of none.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied().unwrap_or_default()
}

pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!((median(&samples), quantile(&samples, 0.99), quantile(&samples, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!((median(&[3.0]), median(&[])), (3.0, 0.0));
    }

    #[test]
    fn the_table_says_which_goals_are_met() {
        let figures = [
            Figure::new("cold start", 12.5, "ms").at_most(20.0).note("fresh"),
            Figure::new("pings", 4000.0, "1/s").at_least(5000.0),
        ];
        let shown = table(&figures);
        assert!(shown.contains("cold start  12.50  ms    ≤ 20 met       fresh\n"), "{shown}");
        assert!(shown.contains("pings        4000  1/s   ≥ 5000 missed\n"), "{shown}");
    }
}
