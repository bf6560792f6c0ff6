//! How much is measured.

use std::{env, path::PathBuf};

/// How much is measured.
pub struct Plan {
    /// How many accounts there are.
    pub sizes: Vec<usize>,
    /// Rounds of connecting.
    pub rounds: usize,
    /// Rounds of loading and changing policies.
    pub loads: usize,
    /// Rounds of unrelated traffic, of messages and of hot accounts.
    pub traffic: usize,
    /// Accounts in the files of a whole agent.
    pub files: usize,
    /// How long an agent is watched, in each case, seconds.
    pub seconds: u64,
    /// What is measured, by the names of the parts; all if there is none.
    pub only: Vec<String>,
    /// Where the report goes, beside the terminal.
    pub json: Option<PathBuf>,
    /// Where the charts go.
    pub charts: Option<PathBuf>,
}

impl Plan {
    /// All of it, in less than twenty minutes.
    fn full() -> Self {
        Self {
            sizes: vec![1, 1_000, 10_000, 100_000, 1_000_000],
            rounds: 101,
            loads: 3,
            traffic: 61,
            files: 100_000,
            seconds: 5,
            only: Vec::new(),
            json: None,
            charts: None,
        }
    }

    /// What matters most, in less than three minutes.
    fn quick() -> Self {
        Self {
            sizes: vec![1_000, 100_000],
            rounds: 31,
            loads: 1,
            traffic: 9,
            seconds: 2,
            ..Self::full()
        }
    }

    /// What the command line says.
    pub fn of_arguments() -> Self {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let quick = arguments.iter().any(|it| it == "--quick");
        let mut plan = if quick { Self::quick() } else { Self::full() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            match argument.as_str() {
                "--sizes" => {
                    plan.sizes = value().split(',').map(|it| it.parse().unwrap()).collect();
                }
                "--only" => plan.only = value().split(',').map(str::to_owned).collect(),
                "--json" => plan.json = Some(value().into()),
                "--charts" => plan.charts = Some(value().into()),
                // The second is cargo's.
                "--quick" | "--bench" => {}
                other => panic!(
                    "{other} is none of --quick, --sizes N,M, --only PART,PART, --json FILE, --charts DIR"
                ),
            }
        }
        plan
    }

    /// Whether a part is measured.
    pub fn has(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|it| it == part)
    }
}
