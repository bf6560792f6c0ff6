//! What unrelated traffic pays, as ratios within one run: a node without the product beside nodes
//! with it, measured in turns.

use std::{io::Write as _, path::PathBuf, time::Duration};

use limiter_tests::{Agent, Config, Load, LoadSink, Node, load::cost_at, mx, programs};

/// Rounds of measuring; the median counts.
const ROUNDS: usize = 7;
/// How long one measurement takes.
const TIME: Duration = Duration::from_millis(150);
/// Far more than is ever paid: on a busy machine ratios are rough. The figures are printed.
const MOST: f64 = 1.5;

const COUNTS_MAIL: &str = "tenant: alice
match: {users: [alice]}
direct_smtp: allow
limits: [{unit: messages, max: 100, window: 1h}]
";

struct Place<'n> {
    node: &'n Node,
    program: PathBuf,
    costs: Vec<f64>,
}

#[test]
fn unrelated_traffic_pays_next_to_nothing() {
    let (bare, usual, watched) = (Node::new(), Node::new(), Node::new());
    let _usual = Agent::start(&usual, &Config::new("mode: enforce", "tenant: alice\n"));
    let _watched = Agent::start(&watched, &Config::new("mode: enforce", COUNTS_MAIL));
    let nodes = [&bare, &usual, &watched];
    let _sinks = nodes.map(|node| LoadSink::listen(node.outside()));
    for load in [Load::Udp { bytes: 64 }, Load::Connects] {
        for v6 in [false, true] {
            let mut places = nodes.map(|node| {
                let program = node.directory().join("limiter-load");
                if !program.exists() {
                    programs::copy_sender("limiter-load", &program);
                }
                Place {
                    node,
                    program,
                    costs: Vec::new(),
                }
            });
            for _ in 0..ROUNDS {
                for place in &mut places {
                    let user = place.node.user(2003);
                    let cost = cost_at(&user, &place.program, mx(v6).ip(), load, TIME);
                    place.costs.push(cost);
                }
            }
            let [bare, usual, watched] = places.map(|mut place| median(&mut place.costs));
            let family = if v6 { "IPv6" } else { "IPv4" };
            let _ = writeln!(
                std::io::stdout(),
                "{load:?} {family}: {bare:.0} ns without, {:.3} times that with connect and \
                 uplink, {:.3} with socket too",
                usual / bare,
                watched / bare
            );
            assert!(usual / bare < MOST, "{load:?}: {usual} to {bare} ns");
            assert!(watched / bare < MOST, "{load:?}: {watched} to {bare} ns");
        }
    }
}

fn median(costs: &mut [f64]) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}
