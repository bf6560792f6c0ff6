//! Figures against the baseline. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::baseline::{Baseline, OnKernel};
use super::figures::{Counts, Figures};

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Instructions or bytes.
    Count,
    /// A run time beside another.
    Ratio,
}

/// How a figure stands to its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is within the margin.
    Within,
    /// It grew beyond the margin.
    Above,
    /// It shrank by more than the margin: no fault, but nothing keeps it there.
    Below,
    /// The baseline does not know it.
    New,
    /// Only the baseline knows it.
    Gone,
}

impl Standing {
    /// Whether the guard lets that pass.
    pub const fn is_fine(self) -> bool {
        matches!(self, Self::Within | Self::Below)
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Of what, for people: `limiter_edge, verified`.
    pub what: String,
    /// What kind it is.
    pub kind: Kind,
    /// What it was, if the baseline knows it.
    pub was: Option<f64>,
    /// What it is, if it was measured.
    pub is: Option<f64>,
    /// By how much it may grow, in percent.
    pub margin_percent: u32,
    /// How it stands.
    pub standing: Standing,
}

/// All figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// One after the other: the object's, the programs', the run times.
    pub rows: Vec<Row>,
    /// Whether the baseline knows this kernel. Otherwise only the object was compared.
    pub knows_kernel: bool,
}

impl Comparison {
    /// What the guard does not let pass.
    pub fn faults(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.standing.is_fine())
    }

    /// Whether everything passes.
    pub fn is_fine(&self) -> bool {
        self.faults().next().is_none()
    }

    /// Whether a busy machine may be all that is wrong.
    pub fn may_be_noise(&self) -> bool {
        let is_time = |row: &Row| row.kind == Kind::Ratio && row.standing == Standing::Above;
        !self.is_fine() && self.faults().all(is_time)
    }
}

/// Compares all that can be compared.
pub fn compare(baseline: &Baseline, found: &Figures) -> Comparison {
    let margins = baseline.margins;
    let counts = |prefix: &str, was: &Counts, is: &Counts| {
        let [was, is] = [was, is].map(as_numbers);
        rows(Kind::Count, margins.counts_percent, prefix, &was, &is)
    };
    let mut rows_of_all = counts("object: ", &baseline.object, &found.object);
    let Some(OnKernel { programs, ratios }) = baseline.kernels.get(&found.kernel) else {
        return Comparison {
            rows: rows_of_all,
            knows_kernel: false,
        };
    };
    let none = Counts::new();
    let names: BTreeSet<&String> = programs.keys().chain(found.programs.keys()).collect();
    for name in names {
        let [was, is] = [programs, &found.programs].map(|all| all.get(name).unwrap_or(&none));
        rows_of_all.extend(counts(&format!("{name}: "), was, is));
    }
    let margin = margins.ratios_percent;
    rows_of_all.extend(rows(Kind::Ratio, margin, "", ratios, &found.ratios));
    Comparison {
        rows: rows_of_all,
        knows_kernel: true,
    }
}

/// Counts of instructions are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "they are small")]
fn as_numbers(counts: &Counts) -> BTreeMap<String, f64> {
    let number = |(name, count): (&String, &u64)| (name.clone(), *count as f64);
    counts.iter().map(number).collect()
}

fn rows(
    kind: Kind,
    margin_percent: u32,
    prefix: &str,
    was: &BTreeMap<String, f64>,
    is: &BTreeMap<String, f64>,
) -> Vec<Row> {
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let row = |name: &String| {
        let (was, is) = (was.get(name).copied(), is.get(name).copied());
        Row {
            what: format!("{prefix}{name}"),
            kind,
            was,
            is,
            margin_percent,
            standing: standing(was, is, margin_percent),
        }
    };
    names.into_iter().map(row).collect()
}

