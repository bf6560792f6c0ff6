//! What was found.

use std::{collections::BTreeMap, fs, io::Write as _, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{accounts::Accounts, figures::Estimate};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// What a connection costs that may be.
    Allowed,
    /// What one costs that may not be.
    Refused,
}

impl Question {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Allowed => "allowed connect",
            Self::Refused => "refused connect",
        }
    }
}

/// Whom everybody is compared with.
pub const NOTHING: &str = "no filter";
const LIMITER: &str = "limiter";

/// Nanoseconds of a contender's turns.
type Turns = (&'static str, Vec<f64>);

/// Nanoseconds by question, size and contender, and how long loading took.
#[derive(Default)]
pub struct Report {
    turns: BTreeMap<(Question, usize), Vec<Turns>>,
    loads: BTreeMap<usize, Vec<(&'static str, Duration)>>,
}

impl Report {
    /// What a turn of a contender found.
    pub fn add(&mut self, question: Question, name: &'static str, accounts: Accounts, ns: f64) {
        let all = self.turns.entry((question, accounts.count)).or_default();
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, turns)) => turns.push(ns),
            None => all.push((name, vec![ns])),
        }
    }

    /// How long loading took.
    pub fn loaded(&mut self, name: &'static str, accounts: Accounts, took: Duration) {
        self.loads
            .entry(accounts.count)
            .or_default()
            .push((name, took));
    }

    /// What is added to doing without, turn by turn.
    fn added(&self, size: usize, turns: &[f64]) -> Vec<f64> {
        let nothing = &self.turns[&(Question::Allowed, size)];
        let (_, nothing) = nothing.iter().find(|(name, _)| *name == NOTHING).unwrap();
        turns
            .iter()
            .zip(nothing)
            .map(|(with, without)| with - without)
            .collect()
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (&(question, size), contenders) in &self.turns {
            let of_limiter = contenders.iter().find(|(name, _)| *name == LIMITER);
            let of_limiter = of_limiter.map(|(_, turns)| self.measure(question, size, turns));
            for (name, turns) in contenders {
                let cost = self.measure(question, size, turns);
                let ratio = of_limiter.as_ref().map(|ours| {
                    let pairs = ours.iter().zip(&cost);
                    Estimate::of(
                        &pairs
                            .map(|(ours, theirs)| ours / theirs)
                            .collect::<Vec<_>>(),
                    )
                });
                rows.push(Row {
                    question,
                    size,
                    name,
                    total: Estimate::of(turns),
                    cost: Estimate::of(&cost),
                    ratio: ratio.filter(|_| ![NOTHING, LIMITER].contains(name)),
                });
            }
        }
        rows
    }

    /// Of what may be, what is added; of what may not be, all of it.
    fn measure(&self, question: Question, size: usize, turns: &[f64]) -> Vec<f64> {
        match question {
            Question::Allowed => self.added(size, turns),
            Question::Refused => turns.to_vec(),
        }
    }

    pub fn print(&self) {
        let mut text = String::from(
            "| what | accounts | with | ns | added, ns (95 %) | limiter's part of it (95 %) |\n\
             |---|---|---|---|---|---|\n",
        );
        for row in self.rows() {
            let ratio = row.ratio.map_or_else(String::new, |it| it.to_string());
            let Row {
                question,
                size,
                name,
                total,
                cost,
                ..
            } = row;
            text += &format!(
                "| {} | {size} | {name} | {:.0} | {:.0} ({:.0}–{:.0}) | {ratio} |\n",
                question.in_words(),
                total.median,
                cost.median,
                cost.low,
                cost.high,
            );
        }
        text += "\n| loaded | accounts | ms |\n|---|---|---|\n";
        for (size, loads) in &self.loads {
            for (name, took) in loads {
                text += &format!("| {name} | {size} | {:.1} |\n", took.as_secs_f64() * 1e3);
            }
        }
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    pub fn write(&self, path: &Path) {
        let estimate = |it: Estimate| json!({"median": it.median, "low": it.low, "high": it.high});
        let rows: Vec<Value> = self
            .rows()
            .into_iter()
            .map(|row| {
                json!({
                    "what": row.question.in_words(),
                    "accounts": row.size,
                    "with": row.name,
                    "ns": estimate(row.total),
                    "cost_ns": estimate(row.cost),
                    "limiter_ratio": row.ratio.map(estimate),
                })
            })
            .collect();
        let loads = self.loads.iter().flat_map(|(size, loads)| {
            loads.iter().map(move |(name, took)| {
                json!({"accounts": size, "with": name, "seconds": took.as_secs_f64()})
            })
        });
        let all = json!({"connects": rows, "loads": loads.collect::<Vec<_>>()});
        fs::write(path, format!("{all:#}\n")).unwrap();
    }
}

struct Row {
    question: Question,
    size: usize,
    name: &'static str,
    total: Estimate,
    cost: Estimate,
    /// What limiter costs, of what this one does.
    ratio: Option<Estimate>,
}
