//! The product and its peers side by side, in one run: what they add to a connection, by how many accounts
//! there are, and how long it takes until they are loaded. `cargo xtask bench` builds and runs it.
//!
//! A measurement is the time of one `connect(2)` that does not wait: the hooks at `connect` run in it, and the
//! SYN is made, filtered and handed to an interface behind which nobody is. The account is drawn anew for each,
//! so that what is kept of it is not in a cache. All contenders have their turn in every round, in random
//! order, on one CPU, each in a network namespace of its own that looks like the others'.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what cannot be measured ends the run"
)]

mod accounts;
mod attempt;
mod contender;
#[path = "../../tests/kernel/cost/figures.rs"]
mod figures;
mod floor;
#[path = "../../tests/kernel/foreign.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod foreign;
#[path = "../../tests/kernel/images.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod images;
#[path = "../../tests/kernel/lab.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod lab;
mod limiter;
mod net;
mod peers;
mod report;
mod rounds;

use std::{env, path::PathBuf};

use self::{
    accounts::Accounts,
    contender::Contender,
    net::{Bench, Net},
    report::{NOTHING, Report},
};

/// How much is measured.
struct Plan {
    /// How many accounts there are.
    sizes: Vec<usize>,
    rounds: usize,
    /// Where the report goes, beside the terminal.
    json: Option<PathBuf>,
}

impl Plan {
    fn of_arguments() -> Self {
        let mut plan = Self {
            sizes: vec![1, 1_000, 10_000, 100_000, 1_000_000],
            rounds: 101,
            json: None,
        };
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (plan.sizes, plan.rounds) = (vec![1_000, 100_000], 31),
                "--sizes" => {
                    let sizes = arguments.next().unwrap_or_default();
                    plan.sizes = sizes.split(',').map(|it| it.parse().unwrap()).collect();
                }
                "--json" => plan.json = arguments.next().map(PathBuf::from),
                // Cargo says so.
                "--bench" => {}
                other => panic!("{other} is none of --quick, --sizes N,M, --json FILE"),
            }
        }
        plan
    }
}

/// From how many accounts on rules one after the other take too long.
const MOST_RULES: usize = 1_000;
/// From how many accounts on nftables takes minutes to load.
const MOST_ELEMENTS: usize = 100_000;

fn main() {
    let plan = Plan::of_arguments();
    let bench = Bench::take_seat();
    let mut report = Report::default();
    for size in plan.sizes {
        let accounts = Accounts::new(size);
        let mut contenders = vec![
            Contender::in_namespace(NOTHING, Net::new(), false),
            floor::empty(&bench),
            floor::cold(&bench, accounts),
            limiter::load(&bench, accounts, &mut report),
        ];
        if size <= MOST_ELEMENTS {
            contenders.push(peers::element_set(accounts, &mut report));
            contenders.push(peers::verdict_map(accounts, &mut report));
            contenders.push(peers::dynamic_set(accounts, &mut report));
        }
        if size <= MOST_RULES {
            contenders.extend(peers::owners(accounts, &mut report));
        }
        rounds::run(&contenders, accounts, plan.rounds, &mut report);
    }
    report.print();
    if let Some(path) = plan.json {
        report.write(&path);
    }
}
