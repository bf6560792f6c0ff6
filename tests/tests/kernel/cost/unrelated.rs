//! What unrelated traffic pays, by whom and by layer.

use std::{env, io::Write as _};

use limiter_tests::Load;
use limiter_user::policy::image::NODE_NAME;

use super::{
    arms::{Arm, Programs},
    figures::{Estimate, median},
    traffic::{GUEST, LOADS, UID, UPLINK, World, measure},
};
use crate::{
    images::{Draft, HOUR, window},
    lab::in_lab,
};

/// Rounds of measuring, in each of which every arm has its turn; `LIMITER_COST_ROUNDS` says
/// otherwise.
const ROUNDS: usize = 7;
/// Far more than is ever paid: on a busy machine ratios are rough. The figures are printed.
const MOST: f64 = 1.5;

/// Prints a row and looks at it.
fn report(text: &mut String, name: &str, arms: &[Arm], costs: &[Vec<f64>]) {
    *text += &format!("\n| {name} | {:.0} ns |", median(&costs[0]));
    for (arm, cost) in arms.iter().zip(costs).skip(1) {
        let pairs = cost.iter().zip(&costs[0]);
        let ratios: Vec<f64> = pairs.map(|(with, without)| with / without).collect();
        let ratio = Estimate::of(&ratios);
        *text += &format!(" {ratio} |");
        assert!(ratio.low < MOST, "{name}, {}: {ratio}", arm.name);
    }
}

fn heading(arms: &[Arm]) -> String {
    let mut text = String::from("\n| traffic |");
    for arm in arms {
        text += &format!(" {} |", arm.name);
    }
    text + "\n|---|" + &"---|".repeat(arms.len())
}

#[test]
fn unrelated_traffic_pays_next_to_nothing() {
    in_lab(|lab| {
        let draft = Draft::new()
            .tenant("alice", NODE_NAME, &[window(300, HOUR)])
            .uid(UID, "alice");
        lab.apply(&draft.0);
        let world = World::new();
        let programs = Programs::take(lab, world.cgroup.directory(), UPLINK, GUEST);
        let rounds = env::var("LIMITER_COST_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
        for (who, place, arms) in [
            ("a user's", &world.users, programs.for_users()),
            ("a guest's", &world.guests, programs.for_guests()),
        ] {
            let mut text = heading(&arms);
            for (load, what) in LOADS {
                // How long a stream's pieces take does not hang on the family.
                for v6 in [false, true]
                    .into_iter()
                    .take(1 + usize::from(load != Load::Tcp))
                {
                    let family = if v6 { "IPv6" } else { "IPv4" };
                    let costs = measure(&world, place, (v6, load), &arms, rounds);
                    report(&mut text, &format!("{who} {what}, {family}"), &arms, &costs);
                }
            }
            let _ = writeln!(std::io::stdout(), "{text}\n");
        }
    });
}
