//! One account that connects again and again, from one processor and from two at once.

use std::{sync::Barrier, thread, time::Duration, time::Instant};

use limiter_tests::{forge::Rng, load::cpu_time};

use crate::{
    accounts::Accounts,
    attempt::{Family, become_user, close},
    contender::Contender,
    figures::{median, shuffled},
    floor, limiter,
    net::{Bench, Net, stay_on},
    peers::Peer,
    question::{Case, Question},
    report::{NOTHING, Report},
    turns::{Turns, paired},
};

/// From one processor.
pub const ONE: Case = Case::Named("one processor");
/// From two at once.
pub const TWO: Case = Case::Named("two processors");

/// Parts of a turn, of which the median counts.
const TIMES: usize = 5;
/// How long each takes.
const TIME: Duration = Duration::from_micros(1_500);
/// Attempts between looking at the clock.
const AT_ONCE: u32 = 16;

/// Measures in so many rounds; nothing where there is one processor.
pub fn run(bench: &Bench, rounds: usize, report: &mut Report) {
    let Some(cpus) = bench.two_cpus() else {
        return;
    };
    let accounts = Accounts::new(1);
    let contenders = [
        Contender::in_namespace(NOTHING, Net::new(), false),
        floor::empty(bench),
        floor::cold(bench, accounts),
        limiter::contender(bench, accounts),
        Peer::ElementSet.contender(accounts),
        Peer::VerdictMap.contender(accounts),
        Peer::DynamicSet.contender(accounts),
    ];
    let uid = accounts.uids().next().unwrap();
    let mut rng = Rng::new(3);
    let [mut one, mut two, mut gain] =
        [(); 3].map(|()| Turns::of_all(contenders.iter().map(|it| it.name)));
    for _ in 0..rounds {
        for at in shuffled(&mut rng, contenders.len()) {
            let contender = &contenders[at];
            let [alone, together] =
                contender.at_work(|| [&cpus[..1], &cpus[..]].map(|cpus| turn(uid, cpus)));
            one.add(contender.name, alone);
            two.add(contender.name, together);
            // Both do one in the time that one of them takes.
            gain.add(contender.name, 2.0 * alone / together);
        }
    }
    for (case, turns) in [(ONE, &one), (TWO, &two)] {
        let added = turns.beside(NOTHING, |with, without| with - without);
        report.take(Question::Hot, case, &added);
    }
    report.take(Question::TwoCpus, Case::Named("two of one"), &gain);
    let ours = gain.of(crate::report::LIMITER).unwrap();
    let mut beside = Turns::default();
    for (name, theirs) in gain.iter() {
        for ratio in paired(ours, theirs, |ours, theirs| ours / theirs) {
            beside.add(name, ratio);
        }
    }
    report.take(Question::TwoCpus, Case::Named("limiter's of it"), &beside);
}

/// Nanoseconds from one connection to the next, on each of these processors at once, as long as the thread has it.
#[expect(clippy::cast_precision_loss, reason = "there are few")]
fn turn(uid: u32, cpus: &[usize]) -> f64 {
    let barrier = Barrier::new(cpus.len());
    let found: Vec<f64> = thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|cpu| {
                let barrier = &barrier;
                scope.spawn(move || {
                    stay_on(&[*cpu]);
                    become_user(uid);
                    connects();
                    barrier.wait();
                    let parts: Vec<f64> = (0..TIMES).map(|_| part()).collect();
                    median(&parts)
                })
            })
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    found.iter().sum::<f64>() / found.len() as f64
}

/// Nanoseconds from one connection to the next.
fn part() -> f64 {
    let (start, cpu) = (Instant::now(), cpu_time().unwrap());
    let mut count = 0;
    while start.elapsed() < TIME {
        count += connects();
    }
    let taken = cpu_time().unwrap() - cpu;
    taken.as_secs_f64() * 1e9 / f64::from(count)
}

/// Some connections; how many.
fn connects() -> u32 {
    for _ in 0..AT_ONCE {
        let socket = Family::V4.socket();
        assert_eq!(Family::V4.connect(socket), libc::EINPROGRESS);
        close(socket);
    }
    AT_ONCE
}
