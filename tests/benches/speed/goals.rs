//! What is aimed at, and what was found.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    agent,
    attempt::Family,
    floor, hot,
    peers::Peer,
    question::{Case, Question},
    report::{LIMITER, Report},
    watch,
};

/// What is aimed at.
pub struct Goal {
    /// What it is about.
    what: String,
    /// The most that it may be.
    bound: f64,
    /// Its unit; none for ratios.
    unit: &'static str,
    /// What it was; `None` if it was not measured.
    found: Option<f64>,
}

impl Goal {
    fn ratio(what: impl Into<String>, bound: f64, found: Option<f64>) -> Self {
        Self::in_unit(what, bound, "", found)
    }

    fn in_unit(
        what: impl Into<String>,
        bound: f64,
        unit: &'static str,
        found: Option<f64>,
    ) -> Self {
        Self {
            what: what.into(),
            bound,
            unit,
            // Nothing costs less than nothing: that is noise.
            found: found.filter(|found| *found >= 0.0),
        }
    }

    const fn verdict(&self) -> &'static str {
        match self.found {
            None => "not measured",
            Some(found) if found <= self.bound => "met",
            Some(_) => "missed",
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "goal": self.what,
            "at_most": self.bound,
            "unit": self.unit,
            "found": self.found,
            "verdict": self.verdict(),
        })
    }
}

/// A row of a table.
impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what, bound, unit, ..
        } = self;
        write!(f, "| {what} | {bound}{unit} | ")?;
        if let Some(found) = self.found {
            write!(f, "{found:.3}{unit}")?;
        }
        write!(f, " | {} |", self.verdict())
    }
}

/// All of them, in the order of the measurements.
pub fn all(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    for family in Family::ALL {
        goals.extend(connects(report, family));
    }
    goals.extend(unrelated(report));
    goals.extend(policies(report));
    goals.extend(busy(report));
    goals
}

fn connects(report: &Report, family: Family) -> Vec<Goal> {
    let mut goals = Vec::new();
    for accounts in [1_000, 10_000, 100_000] {
        let part = |of: &str| {
            let found = report.find(Question::Added(family), Case::Accounts(accounts), of);
            found.and_then(|it| Some(it.part?.median))
        };
        let mut goal = |of: &str, bound| {
            let what = format!(
                "added to an allowed connect, {family}, {} accounts, beside {of}",
                Case::Accounts(accounts)
            );
            goals.push(Goal::ratio(what, bound, part(of)));
        };
        goal(
            Peer::ElementSet.name(),
            if accounts == 100_000 { 0.45 } else { 0.4 },
        );
        goal(Peer::VerdictMap.name(), 0.25);
        if accounts <= Peer::Owners.most() {
            goal(Peer::Owners.name(), 0.03);
        }
        goal(floor::COLD, 1.5);
    }
    let case = Case::Accounts(1_000);
    let refused = |of: &str| value(report, Question::Refused(family), case, of);
    let allowed = value(report, Question::Allowed(family), case, LIMITER);
    let of = |other: Option<f64>| Some(refused(LIMITER)? / other?);
    let what = |of| format!("a refused connect, {family}, beside {of}");
    goals.push(Goal::ratio(
        what("reject with tcp reset"),
        0.1,
        of(refused(Peer::ElementSet.name())),
    ));
    goals.push(Goal::ratio(what("an allowed one"), 0.06, of(allowed)));
    goals
}

/// The dearest of both families, against the bound.
fn unrelated(report: &Report) -> Vec<Goal> {
    let question = Question::Unrelated;
    let mut goals = Vec::new();
    for (with, bound) in [
        ("connect and uplink", 1.01),
        ("connect, uplink and socket", 1.05),
    ] {
        for (kind, what) in [("UDP packet", "packet"), ("TCP connection", "connect")] {
            let cases = report.cases(question).into_iter();
            let found = cases
                .filter(|case| case.to_string().contains(kind))
                .filter_map(|case| value(report, question, case, with))
                .reduce(f64::max);
            let what = format!("an unrelated {what}, {with}, beside no filter");
            goals.push(Goal::ratio(what, bound, found));
        }
    }
    goals
}

fn policies(report: &Report) -> Vec<Goal> {
    let case = Case::Accounts(100_000);
    let part = |question, case| {
        let found = report.find(question, case, Peer::ElementSet.name());
        found.and_then(|it| Some(it.part?.median))
    };
    let time = |with| value(report, Question::AgentTime, case, with);
    let memory = Case::Limits {
        accounts: 100_000,
        limits: 1,
    };
    vec![
        Goal::ratio(
            "loading 100,000 accounts, beside nft -f",
            0.1,
            part(Question::Load, case),
        ),
        Goal::in_unit(
            "starting with 100,000 accounts",
            2_000.0,
            " ms",
            time(agent::READY),
        ),
        Goal::in_unit(
            "changing one of 100,000 accounts",
            5.0,
            " ms",
            time(agent::CHANGED),
        ),
        Goal::ratio(
            "kernel memory of an account, one limit, beside nftables' element set",
            0.6,
            part(Question::Memory, memory),
        ),
    ]
}

fn busy(report: &Report) -> Vec<Goal> {
    let hot = |case| {
        let found = report.find(Question::Hot, case, Peer::DynamicSet.name());
        found.and_then(|it| Some(it.part?.median))
    };
    let question = Question::FloodTold;
    let wrong = report.cases(question).into_iter().flat_map(|case| {
        let all = report.rivals(question).into_iter();
        all.filter_map(move |with| value(report, question, case, with))
    });
    let wrong = wrong.map(|told| (1.0 - told).abs()).reduce(f64::max);
    vec![
        Goal::ratio(
            "one hot account, beside nftables' dynamic set",
            0.5,
            hot(hot::ONE),
        ),
        Goal::ratio(
            "one hot account on two processors, beside nftables' dynamic set",
            0.5,
            hot(hot::TWO),
        ),
        Goal::in_unit(
            "the agent while 500,000 of one account are refused in a second, of a processor",
            10.0,
            " %",
            value(report, Question::AgentCpu, watch::PACED, LIMITER),
        ),
        Goal::in_unit(
            "the agent while 500,000 of 1,000 accounts are refused in a second, of a processor",
            10.0,
            " %",
            value(report, Question::AgentCpu, watch::CROWD, LIMITER),
        ),
        Goal::ratio("refusals that were told of wrongly, of all", 0.0, wrong),
    ]
}

fn value(report: &Report, question: Question, case: Case, with: &str) -> Option<f64> {
    report.find(question, case, with).map(|it| it.value.median)
}
