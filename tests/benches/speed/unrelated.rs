//! What unrelated traffic pays, as the tests of the kernel programs measure it.

use limiter_tests::Load;
use limiter_user::policy::image::NODE_NAME;

use crate::{
    arms::{self, Arm, Programs},
    images::{Draft, HOUR, window},
    lab::in_lab,
    question::{Case, Question},
    report::Report,
    traffic::{self, GUEST, UID, UPLINK, World},
    turns::Turns,
};

/// What is sent, by whom: a user of the node, or a guest.
const CASES: [(&str, bool, bool, Load); 7] = [
    (
        "a user's UDP packet, IPv4",
        true,
        false,
        Load::Udp { bytes: 64 },
    ),
    (
        "a user's UDP packet, IPv6",
        true,
        true,
        Load::Udp { bytes: 64 },
    ),
    ("a user's TCP connection, IPv4", true, false, Load::Connects),
    ("a user's TCP connection, IPv6", true, true, Load::Connects),
    ("a user's 64 KiB of a TCP stream", true, false, Load::Tcp),
    (
        "a guest's UDP packet, IPv4",
        false,
        false,
        Load::Udp { bytes: 64 },
    ),
    (
        "a guest's TCP connection, IPv4",
        false,
        false,
        Load::Connects,
    ),
];

/// Measures in so many rounds.
pub fn run(rounds: usize, report: &mut Report) {
    let found = in_lab_with(move |lab| {
        let draft = Draft::new()
            .tenant("alice", NODE_NAME, &[window(300, HOUR)])
            .uid(UID, "alice");
        lab.apply(&draft.0);
        let world = World::new();
        let programs = Programs::take(lab, world.cgroup.directory(), UPLINK, GUEST);
        let arms = [programs.for_guests(), programs.for_users()];
        CASES.map(|(name, user, v6, load)| {
            let arms = &arms[usize::from(user)];
            let place = if user { &world.users } else { &world.guests };
            let costs = traffic::measure(&world, place, (v6, load), arms, rounds);
            (name, turns(arms, &costs))
        })
    });
    for (name, turns) in &found {
        let ratios = turns.beside(arms::NOTHING, |with, without| with / without);
        report.take(Question::Unrelated, Case::Named(name), &ratios);
    }
}

/// By name.
pub fn turns(arms: &[Arm], costs: &[Vec<f64>]) -> Turns {
    let mut turns = Turns::default();
    for (arm, costs) in arms.iter().zip(costs) {
        for cost in costs {
            turns.add(arm.name, *cost);
        }
    }
    turns
}

/// Runs `body` in a lab of its own; what it found.
pub fn in_lab_with<T: Send + 'static>(
    body: impl FnOnce(&mut crate::lab::Lab) -> T + Send + 'static,
) -> T {
    let (found, wait) = std::sync::mpsc::channel();
    in_lab(move |lab| found.send(body(lab)).unwrap());
    wait.recv().unwrap()
}
