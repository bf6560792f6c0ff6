//! What several had to do in the same rounds, and what it cost each.

use std::time::Duration;

/// Figures by who had the turn, in the order of the rounds.
#[derive(Default)]
pub struct Turns(Vec<(&'static str, Vec<f64>)>);

impl Turns {
    /// None yet of these, in the order in which tables tell of them.
    pub fn of_all(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self(names.into_iter().map(|name| (name, Vec::new())).collect())
    }

    /// What a turn found.
    pub fn add(&mut self, name: &'static str, figure: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, figures)) => figures.push(figure),
            None => self.0.push((name, vec![figure])),
        }
    }

    /// How long a turn took, as milliseconds.
    pub fn add_ms(&mut self, name: &'static str, took: Duration) {
        self.add(name, took.as_secs_f64() * 1e3);
    }

    /// All figures of one.
    pub fn of(&self, name: &str) -> Option<&[f64]> {
        let found = self
            .0
            .iter()
            .find(|(known, figures)| *known == name && !figures.is_empty());
        found.map(|(_, figures)| figures.as_slice())
    }

    /// Everybody's who had a turn.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[f64])> {
        let all = self.0.iter().filter(|(_, figures)| !figures.is_empty());
        all.map(|(name, figures)| (*name, figures.as_slice()))
    }

    /// Everybody's but one's, each beside that one's of the same round.
    pub fn beside(&self, base: &str, make: impl Fn(f64, f64) -> f64) -> Self {
        let base_figures = self.of(base).unwrap();
        let others = self.0.iter().filter(|(name, _)| *name != base);
        Self(
            others
                .map(|(name, figures)| (*name, paired(figures, base_figures, &make)))
                .collect(),
        )
    }
}

/// Figures of the same rounds, two by two.
pub fn paired(one: &[f64], other: &[f64], make: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    one.iter()
        .zip(other)
        .map(|(one, other)| make(*one, *other))
        .collect()
}
