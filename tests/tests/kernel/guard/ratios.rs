//! How long programs run, beside the yardstick: as the kernel times every run of either.
//!
//! No call is timed from outside, so neither system calls nor the rest of the network count. Both
//! programs run by turns, one run at a time, in many short batches. Of either the lower quartile of the
//! batches counts: what comes in between only makes them longer.

use std::{collections::BTreeMap, fs, path::PathBuf, process};

use limiter_tests::forge::Rng;

use super::cases::{Case, Layers};
use crate::{
    cost::figures::shuffled,
    foreign::{self, runs},
    lab::Lab,
};

/// Runs in a batch.
const RUNS: u32 = 50;
/// Batches of each case.
const BATCHES: u32 = 101;
/// And before them, so that caches are warm.
const WARM: u32 = 3;

/// How many times as long as the yardstick each program runs, by program and what it is run on.
pub fn measure(lab: &mut Lab) -> BTreeMap<String, f64> {
    let _timing = foreign::timing();
    let seat = Seat::take(lab);
    let layers = Layers::set_up(lab);
    let mut ratios = run(lab, &layers.usual());
    let blocked = layers.blocked(lab);
    ratios.extend(run(lab, &blocked));
    drop(seat);
    ratios
}

fn run(lab: &mut Lab, cases: &[Case]) -> BTreeMap<String, f64> {
    let mut rng = Rng::new(1);
    let mut found = vec![(Vec::new(), Vec::new()); cases.len()];
    for number in 0..WARM + BATCHES {
        for at in shuffled(&mut rng, cases.len()) {
            let (ours, yardstick) = batch(&cases[at], number);
            if number >= WARM {
                found[at].0.push(ours);
                found[at].1.push(yardstick);
            }
        }
        lab.read_reports();
    }
    let names = cases.iter().map(|case| case.name.clone());
    let ratio = |(ours, yardstick)| rounded(lower_quartile(ours) / lower_quartile(yardstick));
    names.zip(found.into_iter().map(ratio)).collect()
}

/// How long a run took in a batch, of limiter's program and of the yardstick, ns.
#[expect(clippy::cast_precision_loss, reason = "ratios need no more digits")]
fn batch(case: &Case, number: u32) -> (f64, f64) {
    let before = [case.ours(), case.yardstick()].map(runs);
    for n in 0..RUNS {
        case.run(number * RUNS + n);
    }
    let after = [case.ours(), case.yardstick()].map(runs);
    let took = |one: usize| {
        let count = after[one].0 - before[one].0;
        assert!(count >= u64::from(RUNS), "{}: {count} runs", case.name);
        (after[one].1 - before[one].1).as_nanos() as f64 / count as f64
    };
    (took(0), took(1))
}

fn lower_quartile(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 4]
}

/// More digits would say nothing.
fn rounded(ratio: f64) -> f64 {
    (ratio * 1e3).round() / 1e3
}

/// This process in the lab's cgroup: there its sockets are limiter's affair. It goes back in the end.
struct Seat {
    before: PathBuf,
}

impl Seat {
    fn take(lab: &Lab) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let top = lab.cgroup().parent().unwrap();
        let before = top.join(path.unwrap_or_default());
        let id = process::id().to_string();
        fs::write(lab.cgroup().join("cgroup.procs"), id).unwrap();
        Self { before }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = fs::write(self.before.join("cgroup.procs"), process::id().to_string());
    }
}