fn standing(was: Option<f64>, is: Option<f64>, margin_percent: u32) -> Standing {
    let factor = 1.0 + f64::from(margin_percent) / 100.0;
    match (was, is) {
        (None, _) => Standing::New,
        (_, None) => Standing::Gone,
        (Some(was), Some(is)) if is > was * factor => Standing::Above,
        (Some(was), Some(is)) if is * factor < was => Standing::Below,
        _ => Standing::Within,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::baseline::Margins;

    const KERNEL: &str = "6.18 x86_64";

    fn counts(all: &[(&str, u64)]) -> Counts {
        let owned = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
        all.iter().map(owned).collect()
    }

    fn figures(instructions: u64, verified: u64, ratio: f64) -> Figures {
        let edge = counts(&[("verified", verified)]);
        Figures {
            kernel: KERNEL.to_owned(),
            compiler: String::new(),
            object: counts(&[("limiter_edge", instructions)]),
            programs: BTreeMap::from([("limiter_edge".to_owned(), edge)]),
            ratios: BTreeMap::from([("edge: TCP 443".to_owned(), ratio)]),
        }
    }

    /// Of 100 instructions, 1,000 verified and twice the yardstick; margins of 3 % and 50 %.
    fn baseline() -> Baseline {
        let margins = Margins {
            counts_percent: 3,
            ratios_percent: 50,
        };
        let empty = Baseline {
            margins,
            ..Baseline::default()
        };
        empty.blessed(figures(100, 1_000, 2.0))
    }

    fn standings(found: &Figures) -> Vec<Standing> {
        let rows = compare(&baseline(), found).rows;
        rows.iter().map(|row| row.standing).collect()
    }

    #[test]
    fn the_margin_is_the_last_that_passes() {
        use Standing::{Above, Within};
        assert_eq!(standings(&figures(100, 1_000, 2.0)), [Within; 3]);
        assert_eq!(standings(&figures(103, 1_030, 3.0)), [Within; 3]);
        assert_eq!(standings(&figures(104, 1_031, 3.01)), [Above; 3]);
        assert_eq!(standings(&figures(98, 971, 1.4)), [Within; 3]);
    }

    #[test]
    fn what_shrank_passes_and_is_told() {
        let comparison = compare(&baseline(), &figures(97, 900, 1.3));
        assert!(comparison.is_fine());
        assert!(
            comparison
                .rows
                .iter()
                .all(|row| row.standing == Standing::Below)
        );
    }

    #[test]
    fn nothing_is_unguarded_because_nobody_knows_it() {
        let mut found = figures(100, 1_000, 2.0);
        found.object.insert("limiter_new".to_owned(), 1);
        found.ratios.clear();
        let comparison = compare(&baseline(), &found);
        let faults: Vec<_> = comparison
            .faults()
            .map(|row| (row.what.as_str(), row.standing))
            .collect();
        let expected = [
            ("object: limiter_new", Standing::New),
            ("edge: TCP 443", Standing::Gone),
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_program_that_is_gone_is_missed() {
        let mut found = figures(100, 1_000, 2.0);
        found.programs.clear();
        let comparison = compare(&baseline(), &found);
        let fault = comparison.faults().next().unwrap();
        assert_eq!(fault.what, "limiter_edge: verified");
        assert_eq!((fault.was, fault.is), (Some(1_000.0), None));
    }

    #[test]
    fn on_a_kernel_that_nobody_knows_the_object_is_compared_all_the_same() {
        let mut found = figures(104, 5_000, 9.0);
        found.kernel = "5.10 x86_64".to_owned();
        let comparison = compare(&baseline(), &found);
        assert!(!comparison.knows_kernel);
        let faults: Vec<&str> = comparison.faults().map(|row| row.what.as_str()).collect();
        assert_eq!(faults, ["object: limiter_edge"]);
    }

    #[test]
    fn only_run_times_may_be_noise() {
        let compared = |found| compare(&baseline(), &found);
        assert!(compared(figures(100, 1_000, 9.0)).may_be_noise());
        assert!(!compared(figures(100, 2_000, 9.0)).may_be_noise());
        assert!(!compared(figures(100, 1_000, 2.0)).may_be_noise());
        let mut best = figures(100, 1_000, 9.0);
        best.take_best_of(figures(100, 1_000, 2.5));
        assert!(compared(best).is_fine());
    }
}
