//! What a message of a bulk session costs: envelope, four kilobytes and their answers, on both sides, over a pair
//! of interfaces. The layers that count messages read what goes out.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use limiter_common::limit::Unit;
use limiter_tests::{
    Load, Loader, Place,
    bulk::{MAIL_PORT, MailSink},
    forge::Rng,
};
use limiter_user::policy::image::{AddressBinding, ImageLimit, NODE_NAME};

use crate::{
    arms::{self, Arm, Programs},
    figures::{median, shuffled},
    images::{Draft, HOUR, window},
    lab::Lab,
    limiter::MOST,
    question::{Case, Question},
    report::Report,
    traffic::{GUEST, OUTSIDE, UID, UPLINK, World},
    turns::Turns,
    unrelated::in_lab_with,
};

/// A user whose messages are not counted.
const UNCOUNTED: u32 = UID + 1;
/// Sessions in a turn, of which the median counts.
const TIMES: usize = 3;
/// How long each takes.
const TIME: Duration = Duration::from_millis(4);
/// A user of whom this many messages are taken.
const CAREFUL: (u32, u32) = (UID + 2, 3);

/// Measures in so many rounds.
pub fn run(rounds: usize, report: &mut Report) {
    let found = in_lab_with(move |lab| measure(lab, rounds));
    for (case, turns) in &found {
        let case = Case::Named(case);
        report.take(Question::Message, case, turns);
        let ratios = turns.beside(arms::NOTHING, |with, without| with / without);
        report.take(Question::MessageRatio, case, &ratios);
    }
}

fn measure(lab: &mut Lab, rounds: usize) -> Vec<(&'static str, Turns)> {
    let messages = ImageLimit {
        unit: Unit::Messages,
        ..window(MOST, HOUR)
    };
    let connections = window(MOST, HOUR);
    let (careful, few) = CAREFUL;
    let few_messages = ImageLimit {
        max: few,
        ..messages
    };
    let mut draft = Draft::new()
        .tenant("alice", NODE_NAME, &[connections, messages])
        .tenant("bob", NODE_NAME, &[connections])
        .tenant("carol", NODE_NAME, &[connections, few_messages])
        .uid(UID, "alice")
        .uid(UNCOUNTED, "bob")
        .uid(careful, "carol");
    let alice = draft.0.tenants.iter().position(|it| it.name == "alice");
    draft.0.addresses.push(AddressBinding {
        net: "198.51.100.2/32".parse().unwrap(),
        tenant: alice.unwrap(),
        by: "address 198.51.100.2".to_owned(),
    });
    lab.apply(&draft.0);
    let world = World::new();
    let sink = MailSink::listen(&world.outside);
    let programs = Programs::take(lab, world.cgroup.directory(), UPLINK, GUEST);
    let last = programs.for_users().pop().unwrap();
    let place = world.users.clone().as_uid(careful);
    last.attached(|| assert_counted(&world, &place, u64::from(few)));
    let uncounted = world.users.clone().as_uid(UNCOUNTED);
    let mut found = Vec::new();
    for (case, place, arms) in [
        ("a user's, counted", &world.users, programs.for_users()),
        ("a user's, not counted", &uncounted, programs.for_users()),
        ("a guest's, counted", &world.guests, programs.for_guests()),
    ] {
        found.push((case, sessions(&world, place, &sink, &arms, rounds)));
    }
    found
}

/// Messages are counted: of whom only so many are taken, no more come.
fn assert_counted(world: &World, from: &Place, most: u64) {
    let to = SocketAddr::new(OUTSIDE[0].parse().unwrap(), MAIL_PORT);
    let mut loader = Loader::start(from, &world.program, to, Load::Mail);
    assert_eq!(loader.send(Duration::ZERO, TIME).count, most);
}

/// Lets every arm have its turn in every round; ns of a message.
fn sessions(world: &World, from: &Place, sink: &MailSink, arms: &[Arm], rounds: usize) -> Turns {
    let to: IpAddr = OUTSIDE[0].parse().unwrap();
    let to = SocketAddr::new(to, MAIL_PORT);
    let mut loader = Loader::start(from, &world.program, to, Load::Mail);
    let mut rng = Rng::new(11);
    let mut turns = Turns::of_all(arms.iter().map(|it| it.name));
    for _ in 0..rounds {
        for at in shuffled(&mut rng, arms.len()) {
            let all: Vec<f64> =
                arms[at].attached(|| (0..TIMES).map(|_| session(&mut loader, sink)).collect());
            turns.add(arms[at].name, median(&all));
        }
    }
    turns
}

/// One session: ns of a message, of the processor that did all of it.
#[expect(clippy::cast_precision_loss, reason = "ratios need no more digits")]
fn session(loader: &mut Loader, sink: &MailSink) -> f64 {
    let (before, cpu) = (sink.messages(), sink.cpu());
    let sent = loader.send(Duration::ZERO, TIME);
    let limit = Instant::now() + Duration::from_secs(5);
    while sink.messages() - before < sent.count {
        assert!(Instant::now() < limit, "not all messages came");
        thread::sleep(Duration::from_micros(200));
    }
    let taken = sent.cpu + (sink.cpu() - cpu);
    taken.as_secs_f64() * 1e9 / sent.count.max(1) as f64
}
