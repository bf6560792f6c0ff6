//! What was found.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    attempt::Family,
    figures::Estimate,
    goals, machine,
    question::{Case, Question},
    turns::{Turns, paired},
};

/// Whom everybody is compared with.
pub const NOTHING: &str = "no filter";
/// Whom this is about.
pub const LIMITER: &str = "limiter";

/// A figure.
pub struct Finding {
    /// What was asked.
    pub question: Question,
    /// In which case.
    pub case: Case,
    /// Who filtered.
    pub with: &'static str,
    /// What it was, in the question's unit.
    pub value: Estimate,
    /// What limiter's is of it.
    pub part: Option<Estimate>,
}

/// All figures.
#[derive(Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Takes in what was found in rounds.
    pub fn take(&mut self, question: Question, case: Case, turns: &Turns) {
        let ours = turns.of(LIMITER).filter(|_| question.compares());
        for (with, figures) in turns.iter() {
            let part = ours.filter(|_| with != NOTHING && !with.starts_with(LIMITER));
            self.findings.push(Finding {
                question,
                case,
                with,
                value: Estimate::of(figures),
                part: part.map(|ours| Estimate::of(&paired(ours, figures, |a, b| a / b))),
            });
        }
    }

    /// Takes in a single figure.
    pub fn note(&mut self, question: Question, case: Case, with: &'static str, figure: f64) {
        let mut turns = Turns::default();
        turns.add(with, figure);
        self.take(question, case, &turns);
    }

    /// How much more is added to a connection where there are so many accounts than where there are fewer.
    pub fn growth(&mut self, few: usize, many: usize) {
        for family in Family::ALL {
            let at = |with, accounts| {
                let found = self.find(Question::Added(family), Case::Accounts(accounts), with);
                found.map(|it| it.value.median)
            };
            let mut all = Vec::new();
            for with in self.rivals(Question::Added(family)) {
                if let (Some(few), Some(many)) = (at(with, few), at(with, many)) {
                    all.push((with, many - few));
                }
            }
            for (with, growth) in all {
                self.note(Question::Growth, Case::Named(family.name()), with, growth);
            }
        }
    }

    /// A figure.
    pub fn find(&self, question: Question, case: Case, with: &str) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|it| it.question == question && it.case == case && it.with == with)
    }

    /// What was asked, in the order in which it was.
    pub fn questions(&self) -> Vec<Question> {
        distinct(self.findings.iter().map(|it| it.question))
    }

    /// In which cases.
    pub fn cases(&self, question: Question) -> Vec<Case> {
        distinct(self.about(question).map(|it| it.case))
    }

    /// Of whom.
    pub fn rivals(&self, question: Question) -> Vec<&'static str> {
        distinct(self.about(question).map(|it| it.with))
    }

    fn about(&self, question: Question) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |it| it.question == question)
    }

    /// All of it, as tables.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", machine::described());
        for question in self.questions() {
            let digits = question.digits();
            let heading = format!("{}, {}", question.title(), question.unit());
            self.table(&mut text, question, &heading, |it| {
                Some(in_words(it.value, digits))
            });
            if question.compares() {
                let heading = "limiter, as a part of";
                self.table(&mut text, question, heading, |it| {
                    it.part.map(|part| in_words(part, 2))
                });
            }
        }
        text += "\n| goal | at most | found | |\n|---|---|---|---|\n";
        for goal in goals::all(self) {
            let _ = writeln!(text, "{goal}");
        }
        text
    }

    /// A table with a column for each case; rows that would be empty are left out.
    fn table(
        &self,
        text: &mut String,
        question: Question,
        heading: &str,
        cell: impl Fn(&Finding) -> Option<String>,
    ) {
        let cases = self.cases(question);
        let mut rows = String::new();
        for with in self.rivals(question) {
            let cells: Vec<Option<String>> = cases
                .iter()
                .map(|case| self.find(question, *case, with).and_then(&cell))
                .collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(rows, "| {with} |");
            for cell in cells {
                let _ = write!(rows, " {} |", cell.unwrap_or_default());
            }
            rows.push('\n');
        }
        if rows.is_empty() {
            return;
        }
        let _ = write!(text, "\n| {heading} |");
        for case in &cases {
            let _ = write!(text, " {case} |");
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(cases.len()));
        text.push_str(&rows);
    }

    /// Writes all of it for programs.
    pub fn write(&self, path: &Path) {
        let estimate = |it: Estimate| json!({"median": it.median, "low": it.low, "high": it.high});
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|it| {
                json!({
                    "what": it.question.title(),
                    "unit": it.question.unit(),
                    "case": it.case.to_string(),
                    "accounts": it.case.accounts(),
                    "with": it.with,
                    "value": estimate(it.value),
                    "limiter_part": it.part.map(estimate),
                })
            })
            .collect();
        let goals: Vec<Value> = goals::all(self).iter().map(goals::Goal::json).collect();
        let all = json!({"machine": machine::described(), "findings": findings, "goals": goals});
        fs::write(path, format!("{all:#}\n")).unwrap();
    }
}

/// A median, and how far it can be trusted if it is more than one figure.
fn in_words(it: Estimate, digits: usize) -> String {
    let Estimate { median, low, high } = it;
    if low.to_bits() == high.to_bits() {
        format!("{median:.digits$}")
    } else {
        format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}
